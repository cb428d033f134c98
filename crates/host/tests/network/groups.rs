//! Security groups: what they let through, and that nothing else passes.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use host::linux::network::Networks;
use spec::machine::Mac;
use spec::network::{Network, Rule, SecurityGroup, Traffic};

use crate::linux_guest::LinuxGuest;
use crate::raw::{RawGuest, Seen, icmp, tcp_syn};
use crate::world::{allow, allow_group, begin, group, interface, network, open_group, sh_in};

/// A VPC with guests: 10.0.0.10 in group 1, and others as asked for.
struct Stage {
    networks: Networks,
    network: Network,
}

impl Stage {
    fn new(groups: &[SecurityGroup]) -> Self {
        let (networks, network) = (begin(), network(1));
        networks.ensure_network(&network).unwrap();
        for group in groups {
            networks.ensure_group(group).unwrap();
        }
        Self { networks, network }
    }

    fn ensure(&self, group: &SecurityGroup) {
        self.networks.ensure_group(group).unwrap();
    }

    fn guest(&self, number: u8, groups: &[u8]) -> RawGuest {
        let interface = interface(&self.network, 0, number, groups);
        self.networks.ensure_interface(&interface).unwrap();
        RawGuest::new(&self.networks, &interface)
    }
}

/// Something that a guest sends to another.
#[derive(Clone, Copy, Debug)]
enum Probe {
    Tcp(u16),
    Udp(u16),
    Icmp(u8, u8),
    Protocol(u8),
}

impl Probe {
    fn send(self, from: &RawGuest, router: Mac, to: &RawGuest, port: u16) {
        match self {
            Self::Tcp(to_port) => {
                from.send_ip(router, to.address, 6, &tcp_syn((from.address, port), (to.address, to_port)))
            }
            Self::Udp(to_port) => from.send_udp(router, to.address, to_port, b"probe"),
            Self::Icmp(kind, code) => from.send_ip(router, to.address, 1, &icmp(kind, code)),
            Self::Protocol(protocol) => from.send_ip(router, to.address, protocol, &[0; 8]),
        }
    }

    fn is(self, seen: &Seen) -> bool {
        match (self, seen) {
            (Self::Tcp(port), Seen::Tcp { to, flags: 2, .. }) | (Self::Udp(port), Seen::Udp { to, .. }) => {
                to.1 == port
            }
            (Self::Icmp(kind, code), Seen::Icmp { kind: k, code: c, .. }) => (kind, code) == (*k, *c),
            (Self::Protocol(protocol), Seen::OtherIp { protocol: seen, .. }) => protocol == *seen,
            _ => false,
        }
    }
}

/// Of these probes, those that arrive. The last one must.
fn arriving(from: &RawGuest, to: &RawGuest, probes: &[Probe]) -> Vec<usize> {
    let router = from.arp(Ipv4Addr::new(10, 0, 0, 1));
    for (probe, port) in probes.iter().zip(20000..) {
        probe.send(from, router, to, port);
    }
    let last = probes.len() - 1;
    let mut places = Vec::new();
    while places.last() != Some(&last) {
        let seen = to.next();
        let place = probes.iter().position(|probe| probe.is(&seen));
        places.extend(place);
    }
    places
}

/// Whether a datagram to port 9 passes, next to one that does.
fn passes_to(from: &RawGuest, to: &RawGuest) -> bool {
    arriving(from, to, &[Probe::Udp(9), MARKER]).len() == 2
}

const MARKER: Probe = Probe::Udp(7777);

fn marker() -> Rule {
    allow(Traffic::Udp(7777, 7777), "0.0.0.0/0")
}

#[test]
fn each_kind_of_rule_lets_in_what_it_says_and_nothing_else() {
    use Probe::{Icmp, Protocol, Tcp, Udp};
    let stage = Stage::new(&[open_group(1, 1), group(1, 2)]);
    let (sender, receiver) = (stage.guest(10, &[1]), stage.guest(11, &[2]));
    let tcp = [Tcp(79), Tcp(80), Tcp(90), Tcp(91)];
    let others = [Udp(80), Udp(53), Icmp(8, 0), Icmp(13, 0), Icmp(8, 1), Protocol(50), Protocol(51)];
    let probes = [&tcp[..], &others, &[MARKER]].concat();
    for (traffic, passing) in [
        (Traffic::Tcp(80, 90), &[1, 2][..]),
        (Traffic::Tcp(80, 80), &[1]),
        (Traffic::Tcp(0, 65535), &[0, 1, 2, 3]),
        (Traffic::Udp(53, 53), &[5]),
        (Traffic::Udp(50, 60), &[5]),
        (Traffic::Icmp(None, None), &[6, 7, 8]),
        (Traffic::Icmp(Some(8), None), &[6, 8]),
        (Traffic::Icmp(Some(8), Some(1)), &[8]),
        (Traffic::Icmp(Some(13), Some(1)), &[]),
        (Traffic::Icmp6(None, None), &[]),
        (Traffic::Protocol(50), &[9]),
        (Traffic::All, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ] {
        let expected = [passing, &[11]].concat();
        for egress in [false, true] {
            let limited = BTreeSet::from([marker(), allow(traffic, "0.0.0.0/0")]);
            let all = BTreeSet::from([allow(Traffic::All, "0.0.0.0/0")]);
            let (of_sender, of_receiver) = if egress { (limited, all) } else { (all, limited) };
            stage.ensure(&SecurityGroup { egress: of_sender, ..group(1, 1) });
            stage.ensure(&SecurityGroup { ingress: of_receiver, ..group(1, 2) });
            assert_eq!(arriving(&sender, &receiver, &probes), expected, "{traffic:?}, egress: {egress}");
        }
    }
}

#[test]
fn peers_are_networks_hosts_and_members_of_groups() {
    let stage = Stage::new(&[open_group(1, 1), group(1, 2), group(1, 3)]);
    let (sender, receiver) = (stage.guest(10, &[1]), stage.guest(11, &[2]));
    let udp = Traffic::Udp(9, 9);
    for (rule, passes) in [
        (allow(udp, "10.0.0.10/32"), true),
        (allow(udp, "10.0.0.12/32"), false),
        (allow(udp, "10.0.0.8/30"), true),
        (allow(udp, "10.0.0.12/30"), false),
        (allow_group(udp, 3), false),
    ] {
        stage.ensure(&SecurityGroup { ingress: [marker(), rule.clone()].into(), ..group(1, 2) });
        assert_eq!(passes_to(&sender, &receiver), passes, "{rule:?}");
    }
    for (groups, passes) in [(&[1, 3][..], true), (&[1], false), (&[3, 1], true)] {
        stage.networks.ensure_interface(&interface(&stage.network, 0, 10, groups)).unwrap();
        assert_eq!(passes_to(&sender, &receiver), passes, "a member of {groups:?}");
    }
    stage.ensure(&open_group(1, 3));
    assert!(passes_to(&sender, &receiver), "a group keeps its members when its rules change");
}

#[test]
fn a_group_may_name_itself_and_one_that_comes_later() {
    let itself = SecurityGroup {
        ingress: [marker(), allow_group(Traffic::All, 2)].into(),
        egress: [marker(), allow_group(Traffic::All, 2), allow_group(Traffic::All, 9)].into(),
        ..group(1, 2)
    };
    let stage = Stage::new(&[itself, open_group(1, 1)]);
    let (a, b, other) = (stage.guest(10, &[2]), stage.guest(11, &[2]), stage.guest(12, &[1]));
    assert!(passes_to(&a, &b));
    assert!(!passes_to(&a, &other), "egress is to members only");
    assert!(!passes_to(&other, &b), "ingress is from members only");
    stage.networks.ensure_interface(&interface(&stage.network, 0, 12, &[1, 9])).unwrap();
    assert!(passes_to(&a, &other), "even before the group's own rules are there");
    stage.ensure(&group(1, 9));
    assert!(passes_to(&a, &other));
}

#[test]
fn the_groups_of_an_interface_add_up_and_can_be_changed() {
    let only = |number, port| SecurityGroup {
        ingress: [marker(), allow(Traffic::Udp(port, port), "0.0.0.0/0")].into(),
        ..group(1, number)
    };
    let stage = Stage::new(&[open_group(1, 1), only(2, 100), only(3, 200)]);
    let (sender, receiver) = (stage.guest(10, &[1]), stage.guest(11, &[2, 3]));
    let probes = [Probe::Udp(100), Probe::Udp(200), Probe::Udp(300), MARKER];
    assert_eq!(arriving(&sender, &receiver, &probes), [0, 1, 3]);
    stage.networks.ensure_interface(&interface(&stage.network, 0, 11, &[3])).unwrap();
    assert_eq!(arriving(&sender, &receiver, &probes), [1, 3], "and the guest keeps its TAP");
}

#[test]
fn answers_pass_without_a_rule_and_connections_outlive_theirs() {
    let server_rules = SecurityGroup { ingress: [allow(Traffic::All, "0.0.0.0/0")].into(), ..group(1, 2) };
    let client_rules = SecurityGroup { egress: [allow(Traffic::All, "0.0.0.0/0")].into(), ..group(1, 1) };
    let stage = Stage::new(&[client_rules, server_rules]);
    let [client, server] = [(10, 1), (11, 2)].map(|(number, group)| {
        let interface = interface(&stage.network, 0, number, &[group]);
        stage.networks.ensure_interface(&interface).unwrap();
        LinuxGuest::new(&stage.networks, &interface)
    });
    let (asking, serving) = (client.udp(1000), server.udp(2000));
    let talk = || {
        asking.send_to(b"question", (server.address, 2000)).unwrap();
        let (_, from) = serving.recv_from(&mut [0; 16]).unwrap();
        serving.send_to(b"answer", from).unwrap();
        asking.recv(&mut [0; 16]).unwrap();
    };
    talk();
    server.serve_tcp(80);
    assert_eq!(client.ask_tcp(server.address, 80), client.address);
    stage.ensure(&group(1, 2));
    talk(); // EC2 leaves tracked connections alone, too
    assert!(!client.reaches(server.address, 80), "a new connection is refused");
    assert!(!server.reaches(client.address, 80), "nothing is let in at the client");
}

#[test]
fn a_change_of_one_group_leaves_every_other_rule_alone() {
    let stage = Stage::new(&[open_group(1, 1), open_group(1, 2)]);
    for number in 10..14 {
        stage.guest(number, &[1, 2]);
    }
    // A rule that is replaced gets another handle.
    let rules = || sh_in(stage.network.vpc, "nft --handle list ruleset");
    let rest = |text: &str| -> Vec<String> {
        let chains = text.split("chain ").filter(|chain| !chain.starts_with("sg-00000000000000002"));
        chains.map(str::to_owned).collect()
    };
    let before = rules();
    stage.ensure(&SecurityGroup { ingress: [marker()].into(), ..group(1, 2) });
    let after = rules();
    assert_ne!(before, after);
    assert_eq!(rest(&before), rest(&after));
}
