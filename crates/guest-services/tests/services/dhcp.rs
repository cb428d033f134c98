//! DHCP exchanges. Clients' messages are written, and our answers read back, by dhcproto.

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable as _, Encodable as _};
use guest_services::dhcp::{self, Reply};
use guest_services::view::InterfaceView;

use crate::noise::Noise;
use crate::sample::{self, ADDRESS, MAC, RESOLVER, ROUTER};

const NOWHERE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const WRONG: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 200);

/// What systemd-networkd and dhclient ask for, and then some.
const WANTED: [OptionCode; 9] = [
    OptionCode::SubnetMask,
    OptionCode::Router,
    OptionCode::DomainNameServer,
    OptionCode::DomainName,
    OptionCode::ClasslessStaticRoute,
    OptionCode::Hostname,
    OptionCode::InterfaceMtu,
    OptionCode::BroadcastAddr,
    OptionCode::NtpServers,
];

fn client(kind: MessageType, ciaddr: Ipv4Addr, options: &[DhcpOption]) -> Message {
    let mut message = Message::new_with_id(0x0102_0304, ciaddr, NOWHERE, NOWHERE, NOWHERE, &MAC);
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    message.opts_mut().insert(DhcpOption::ParameterRequestList(WANTED.to_vec()));
    for option in options {
        message.opts_mut().insert(option.clone());
    }
    message
}

fn ask_from(source: Ipv4Addr, message: &[u8], interface: &InterfaceView) -> Option<Reply> {
    dhcp::answer(message, source, |mac| (mac == MAC).then_some(interface))
}

fn send(message: &Message) -> Option<(Message, Ipv4Addr)> {
    let reply = ask_from(NOWHERE, &message.to_vec().expect("encodes"), &sample::interface())?;
    assert_eq!(reply.to.port(), 68);
    assert!(reply.bytes.len() >= 300, "BOOTP's length");
    let answer = Message::from_bytes(&reply.bytes).expect("decodes");
    assert_eq!(answer.opcode(), Opcode::BootReply);
    assert_eq!((answer.xid(), answer.chaddr()), (message.xid(), &MAC[..]));
    assert_eq!(answer.opts().get(OptionCode::ServerIdentifier), Some(&DhcpOption::ServerIdentifier(ROUTER)));
    Some((answer, *reply.to.ip()))
}

fn kind(answer: &Message) -> MessageType {
    answer.opts().msg_type().expect("a type")
}

fn requested(address: Ipv4Addr) -> DhcpOption {
    DhcpOption::RequestedIpAddress(address)
}

#[test]
fn discover_is_offered_the_interfaces_own_address() {
    // Another address may be wished for; there is only one to have.
    let (offer, to) = send(&client(MessageType::Discover, NOWHERE, &[requested(WRONG)])).unwrap();
    assert_eq!(
        (kind(&offer), offer.yiaddr(), offer.ciaddr(), to),
        (MessageType::Offer, ADDRESS, NOWHERE, ADDRESS)
    );
    let metadata = "169.254.169.254/32".parse().unwrap();
    let default = "0.0.0.0/0".parse().unwrap();
    for option in [
        DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 240, 0)),
        DhcpOption::Router(vec![ROUTER]),
        DhcpOption::DomainNameServer(vec![RESOLVER]),
        DhcpOption::DomainName("ec2.internal".into()),
        DhcpOption::Hostname("ip-172-31-0-5".into()),
        DhcpOption::InterfaceMtu(1500),
        DhcpOption::BroadcastAddr(Ipv4Addr::new(172, 31, 15, 255)),
        DhcpOption::NtpServers(vec![Ipv4Addr::new(169, 254, 169, 123)]),
        DhcpOption::AddressLeaseTime(3600),
        DhcpOption::Renewal(1800),
        DhcpOption::Rebinding(3150),
        DhcpOption::ClasslessStaticRoute(vec![(metadata, NOWHERE), (default, ROUTER)]),
    ] {
        assert_eq!(offer.opts().get(OptionCode::from(&option)), Some(&option));
    }
    assert_eq!(offer.opts().len(), 14, "those, type and server: {offer:?}");
}

#[test]
fn static_routes_are_spelled_as_rfc_3442_says() {
    let message = client(MessageType::Discover, NOWHERE, &[]).to_vec().unwrap();
    let bytes = ask_from(NOWHERE, &message, &sample::interface()).unwrap().bytes;
    let routes = [121, 14, 32, 169, 254, 169, 254, 0, 0, 0, 0, 0, 172, 31, 0, 1];
    assert!(bytes.windows(routes.len()).any(|window| window == routes));
    // Type first, then the server: RFC 2131 puts nothing before them, old clients look there.
    assert_eq!(bytes[240..249], [53, 1, 2, 54, 4, 172, 31, 0, 1]);
}

#[test]
fn what_is_not_wanted_is_not_said() {
    let mut message = client(MessageType::Discover, NOWHERE, &[]);
    message.opts_mut().remove(OptionCode::ParameterRequestList);
    let (offer, _) = send(&message).unwrap();
    let said: Vec<u8> = offer.opts().iter().map(|(code, _)| u8::from(*code)).collect();
    assert_eq!(said, [1, 3, 6, 15, 51, 53, 54, 58, 59]);
}

#[test]
fn request_is_acknowledged_for_the_own_address_and_refused_for_others() {
    let ours = DhcpOption::ServerIdentifier(ROUTER);
    let theirs = DhcpOption::ServerIdentifier(Ipv4Addr::new(172, 31, 0, 9));
    let (ack, nak) = (Some(MessageType::Ack), Some(MessageType::Nak));
    for (what, ciaddr, options, expected) in [
        ("selecting us", NOWHERE, vec![requested(ADDRESS), ours.clone()], ack),
        ("selecting us, wrong address", NOWHERE, vec![requested(WRONG), ours.clone()], nak),
        ("selecting another", NOWHERE, vec![requested(ADDRESS), theirs.clone()], None),
        ("after a reboot", NOWHERE, vec![requested(ADDRESS)], ack),
        ("after a move", NOWHERE, vec![requested(WRONG)], nak),
        ("renewing", ADDRESS, vec![], ack),
        ("renewing the wrong one", WRONG, vec![], nak),
        ("nothing in particular", NOWHERE, vec![], None),
        ("selecting us, nothing in particular", NOWHERE, vec![ours], None),
    ] {
        let answer = send(&client(MessageType::Request, ciaddr, &options));
        assert_eq!(answer.as_ref().map(|(answer, _)| kind(answer)), expected, "{what}");
        match answer {
            Some((ack, to)) if expected == Some(MessageType::Ack) => {
                assert_eq!((ack.yiaddr(), ack.ciaddr(), to), (ADDRESS, ciaddr, ADDRESS), "{what}");
                assert!(ack.opts().contains(OptionCode::AddressLeaseTime), "{what}");
            }
            Some((nak, to)) => {
                assert_eq!(
                    (nak.yiaddr(), nak.ciaddr(), to),
                    (NOWHERE, NOWHERE, Ipv4Addr::BROADCAST),
                    "{what}"
                );
                assert_eq!(nak.opts().len(), 2, "type and server only: {what}");
            }
            None => {}
        }
    }
}

#[test]
fn broadcast_is_used_only_for_clients_that_cannot_hear_otherwise() {
    let mut discover = client(MessageType::Discover, NOWHERE, &[]);
    discover.set_flags(Flags::default().set_broadcast());
    let (offer, to) = send(&discover).unwrap();
    assert_eq!(to, Ipv4Addr::BROADCAST);
    assert!(offer.flags().broadcast());
    let mut renewing = client(MessageType::Request, ADDRESS, &[]);
    renewing.set_flags(Flags::default().set_broadcast());
    assert_eq!(send(&renewing).unwrap().1, ADDRESS);
}

#[test]
fn an_answer_never_goes_where_the_client_merely_claims_to_be() {
    let elsewhere = Ipv4Addr::new(8, 8, 8, 8);
    let discover = client(MessageType::Discover, elsewhere, &[]);
    assert_eq!(send(&discover).unwrap().1, ADDRESS);
    let request = client(MessageType::Request, elsewhere, &[requested(ADDRESS)]);
    let (ack, to) = send(&request).unwrap();
    assert_eq!((ack.ciaddr(), to), (NOWHERE, ADDRESS));
    assert_eq!(send(&client(MessageType::Inform, elsewhere, &[])), None);
}

#[test]
fn inform_tells_all_but_a_lease() {
    let (ack, to) = send(&client(MessageType::Inform, ADDRESS, &[])).unwrap();
    assert_eq!((kind(&ack), ack.yiaddr(), ack.ciaddr(), to), (MessageType::Ack, NOWHERE, ADDRESS, ADDRESS));
    assert!(ack.opts().contains(OptionCode::DomainNameServer));
    for lease in [OptionCode::AddressLeaseTime, OptionCode::Renewal, OptionCode::Rebinding] {
        assert!(!ack.opts().contains(lease));
    }
}

#[test]
fn the_clients_identifier_is_said_back() {
    let identifier = DhcpOption::ClientIdentifier(vec![0xff, 1, 2, 3, 4]);
    for kind in [MessageType::Discover, MessageType::Request] {
        let (answer, _) = send(&client(kind, NOWHERE, &[identifier.clone(), requested(WRONG)])).unwrap();
        assert_eq!(answer.opts().get(OptionCode::ClientIdentifier), Some(&identifier));
    }
}

#[test]
fn an_answer_fits_what_the_client_takes() {
    let mut interface = sample::interface();
    interface.network.domain_name = "d".repeat(200);
    interface.network.dns_servers = vec![RESOLVER; 100];
    let length = |maximum: Option<u16>| {
        let identifier = DhcpOption::ClientIdentifier(vec![7; 120]);
        let mut message = client(MessageType::Discover, NOWHERE, &[identifier]);
        if let Some(maximum) = maximum {
            message.opts_mut().insert(DhcpOption::MaxMessageSize(maximum));
        }
        let reply = ask_from(NOWHERE, &message.to_vec().unwrap(), &interface).unwrap();
        let answer = Message::from_bytes(&reply.bytes).unwrap();
        assert_eq!(
            answer.opts().get(OptionCode::DomainNameServer),
            Some(&DhcpOption::DomainNameServer(vec![RESOLVER; 4])),
            "no more than EC2 gives"
        );
        (reply.bytes.len(), answer.opts().contains(OptionCode::DomainName))
    };
    // IP and UDP headers take 28 of the 576 bytes that each client takes.
    for small in [None, Some(0), Some(300), Some(576)] {
        let (length, has_domain) = length(small);
        assert!(length <= 548 && !has_domain, "{small:?}: {length}");
    }
    let (length, has_domain) = length(Some(1500));
    assert!(length > 548 && has_domain);
}

#[test]
fn others_get_no_answer() {
    let good = client(MessageType::Discover, NOWHERE, &[]);
    let changed = |change: fn(&mut Message)| {
        let mut message = good.clone();
        change(&mut message);
        message
    };
    for (what, message) in [
        (
            "unknown",
            changed(|m| {
                m.set_chaddr(&[2, 0, 0x5e, 0x10, 0, 9]);
            }),
        ),
        (
            "relayed",
            changed(|m| {
                m.set_giaddr(Ipv4Addr::new(10, 0, 0, 1));
            }),
        ),
        (
            "an answer",
            changed(|m| {
                m.set_opcode(Opcode::BootReply);
            }),
        ),
        (
            "not Ethernet",
            changed(|m| {
                m.set_htype(dhcproto::v4::HType::Unknown(32));
            }),
        ),
        (
            "BOOTP",
            changed(|m| {
                m.opts_mut().remove(OptionCode::MessageType);
            }),
        ),
        ("release", client(MessageType::Release, ADDRESS, &[])),
        ("decline", client(MessageType::Decline, NOWHERE, &[requested(ADDRESS)])),
        ("a server's", client(MessageType::Offer, NOWHERE, &[])),
    ] {
        assert_eq!(send(&message), None, "{what}");
    }
    let interface = sample::interface();
    let bytes = good.to_vec().unwrap();
    assert!(ask_from(ADDRESS, &bytes, &interface).is_some());
    assert_eq!(ask_from(WRONG, &bytes, &interface), None, "one that speaks for another");
    for length in [200, 255] {
        let mut bytes = bytes.clone();
        bytes[2] = length;
        assert_eq!(ask_from(NOWHERE, &bytes, &interface), None, "a link address of {length} bytes");
    }
    let mut other = bytes.clone();
    other[236] ^= 1;
    assert_eq!(ask_from(NOWHERE, &other, &interface), None, "another protocol's cookie");
    let mut long = bytes.clone();
    long.resize(1501, 0);
    assert_eq!(ask_from(NOWHERE, &long, &interface), None, "longer than a packet");
}

#[test]
fn options_are_read_with_care() {
    let head = client(MessageType::Discover, NOWHERE, &[]).to_vec().unwrap()[..240].to_vec();
    let interface = sample::interface();
    for (options, answered) in [
        (&[53, 1, 1, 255][..], true),
        (&[53, 1, 1], true),
        (&[0, 0, 53, 1, 1, 0, 255, 9, 9, 9], true),
        (&[53, 1, 1, 53, 1, 7, 255], true),
        (&[255, 53, 1, 1], false),
        (&[53], false),
        (&[53, 1], false),
        (&[53, 0, 255], false),
        (&[53, 2, 1, 1, 255], false),
        (&[53, 1, 1, 50, 3, 1, 2, 3, 255], false),
        (&[53, 1, 1, 57, 1, 9, 255], false),
        (&[53, 1, 1, 61, 255, 1], false),
        (&[53, 1, 1, 81, 0, 255], true),
        (&[], false),
    ] {
        let bytes = [&head, options].concat();
        assert_eq!(ask_from(NOWHERE, &bytes, &interface).is_some(), answered, "{options:?}");
    }
}

#[test]
fn hostile_messages_do_no_harm() {
    let identifier = DhcpOption::ClientIdentifier(vec![1, 2, 3]);
    let message = client(
        MessageType::Request,
        ADDRESS,
        &[requested(ADDRESS), identifier, DhcpOption::MaxMessageSize(1400)],
    );
    let good = message.to_vec().unwrap();
    let interface = sample::interface();
    let mut noise = Noise::new();
    let mut answered = 0;
    for _ in 0..50_000 {
        let bytes = match noise.below(10) {
            0 => noise.bytes(1600),
            _ => noise.mutated(&good),
        };
        if let Some(reply) = ask_from(NOWHERE, &bytes, &interface) {
            answered += 1;
            assert!((300..=1472).contains(&reply.bytes.len()));
            assert!([ADDRESS, Ipv4Addr::BROADCAST].contains(reply.to.ip()), "{}", reply.to);
        }
    }
    assert!(answered > 5_000, "{answered} answers: the mutations must not all be refused at the door");
}
