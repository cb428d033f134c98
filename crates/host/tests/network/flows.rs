//! Packets between instances, and between them and their router.

use std::net::Ipv4Addr;

use crate::linux_guest::{LinuxGuest, PATIENCE};
use crate::raw::{RawGuest, Seen};
use crate::world::{begin, interface, network, observe, open_group};

#[test]
fn isolated_guests_find_each_other_through_the_router() {
    let networks = begin();
    let network = network(1);
    networks.ensure_network(&network).unwrap();
    networks.ensure_group(&open_group(1, 1)).unwrap();
    let [a, b, far] = [(0, 10), (0, 11), (1, 10)].map(|(subnet, number)| {
        let interface = interface(&network, subnet, number, &[1]);
        networks.ensure_interface(&interface).unwrap();
        RawGuest::new(&networks, &interface)
    });
    let router = a.arp(Ipv4Addr::new(10, 0, 0, 1));
    assert_eq!(a.arp(b.address), router, "the router answers for a neighbour");
    for peer in [&b, &far] {
        a.send_udp(router, peer.address, 9, b"hello");
        let hello = Seen::Udp { from: (a.address, 4000), to: (peer.address, 9), data: b"hello".to_vec() };
        assert_eq!(peer.next(), hello);
    }
    println!("{:?}", observe(&networks));
}

#[test]
fn linux_guests_talk_tcp_in_and_across_subnets() {
    let networks = begin();
    let network = network(1);
    networks.ensure_network(&network).unwrap();
    networks.ensure_group(&open_group(1, 1)).unwrap();
    let [a, b, far] = [(0, 10), (0, 11), (1, 10)].map(|(subnet, number)| {
        let interface = interface(&network, subnet, number, &[1]);
        networks.ensure_interface(&interface).unwrap();
        LinuxGuest::new(&networks, &interface)
    });
    for server in [&b, &far] {
        server.serve_tcp(80);
        assert_eq!(a.ask_tcp(server.address, 80), Some(a.address), "{PATIENCE:?}");
    }
}
