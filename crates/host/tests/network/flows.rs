//! Packets between instances, and between instances and their router's services.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use host::ErrorKind;
use host::linux::network::Networks;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use spec::machine::Mac;
use spec::network::{Interface, Network, Traffic};

use crate::linux_guest::{LinuxGuest, PATIENCE};
use crate::raw::{BROADCAST, RawGuest, Seen, ethernet, icmp, ipv4, tcp_syn, udp};
use crate::world::{allow, begin, group, interface, network, open_group, sh_in, vpc_id};

const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// A VPC in which everything may pass.
fn open_network(networks: &Networks) -> Network {
    let network = network(1);
    networks.ensure_network(&network).unwrap();
    networks.ensure_group(&open_group(1, 1)).unwrap();
    network
}

fn raw_guest(networks: &Networks, network: &Network, subnet: u8, number: u8) -> RawGuest {
    let interface = interface(network, subnet, number, &[1]);
    networks.ensure_interface(&interface).unwrap();
    RawGuest::new(networks, &interface)
}

fn linux_guest(networks: &Networks, network: &Network, subnet: u8, number: u8) -> LinuxGuest {
    let interface = interface(network, subnet, number, &[1]);
    networks.ensure_interface(&interface).unwrap();
    LinuxGuest::new(networks, &interface)
}

#[test]
fn isolated_guests_find_each_other_through_the_router() {
    let networks = begin();
    let network = open_network(&networks);
    let a = raw_guest(&networks, &network, 0, 10);
    let (b, far) = (raw_guest(&networks, &network, 0, 11), raw_guest(&networks, &network, 1, 10));
    let router = a.arp(ROUTER);
    assert_eq!(a.arp(b.address), router, "the router answers for a neighbour");
    for service in [RESOLVER, METADATA] {
        assert_eq!(a.arp(service), router, "also to those who believe the service to be on their link");
    }
    for peer in [&b, &far] {
        a.send_udp(router, peer.address, 9, b"hello");
        let hello = Seen::Udp { from: (a.address, 4000), to: (peer.address, 9), data: b"hello".to_vec() };
        assert_eq!(peer.next(), hello);
    }
    // What is sent to a neighbour's link address or to all goes nowhere: ports are apart.
    for to in [b.mac, BROADCAST] {
        let past_the_router = ipv4(a.address, b.address, 17, &udp((a.address, 1), (b.address, 1), b"past"));
        a.send(&ethernet(to, a.mac, 0x0800, &past_the_router));
    }
    a.send_udp(router, b.address, 9, b"through");
    let through = Seen::Udp { from: (a.address, 4000), to: (b.address, 9), data: b"through".to_vec() };
    assert_eq!(b.next(), through);
}

#[test]
fn the_routers_address_on_the_link_is_always_the_same() {
    let networks = begin();
    let network = open_network(&networks);
    let a = raw_guest(&networks, &network, 0, 10);
    let before = a.arp(ROUTER);
    sh_in(network.vpc, &format!("ip link del {}", spec::names::bridge(network.subnets[0].id)));
    networks.ensure_network(&network).unwrap();
    networks.ensure_interface(&interface(&network, 0, 10, &[1])).unwrap();
    raw_guest(&networks, &network, 0, 11);
    assert_eq!(a.arp(ROUTER), before);
}

#[test]
fn nobody_is_asked_for_a_guest_that_is_gone() {
    let networks = begin();
    let network = open_network(&networks);
    let gone = linux_guest(&networks, &network, 0, 10);
    let (a, b) = (raw_guest(&networks, &network, 0, 11), raw_guest(&networks, &network, 0, 12));
    gone.serve_tcp(80);
    let to = SocketAddrV4::new(gone.address, 80);
    let mut connection = networks.connect(network.vpc, to, PATIENCE).unwrap();
    networks.remove_interface(network.vpc, interface(&network, 0, 10, &[]).id).unwrap();
    let _ = connection.write_all(b"are you there?");
    a.send_udp(a.arp(ROUTER), b.address, 9, b"marker");
    assert!(matches!(b.next(), Seen::Udp { .. }), "not a question by the router");
}

#[test]
fn a_machine_keeps_its_tap_whatever_happens_to_the_seal() {
    let networks = begin();
    let network = open_network(&networks);
    let interface = interface(&network, 0, 10, &[1]);
    networks.ensure_interface(&interface).unwrap();
    let guest = RawGuest::new(&networks, &interface);
    assert!(networks.open_tap(network.vpc, interface.id, 1).is_err(), "one machine at a time");
    sh_in(network.vpc, &format!("ip link set {} alias changed", spec::names::tap(interface.id)));
    networks.ensure_interface(&interface).unwrap();
    guest.arp(ROUTER);
    let nobody = spec::ids::InterfaceId::from_random(77);
    assert!(networks.open_tap(network.vpc, nobody, 1).is_err());
    assert_eq!(
        sh_in(network.vpc, &format!("ip link show {} 2>&1 || true", spec::names::tap(nobody)))
            .lines()
            .count(),
        1
    );
}

#[test]
fn linux_guests_talk_tcp_in_and_across_subnets() {
    let networks = begin();
    let network = open_network(&networks);
    let a = linux_guest(&networks, &network, 0, 10);
    for (subnet, number) in [(0, 11), (1, 10)] {
        let server = linux_guest(&networks, &network, subnet, number);
        server.serve_tcp(80);
        assert_eq!(a.ask_tcp(server.address, 80), a.address);
    }
}

#[test]
fn overlapping_vpcs_are_side_by_side_and_apart() {
    let networks = begin();
    let guests = [1, 2].map(|number| {
        let network = network(number);
        networks.ensure_network(&network).unwrap();
        networks.ensure_group(&open_group(number, 1)).unwrap();
        [linux_guest(&networks, &network, 0, 10), linux_guest(&networks, &network, 0, 11 + number)]
    });
    for [client, server] in &guests {
        server.serve_tcp(80);
        assert_eq!(client.ask_tcp(server.address, 80), client.address);
    }
    assert!(!guests[0][0].reaches(guests[1][1].address, 80), "an address of the other VPC only");
}

#[test]
fn services_answer_every_guest_whatever_its_groups_say() {
    let networks = begin();
    let network = network(1);
    networks.ensure_network(&network).unwrap();
    networks.ensure_group(&group(1, 1)).unwrap();
    let sockets = networks.guest_sockets(&network).unwrap();
    for (subnet, number) in [(0, 10), (1, 20)] {
        let guest = linux_guest(&networks, &network, subnet, number);
        let place = usize::from(subnet);
        let resolver = network.subnets[place].resolver();

        guest.run(|| std::net::TcpStream::connect_timeout(&(METADATA, 80).into(), PATIENCE).unwrap());
        let (_, asker) = wait(&sockets.metadata, |listener| listener.accept());
        assert_eq!(asker.ip(), guest.address, "the sender's address says who asks");
        guest.run(|| std::net::TcpStream::connect_timeout(&(resolver, 53).into(), PATIENCE).unwrap());
        wait(&sockets.subnets[place].dns_tcp, |listener| listener.accept());

        let question = guest.udp(5000);
        question.send_to(b"name?", (resolver, 53)).unwrap();
        let dns = &sockets.subnets[place].dns;
        let (length, asker) = wait(dns, |dns| dns.recv_from(&mut [0; 64]));
        assert_eq!((length, asker), (5, SocketAddr::from((guest.address, 5000))));
        dns.send_to(b"address!", asker).unwrap();
        let mut answer = [0; 64];
        question.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(question.recv_from(&mut answer).unwrap(), (8, (resolver, 53).into()));
    }
}

#[test]
fn dhcp_reaches_a_guest_that_has_no_address_yet() {
    let networks = begin();
    let network = network(1);
    networks.ensure_network(&network).unwrap();
    networks.ensure_group(&group(1, 1)).unwrap();
    let sockets = networks.guest_sockets(&network).unwrap();
    let guests = [raw_guest(&networks, &network, 0, 10), raw_guest(&networks, &network, 1, 20)];
    for (guest, sockets) in guests.iter().zip(&sockets.subnets) {
        let nobody = Ipv4Addr::UNSPECIFIED;
        let discover = udp((nobody, 68), (Ipv4Addr::BROADCAST, 67), b"discover");
        guest.send(&ethernet(
            BROADCAST,
            guest.mac,
            0x0800,
            &ipv4(nobody, Ipv4Addr::BROADCAST, 17, &discover),
        ));
        let mut message = [0; 64];
        let (length, from) = wait(&sockets.dhcp, |dhcp| dhcp.recv_from(&mut message));
        assert_eq!((&message[..length], from), (&b"discover"[..], (nobody, 68).into()));

        sockets.dhcp.send_to(b"offer", (guest.address, 68)).unwrap();
        guest.wait_for(|seen| match seen {
            Seen::Udp { from: (_, 67), to, data } if data == b"offer" => {
                assert_eq!(*to, (guest.address, 68), "by unicast, to an address that answers no ARP");
                Some(())
            }
            _ => None,
        });
    }
}

#[test]
fn nothing_else_of_the_router_can_be_reached() {
    let networks = begin();
    let network = open_network(&networks);
    let guest = raw_guest(&networks, &network, 0, 10);
    let router = guest.arp(ROUTER);
    for address in [ROUTER, RESOLVER, METADATA, Ipv4Addr::new(10, 0, 1, 1)] {
        for port in [22, 67, 8080] {
            guest.send_ip(router, address, 6, &tcp_syn((guest.address, 4000), (address, port)));
            guest.send_udp(router, address, port + 1, b"anyone?");
        }
        guest.send_ip(router, address, 13, b"some other protocol");
    }
    guest.send_ip(router, METADATA, 1, &icmp(8, 0));
    // A refusal would come before the answer to this.
    guest.send_ip(router, ROUTER, 1, &icmp(8, 0));
    assert_eq!(guest.next(), Seen::Icmp { from: ROUTER, kind: 0, code: 0 });
}

#[test]
fn addresses_that_nobody_has_are_silent_and_cost_nothing() {
    let networks = begin();
    let network = open_network(&networks);
    let (a, b) = (raw_guest(&networks, &network, 0, 10), raw_guest(&networks, &network, 0, 11));
    let router = a.arp(ROUTER);
    for number in 100..200 {
        a.send_udp(router, Ipv4Addr::new(10, 0, 0, number), 9, b"anyone?");
        a.send_udp(router, Ipv4Addr::new(10, 0, 200, number), 9, b"anyone?");
    }
    a.send_udp(router, b.address, 9, b"marker");
    assert!(matches!(b.next(), Seen::Udp { .. }), "no guest is bothered with looking for others");
    assert_eq!(a.leftovers(), []);
    let neighbours =
        sh_in(network.vpc, "ip neighbour show nud all | grep -v PERMANENT | grep -v NOARP || true");
    assert_eq!(neighbours, "", "a guest cannot fill the neighbour table, which all namespaces share");
}

#[test]
fn connections_from_the_router_obey_the_receivers_groups() {
    let networks = begin();
    let network = network(1);
    networks.ensure_network(&network).unwrap();
    let mut rules = group(1, 1);
    rules.ingress =
        [allow(Traffic::Tcp(80, 80), "10.0.0.1/32"), allow(Traffic::Tcp(81, 81), "10.0.0.2/32")].into();
    networks.ensure_group(&rules).unwrap();
    let guest = linux_guest(&networks, &network, 0, 10);
    [80, 81].iter().for_each(|port| guest.serve_tcp(*port));

    let connect = |port| networks.connect(network.vpc, SocketAddrV4::new(guest.address, port), PATIENCE);
    let mut connection = connect(80).unwrap();
    assert_eq!(connection.local_addr().unwrap().ip(), ROUTER);
    connection.write_all(b"hello").unwrap();
    let refused = |error: host::Error| error.chain().contains("refused");
    assert!(refused(connect(81).unwrap_err()), "the rule is for another sender");
    assert!(refused(connect(82).unwrap_err()));
    let nobody = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 99), 80);
    assert!(refused(networks.connect(network.vpc, nobody, PATIENCE).unwrap_err()));
    let elsewhere = networks.connect(vpc_id(2), nobody, PATIENCE).unwrap_err();
    assert_eq!(elsewhere.kind, ErrorKind::NotFound);
}

#[test]
fn frames_of_full_size_pass_and_guests_see_one_mtu() {
    let networks = begin();
    let network = open_network(&networks);
    let (a, b) = (raw_guest(&networks, &network, 0, 10), raw_guest(&networks, &network, 1, 11));
    let router: Mac = a.arp(ROUTER);
    a.send_udp(router, b.address, 9, &[7; 1472]);
    let Seen::Udp { data, .. } = b.next() else { panic!("not UDP") };
    assert_eq!(data.len(), 1472);
}

/// Does something with a socket that does not block, as soon as it can be done.
fn wait<S: std::os::fd::AsFd, T>(socket: &S, mut work: impl FnMut(&S) -> std::io::Result<T>) -> T {
    let mut polled = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    let patience = PollTimeout::try_from(PATIENCE + Duration::ZERO).unwrap();
    assert_eq!(poll(&mut polled, patience).unwrap(), 1, "nothing came");
    work(socket).unwrap()
}

#[test]
fn a_tap_has_several_queues_where_they_are_of_use() {
    let networks = begin();
    let network = open_network(&networks);
    let one = interface(&network, 0, 10, &[1]);
    let several = Interface { several_queues: true, ..one.clone() };
    let open = |queues| networks.open_tap(network.vpc, one.id, queues);
    networks.ensure_interface(&several).unwrap();
    let queues = open(3).unwrap();
    assert_eq!(queues.len(), 3);
    assert!(open(1).is_err(), "one machine at a time");
    // What a machine uses stays as it is, whatever is wished.
    networks.ensure_interface(&one).unwrap();
    drop(queues);
    assert_eq!(open(2).unwrap().len(), 2);
    let name = spec::names::tap(one.id);
    assert!(sh_in(network.vpc, &format!("ip link show {name}")).contains("qdisc noqueue"));
    // One that nobody uses is made as it is wished now, and works.
    networks.ensure_interface(&one).unwrap();
    assert_eq!(open(2).unwrap().len(), 1);
    let guest = RawGuest::new(&networks, &one);
    guest.arp(ROUTER);
}
