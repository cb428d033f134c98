//! Views of a world that was made by the cloud's own rules.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloud::model::{
    InstanceStatus, Interface, InterfaceAttachment, Key, MetadataOptions, Seen, Subnet, Tags, Vpc,
};
use cloud::rules::block_devices::BlockDevice;
use cloud::rules::launch::Launch;
use cloud::rules::{instances, key_pairs};
use cloud::{Timestamp, World};
use cumuletd::views::{Index, Served, Views, served};
use guest_services::dns::VpcNames;
use guest_services::view::{InstanceView, TokenUse};
use spec::ids::{InstanceId, InterfaceAttachmentId, InterfaceId, SubnetId, VpcId};
use spec::machine::{Mac, Run};

use crate::cloud::Cloud;

/// What is served in the default VPC.
fn default_vpc(world: &World) -> Served {
    served(world).remove(&world.default_vpc().unwrap().id).expect("the default VPC is served")
}

fn tags(pairs: &[(&str, &str)]) -> Tags {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn disk(device: &str) -> BlockDevice {
    let (gib, device) = (Some(1), device.to_owned());
    BlockDevice { device, gib, ..BlockDevice::default() }
}

/// The host says that the instance's machine runs.
fn bring_up(cloud: &mut Cloud, id: InstanceId) {
    let incarnation = cloud.world.instances[&id].goal.incarnation;
    cloud.command(|tx| {
        tx.put(InstanceStatus {
            id,
            run: Run { incarnation, attempt: 1 },
            seen: Seen::Running,
            since: tx.now,
            not_before: Timestamp(0),
            quick_failures: 0,
            over: None,
            reboots: 0,
            resets: 0,
            panicked: false,
            devices: None,
            disk_failures: BTreeMap::new(),
            saved: false,
            trouble: None,
            gone: None,
        });
        Ok(())
    });
}

#[test]
fn an_instance_is_shown_as_it_was_launched() {
    let mut cloud = Cloud::new();
    let new = key_pairs::NewKeyPair {
        name: "my key".into(),
        kind: cloud::model::KeyKind::Ed25519,
        fingerprint: "x".into(),
        public_key: "ssh-ed25519 AAAAC3Nza somebody@somewhere\n".into(),
        tags: Tags::new(),
    };
    cloud.command(|tx| key_pairs::create(tx, new));
    let id = cloud.launch(Launch {
        key_name: Some("my key".into()),
        user_data: Some(STANDARD.encode(b"\x1f\x8b\x00")),
        volumes: vec![disk("/dev/sdg"), disk("/dev/sdf")],
        instance_tags: tags(&[("Name", "web")]),
        metadata: MetadataOptions { enabled: false, tokens_required: true, hop_limit: 3, tags: true },
        ..cloud.usual()
    });
    let plain = cloud.launch_usual();
    let (row, interface) = (cloud.world.instances[&id].clone(), cloud.interface(id));
    let views = default_vpc(&cloud.world).views;
    let view = views.instance(interface.address).expect("it is known by its address");
    assert_eq!(view.instance_id, id.to_string());
    assert_eq!(
        (view.image_id.as_str(), view.reservation_id.as_str()),
        (&*row.image.to_string(), &*row.reservation.to_string())
    );
    assert_eq!(
        (view.zone.as_str(), view.zone_id.as_str(), view.region.as_str()),
        ("us-east-1a", "use1-az1", "us-east-1")
    );
    assert_eq!((view.architecture.as_str(), view.instance_type.as_str()), ("x86_64", "t3.nano"));
    assert_eq!(view.launch_time.as_millisecond(), 1_800_000_000_000);
    assert_eq!(view.key.as_ref().unwrap().openssh, "ssh-ed25519 AAAAC3Nza my key");
    assert_eq!(view.user_data.as_deref(), Some(&b"\x1f\x8b\x00"[..]));
    assert_eq!(
        (view.root_device.as_str(), &view.volume_devices[..]),
        ("/dev/xvda", &["/dev/sdf".to_owned(), "/dev/sdg".into()][..])
    );
    assert_eq!(view.tags, Some(tags(&[("Name", "web")])));
    let metadata = view.metadata;
    assert_eq!((metadata.endpoint, metadata.tokens, metadata.hop_limit), (false, TokenUse::Required, 3));

    let plain = views.instance(cloud.interface(plain).address).unwrap();
    assert_eq!((&plain.key, &plain.user_data, &plain.tags), (&None, &None, &None));
    assert_eq!((plain.metadata.endpoint, plain.metadata.tokens), (true, TokenUse::Optional));

    let one = &view.primary;
    assert_eq!(
        (one.interface_id.as_str(), one.mac.as_str()),
        (&*interface.id.to_string(), &*interface.mac.to_string())
    );
    assert_eq!((one.address, one.public_address), (interface.address, interface.auto_public));
    assert!(one.public_address.is_some() && view.secondary.is_empty());
    assert_eq!(one.security_groups[0].name, "default");
    assert_eq!(one.subnet_cidr, "172.31.0.0/20".parse().unwrap());
    assert_eq!(one.network.router, Ipv4Addr::new(172, 31, 0, 1));
    assert_eq!(one.network.dns_servers, [Ipv4Addr::new(172, 31, 0, 2)]);
    assert_eq!((one.network.domain_name.as_str(), one.network.mtu), ("ec2.internal", 1500));
}

#[test]
fn what_was_attached_later_is_no_part_of_the_launch() {
    let mut cloud = Cloud::new();
    let id = cloud.launch(Launch { volumes: vec![disk("/dev/sdf")], ..cloud.usual() });
    let address = cloud.interface(id).address;
    let (_, volume) = cloud.world.volumes.iter().find(|(_, row)| row.base.is_none()).unwrap();
    let mut later = cloud::model::Volume::clone(volume);
    later.attachment.as_mut().unwrap().since = cloud.now.plus_seconds(1);
    cloud.world.put(later.into());
    assert!(default_vpc(&cloud.world).views.instance(address).unwrap().volume_devices.is_empty());
}

#[test]
fn a_guest_is_known_while_its_machine_is_needed_or_up() {
    let mut cloud = Cloud::new();
    assert_eq!(served(&cloud.world).len(), 0, "a cloud at rest serves nobody");
    let (id, bystander) = (cloud.launch_usual(), cloud.launch_usual());
    let interface = cloud.interface(id);
    let known = |world: &World| {
        served(world).values().any(|one| {
            let by_mac = one.views.interface(interface.subnet, interface.mac.0);
            assert_eq!(by_mac.is_some(), one.views.knows(interface.address));
            by_mac.is_some()
        })
    };
    assert!(known(&cloud.world), "before it is up");
    bring_up(&mut cloud, id);
    cloud.command(|tx| instances::stop(tx, &[id], instances::Stop::Asked));
    assert!(known(&cloud.world), "while it stops");
    cloud.world.remove(Key::InstanceStatus(id));
    assert!(!known(&cloud.world), "when it is stopped");
    cloud.command(|tx| instances::start(tx, &[id]));
    assert!(known(&cloud.world), "when it is started again");
    cloud.terminate(id);
    assert!(!known(&cloud.world), "when it is terminated");
    cloud.terminate(bystander);
    assert_eq!(served(&cloud.world).len(), 0);
}

#[test]
fn a_link_address_counts_in_its_own_subnet_only() {
    let mut cloud = Cloud::new();
    let id = cloud.launch_usual();
    let interface = cloud.interface(id);
    let Served { network, views } = default_vpc(&cloud.world);
    assert_eq!(network.subnets.len(), 3);
    for subnet in network.subnets {
        let found = views.interface(subnet.id, interface.mac.0);
        assert_eq!(found.is_some(), subnet.id == interface.subnet);
    }
    assert!(views.interface(interface.subnet, [2, 0, 0, 0, 0, 1]).is_none());
    assert!(views.interface(SubnetId::from_random(1), interface.mac.0).is_none());
}

#[test]
fn further_interfaces_lead_to_the_same_instance() {
    let mut cloud = Cloud::new();
    let id = cloud.launch_usual();
    let first = cloud.interface(id);
    let attachment = InterfaceAttachment {
        id: InterfaceAttachmentId::from_random(1),
        instance: id,
        device_index: 1,
        delete_on_termination: true,
        since: cloud.now,
        detach: None,
    };
    let second = Interface {
        id: InterfaceId::from_random(1),
        mac: Mac([2, 0, 0, 0, 0, 9]),
        address: Ipv4Addr::new(172, 31, 15, 200),
        auto_public: None,
        attachment: Some(attachment),
        ..first.clone()
    };
    cloud.world.put(second.clone().into());
    let views = default_vpc(&cloud.world).views;
    let view = views.instance(second.address).unwrap();
    assert_eq!(view, views.instance(first.address).unwrap());
    assert_eq!((view.primary.address, view.secondary[0].address), (first.address, second.address));
    assert_eq!(views.interface(second.subnet, second.mac.0).unwrap().address, second.address);
    assert_eq!(views.askers(), 2);
}

#[test]
fn names_are_those_of_the_vpc_and_public_ones_those_of_the_cloud() {
    let mut cloud = Cloud::new();
    let (up, stopped) = (cloud.launch_usual(), cloud.launch_usual());
    cloud.command(|tx| instances::stop(tx, &[stopped], instances::Stop::Forced));
    let (up, stopped) = (cloud.interface(up), cloud.interface(stopped));
    let public = up.auto_public.unwrap();
    let views = default_vpc(&cloud.world).views;
    assert_eq!(views.region(), "us-east-1");
    assert!(views.is_private(up.address) && views.is_private(stopped.address));
    assert!(!views.is_private(Ipv4Addr::new(172, 31, 0, 1)));
    assert!(views.covers(Ipv4Addr::new(172, 31, 255, 1)) && !views.covers(Ipv4Addr::new(172, 32, 0, 1)));
    assert_eq!(views.public_target(public), Some(up.address));
    assert_eq!(views.public_target(stopped.auto_public.unwrap()), None, "a stopped instance has none");

    // From another VPC with the same addresses, the public address stands for itself.
    let vpc = Vpc::clone(cloud.world.default_vpc().unwrap());
    let other = Vpc { id: VpcId::from_random(5), is_default: false, number: 1, ..vpc.clone() };
    let subnet = cloud.world.referring::<Subnet>(Key::Vpc(vpc.id)).next().unwrap();
    let subnet = cloud::model::Subnet { id: SubnetId::from_random(5), vpc: other.id, ..(**subnet).clone() };
    let neighbour = cloud.launch_usual();
    let moved =
        Interface { vpc: other.id, subnet: subnet.id, auto_public: None, ..cloud.interface(neighbour) };
    let address = moved.address;
    cloud.world.put(other.clone().into());
    cloud.world.put(subnet.into());
    cloud.world.put(moved.into());
    let all = served(&cloud.world);
    let foreign = &all[&other.id].views;
    assert_eq!(foreign.public_target(public), Some(public));
    assert!(
        foreign.is_private(address)
            && !foreign.is_private(up.address)
            && foreign.instance(up.address).is_none()
    );

    // Without enableDnsHostnames there are no public names, without enableDnsSupport no resolver.
    cloud.world.put(Vpc { dns_hostnames: false, dns_support: false, ..vpc }.into());
    let views = default_vpc(&cloud.world).views;
    assert_eq!(views.public_target(public), None);
    assert!(!views.has_resolver());
    assert!(views.instance(up.address).unwrap().primary.network.dns_servers.is_empty());
}

#[test]
fn views_are_plain_data() {
    let mut cloud = Cloud::new();
    cloud.launch(Launch { user_data: Some(STANDARD.encode("x")), ..cloud.usual() });
    let views = default_vpc(&cloud.world).views;
    let text = serde_json::to_string(&(views.index(), views.instances().values().next().map(|view| &**view)))
        .unwrap();
    let (index, instance): (Index, InstanceView) = serde_json::from_str(&text).unwrap();
    let id = *views.instances().keys().next().unwrap();
    let (instance, gone) = (Arc::new(instance), InstanceId::from_random(99));
    let instances = [(id, Arc::clone(&instance)), (gone, instance)].into();
    assert_eq!(Views::new(index, &instances), views, "what the index does not lead to is left out");
}
