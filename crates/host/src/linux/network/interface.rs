//! An interface: a TAP on its subnet's bridge, its neighbours' entries, its pieces and chains in the
//! packet filter, the host's routes to its public addresses.
//!
//! A TAP that is open in a machine is never made anew: the machine would lose it. One that is not, and bears no seal or
//! has not as many queues as it should, is half made, or somebody else's, or of another machine, and is.
//!
//! Making an interface costs the same however many there are: one `nft` process, and no list of anything.
//! Only where there was something of it before is that looked up first.
//!
//! What must hold: [`ensure`] and [`remove`] may be cut short anywhere and repeated. The seal is
//! written last, as the TAP's alias.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use nftables::types::NfFamily::INet;
use spec::Fingerprint;
use spec::ids::{InterfaceId, VpcId};
use spec::machine::Mac;
use spec::names;
use spec::network::Interface;

use super::host::{HostSide, HostView};
use super::inside;
use super::listing::Listing;
use super::messages::Link;
use super::netlink::Netlink;
use super::nft::Transaction;
use super::pieces::Pieces;
use super::rules::{self, egress, ingress};
use super::seal::Seal;
use super::vpc::Found;
use crate::Error;
use crate::linux::sys::netns::Namespace;
use crate::linux::sys::tap;

/// Makes an interface be so.
pub(super) fn ensure(interface: &Interface, namespace: &Namespace, host: &HostSide) -> Result<(), Error> {
    let bridge = names::bridge(interface.subnet);
    let pieces = Pieces::of(interface);
    let seal = Seal::of(interface, &facts(&pieces, &bridge));
    let tap = inside(namespace, || {
        let netlink = Netlink::here()?;
        let bridge = netlink.existing(&bridge)?;
        let (tap, new) = ensure_tap(&names::tap(interface.id), interface.several_queues, &netlink)?;
        netlink.put_port(&tap, &bridge)?;
        put_neighbours(interface, &tap, &bridge, &netlink)?;
        if !(new && create_in_filter(interface, &pieces, seal)) {
            remove_stale_neighbours(interface, &tap, &bridge, &netlink)?;
            change_in_filter(interface, &pieces, seal, host)?;
        }
        netlink.bring_up(&tap)?;
        Ok(tap)
    })?;
    host.put_public(interface.vpc, interface.public.iter().map(|translation| translation.public))?;
    Netlink::inside(namespace)?.put_alias(&tap, &seal.to_string())
}

/// The TAP, and whether it was just made.
fn ensure_tap(name: &str, several_queues: bool, netlink: &Netlink) -> Result<(Link, bool), Error> {
    if let Some(found) = netlink.link(name)? {
        if is_open(&found) || (is_sealed(&found) && found.several_queues == several_queues) {
            return Ok((found, false));
        }
        netlink.remove_link(&found)?;
    }
    tap::create(name, several_queues)
        .map_err(|error| Error::passing(format!("Could not make TAP {name}"), error))?;
    let made = netlink.existing(name)?;
    netlink.put_no_discipline(&made)?;
    Ok((made, true))
}

fn is_sealed(tap: &Link) -> bool {
    tap.alias.as_deref().is_some_and(|alias| alias.parse::<Seal>().is_ok())
}

/// Whether a machine has a TAP open: it has a carrier just as long.
fn is_open(tap: &Link) -> bool {
    tap.is_tap() && tap.carrier
}

/// Opens an interface's TAP in the calling thread's namespace, as [`super::Networks::open_tap`] says. One with several
/// queues the kernel would let another open too.
pub(super) fn open(id: InterfaceId, queues: u8) -> Result<Vec<OwnedFd>, Error> {
    let name = names::tap(id);
    let failed = |error| Error::passing(format!("Could not open TAP {name}"), error);
    if is_open(&Netlink::here()?.existing(&name)?) {
        return Err(failed(io::ErrorKind::ResourceBusy.into()));
    }
    tap::open(&name, queues.into()).map_err(failed)
}

/// Makes the bridge know where the guest's addresses are, for good: nothing is learned from what guests send,
/// and DHCP can answer a guest that does not yet answer ARP.
fn put_neighbours(interface: &Interface, tap: &Link, bridge: &Link, netlink: &Netlink) -> Result<(), Error> {
    netlink.put_port_address(tap, interface.mac)?;
    interface.addresses.iter().try_for_each(|address| netlink.put_neighbour(bridge, *address, interface.mac))
}

/// Makes the bridge forget addresses that the guest had before.
fn remove_stale_neighbours(
    interface: &Interface,
    tap: &Link,
    bridge: &Link,
    netlink: &Netlink,
) -> Result<(), Error> {
    for (port, mac) in netlink.port_addresses()? {
        if port == tap.index && mac != interface.mac {
            netlink.remove_port_address(tap, mac)?;
        }
    }
    for (link, address, mac) in netlink.neighbours()? {
        if mac == interface.mac && !(link == bridge.index && interface.addresses.contains(&address)) {
            netlink.remove_neighbour(link, address)?;
        }
    }
    Ok(())
}

/// Puts a new interface into the packet filter. Fails, with nothing changed, where there is anything of it
/// already.
fn create_in_filter(interface: &Interface, pieces: &Pieces, seal: Seal) -> bool {
    let mut transaction = Transaction::default();
    transaction.create_chain(&ingress(interface.id));
    transaction.create_chain(&egress(interface.id));
    fill(interface, seal, &mut transaction);
    pieces.add(&mut transaction);
    transaction.commit("").is_ok()
}

/// Replaces whatever the packet filter has of an interface.
fn change_in_filter(
    interface: &Interface,
    pieces: &Pieces,
    seal: Seal,
    host: &HostSide,
) -> Result<(), Error> {
    let listing = Listing::here()?;
    let old = Pieces::listed(&listing).remove(&interface.id).unwrap_or_default();
    let wanted: BTreeSet<_> = pieces.public().collect();
    let stale: Vec<Ipv4Addr> = old.public().filter(|address| !wanted.contains(address)).collect();
    host.remove_public(interface.vpc, &stale)?; // while the pieces still tell of them
    let mut transaction = Transaction::default();
    rules::put_shared(&mut transaction);
    pieces.in_the_way(&listing).and(old).remove(&mut transaction);
    fill(interface, seal, &mut transaction);
    pieces.add(&mut transaction);
    transaction.commit(format!("Could not load the packet filter of {}", interface.id))
}

fn fill(interface: &Interface, seal: Seal, transaction: &mut Transaction) {
    for group in &interface.groups {
        rules::put_members(transaction, *group);
        transaction.put_chain(INet, &ingress(group), None); // its own step may come later
        transaction.put_chain(INet, &egress(group), None);
    }
    let [ins, outs] = rules::interface_chains(interface.groups.iter());
    for (chain, rules) in [(ingress(interface.id), ins), (egress(interface.id), outs)] {
        transaction.put_chain(INet, &chain, None);
        transaction.fill_chain(INet, &chain, &seal.to_string(), rules);
    }
}

/// Takes an interface away.
pub(super) fn remove(
    vpc: VpcId,
    id: InterfaceId,
    namespace: &Namespace,
    host: &HostSide,
) -> Result<(), Error> {
    inside(namespace, || {
        let netlink = Netlink::here()?;
        let tap = netlink.link(&names::tap(id))?;
        let listing = Listing::here()?;
        let pieces = Pieces::listed(&listing).remove(&id).unwrap_or_default();
        host.remove_public(vpc, &pieces.public().collect::<Vec<_>>())?;
        remove_neighbours(&pieces, tap.as_ref(), &netlink)?;
        let mut transaction = Transaction::default();
        pieces.remove(&mut transaction);
        for chain in [ingress(id), egress(id)].iter().filter(|chain| listing.chain(INet, chain).is_some()) {
            transaction.remove_chain(chain);
        }
        transaction.commit(format!("Could not remove {id} from the packet filter"))?;
        tap.iter().try_for_each(|tap| netlink.remove_link(tap))
    })
}

fn remove_neighbours(pieces: &Pieces, tap: Option<&Link>, netlink: &Netlink) -> Result<(), Error> {
    let at_port =
        netlink.port_addresses()?.into_iter().filter(|(port, _)| tap.is_some_and(|tap| tap.index == *port));
    let macs: BTreeSet<Mac> = at_port.map(|(_, mac)| mac).chain(pieces.mac()).collect();
    let neighbours = netlink.neighbours()?;
    let stale = neighbours.iter().filter(|(_, _, mac)| macs.contains(mac));
    stale.into_iter().try_for_each(|(link, address, _)| netlink.remove_neighbour(*link, *address))
}

/// What an interface consists of in the packet filter, and where it is attached, to be digested.
fn facts(pieces: &Pieces, bridge: &str) -> (Vec<String>, String) {
    (pieces.facts(), bridge.to_owned())
}

/// What there is of a VPC's interfaces, beyond what is found of the VPC itself.
pub(super) struct Surroundings<'a> {
    pub vpc: VpcId,
    pub found: &'a Found,
    pub host: &'a HostView,
    pub neighbours: BTreeSet<(u32, Ipv4Addr, Mac)>,
    pub port_addresses: BTreeSet<(u32, Mac)>,
}

impl Surroundings<'_> {
    /// The mark of the wish that an interface was made from, if it is still whole.
    pub(super) fn mark(&self, id: InterfaceId, pieces: &Pieces) -> Option<Fingerprint> {
        let links = &self.found.links;
        let name = names::tap(id);
        let tap = links.iter().find(|link| link.name == name).filter(|tap| tap.is_port())?;
        let bridge = links.iter().find(|link| Some(link.index) == tap.bridge)?;
        let mark = Seal::holds(tap.alias.as_deref(), &facts(pieces, &bridge.name))?;
        let sealed = |chain: &str| self.found.listing.chain(INet, chain)?.seal();
        let mac = pieces.mac()?;
        let whole = sealed(&ingress(id)) == tap.alias.as_deref()
            && sealed(&egress(id)) == tap.alias.as_deref()
            && self.port_addresses.contains(&(tap.index, mac))
            && pieces.addresses().all(|address| self.neighbours.contains(&(bridge.index, address, mac)))
            && pieces.public().all(|address| self.host.leads(address, self.vpc));
        whole.then_some(mark)
    }
}
