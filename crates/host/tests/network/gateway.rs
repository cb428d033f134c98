//! Public addresses, the way out, and what does not come in.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use host::linux::network::Networks;
use host::linux::sys::netns::Namespace;
use spec::network::{Interface, Network, Rule, SecurityGroup, Target, Traffic};

use crate::linux_guest::{LinuxGuest, PATIENCE, ask, reaches, serve};
use crate::raw::{RawGuest, Seen, icmp, tcp_syn};
use crate::world::{
    HOST, INTERNET, add_internet, allow, allow_group, begin, group, interface, network_with_gateway,
    open_group, public_address, sh, with_public,
};

/// VPCs with gateways, each with an open group 1.
fn stage<const N: usize>(numbers: [u8; N]) -> (Networks, [Network; N]) {
    let networks = begin();
    add_internet();
    let vpcs = numbers.map(|number| {
        let network = network_with_gateway(number);
        networks.ensure_network(&network).unwrap();
        networks.ensure_group(&open_group(number, 1)).unwrap();
        network
    });
    (networks, vpcs)
}

fn guest(networks: &Networks, interface: &Interface) -> LinuxGuest {
    networks.ensure_interface(interface).unwrap();
    LinuxGuest::new(networks, interface)
}

/// A server on the internet that says whom it sees.
fn serve_internet(port: u16) {
    let listener = internet(|| TcpListener::bind((INTERNET, port)).unwrap());
    serve(listener);
}

fn internet<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    Namespace::open("internet").unwrap().unwrap().run(work).unwrap()
}

#[test]
fn a_guest_with_a_public_address_has_a_way_out_and_others_have_none() {
    let (networks, [network]) = stage([1]);
    serve_internet(80);
    let public = guest(&networks, &with_public(interface(&network, 0, 10, &[1]), 7));
    let private = guest(&networks, &interface(&network, 0, 11, &[1]));
    assert_eq!(public.ask_tcp(INTERNET, 80), HOST, "under the host's address");
    assert!(!private.reaches(INTERNET, 80));
    // Subnet 1 has no route to the gateway.
    let unrouted = guest(&networks, &with_public(interface(&network, 1, 10, &[1]), 8));
    assert!(!unrouted.reaches(INTERNET, 80));
}

#[test]
fn the_host_reaches_public_addresses_as_the_groups_allow() {
    let (networks, [network]) = stage([1]);
    let rules = SecurityGroup { ingress: [allow(Traffic::Tcp(80, 80), "0.0.0.0/0")].into(), ..group(1, 2) };
    networks.ensure_group(&rules).unwrap();
    let server = guest(&networks, &with_public(interface(&network, 0, 10, &[2]), 7));
    [80, 81].iter().for_each(|port| server.serve_tcp(*port));
    let host_end = network.uplink.unwrap().link.addr();
    assert_eq!(ask(public_address(7), 80), host_end);
    assert!(!reaches(public_address(7), 81));
    assert!(!reaches(server.address, 80), "private addresses are the VPC's own affair");
}

#[test]
fn from_outside_the_host_nothing_comes_in_but_answers() {
    let (networks, [network]) = stage([1]);
    let interface = with_public(interface(&network, 0, 10, &[1]), 7);
    networks.ensure_interface(&interface).unwrap();
    let guest = RawGuest::new(&networks, &interface);
    let router = guest.arp(Ipv4Addr::new(10, 0, 0, 1));
    sh("ip -n internet route add 198.18.0.0/24 via 203.0.113.1");
    let outside = internet(|| UdpSocket::bind((INTERNET, 9)).unwrap());
    outside.set_read_timeout(Some(PATIENCE)).unwrap();
    outside.send_to(b"knock", (public_address(7), 4001)).unwrap();
    outside.send_to(b"knock", (public_address(7), 4000)).unwrap();
    guest.send_udp(router, INTERNET, 9, b"question");
    let (_, asker) = outside.recv_from(&mut [0; 16]).unwrap();
    outside.send_to(b"answer", asker).unwrap();
    let answer = Seen::Udp { from: (INTERNET, 9), to: (guest.address, 4000), data: b"answer".to_vec() };
    assert_eq!(guest.next(), answer);
}

#[test]
fn the_host_itself_answers_guests_with_pings_only() {
    let (networks, [network]) = stage([1]);
    serve(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 22)).unwrap());
    let interface = with_public(interface(&network, 0, 10, &[1]), 7);
    networks.ensure_interface(&interface).unwrap();
    let guest = RawGuest::new(&networks, &interface);
    let router = guest.arp(Ipv4Addr::new(10, 0, 0, 1));
    let addresses = [HOST, network.uplink.unwrap().link.addr()];
    for address in addresses {
        guest.send_ip(router, address, 6, &tcp_syn((guest.address, 4000), (address, 22)));
        guest.send_udp(router, address, 9, b"anyone?");
    }
    guest.send_ip(router, HOST, 1, &icmp(8, 0));
    assert_eq!(guest.next(), Seen::Icmp { from: HOST, kind: 0, code: 0 });
}

#[test]
fn a_neighbours_public_address_is_reached_by_the_gateway() {
    let (networks, [network]) = stage([1]);
    let from_public: Rule = allow(Traffic::All, "198.18.0.7/32");
    let by_group = allow_group(Traffic::Tcp(81, 81), 1);
    let rules = SecurityGroup { ingress: [from_public, by_group].into(), ..open_group(1, 2) };
    networks.ensure_group(&rules).unwrap();
    let asker = guest(&networks, &with_public(interface(&network, 0, 10, &[1]), 7));
    let server = guest(&networks, &with_public(interface(&network, 0, 11, &[2]), 8));
    let private = guest(&networks, &interface(&network, 0, 12, &[1]));
    [80, 81].iter().for_each(|port| server.serve_tcp(*port));
    asker.serve_tcp(80);
    assert_eq!(asker.ask_tcp(public_address(8), 80), public_address(7), "as EC2 shows it");
    assert!(!asker.reaches(server.address, 80), "the rule is for the public address");
    assert_eq!(asker.ask_tcp(server.address, 81), asker.address, "and this one for the group's private ones");
    assert!(!private.reaches(public_address(8), 80), "who has no public address has no way out and back");
    assert_eq!(asker.ask_tcp(public_address(7), 80), public_address(7), "one's own, too");
}

#[test]
fn overlapping_vpcs_meet_by_public_addresses() {
    let (networks, [first, second]) = stage([1, 2]);
    let a = guest(&networks, &with_public(interface(&first, 0, 10, &[1]), 7));
    let b = guest(&networks, &with_public(interface(&second, 0, 10, &[1]), 8));
    b.serve_tcp(80);
    assert_eq!(a.address, b.address);
    assert_eq!(a.ask_tcp(public_address(8), 80), public_address(7));
    serve_internet(80);
    for guest in [&a, &b] {
        assert_eq!(guest.ask_tcp(INTERNET, 80), HOST);
    }
}

#[test]
fn an_address_that_moves_takes_its_connections_from_the_one_before() {
    let (networks, [network]) = stage([1]);
    let [a, b] = [10, 11].map(|number| interface(&network, 0, number, &[1]));
    networks.ensure_interface(&with_public(a.clone(), 7)).unwrap();
    networks.ensure_interface(&b).unwrap();
    let (old, new) = (RawGuest::new(&networks, &a), RawGuest::new(&networks, &b));
    let router = old.arp(Ipv4Addr::new(10, 0, 0, 1));
    let outside = internet(|| UdpSocket::bind((INTERNET, 9)).unwrap());
    outside.set_read_timeout(Some(PATIENCE)).unwrap();
    old.send_udp(router, INTERNET, 9, b"before");
    let (_, asker) = outside.recv_from(&mut [0; 16]).unwrap();
    let host = UdpSocket::bind("0.0.0.0:5000").unwrap();
    host.send_to(b"knock", (public_address(7), 80)).unwrap();
    assert!(matches!(old.next(), Seen::Udp { .. }));

    // The new owner's step comes first: the address is taken from the old one, whose step then has nothing to
    // do.
    networks.ensure_interface(&with_public(b.clone(), 7)).unwrap();
    networks.ensure_interface(&a).unwrap();
    outside.send_to(b"late", asker).unwrap();
    host.send_to(b"knock again", (public_address(7), 80)).unwrap();
    old.send_udp(router, INTERNET, 9, b"after");
    host.send_to(b"knock", (public_address(7), 81)).unwrap();
    let Seen::Udp { to, .. } = new.next() else { panic!("not UDP") };
    assert_eq!(to, (new.address, 81));
    new.send_udp(new.arp(Ipv4Addr::new(10, 0, 0, 1)), INTERNET, 9, b"new");
    let mut message = [0; 16];
    let (length, _) = outside.recv_from(&mut message).unwrap();
    assert_eq!(&message[..length], b"new", "what the old owner sent after it lost the address is lost");
    assert_eq!(old.leftovers(), []);
}

#[test]
fn routes_and_gateway_can_be_taken_away_and_given_back() {
    let (networks, [network]) = stage([1]);
    serve_internet(80);
    let interface = with_public(interface(&network, 0, 10, &[1]), 7);
    let guest = guest(&networks, &interface);
    let mut blackhole = network.clone();
    blackhole.subnets[0].routes[0].target = Target::Blackhole;
    let mut specific = blackhole.clone();
    specific.subnets[0].routes.push(spec::network::Route {
        destination: "203.0.113.0/24".parse().unwrap(),
        target: Target::Uplink,
    });
    let mut none = network.clone();
    none.uplink = None;
    for (wish, way_out) in [(&blackhole, false), (&specific, true), (&none, false), (&network, true)] {
        networks.ensure_network(wish).unwrap();
        networks.ensure_interface(&interface).unwrap();
        if way_out {
            assert_eq!(guest.ask_tcp(INTERNET, 80), HOST, "{:?}", wish.subnets[0].routes);
        } else {
            assert!(!guest.reaches(INTERNET, 80), "{:?}", wish.subnets[0].routes);
        }
    }
}

#[test]
fn addresses_without_owner_or_subnet_go_nowhere() {
    let (networks, [network]) = stage([1]);
    let interface = with_public(interface(&network, 0, 10, &[1]), 7);
    networks.ensure_interface(&interface).unwrap();
    let guest = RawGuest::new(&networks, &interface);
    let router = guest.arp(Ipv4Addr::new(10, 0, 0, 1));
    sh("ip -n internet address add 198.18.0.99/32 dev lo; ip -n internet address add 10.0.99.9/32 dev lo");
    let outside = internet(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 9)).unwrap());
    outside.set_read_timeout(Some(PATIENCE)).unwrap();
    guest.send_udp(router, public_address(99), 9, b"nobody's"); // of the pool, not given out
    guest.send_udp(router, Ipv4Addr::new(10, 0, 99, 9), 9, b"nobody's"); // of the VPC, in no subnet
    guest.send_udp(router, INTERNET, 9, b"marker");
    let mut message = [0; 16];
    let (length, _) = outside.recv_from(&mut message).unwrap();
    assert_eq!(&message[..length], b"marker");
}
