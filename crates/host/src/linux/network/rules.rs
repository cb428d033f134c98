//! A VPC's packet filter, as nftables commands: pure functions from wishes to transactions.
//!
//! ```text
//!  TAP ──▶ guest-frames ─┬──────────────────▶ leaving ─▶ entering ─┬───────────────────────────▶ bridge ─▶ TAP
//!                        └▶ input ─▶ services                      │
//!  uplink ─▶ to-private ─▶ gateway-in ──────▶ leaving ─▶ entering ─┴▶ to-public ─▶ gateway-out ─▶ uplink
//!  services ─▶ output ──────────────────────────────────────────────────────────────────────────▶ bridge ─▶ TAP
//! ```
//!
//! *leaving* looks the sender up by its link address and goes through the egress rules of its groups;
//! *entering* looks the receiver up by its IPv4 address and goes through the ingress rules of its groups.
//! They are two base chains, since an accept ends only the chain that it is said in. Both deny by default.
//!
//! Security groups do not filter what passes between an instance and the router's own services: DHCP,
//! DNS and metadata (AWS, *Security groups*, "do not filter traffic destined to and from"). The input
//! chain lets these in and nothing else. What a service opens towards a guest obeys the guest's groups.
//!
//! What must hold:
//! - The work for a packet does not grow with the number of interfaces or groups: maps and sets are hashed.
//! - Guests have no IPv6: nothing but IPv4 and ARP passes a TAP, so rules about IPv6 are left out.
//! - A change of one group or one interface touches its own chains and elements only.

use std::str::FromStr;

use ipnet::Ipv4Net;
use nftables::expr::{CTDir, Map, MetaKey, NamedExpression};
use nftables::schema::SetType::{EtherAddr, Ifname, Ipv4Addr};
use nftables::stmt::{NAT, NATFamily, Reject, RejectType, VerdictMap};
use nftables::types::NfChainPolicy::{Accept, Drop};
use nftables::types::NfChainType::{Filter, NAT as Nat};
use nftables::types::NfFamily::{Bridge, INet};
use nftables::types::{NfFamily, NfHook};
use spec::Fingerprint;
use spec::ids::{GroupId, VpcId};
use spec::names;
use spec::network::{Network, Peer, Rule, SecurityGroup, Traffic};

use super::listing::Listing;
use super::nft::{Hook, Transaction};
use super::seal::Seal;
use super::words::{
    Term, Word, accept, any_of, connection, connection_is, drop, field, is, is_not, jump, meta, number,
    prefix, range, text, together,
};
use crate::METADATA_ADDRESS;

/// TAP, link address and IPv4 address of each sender; 0.0.0.0 stands for a guest that has none yet.
pub(super) const SENDERS: &str = "senders";
/// TAP and link address of the senders that may use any IPv4 address.
pub(super) const ANY_SOURCE: &str = "any-source";
/// From a sender's link address to the chain of its egress rules.
pub(super) const EGRESS_BY_MAC: &str = "egress-by-mac";
/// From a receiver's IPv4 address to the chain of its ingress rules.
pub(super) const INGRESS_BY_ADDRESS: &str = "ingress-by-address";
/// From public to private addresses …
pub(super) const PUBLIC_TO_PRIVATE: &str = "public-to-private";
/// … and back.
pub(super) const PRIVATE_TO_PUBLIC: &str = "private-to-public";
/// The pairs of public and private address that hold now. A connection keeps the pair it began with, so
/// each packet at the gateway is checked.
pub(super) const TRANSLATIONS: &str = "translations";

/// The base chains.
pub(super) const BASE_CHAINS: [(NfFamily, &str); 9] = [
    (Bridge, "guest-frames"),
    (INet, "to-private"),
    (INet, "gateway-in"),
    (INet, "leaving"),
    (INet, "entering"),
    (INet, "to-public"),
    (INet, "gateway-out"),
    (INet, "input"),
    (INet, "output"),
];

/// The chain of what an interface or a group lets in.
pub(super) fn ingress(id: impl ToString) -> String {
    format!("{}-in", id.to_string())
}

/// The chain of what an interface or a group lets out.
pub(super) fn egress(id: impl ToString) -> String {
    format!("{}-out", id.to_string())
}

/// The interfaces, or the groups, of which there is a chain.
pub(super) fn owners<T: FromStr>(listing: &Listing) -> impl Iterator<Item = T> {
    listing.chains.keys().filter(|place| place.is_ours()).filter_map(|place| {
        let name = &place.name;
        name.strip_suffix("-in").or_else(|| name.strip_suffix("-out"))?.parse().ok()
    })
}

/// The tables, sets and maps that all of a VPC's interfaces share, and the base chains.
pub(super) fn base(network: &Network) -> Transaction {
    let mut transaction = Transaction::default();
    put_shared(&mut transaction);
    let vpc = network.vpc;
    let contents = [
        (Hook(Filter, NfHook::Prerouting, -200, Drop), guest_frames()),
        (Hook(Nat, NfHook::Prerouting, -100, Accept), to_private(vpc)),
        (Hook(Filter, NfHook::Forward, -10, Accept), gateway_in(vpc)),
        (Hook(Filter, NfHook::Forward, 0, Drop), leaving(vpc)),
        (Hook(Filter, NfHook::Forward, 10, Drop), entering(vpc)),
        (Hook(Nat, NfHook::Postrouting, 100, Accept), to_public(vpc)),
        (Hook(Filter, NfHook::Postrouting, 110, Accept), gateway_out(vpc)),
        (Hook(Filter, NfHook::Input, 0, Drop), input(network)),
        (Hook(Filter, NfHook::Output, 0, Accept), output()),
    ];
    for ((family, name), (hook, rules)) in BASE_CHAINS.into_iter().zip(contents) {
        put_base_chain(&mut transaction, family, name, hook, rules);
    }
    transaction
}

/// Makes a base chain, sealed with the mark of its rules.
pub(super) fn put_base_chain(
    transaction: &mut Transaction,
    family: NfFamily,
    name: &str,
    hook: Hook,
    rules: Vec<Vec<Word>>,
) {
    let seal = Fingerprint::of(&format!("{rules:?}")).to_string();
    transaction.put_chain(family, name, Some(hook));
    transaction.fill_chain(family, name, &seal, rules);
}

/// The tables, sets and maps that groups and interfaces are put into.
pub(super) fn put_shared(transaction: &mut Transaction) {
    transaction.put_table(Bridge);
    transaction.put_set(Bridge, SENDERS, &[Ifname, EtherAddr, Ipv4Addr]);
    transaction.put_set(Bridge, ANY_SOURCE, &[Ifname, EtherAddr]);
    transaction.put_table(INet);
    transaction.put_verdict_map(EGRESS_BY_MAC, "ether_addr");
    transaction.put_verdict_map(INGRESS_BY_ADDRESS, "ipv4_addr");
    transaction.put_address_map(PUBLIC_TO_PRIVATE);
    transaction.put_address_map(PRIVATE_TO_PUBLIC);
    transaction.put_set(INet, TRANSLATIONS, &[Ipv4Addr, Ipv4Addr]);
}

/// The set of a group's members, which rules may name.
pub(super) fn put_members(transaction: &mut Transaction, group: GroupId) {
    transaction.put_set(INet, &group.to_string(), &[Ipv4Addr]);
}

/// A group's rules.
pub(super) fn group(group: &SecurityGroup, seal: Seal) -> Transaction {
    let mut transaction = Transaction::default();
    transaction.put_table(INet);
    for named in group.ingress.iter().chain(&group.egress).filter_map(group_named).chain([group.id]) {
        put_members(&mut transaction, named); // its own step may come later
    }
    let (senders, receivers) = (field("ip", "saddr"), field("ip", "daddr"));
    for (chain, rules, peer) in
        [(ingress(group.id), &group.ingress, senders), (egress(group.id), &group.egress, receivers)]
    {
        transaction.put_chain(INet, &chain, None);
        let rules = rules.iter().filter_map(|rule| allow(rule, &peer));
        transaction.fill_chain(INet, &chain, &seal.to_string(), or_return(rules));
    }
    transaction
}

/// The chains of an interface: through its groups' chains, one after the other.
pub(super) fn interface_chains<'a>(groups: impl Iterator<Item = &'a GroupId> + Clone) -> [Vec<Vec<Word>>; 2] {
    [
        or_return(groups.clone().map(|group| vec![jump(&ingress(group))])),
        or_return(groups.map(|group| vec![jump(&egress(group))])),
    ]
}

/// Rules, and a last one that says what happens anyway: where there are no others, it bears the seal.
fn or_return(rules: impl Iterator<Item = Vec<Word>>) -> Vec<Vec<Word>> {
    rules.chain([vec![Word::Return(None)]]).collect()
}

fn group_named(rule: &Rule) -> Option<GroupId> {
    match rule.peer {
        Peer::Group(group) => Some(group),
        Peer::Ipv4(_) | Peer::Ipv6(_) => None,
    }
}

/// A security group's rule; nothing for IPv6, which guests do not have. `peer` is where the other side's
/// address stands.
fn allow(rule: &Rule, peer: &Term) -> Option<Vec<Word>> {
    let mut words = match rule.peer {
        Peer::Ipv4(net) if net.prefix_len() == 0 => Vec::new(),
        Peer::Ipv4(net) => vec![is(peer.clone(), net_or_address(net))],
        Peer::Group(group) => vec![is(peer.clone(), text(format!("@{group}")))],
        Peer::Ipv6(_) => return None,
    };
    match rule.traffic {
        Traffic::All => {}
        Traffic::Tcp(first, last) => words.push(ports("tcp", 6, first, last)),
        Traffic::Udp(first, last) => words.push(ports("udp", 17, first, last)),
        Traffic::Icmp(None, None) => words.push(is(meta(MetaKey::L4proto), number(1_u8))),
        Traffic::Icmp(kind, code) => {
            words.extend(kind.map(|kind| is(field("icmp", "type"), number(kind))));
            words.extend(code.map(|code| is(field("icmp", "code"), number(code))));
        }
        Traffic::Icmp6(..) => return None,
        Traffic::Protocol(protocol) => words.push(is(meta(MetaKey::L4proto), number(protocol))),
    }
    words.push(accept());
    Some(words)
}

/// A test for ports, or for the protocol alone where all ports are meant: packets that say no port pass then
/// too.
fn ports(protocol: &'static str, protocol_number: u8, first: u16, last: u16) -> Word {
    match (first, last) {
        (0, u16::MAX) => is(meta(MetaKey::L4proto), number(protocol_number)),
        _ if first == last => is(field(protocol, "dport"), number(first)),
        _ => is(field(protocol, "dport"), range(first, last)),
    }
}

fn net_or_address(net: Ipv4Net) -> Term {
    if net.prefix_len() == 32 { text(net.addr()) } else { prefix(net) }
}

/// What guests send: only under the addresses that they were given, in the link's header as in ARP and IPv4.
fn guest_frames() -> Vec<Vec<Word>> {
    let protocol = |name| is(meta(MetaKey::Protocol), text(name));
    let sender = |mac, address| {
        let place = together([meta(MetaKey::Iifname), mac, address]);
        is(place, text(format!("@{SENDERS}")))
    };
    let (link, ip) = (|| field("ether", "saddr"), || field("ip", "saddr"));
    let arp = || field("arp", "saddr ip");
    let from_nobody = |op: fn(Term, Term) -> Word| op(ip(), text("0.0.0.0"));
    let any_source = is(together([meta(MetaKey::Iifname), link()]), text(format!("@{ANY_SOURCE}")));
    let [from, to] =
        [("sport", 68_u16), ("dport", 67)].map(|(name, port)| is(field("udp", name), number(port)));
    vec![
        vec![protocol("arp"), sender(link(), arp()), sender(field("arp", "saddr ether"), arp()), accept()],
        vec![protocol("ip"), from_nobody(is), from, to, sender(link(), ip()), accept()],
        vec![protocol("ip"), from_nobody(is_not), sender(link(), ip()), accept()],
        vec![protocol("ip"), from_nobody(is_not), any_source, accept()],
    ]
}

/// A public address becomes the private one that it stands for.
fn to_private(vpc: VpcId) -> Vec<Vec<Word>> {
    vec![vec![from_uplink(vpc), Word::DNAT(translate(field("ip", "daddr"), PUBLIC_TO_PRIVATE))]]
}

/// A private address that has a public one goes out under it.
fn to_public(vpc: VpcId) -> Vec<Vec<Word>> {
    vec![vec![to_uplink(vpc), Word::SNAT(translate(field("ip", "saddr"), PRIVATE_TO_PUBLIC))]]
}

fn translate(key: Term, map: &str) -> Option<NAT<'static>> {
    let found = Term::Named(NamedExpression::Map(Box::new(Map { key, data: text(format!("@{map}")) })));
    Some(NAT { addr: Some(found), family: Some(NATFamily::IP), port: None, flags: None })
}

/// From the uplink comes only what was sent to a public address that is one now.
fn gateway_in(vpc: VpcId) -> Vec<Vec<Word>> {
    let now = || field("ip", "daddr");
    let before = |direction| connection("ip daddr", direction);
    vec![
        vec![is_not(meta(MetaKey::Iifname), text(names::uplink_vpc(vpc))), accept()],
        vec![translated(before(CTDir::Original), now()), accept()],
        vec![translated(before(CTDir::Reply), now()), accept()],
        vec![drop()],
    ]
}

/// To the uplink goes only what bears a public address that is the sender's now: who has none has no way out.
fn gateway_out(vpc: VpcId) -> Vec<Vec<Word>> {
    let now = || field("ip", "saddr");
    let before = |direction| connection("ip saddr", direction);
    vec![
        vec![is_not(meta(MetaKey::Oifname), text(names::uplink_vpc(vpc))), accept()],
        vec![translated(now(), before(CTDir::Original)), accept()],
        vec![translated(now(), before(CTDir::Reply)), accept()],
        vec![drop()],
    ]
}

fn translated(public: Term, private: Term) -> Word {
    is(together([public, private]), text(format!("@{TRANSLATIONS}")))
}

fn leaving(vpc: VpcId) -> Vec<Vec<Word>> {
    let mut rules = known_connections();
    rules.push(vec![from_uplink(vpc), accept()]);
    rules.push(vec![chain_of(field("ether", "saddr"), EGRESS_BY_MAC)]);
    rules
}

fn entering(vpc: VpcId) -> Vec<Vec<Word>> {
    let mut rules = known_connections();
    rules.push(vec![to_uplink(vpc), accept()]);
    rules.push(vec![chain_of(field("ip", "daddr"), INGRESS_BY_ADDRESS)]);
    rules
}

fn known_connections() -> Vec<Vec<Word>> {
    vec![
        vec![connection_is(&["established", "related"]), accept()],
        vec![connection_is(&["invalid"]), drop()],
    ]
}

/// The router's own services, and nothing else of it.
fn input(network: &Network) -> Vec<Vec<Word>> {
    let from_guest = || is(meta(MetaKey::Iifname), text(format!("{}*", names::BRIDGE)));
    let to = |address: Term| is(field("ip", "daddr"), address);
    let port = |protocol, port: u16| is(field(protocol, "dport"), number(port));
    let mut rules = vec![
        vec![is(meta(MetaKey::Iifname), text("lo")), accept()],
        vec![connection_is(&["established", "related"]), accept()],
        vec![from_guest(), is(field("udp", "sport"), number(68_u16)), port("udp", 67), accept()],
        vec![from_guest(), to(text(METADATA_ADDRESS)), port("tcp", 80), accept()],
    ];
    if !network.subnets.is_empty() {
        let resolvers = || to(any_of(network.subnets.iter().map(|subnet| text(subnet.resolver()))));
        let routers = to(any_of(network.subnets.iter().map(|subnet| text(subnet.router()))));
        rules.push(vec![from_guest(), resolvers(), port("udp", 53), accept()]);
        rules.push(vec![from_guest(), resolvers(), port("tcp", 53), accept()]);
        rules.push(vec![from_guest(), routers, is(field("icmp", "type"), text("echo-request")), accept()]);
    }
    rules
}

/// What the router itself opens to a guest obeys the guest's groups; a refused connection is refused at
/// once, so that whoever opens it need not wait.
fn output() -> Vec<Vec<Word>> {
    let reset = Word::Reject(Some(Reject::new(Some(RejectType::TCPReset), None)));
    let port = |name, port: u16| is(field("udp", name), number(port));
    vec![
        vec![is_not(meta(MetaKey::Oifname), text(format!("{}*", names::BRIDGE))), accept()],
        vec![connection_is(&["established", "related"]), accept()],
        vec![port("sport", 67), port("dport", 68), accept()],
        vec![chain_of(field("ip", "daddr"), INGRESS_BY_ADDRESS)],
        vec![is(meta(MetaKey::L4proto), text("tcp")), reset],
        vec![drop()],
    ]
}

fn from_uplink(vpc: VpcId) -> Word {
    is(meta(MetaKey::Iifname), text(names::uplink_vpc(vpc)))
}

fn to_uplink(vpc: VpcId) -> Word {
    is(meta(MetaKey::Oifname), text(names::uplink_vpc(vpc)))
}

fn chain_of(key: Term, map: &str) -> Word {
    Word::VerdictMap(VerdictMap { key, data: text(format!("@{map}")) })
}
