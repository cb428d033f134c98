//! One instance with everything: two interfaces, a key, user data, tags, a second volume.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use guest_services::dns::VpcNames;
use guest_services::view::{
    GroupView, InstanceView, InterfaceView, KeyView, MetadataOptions, NetworkConfig, TokenUse,
};

pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 5);
pub(crate) const PUBLIC_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 7);
pub(crate) const ROUTER: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 1);
pub(crate) const RESOLVER: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 2);
pub(crate) const MAC: [u8; 6] = [2, 0, 0x5e, 0x10, 0, 1];

/// No `#!`: what matters is that it comes back byte for byte.
pub(crate) const USER_DATA: &[u8] = b"\x1f\x8b\x00\xff not text\n";

pub(crate) fn instance() -> InstanceView {
    InstanceView {
        instance_id: "i-0123456789abcdef0".into(),
        image_id: "ami-0aaaaaaaaaaaaaaaa".into(),
        launch_index: 0,
        instance_type: "t3.micro".into(),
        reservation_id: "r-0bbbbbbbbbbbbbbbb".into(),
        account_id: "123456789012".into(),
        region: "us-east-1".into(),
        zone: "us-east-1a".into(),
        zone_id: "use1-az1".into(),
        architecture: "x86_64".into(),
        kernel_id: None,
        ramdisk_id: None,
        launch_time: "2026-11-21T08:51:55.75Z".parse().expect("a time"),
        key: Some(KeyView { name: "my key".into(), openssh: "ssh-ed25519 AAAAC3Nza my key".into() }),
        user_data: Some(USER_DATA.to_vec()),
        root_device: "/dev/xvda".into(),
        volume_devices: vec!["/dev/sdf".into()],
        tags: Some(BTreeMap::from([
            ("Name".into(), "web".into()),
            ("team:owner".into(), "Ada Lovelace".into()),
            ("empty".into(), String::new()),
        ])),
        metadata: MetadataOptions { endpoint: true, tokens: TokenUse::Optional, hop_limit: 1 },
        primary: interface(),
        secondary: vec![InterfaceView {
            interface_id: "eni-0ddddddddddddddd1".into(),
            mac: "02:00:5e:10:00:02".into(),
            device_number: 1,
            address: Ipv4Addr::new(172, 31, 0, 6),
            public_address: None,
            ..interface()
        }],
        identity: None,
    }
}

pub(crate) fn interface() -> InterfaceView {
    InterfaceView {
        interface_id: "eni-0ddddddddddddddd0".into(),
        mac: "02:00:5e:10:00:01".into(),
        device_number: 0,
        owner_id: "123456789012".into(),
        address: ADDRESS,
        public_address: Some(PUBLIC_ADDRESS),
        security_groups: vec![group("sg-0eeeeeeeeeeeeeee0", "default"), group("sg-0eeeeeeeeeeeeeee1", "web")],
        subnet_id: "subnet-0fffffffffffffff0".into(),
        subnet_cidr: "172.31.0.0/20".parse().expect("a block"),
        vpc_id: "vpc-01111111111111111".into(),
        vpc_cidrs: vec!["172.31.0.0/16".parse().expect("a block"), "10.9.0.0/16".parse().expect("a block")],
        network: NetworkConfig {
            router: ROUTER,
            dns_servers: vec![RESOLVER],
            ntp_servers: vec![Ipv4Addr::new(169, 254, 169, 123)],
            domain_name: "ec2.internal".into(),
            mtu: 1500,
            lease_seconds: 3600,
        },
    }
}

fn group(id: &str, name: &str) -> GroupView {
    GroupView { id: id.into(), name: name.into() }
}

/// The sample's VPC: its two interfaces, one other public address in the cloud.
pub(crate) struct Vpc {
    pub(crate) region: &'static str,
}

/// A public address of the cloud that is in another VPC.
pub(crate) const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 99);

impl VpcNames for Vpc {
    fn region(&self) -> &str {
        self.region
    }

    fn covers(&self, address: Ipv4Addr) -> bool {
        interface().vpc_cidrs.iter().any(|cidr| cidr.contains(&address))
    }

    fn is_private(&self, address: Ipv4Addr) -> bool {
        instance().interfaces().any(|interface| interface.address == address)
    }

    fn public_target(&self, public: Ipv4Addr) -> Option<Ipv4Addr> {
        match public {
            PUBLIC_ADDRESS => Some(ADDRESS),
            ELSEWHERE => Some(ELSEWHERE),
            _ => None,
        }
    }
}
