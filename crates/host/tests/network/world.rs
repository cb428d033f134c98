//! A world for one test: a mount and a network namespace of its own, in which the driver finds an empty
//! `/run` and a "host" with nothing but a loopback link. It ends with the test's thread; the machine's own
//! network is never touched.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use host::linux::network::Networks;
use host::linux::sys::netns::Namespace;
use ipnet::Ipv4Net;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use spec::ids::{GroupId, InterfaceId, SubnetId, VpcId};
use spec::machine::Mac;
use spec::network::{
    Interface, Network, Peer, PublicAddress, Route, Rule, SecurityGroup, Subnet, Target, Traffic, Uplink,
};
use spec::observed::{Observed, Scope};

/// Where the driver notes what it changed on the host.
pub(crate) const STATE: &str = "/run/state";
/// The host's address towards the outside, and the outside's.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
pub(crate) const INTERNET: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);

/// Moves the test's thread into a world of its own.
pub(crate) fn begin() -> Networks {
    enter();
    Networks::new(STATE).unwrap_or_else(|error| panic!("{}", error.chain()))
}

/// The same without a driver.
pub(crate) fn enter() {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect(
        "these tests make namespaces: run them as root, or as `unshare --user --map-root-user cargo test -p host`",
    );
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).unwrap();
    std::fs::create_dir(Path::new(STATE)).unwrap();
    sh("ip link set lo up");
}

/// Adds an internet beyond the host: a namespace of that name, which knows no way to any of our addresses.
pub(crate) fn add_internet() {
    sh(&format!(
        "ip netns add internet
         ip link add eth0 type veth peer name eth0 netns internet
         ip address add {HOST}/24 dev eth0
         ip link set eth0 up
         ip -n internet address add {INTERNET}/24 dev eth0
         ip -n internet link set lo up
         ip -n internet link set eth0 up
         ip route add default via {INTERNET}"
    ));
}

/// Runs a script in the calling thread's namespaces, and returns what it printed.
pub(crate) fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}\n{out}{err}");
    out.into_owned()
}

/// The same inside a VPC.
pub(crate) fn sh_in(vpc: VpcId, script: &str) -> String {
    let namespace = Namespace::open(&spec::names::namespace(vpc)).unwrap().expect("the VPC has a namespace");
    namespace.run(|| sh(script)).unwrap()
}

/// Everything there is of our networks.
pub(crate) fn observe(networks: &Networks) -> Observed {
    let mut observed = Observed::default();
    networks.observe(&Scope::Everything, &mut observed).unwrap();
    observed
}

pub(crate) fn vpc_id(number: u8) -> VpcId {
    VpcId::from_random(number.into())
}

/// A VPC 10.0.0.0/16 with the subnets 10.0.0.0/24 and 10.0.1.0/24, alike whatever its number.
pub(crate) fn network(number: u8) -> Network {
    let subnet = |place: u8| Subnet {
        id: SubnetId::from_random(u64::from(number) * 256 + u64::from(place)),
        cidr: Ipv4Net::new_assert(Ipv4Addr::new(10, 0, place, 0), 24),
        routes: Vec::new(),
    };
    Network {
        vpc: vpc_id(number),
        cidrs: vec!["10.0.0.0/16".parse().unwrap()],
        subnets: vec![subnet(0), subnet(1)],
        uplink: None,
    }
}

/// The same with a gateway, to which the first subnet has a default route.
pub(crate) fn network_with_gateway(number: u8) -> Network {
    let mut network = network(number);
    network.uplink = Some(Uplink {
        link: Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 64, number * 2), 31),
        pool: "198.18.0.0/24".parse().unwrap(),
    });
    network.subnets[0].routes = vec![Route { destination: Ipv4Net::default(), target: Target::Uplink }];
    network
}

pub(crate) fn group_id(number: u8) -> GroupId {
    GroupId::from_random(number.into())
}

/// A group without rules.
pub(crate) fn group(vpc: u8, number: u8) -> SecurityGroup {
    let (ingress, egress) = Default::default();
    SecurityGroup { id: group_id(number), vpc: vpc_id(vpc), ingress, egress }
}

/// A group that lets everything through.
pub(crate) fn open_group(vpc: u8, number: u8) -> SecurityGroup {
    let all = BTreeSet::from([allow(Traffic::All, "0.0.0.0/0")]);
    SecurityGroup { ingress: all.clone(), egress: all, ..group(vpc, number) }
}

pub(crate) fn allow(traffic: Traffic, net: &str) -> Rule {
    Rule { traffic, peer: Peer::Ipv4(net.parse().unwrap()) }
}

pub(crate) fn allow_group(traffic: Traffic, number: u8) -> Rule {
    Rule { traffic, peer: Peer::Group(group_id(number)) }
}

/// An interface with the address 10.0.`subnet`.`number`.
pub(crate) fn interface(network: &Network, subnet: u8, number: u8, groups: &[u8]) -> Interface {
    Interface {
        id: InterfaceId::from_random(u64::from(subnet) * 256 + u64::from(number)),
        vpc: network.vpc,
        subnet: network.subnets[usize::from(subnet)].id,
        mac: Mac([2, 0, 0, 0, subnet, number]),
        addresses: vec![Ipv4Addr::new(10, 0, subnet, number)],
        public: Vec::new(),
        groups: groups.iter().map(|number| group_id(*number)).collect(),
        source_dest_check: true,
        several_queues: false,
    }
}

/// The same with a public address 198.18.0.`public`.
pub(crate) fn with_public(mut interface: Interface, public: u8) -> Interface {
    let private = interface.addresses[0];
    interface.public = vec![PublicAddress { public: public_address(public), private }];
    interface
}

pub(crate) fn public_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, number)
}
