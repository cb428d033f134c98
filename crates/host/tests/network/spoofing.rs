//! A guest that pretends to be somebody else.

use std::net::Ipv4Addr;

use host::linux::network::Networks;
use spec::machine::Mac;
use spec::network::{Interface, Network};

use crate::raw::{BROADCAST, RawGuest, Seen, arp_request, ethernet, ipv4, tcp_syn, udp};
use crate::world::{begin, interface, network, open_group};

const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const STRANGER: Mac = Mac([2, 9, 9, 9, 9, 9]);
/// Who is asked for in lies.
const LIES: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 77);
const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

/// A liar, a victim and a receiver, between whom everything may pass.
fn stage() -> (Networks, Network, [RawGuest; 3]) {
    let (networks, network) = (begin(), network(1));
    networks.ensure_network(&network).unwrap();
    networks.ensure_group(&open_group(1, 1)).unwrap();
    let guests = [10, 11, 12].map(|number| {
        let interface = interface(&network, 0, number, &[1]);
        networks.ensure_interface(&interface).unwrap();
        RawGuest::new(&networks, &interface)
    });
    (networks, network, guests)
}

fn datagram(from: Ipv4Addr, to: Ipv4Addr, data: &[u8]) -> Vec<u8> {
    ipv4(from, to, 17, &udp((from, 4000), (to, 9), data))
}

/// Shows that nothing that was sent before came through, and that something sent now does.
fn nothing_came(liar: &RawGuest, router: Mac, receiver: &RawGuest) {
    liar.send_udp(router, receiver.address, 9, b"truth");
    let truth = Seen::Udp { from: (liar.address, 4000), to: (receiver.address, 9), data: b"truth".to_vec() };
    assert_eq!(receiver.next(), truth);
}

#[test]
fn packets_under_anothers_address_die_at_the_tap() {
    let (_networks, _, [liar, victim, receiver]) = stage();
    let router = liar.arp(ROUTER);
    let mine = datagram(liar.address, receiver.address, b"lie");
    for address in
        [victim.address, ROUTER, NOBODY, Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::LOCALHOST, receiver.address]
    {
        let stolen = datagram(address, receiver.address, b"lie");
        liar.send(&ethernet(router, liar.mac, 0x0800, &stolen));
        liar.send(&ethernet(router, victim.mac, 0x0800, &stolen));
        let syn = ipv4(address, receiver.address, 6, &tcp_syn((address, 4000), (receiver.address, 9)));
        liar.send(&ethernet(router, liar.mac, 0x0800, &syn));
    }
    for mac in [STRANGER, victim.mac, router] {
        liar.send(&ethernet(router, mac, 0x0800, &mine));
    }
    nothing_came(&liar, router, &receiver);
}

#[test]
fn other_protocols_and_wrapped_packets_die_at_the_tap() {
    let (_networks, _, [liar, victim, receiver]) = stage();
    let router = liar.arp(ROUTER);
    let stolen = datagram(victim.address, receiver.address, b"lie");
    let own = datagram(liar.address, receiver.address, b"lie");
    for tag in [[0, 0], [0, 5], [0xe0, 0]] {
        for kind in [0x8100, 0x88a8] {
            let tagged = |packet: &[u8]| [&tag[..], &[8, 0], packet].concat();
            liar.send(&ethernet(router, liar.mac, kind, &tagged(&stolen)));
            let twice = [&tag[..], &[0x81, 0], &tagged(&stolen)].concat();
            liar.send(&ethernet(router, liar.mac, kind, &twice));
        }
    }
    liar.send(&ethernet(router, liar.mac, 0x86dd, &[0x60; 48])); // IPv6
    liar.send(&ethernet(router, liar.mac, 0x88cc, &[1; 48])); // LLDP
    let snap = [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &own].concat();
    liar.send(&ethernet(router, liar.mac, u16::try_from(snap.len()).unwrap(), &snap));
    nothing_came(&liar, router, &receiver);
}

#[test]
fn lies_in_arp_are_neither_believed_nor_passed_on() {
    let (_networks, _, [liar, victim, receiver]) = stage();
    let router = liar.arp(ROUTER);
    assert_eq!(liar.arp(LIES), router, "whoever asks honestly is answered");
    for (frame_mac, sender_mac, sender) in [
        (liar.mac, liar.mac, victim.address),
        (liar.mac, victim.mac, liar.address),
        (STRANGER, liar.mac, liar.address),
        (STRANGER, STRANGER, victim.address),
        (victim.mac, victim.mac, victim.address),
        (liar.mac, liar.mac, ROUTER),
    ] {
        liar.send(&arp_request(frame_mac, sender_mac, sender, LIES));
        liar.send(&arp_request(frame_mac, sender_mac, sender, sender));
    }
    // An answer to a lie would come before the answer to the truth.
    liar.send(&arp_request(liar.mac, liar.mac, liar.address, receiver.address));
    let answered = |seen: &Seen| match seen {
        Seen::Arp { operation: 2, sender, target, .. } if *sender != ROUTER => Some((*sender, *target)),
        _ => None,
    };
    assert_eq!(liar.wait_for(answered), (receiver.address, liar.address));
    receiver.send_udp(receiver.arp(ROUTER), victim.address, 9, b"still mine");
    let heard = victim.wait_for(|seen| match seen {
        Seen::Arp { sender, .. } if *sender == LIES => Some("an answer to somebody else's lie"),
        Seen::Udp { .. } => Some("what was meant for it"),
        _ => None,
    });
    assert_eq!(heard, "what was meant for it");
    nothing_came(&liar, router, &receiver);
}

#[test]
fn a_guest_may_ask_whether_its_address_is_free_and_is_told_yes() {
    let (_networks, _, [guest, other, _]) = stage();
    guest.send(&arp_request(guest.mac, guest.mac, NOBODY, guest.address)); // RFC 5227
    guest.send(&arp_request(guest.mac, guest.mac, guest.address, guest.address));
    // Silence means free; an objection would come before this answer.
    guest.send(&arp_request(guest.mac, guest.mac, guest.address, other.address));
    let objection = guest.wait_for(|seen| match seen {
        Seen::Arp { operation: 2, sender, .. } if *sender != ROUTER => Some(*sender),
        _ => None,
    });
    assert_eq!(objection, other.address);
}

#[test]
fn without_the_check_a_guest_may_use_any_address_but_no_other_mac() {
    let (networks, network, [router_guest, victim, receiver]) = stage();
    let unchecked = Interface { source_dest_check: false, ..interface(&network, 0, 10, &[1]) };
    networks.ensure_interface(&unchecked).unwrap();
    let router = router_guest.arp(ROUTER);
    let foreign = Ipv4Addr::new(192, 0, 2, 1);
    router_guest.send(&ethernet(router, STRANGER, 0x0800, &datagram(foreign, receiver.address, b"lie")));
    router_guest.send(&arp_request(router_guest.mac, router_guest.mac, victim.address, victim.address));
    router_guest.send(&ethernet(
        router,
        router_guest.mac,
        0x0800,
        &datagram(foreign, receiver.address, b"passed on"),
    ));
    let passed_on =
        Seen::Udp { from: (foreign, 4000), to: (receiver.address, 9), data: b"passed on".to_vec() };
    assert_eq!(receiver.next(), passed_on);

    networks.ensure_interface(&interface(&network, 0, 10, &[1])).unwrap();
    router_guest.send(&ethernet(
        router,
        router_guest.mac,
        0x0800,
        &datagram(foreign, receiver.address, b"lie"),
    ));
    nothing_came(&router_guest, router, &receiver);
}

#[test]
fn broadcasts_reach_nobody_but_the_router() {
    let (_networks, _, [guest, _, receiver]) = stage();
    let router = guest.arp(ROUTER);
    for address in [Ipv4Addr::BROADCAST, Ipv4Addr::new(10, 0, 0, 255), Ipv4Addr::new(224, 0, 0, 251)] {
        guest.send(&ethernet(BROADCAST, guest.mac, 0x0800, &datagram(guest.address, address, b"all")));
    }
    nothing_came(&guest, router, &receiver);
}
