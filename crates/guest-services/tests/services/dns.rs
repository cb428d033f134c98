//! The resolver. Questions are written, and replies read back, by hickory; some bytes are spelled out.

use std::net::Ipv4Addr;

use guest_services::dns::{self, Decision, TTL, Transport};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::noise::Noise;
use crate::sample::{ADDRESS, ELSEWHERE, Vpc};

const VPC: Vpc = Vpc { region: "us-east-1" };
const ID: u16 = 0xbeef;

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).expect("a name");
    name.set_fqdn(true);
    name
}

fn question(asked: &str, kind: RecordType) -> Message {
    let mut message = Message::new(ID, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name(asked), kind));
    message
}

/// An asker who says that he takes more than any link.
fn large() -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    edns
}

fn decide(message: &Message) -> Decision {
    dns::answer(&message.to_vec().expect("encodes"), &VPC)
}

fn read(decision: Decision) -> Message {
    let Decision::Reply(bytes) = decision else { panic!("no reply: {decision:?}") };
    assert!(bytes.len() <= 512, "fits into any datagram");
    let reply = Message::from_vec(&bytes).expect("decodes");
    assert_eq!((reply.metadata.id, reply.metadata.message_type), (ID, MessageType::Response));
    reply
}

fn reply_to(asked: &str, kind: RecordType) -> Message {
    let reply = read(decide(&question(asked, kind)));
    assert_eq!(reply.queries, question(asked, kind).queries);
    assert!(reply.metadata.authoritative && reply.metadata.recursion_available);
    assert!(reply.metadata.recursion_desired);
    reply
}

/// The one record in the answer.
fn data(asked: &str, kind: RecordType) -> RData {
    let reply = reply_to(asked, kind);
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError, "{asked}");
    let [record] = &reply.answers[..] else { panic!("{asked}: {} answers", reply.answers.len()) };
    assert_eq!((&record.name, record.ttl), (&name(asked), TTL));
    record.data.clone()
}

/// The code of a reply that has no answer, and the zone that says so.
fn absence(asked: &str, kind: RecordType) -> (ResponseCode, String) {
    let reply = reply_to(asked, kind);
    assert!(reply.answers.is_empty(), "{asked}");
    let [Record { name, data: RData::SOA(soa), ttl, .. }] = &reply.authorities[..] else {
        panic!("{asked}: {:?}", reply.authorities)
    };
    assert_eq!((soa.minimum, *ttl), (TTL, TTL));
    (reply.metadata.response_code, name.to_ascii())
}

#[test]
fn names_of_ours_have_their_addresses() {
    for (asked, address) in [
        ("ip-172-31-0-5.ec2.internal", ADDRESS),
        ("IP-172-31-0-5.Ec2.Internal", ADDRESS),
        ("ip-172-31-0-6.ec2.internal", Ipv4Addr::new(172, 31, 0, 6)),
        ("instance-data.ec2.internal", Ipv4Addr::new(169, 254, 169, 254)),
        // A public name leads to the private address inside the VPC, and nowhere else.
        ("ec2-198-18-0-7.compute-1.amazonaws.com", ADDRESS),
        ("ec2-198-18-0-99.compute-1.amazonaws.com", ELSEWHERE),
    ] {
        assert_eq!(data(asked, RecordType::A), RData::A(A(address)), "{asked}");
        assert_eq!(data(asked, RecordType::ANY), RData::A(A(address)), "{asked}");
    }
}

#[test]
fn addresses_of_ours_have_their_names() {
    for (asked, host) in [
        ("5.0.31.172.in-addr.arpa", "ip-172-31-0-5.ec2.internal"),
        ("5.0.31.172.IN-ADDR.ARPA", "ip-172-31-0-5.ec2.internal"),
        ("254.169.254.169.in-addr.arpa", "instance-data.ec2.internal"),
        ("7.0.18.198.in-addr.arpa", "ec2-198-18-0-7.compute-1.amazonaws.com"),
    ] {
        assert_eq!(data(asked, RecordType::PTR), RData::PTR(PTR(name(host))), "{asked}");
    }
}

#[test]
fn what_ours_do_not_have_is_absent_with_the_zones_word() {
    let (none, missing) = (ResponseCode::NoError, ResponseCode::NXDomain);
    let (private, reverse) = ("ec2.internal.", "0.31.172.in-addr.arpa.");
    for (asked, kind, code, zone) in [
        ("ip-172-31-0-5.ec2.internal", RecordType::AAAA, none, private),
        ("instance-data.ec2.internal", RecordType::MX, none, private),
        ("ec2.internal", RecordType::A, none, private),
        ("ec2.internal", RecordType::NS, none, private),
        ("ec2-198-18-0-7.compute-1.amazonaws.com", RecordType::AAAA, none, "compute-1.amazonaws.com."),
        ("5.0.31.172.in-addr.arpa", RecordType::A, none, reverse),
        ("ip-172-31-0-77.ec2.internal", RecordType::A, missing, private),
        ("ip-172-31-0-05.ec2.internal", RecordType::A, missing, private),
        ("deeper.ip-172-31-0-5.ec2.internal", RecordType::A, missing, private),
        ("*.ec2.internal", RecordType::A, missing, private),
        ("other.ec2.internal", RecordType::AAAA, missing, private),
        ("77.0.31.172.in-addr.arpa", RecordType::PTR, missing, reverse),
        // The VPC's second block is its own as well.
        ("1.0.9.10.in-addr.arpa", RecordType::PTR, missing, "0.9.10.in-addr.arpa."),
    ] {
        assert_eq!(absence(asked, kind), (code, zone.to_owned()), "{asked} {kind}");
    }
    assert!(matches!(data("ec2.internal", RecordType::SOA), RData::SOA(_)));
}

#[test]
fn the_rest_of_the_world_is_asked_upstream() {
    for asked in [
        "debian.org",
        "internal",
        "notec2.internal",
        "instance-data",
        ".",
        // Amazon's own machines have such names too.
        "ec2-3-80-1-2.compute-1.amazonaws.com",
        "compute-1.amazonaws.com",
        "www.compute-1.amazonaws.com",
        "4.4.8.8.in-addr.arpa",
        "05.0.31.172.in-addr.arpa",
        "31.172.in-addr.arpa",
        "x.5.0.31.172.in-addr.arpa",
        "1.0.0.0.ip6.arpa",
        "ip-172-31-0-5.eu-west-1.compute.internal",
    ] {
        for kind in [RecordType::A, RecordType::PTR, RecordType::HTTPS] {
            assert_eq!(decide(&question(asked, kind)), Decision::Forward, "{asked}");
        }
    }
}

#[test]
fn other_regions_have_their_own_domains() {
    let vpc = Vpc { region: "eu-west-1" };
    let ask = |asked, kind| dns::answer(&question(asked, kind).to_vec().unwrap(), &vpc);
    for (asked, kind, expected) in [
        ("ip-172-31-0-5.eu-west-1.compute.internal", RecordType::A, RData::A(A(ADDRESS))),
        ("ec2-198-18-0-7.eu-west-1.compute.amazonaws.com", RecordType::A, RData::A(A(ADDRESS))),
        ("instance-data.ec2.internal", RecordType::A, RData::A(A(Ipv4Addr::new(169, 254, 169, 254)))),
        (
            "5.0.31.172.in-addr.arpa",
            RecordType::PTR,
            RData::PTR(PTR(name("ip-172-31-0-5.eu-west-1.compute.internal"))),
        ),
    ] {
        assert_eq!(read(ask(asked, kind)).answers[0].data, expected, "{asked}");
    }
    assert_eq!(ask("ip-172-31-0-5.ec2.internal", RecordType::A), Decision::Forward);
}

#[test]
fn extended_questions_get_extended_replies() {
    let mut asked = question("ip-172-31-0-5.ec2.internal", RecordType::A);
    assert!(read(decide(&asked)).edns.is_none());
    let mut edns = large();
    asked.set_edns(edns.clone());
    assert_eq!(read(decide(&asked)).edns.map(|edns| edns.max_payload()), Some(1232));
    edns.set_version(1);
    asked.set_edns(edns);
    let code = read(decide(&asked)).metadata.response_code;
    assert_eq!(u16::from(code), u16::from(ResponseCode::BADVERS));
}

#[test]
fn what_nobody_gets_is_refused() {
    for kind in [RecordType::AXFR, RecordType::IXFR] {
        for asked in ["ec2.internal", "debian.org"] {
            assert_eq!(read(decide(&question(asked, kind))).metadata.response_code, ResponseCode::Refused);
        }
    }
    let mut chaos = question("version.bind", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(read(decide(&chaos)).metadata.response_code, ResponseCode::Refused);

    for op_code in [OpCode::Status, OpCode::Notify, OpCode::Update, OpCode::Unknown(9)] {
        let mut other = question("ec2.internal", RecordType::SOA);
        other.metadata.op_code = op_code;
        let reply = read(decide(&other));
        assert_eq!((reply.metadata.response_code, reply.metadata.op_code), (ResponseCode::NotImp, op_code));
    }
}

#[test]
fn what_cannot_be_read_is_a_format_error_and_answers_are_ignored() {
    let good = question("ip-172-31-0-5.ec2.internal", RecordType::A).to_vec().unwrap();
    let code = |bytes: &[u8]| read(dns::answer(bytes, &VPC)).metadata.response_code;
    assert_eq!(code(&good[..good.len() - 1]), ResponseCode::FormErr);
    assert_eq!(code(&good[..12]), ResponseCode::FormErr);
    for (at, value) in [(5, 0), (5, 2), (4, 0xff), (7, 1), (9, 1), (11, 1), (12, 0xc0)] {
        let mut bytes = good.clone();
        bytes[at] = value;
        assert_eq!(code(&bytes), ResponseCode::FormErr, "{value} at {at}");
    }
    let mut two = question("ip-172-31-0-5.ec2.internal", RecordType::A);
    two.queries.push(two.queries[0].clone());
    assert_eq!(code(&two.to_vec().unwrap()), ResponseCode::FormErr);
    let mut long = good.clone();
    long.resize(dns::LONGEST_QUERY + 1, 0);
    assert_eq!(code(&long), ResponseCode::FormErr);

    let mut answer = good.clone();
    answer[2] |= 0x80;
    assert_eq!(dns::answer(&answer, &VPC), Decision::Ignore);
    assert_eq!(dns::answer(&good[..11], &VPC), Decision::Ignore);
    assert_eq!(dns::answer(&[], &VPC), Decision::Ignore);
}

#[test]
fn the_longest_question_still_has_a_short_reply() {
    let deep = format!("{}ec2.internal", "a.".repeat(120));
    let mut asked = question(&deep, RecordType::A);
    asked.set_edns(large());
    assert_eq!(read(decide(&asked)).metadata.response_code, ResponseCode::NXDomain);
}

/// What an upstream server says to a question, with so many addresses.
fn upstream(asked: &Message, addresses: u8) -> Message {
    let mut reply = asked.clone().into_response();
    for last in 0..addresses {
        let address = RData::A(A(Ipv4Addr::new(192, 0, 2, last)));
        reply.add_answer(Record::from_rdata(asked.queries[0].name.clone(), 300, address));
    }
    reply
}

#[test]
fn only_the_answer_to_the_question_is_handed_on() {
    let asked = question("debian.org", RecordType::A);
    let bytes = asked.to_vec().unwrap();
    let relay = |reply: &Message| dns::relay(&bytes, &reply.to_vec().unwrap(), Transport::Udp);
    let right = upstream(&asked, 2);
    assert_eq!(relay(&right), right.to_vec().ok());

    let mut louder = right.clone();
    louder.queries[0].name = name("DEBIAN.org");
    assert!(relay(&louder).is_some(), "capital letters do not matter");

    let mut wrong: Vec<Message> = (0..6).map(|_| right.clone()).collect();
    wrong[0].metadata.id ^= 1;
    wrong[1].metadata.message_type = MessageType::Query;
    wrong[2].queries[0].name = name("debian.net");
    wrong[3].queries[0].query_type = RecordType::AAAA;
    wrong[4].queries[0].query_class = DNSClass::CH;
    wrong[5].queries.clear();
    for (number, reply) in wrong.iter().enumerate() {
        assert_eq!(relay(reply), None, "{number}");
    }
    assert_eq!(dns::relay(&bytes, &[], Transport::Udp), None);
    assert_eq!(dns::relay(&[], &bytes, Transport::Udp), None);
}

#[test]
fn a_reply_too_long_for_the_asker_is_cut_and_says_so() {
    let mut asked = question("debian.org", RecordType::A);
    let long = upstream(&asked, 60).to_vec().unwrap();
    assert!((513..1232).contains(&long.len()));
    let bytes = asked.to_vec().unwrap();
    let cut = Message::from_vec(&dns::relay(&bytes, &long, Transport::Udp).unwrap()).unwrap();
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    assert_eq!((cut.metadata.id, cut.queries), (ID, asked.queries.clone()));
    assert_eq!(dns::relay(&bytes, &long, Transport::Tcp), Some(long.clone()));

    asked.set_edns(large());
    let bytes = asked.to_vec().unwrap();
    assert_eq!(dns::relay(&bytes, &long, Transport::Udp), Some(long));
    let longer = upstream(&asked, 100).to_vec().unwrap();
    let cut = dns::relay(&bytes, &longer, Transport::Udp).unwrap();
    assert!(cut.len() < 100, "never more than passes unfragmented, whatever the asker says");
}

#[test]
fn a_question_without_an_upstream_fails() {
    let asked = question("debian.org", RecordType::A);
    let failure = Message::from_vec(&dns::failure(&asked.to_vec().unwrap()).unwrap()).unwrap();
    assert_eq!((failure.metadata.id, failure.metadata.response_code), (ID, ResponseCode::ServFail));
    assert_eq!(failure.queries, asked.queries);
    assert_eq!(dns::failure(b"no question"), None);
}

#[test]
fn a_reply_is_spelled_as_rfc_1035_says() {
    let bytes = question("ip-172-31-0-5.ec2.internal", RecordType::A).to_vec().unwrap();
    let Decision::Reply(reply) = dns::answer(&bytes, &VPC) else { panic!("no reply") };
    // Same id; response, authoritative, recursion desired and available; one question, one answer.
    assert_eq!(reply[..12], [0xbe, 0xef, 0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    assert_eq!(reply[12..bytes.len()], bytes[12..], "the question as it was asked");
    let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 172, 31, 0, 5];
    assert_eq!(reply[bytes.len()..], record, "its name, A, IN, 60 s, 4 bytes");
}

#[test]
fn hostile_messages_do_no_harm() {
    let mut asked = question("ip-172-31-0-5.ec2.internal", RecordType::A);
    asked.set_edns(large());
    let good = asked.to_vec().unwrap();
    let reply = upstream(&asked, 20).to_vec().unwrap();
    let mut noise = Noise::new();
    let (mut replies, mut relayed) = (0, 0);
    for _ in 0..20_000 {
        let bytes = match noise.below(10) {
            0 => noise.bytes(1400),
            _ => noise.mutated(&good),
        };
        if let Decision::Reply(reply) = dns::answer(&bytes, &VPC) {
            replies += 1;
            assert!(reply.len() <= 512 && reply[..2] == bytes[..2]);
        }
        let _ = dns::failure(&bytes);
        let _ = dns::next_frame(&bytes);
        let from_upstream = noise.mutated(&reply);
        if let Some(passed) = dns::relay(&bytes, &from_upstream, Transport::Udp) {
            relayed += 1;
            assert!(passed.len() <= 1232);
        }
    }
    assert!(replies > 2_000 && relayed > 200, "{replies} replies, {relayed} relayed");
}
