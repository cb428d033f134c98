//! The host's side: the far ends of the uplinks, the way out, and what is changed on the host for it.
//!
//! Beyond objects that carry our prefix, two things are changed. Each is announced, noted in a file before it
//! is done, and undone by [`HostSide::teardown`]: `ip_forward` is switched on; and where a foreign forward
//! chain would drop what goes through our uplinks, it is told to let it pass. Our own chains then say what
//! passes:
//!
//! - from an instance: to other public addresses as it is, to anywhere else under the host's address; not to
//!   the host itself, which answers pings only;
//! - to an instance: what the host itself sends, and answers.
//!
//! One chain is about the host's own packets: the user of the process that answers guests sends questions to resolvers
//! and nothing else.
//!
//! What must hold: all uplinks of a host have the same pool of public addresses.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipnet::Ipv4Net;
use nftables::expr::MetaKey;
use nftables::types::NfChainPolicy::Accept;
use nftables::types::NfChainType::{Filter, NAT as Nat};
use nftables::types::NfFamily::INet;
use nftables::types::NfHook;
use spec::ids::VpcId;
use spec::names;
use spec::network::{Network, Uplink};

use super::foreign::{self, any_uplink};
use super::listing::Listing;
use super::messages::{Link, MAIN, Route, Way};
use super::netlink::Netlink;
use super::nft::{Hook, Transaction};
use super::record::Record;
use super::rules::put_base_chain;
use super::sysctl::{self, Setting};
use super::vpc::{self, Gateway, ensure_addresses};
use super::words::{
    Word, accept, any_of, connection_is, drop, field, is, is_not, meta, number, prefix, text,
};
use super::{inside, unname};
use crate::Error;
use crate::linux::sys::netns::Namespace;

/// Whether the kernel passes packets on at all; also the key of its value before us in the note.
const FORWARDING: &str = "ipv4/ip_forward";
/// Our chains in the host's own namespace.
const CHAINS: [&str; 3] = ["forward", "input", "way-out"];

/// The chain that what the guests' services send from the host passes.
const SERVICES_OUT: &str = "services-out";
/// The port of resolvers.
const DNS: u32 = 53;

/// The host's own namespace, and the note of what was changed in it.
pub(super) struct HostSide {
    namespace: Namespace,
    record: Mutex<Record>,
}

impl HostSide {
    /// The calling thread's namespace is the host's; the note is in the folder `state`.
    pub(super) fn new(state: PathBuf) -> Result<Self, Error> {
        let namespace = Namespace::own()
            .map_err(|error| Error::passing("Could not open the host's own network namespace", error))?;
        Ok(Self { namespace, record: Mutex::new(Record::new(state)) })
    }

    /// Looks around on the host.
    pub(super) fn look(&self) -> Result<HostView, Error> {
        inside(&self.namespace, || {
            let netlink = Netlink::here()?;
            Ok(HostView {
                links: netlink.links()?,
                addresses: netlink.addresses()?,
                routes: netlink.routes()?,
                listing: Listing::here()?,
                forwarding: sysctl::read(FORWARDING),
            })
        })
    }

    /// Makes a VPC's uplink be so, or takes it away. `netlink` reaches the VPC's namespace.
    pub(super) fn ensure_uplink(
        &self,
        network: &Network,
        netlink: &Netlink,
    ) -> Result<Option<Gateway>, Error> {
        let (near, far) = (names::uplink_vpc(network.vpc), names::uplink_host(network.vpc));
        let host = Netlink::inside(&self.namespace)?;
        let (near_end, far_end) = (netlink.link(&near)?, host.link(&far)?);
        let whole = near_end.is_some() && far_end.is_some();
        if !whole || network.uplink.is_none() {
            near_end.iter().try_for_each(|link| netlink.remove_link(link))?;
            far_end.iter().try_for_each(|link| host.remove_link(link))?;
        }
        let Some(uplink) = network.uplink else { return Ok(None) };
        if !whole {
            netlink.add_veth(&near, &far, &self.namespace)?;
        }
        let (near, far) = (netlink.existing(&near)?, host.existing(&far)?);
        inside(&self.namespace, || Setting::new(format!("ipv6/conf/{}/disable_ipv6", far.name), "1").put())?;
        let [host_address, vpc_address] = ends(uplink.link);
        for (link, address, netlink) in [(&far, host_address, &host), (&near, vpc_address, netlink)] {
            ensure_addresses(link, &[Ipv4Net::new_assert(address, uplink.link.prefix_len())], netlink)?;
            netlink.bring_up(link)?;
        }
        Ok(Some(Gateway { link: near, address: host_address }))
    }

    /// Removes a VPC's uplink where its namespace could not take it along.
    pub(super) fn remove_uplink(&self, vpc: VpcId) -> Result<(), Error> {
        let host = Netlink::inside(&self.namespace)?;
        host.link(&names::uplink_host(vpc))?.iter().try_for_each(|link| host.remove_link(link))
    }

    /// Makes the way from the uplinks out of the host: our chains, forwarding, and others' consent.
    pub(super) fn ensure_way_out(&self, uplink: Uplink) -> Result<(), Error> {
        let record = self.lock();
        inside(&self.namespace, || {
            chains(uplink.pool).commit("Could not load the host's packet filter")?;
            ensure_forwarding(&record)?;
            ensure_consent(&record)
        })
    }

    /// Lets a user send nothing but questions to resolvers.
    pub(super) fn confine_services(&self, user: u32) -> Result<(), Error> {
        let mut transaction = Transaction::default();
        transaction.put_table(INet);
        let hook = Hook(Filter, NfHook::Output, 0, Accept);
        put_base_chain(&mut transaction, INet, SERVICES_OUT, hook, services_out(user));
        let what = "Could not bound what the process that answers guests may send";
        inside(&self.namespace, || transaction.commit(what))
    }

    /// Leads public addresses to the VPC whose instances have them; without an uplink, nowhere.
    pub(super) fn put_public(
        &self,
        vpc: VpcId,
        addresses: impl IntoIterator<Item = Ipv4Addr>,
    ) -> Result<(), Error> {
        let mut addresses = addresses.into_iter().peekable();
        if addresses.peek().is_none() {
            return Ok(());
        }
        let host = Netlink::inside(&self.namespace)?;
        let Some(link) = host.link(&names::uplink_host(vpc))? else { return Ok(()) };
        let found = host.addresses()?.into_iter().find(|(index, _)| *index == link.index);
        let Some((_, net)) = found else { return Ok(()) };
        let way = Way::Via(ends(net)[1], link.index);
        addresses.try_for_each(|address| host.put_route(&public_route(address, way)))
    }

    /// Leads public addresses to a VPC no longer.
    pub(super) fn remove_public(&self, vpc: VpcId, addresses: &[Ipv4Addr]) -> Result<(), Error> {
        if addresses.is_empty() {
            return Ok(());
        }
        let host = Netlink::inside(&self.namespace)?;
        let Some(link) = host.link(&names::uplink_host(vpc))? else { return Ok(()) };
        let routes = host.routes()?;
        let theirs =
            routes.iter().filter(|route| addresses.iter().any(|address| route.leads(*address, link.index)));
        theirs.into_iter().try_for_each(|route| host.remove_route(route))
    }

    /// Takes everything away that bears our prefix, and undoes what was changed on the host. Goes on past
    /// what fails, and returns what was done, and the first failure.
    pub(super) fn teardown(&self) -> (Vec<String>, Result<(), Error>) {
        let record = self.lock();
        let mut done = Vec::new();
        let mut failures = remove_namespaces(&mut done);
        failures.extend(inside(&self.namespace, || remove_uplinks(&mut done)).err());
        failures.extend(inside(&self.namespace, || remove_rules(&record, &mut done)).err());
        let first = failures.into_iter().next().map_or_else(|| record.forget(), Err);
        (done, first)
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is found on the host.
pub(super) struct HostView {
    links: Vec<Link>,
    addresses: Vec<(u32, Ipv4Net)>,
    routes: Vec<Route>,
    listing: Listing,
    forwarding: Option<String>,
}

impl HostView {
    /// All of the host that a VPC's way out needs, in words to be digested; nothing where it cannot be whole.
    pub(super) fn facts(&self, vpc: VpcId) -> Option<Vec<String>> {
        let link = self.uplink(vpc).filter(|link| link.up)?;
        let closed = self.forwarding.as_deref() != Some("1") || !foreign::closed(&self.listing).is_empty();
        let mut facts: Vec<_> = self
            .addresses
            .iter()
            .filter(|(index, _)| *index == link.index)
            .map(|(_, address)| format!("{address}"))
            .collect();
        for name in CHAINS {
            let chain = self.listing.chain(INet, name)?;
            facts.push(format!("{name} {:?} {} {}", chain.hook, chain.drops, chain.seal()?));
        }
        (!closed).then_some(facts)
    }

    /// Whether the host sends packets for a public address to a VPC, if it has a way to send them at all.
    pub(super) fn leads(&self, address: Ipv4Addr, vpc: VpcId) -> bool {
        self.uplink(vpc).is_none_or(|link| self.routes.iter().any(|route| route.leads(address, link.index)))
    }

    /// The VPCs that have an uplink here.
    pub(super) fn vpcs(&self) -> impl Iterator<Item = VpcId> {
        self.links.iter().filter_map(|link| unname::vpc_of_uplink(&link.name))
    }

    fn uplink(&self, vpc: VpcId) -> Option<&Link> {
        let name = names::uplink_host(vpc);
        self.links.iter().find(|link| link.name == name)
    }
}

/// The two addresses of an uplink: the host's end, the VPC's end.
fn ends(link: Ipv4Net) -> [Ipv4Addr; 2] {
    let first = u32::from(link.network());
    [first, first | 1].map(Ipv4Addr::from)
}

fn public_route(address: Ipv4Addr, way: Way) -> Route {
    Route { table: MAIN, destination: Ipv4Net::from(address), metric: 0, way }
}

/// Our chains on the host.
fn chains(pool: Ipv4Net) -> Transaction {
    let mut transaction = Transaction::default();
    transaction.put_table(INet);
    let contents = [
        (Hook(Filter, NfHook::Forward, 0, Accept), forward(pool)),
        (Hook(Filter, NfHook::Input, 0, Accept), input()),
        (Hook(Nat, NfHook::Postrouting, 100, Accept), way_out(pool)),
    ];
    for (name, (hook, rules)) in CHAINS.into_iter().zip(contents) {
        put_base_chain(&mut transaction, INet, name, hook, rules);
    }
    transaction
}

fn from_uplink() -> Word {
    is(meta(MetaKey::Iifname), text(any_uplink()))
}

fn to_uplink() -> Word {
    is(meta(MetaKey::Oifname), text(any_uplink()))
}

/// Between public addresses, and from them out; back only answers.
fn forward(pool: Ipv4Net) -> Vec<Vec<Word>> {
    let public = |field_name| is(field("ip", field_name), prefix(pool));
    vec![
        vec![from_uplink(), public("saddr"), to_uplink(), public("daddr"), accept()],
        vec![from_uplink(), public("daddr"), drop()], // an address that no instance has now
        vec![from_uplink(), public("saddr"), accept()],
        vec![to_uplink(), connection_is(&["established", "related"]), accept()],
        vec![from_uplink(), drop()],
        vec![to_uplink(), drop()],
    ]
}

/// To the host itself, answers only, and pings, to see how far one comes.
fn input() -> Vec<Vec<Word>> {
    vec![
        vec![is_not(meta(MetaKey::Iifname), text(any_uplink())), accept()],
        vec![connection_is(&["established", "related"]), accept()],
        vec![is(field("icmp", "type"), text("echo-request")), accept()],
        vec![drop()],
    ]
}

fn way_out(pool: Ipv4Net) -> Vec<Vec<Word>> {
    let out = is_not(meta(MetaKey::Oifname), text(any_uplink()));
    vec![vec![is(field("ip", "saddr"), prefix(pool)), out, Word::Masquerade(None)]]
}

/// Packets without a socket, such as a refusal, have no user: all is said of that one user's.
fn services_out(user: u32) -> Vec<Vec<Word>> {
    let theirs = || is(meta(MetaKey::Skuid), number(user));
    let protocols = any_of([text("tcp"), text("udp")]);
    let question = [is(meta(MetaKey::L4proto), protocols), is(field("th", "dport"), number(DNS)), accept()];
    vec![[theirs()].into_iter().chain(question).collect(), vec![theirs(), drop()]]
}

fn ensure_forwarding(record: &Record) -> Result<(), Error> {
    match sysctl::read(FORWARDING) {
        Some(before) if before != "1" => {
            record.note(FORWARDING, before)?;
            tracing::warn!("Switching on net.ipv4.ip_forward on this host, so that instances have a way out");
            sysctl::write(FORWARDING, "1")
                .map_err(|error| Error::passing("Could not switch on net.ipv4.ip_forward on the host", error))
        }
        _ => Ok(()),
    }
}

/// Has our uplinks let pass where a foreign chain would drop what goes through them.
fn ensure_consent(record: &Record) -> Result<(), Error> {
    let closed = foreign::closed(&Listing::here()?);
    if foreign::unseen() {
        tracing::warn!(
            "This host has filter rules of the old iptables, which nftables does not show. If instances have no \
             way out, let {}+ pass there: iptables-legacy -I FORWARD, with -i and with -o",
            names::UPLINK_HOST,
        );
    }
    for place in &closed {
        record.note(&format!("opened {place}"), true)?;
        tracing::warn!("Letting instances pass this host's forward chain: {place}");
    }
    if !closed.is_empty() {
        foreign::open(&closed).commit("Could not have instances let pass the host's other forward chains")?;
    }
    Ok(())
}

fn remove_namespaces(done: &mut Vec<String>) -> Vec<Error> {
    let names = match Namespace::names() {
        Ok(names) => names,
        Err(error) => return vec![Error::passing("Could not list the network namespaces", error)],
    };
    let prefix = format!("{}-", names::PREFIX);
    let mut failures = Vec::new();
    for name in names.iter().filter(|name| name.starts_with(&prefix)) {
        match vpc::remove_namespace(name) {
            Ok(()) => done.push(format!("Removed network namespace {name}")),
            Err(error) => failures.push(error),
        }
    }
    failures
}

fn remove_uplinks(done: &mut Vec<String>) -> Result<(), Error> {
    let netlink = Netlink::here()?;
    for link in netlink.links()?.iter().filter(|link| unname::vpc_of_uplink(&link.name).is_some()) {
        netlink.remove_link(link)?;
        done.push(format!("Removed link {}", link.name));
    }
    Ok(())
}

fn remove_rules(record: &Record, done: &mut Vec<String>) -> Result<(), Error> {
    let listing = Listing::here()?;
    let (mut transaction, opened) = foreign::close(&listing);
    if listing.chains.keys().any(|place| place.is_ours()) {
        transaction.remove_table(INet);
        done.push(format!("Removed nftables table {}", names::PREFIX));
    }
    transaction.commit("Could not remove our rules from the host's packet filter")?;
    done.extend(opened.iter().map(|place| format!("Removed our rules from {place}")));
    restore_forwarding(record, &listing, done)
}

/// Puts `ip_forward` back as it was, unless somebody else relies on it by now.
fn restore_forwarding(record: &Record, listing: &Listing, done: &mut Vec<String>) -> Result<(), Error> {
    let Some(before) = record.get(FORWARDING)? else { return Ok(()) };
    if foreign::forwards(listing) {
        done.push("Left net.ipv4.ip_forward on: others have forward chains".to_owned());
        return Ok(());
    }
    let before = before.as_str().unwrap_or("0");
    sysctl::write(FORWARDING, before)
        .map_err(|error| Error::passing("Could not put net.ipv4.ip_forward back", error))?;
    done.push(format!("Put net.ipv4.ip_forward back to {before}"));
    Ok(())
}
