//! A VPC: its namespace, a bridge for each subnet, the routes between them and to the uplink.
//!
//! Each subnet has a routing table of its own, chosen by the bridge that a packet comes in by, so that
//! subnets may have different routes. Before it, the main table is asked, which knows the VPC's own
//! addresses:
//!
//! ```text
//!      0  local                       the router's own addresses
//!    100  main, but no default route  the subnets; the rest of the VPC's CIDRs is a black hole
//!    200  from cub… the subnet's      its route table; else a black hole
//!  32766  main                        what the router itself sends, and answers from the uplink
//! ```
//!
//! What must hold:
//! - [`ensure`] may be cut short anywhere and repeated. The seal is written last, on the loopback link.
//! - [`facts`] is the same as long as nobody changes anything that [`ensure`] made.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use nftables::types::NfFamily;
use spec::ids::{SubnetId, VpcId};
use spec::machine::Mac;
use spec::network::{Network, Subnet, Target};
use spec::{Fingerprint, names};

use super::host::{HostSide, HostView};
use super::listing::Listing;
use super::messages::{Choice, Link, MAIN, Route, Way};
use super::netlink::Netlink;
use super::nft::Transaction;
use super::rules;
use super::seal::Seal;
use super::sysctl::Setting;
use crate::linux::sys::netns::Namespace;
use crate::{Error, METADATA_ADDRESS};

/// Routing tables: the kernel's own …
const DEFAULT: u32 = 253;
const LOCAL: u32 = 255;
/// … and those of the subnets, each at this number and its bridge's index.
const SUBNETS: u32 = 1000;
/// The metric of routes that hold when no other does.
const LAST: u32 = u32::MAX;

/// Makes a VPC be so.
pub(super) fn ensure(network: &Network, host: &HostSide) -> Result<(), Error> {
    let namespace = Namespace::ensure(&names::namespace(network.vpc))
        .map_err(|error| Error::passing(format!("Could not make the namespace of {}", network.vpc), error))?;
    if let Some(uplink) = network.uplink {
        host.ensure_way_out(uplink)?; // what guards the host comes before the uplink
    }
    super::inside(&namespace, || {
        ensure_filter(network)?;
        let netlink = Netlink::here()?;
        put_all(&namespace_settings())?;
        ensure_loopback(&netlink)?;
        let bridges = ensure_bridges(network, &netlink)?;
        let uplink = host.ensure_uplink(network, &netlink)?;
        ensure_routes(network, &bridges, uplink.as_ref(), &netlink)
    })?;
    let view = host.look()?;
    super::inside(&namespace, || {
        let netlink = Netlink::here()?;
        let facts = facts(network.vpc, &Found::here(&netlink)?, &view).ok_or_else(|| {
            Error::new(
                crate::ErrorKind::Passing,
                format!("Something changes {} at the same time", network.vpc),
            )
        })?;
        let loopback = netlink.existing("lo")?;
        netlink.put_alias(&loopback, &Seal::of(network, &facts).to_string())
    })
}

/// Loads the base chains. Where what is there does not let them (a set of another type, say), all is
/// replaced: groups and interfaces are then missing, and are ensured again by their own steps.
fn ensure_filter(network: &Network) -> Result<(), Error> {
    let what = "Could not load the VPC's packet filter";
    rules::base(network).commit(what).or_else(|_| {
        let mut afresh = Transaction::default();
        afresh.remove_table(NfFamily::INet);
        afresh.remove_table(NfFamily::Bridge);
        afresh.and(rules::base(network)).commit(what)
    })
}

/// What a namespace takes over from the host, or the kernel sets by default, and a VPC must have otherwise.
fn namespace_settings() -> Vec<Setting> {
    let mut settings = vec![Setting::new("ipv4/ip_forward", "1")]; // first: it resets others
    for scope in ["all", "default"] {
        for (name, value) in [
            ("rp_filter", "0"), // senders are checked where they send
            ("send_redirects", "0"),
            ("accept_redirects", "0"),
            ("accept_source_route", "0"),
            ("arp_ignore", "0"), // the metadata address answers on every bridge
            ("arp_filter", "0"),
            ("proxy_arp", "0"),
        ] {
            settings.push(Setting::new(format!("ipv4/conf/{scope}/{name}"), value));
        }
        settings.push(Setting::new(format!("ipv6/conf/{scope}/disable_ipv6"), "1"));
    }
    for tables in ["iptables", "ip6tables", "arptables"] {
        settings.push(Setting::new(format!("bridge/bridge-nf-call-{tables}"), "0"));
    }
    settings
}

/// A bridge answers ARP for guests that cannot hear each other, at once, and never looks for one itself:
/// all that there are have been made known to it.
fn bridge_settings(bridge: &str) -> Vec<Setting> {
    vec![
        Setting::new(format!("ipv4/conf/{bridge}/proxy_arp_pvlan"), "1"),
        Setting::new(format!("ipv4/conf/{bridge}/send_redirects"), "0"),
        Setting::new(format!("ipv4/conf/{bridge}/rp_filter"), "0"),
        Setting::new(format!("ipv4/neigh/{bridge}/proxy_delay"), "0"),
        Setting::new(format!("ipv4/neigh/{bridge}/mcast_solicit"), "0"),
    ]
}

fn put_all(settings: &[Setting]) -> Result<(), Error> {
    settings.iter().try_for_each(Setting::put)
}

fn ensure_loopback(netlink: &Netlink) -> Result<(), Error> {
    let loopback = netlink.existing("lo")?;
    netlink.put_address(&loopback, Ipv4Net::from(METADATA_ADDRESS))?;
    netlink.bring_up(&loopback)
}

/// A bridge and its subnet.
type Bridge<'a> = (&'a Subnet, Link);

fn ensure_bridges<'a>(network: &'a Network, netlink: &Netlink) -> Result<Vec<Bridge<'a>>, Error> {
    let wanted: BTreeSet<String> = network.subnets.iter().map(|subnet| names::bridge(subnet.id)).collect();
    for link in netlink.links()? {
        if link.name.starts_with(names::BRIDGE) && !(link.is_bridge() && wanted.contains(&link.name)) {
            netlink.remove_link(&link)?;
        }
    }
    let ensure = |subnet: &'a Subnet| {
        let name = names::bridge(subnet.id);
        let bridge = netlink.put_bridge(&name, router_mac(subnet.id))?;
        put_all(&bridge_settings(&name))?;
        ensure_addresses(&bridge, &[router_address(subnet), Ipv4Net::from(subnet.resolver())], netlink)?;
        netlink.bring_up(&bridge)?;
        Ok((subnet, bridge))
    };
    network.subnets.iter().map(ensure).collect()
}

/// Gives a link these addresses and takes others away.
pub(super) fn ensure_addresses(link: &Link, wanted: &[Ipv4Net], netlink: &Netlink) -> Result<(), Error> {
    for (index, address) in netlink.addresses()? {
        if index == link.index && !wanted.contains(&address) {
            netlink.remove_address(link, address)?;
        }
    }
    wanted.iter().try_for_each(|address| netlink.put_address(link, *address))
}

fn router_address(subnet: &Subnet) -> Ipv4Net {
    Ipv4Net::new_assert(subnet.router(), subnet.cidr.prefix_len())
}

/// The router's link address in a subnet, the same whenever the bridge is made anew.
fn router_mac(subnet: SubnetId) -> Mac {
    Mac::from_random(Fingerprint::of(&subnet).0)
}

/// The VPC's end of its uplink, and the host's address at the other.
pub(super) struct Gateway {
    pub link: Link,
    pub address: Ipv4Addr,
}

fn ensure_routes(
    network: &Network,
    bridges: &[Bridge<'_>],
    uplink: Option<&Gateway>,
    netlink: &Netlink,
) -> Result<(), Error> {
    let routes = wanted_routes(network, bridges, uplink);
    for route in &routes {
        netlink.put_route(route)?;
    }
    for stale in netlink.routes()?.iter().filter(|route| !routes.contains(route)) {
        netlink.remove_route(stale)?;
    }
    let (wanted, found) = (wanted_choices(bridges), netlink.choices()?);
    for missing in wanted.iter().filter(|choice| !found.contains(choice)) {
        netlink.add_choice(missing)?;
    }
    for stale in found.iter().filter(|choice| !wanted.contains(choice)) {
        netlink.remove_choice(stale)?;
    }
    Ok(())
}

fn wanted_routes(network: &Network, bridges: &[Bridge<'_>], uplink: Option<&Gateway>) -> BTreeSet<Route> {
    let everywhere = Ipv4Net::default();
    let out = uplink.map(|uplink| Way::Via(uplink.address, uplink.link.index));
    let elsewhere =
        |cidr: &Ipv4Net| Route { table: MAIN, destination: cidr.trunc(), metric: LAST, way: Way::Blackhole };
    let mut routes: BTreeSet<Route> = network.cidrs.iter().map(elsewhere).collect();
    routes.extend(out.map(|way| Route { table: MAIN, destination: everywhere, metric: 0, way }));
    for (subnet, bridge) in bridges {
        let table = SUBNETS + bridge.index;
        routes.insert(Route { table, destination: everywhere, metric: LAST, way: Way::Blackhole });
        routes.extend(subnet.routes.iter().map(|route| {
            let way = match route.target {
                Target::Uplink => out.unwrap_or(Way::Blackhole),
                Target::Blackhole => Way::Blackhole,
            };
            Route { table, destination: route.destination.trunc(), metric: 0, way }
        }));
    }
    routes
}

fn wanted_choices(bridges: &[Bridge<'_>]) -> Vec<Choice> {
    let always = |priority, table| Choice { priority, input: None, table, no_default: false };
    let mut choices = vec![always(0, LOCAL), always(32766, MAIN), always(32767, DEFAULT)];
    choices.push(Choice { no_default: true, ..always(100, MAIN) });
    choices.extend(bridges.iter().map(|(_, bridge)| {
        let table = SUBNETS + bridge.index;
        Choice { priority: 200, input: Some(bridge.name.clone()), table, no_default: false }
    }));
    choices
}

/// Takes a VPC away with all in it. What is in it is removed piece by piece: the namespace itself may be held
/// by a process that has not ended yet.
pub(super) fn remove(vpc: VpcId, host: &HostSide) -> Result<(), Error> {
    remove_namespace(&names::namespace(vpc))?;
    host.remove_uplink(vpc)
}

pub(super) fn remove_namespace(name: &str) -> Result<(), Error> {
    let failed = |error| Error::passing(format!("Could not remove namespace {name}"), error);
    if let Some(namespace) = Namespace::open(name).map_err(failed)? {
        super::inside(&namespace, || {
            let netlink = Netlink::here()?;
            for link in netlink.links()?.iter().filter(|link| link.name != "lo") {
                netlink.remove_link(link)?;
            }
            Ok(())
        })?;
    }
    Namespace::remove(name).map_err(failed)
}

/// What is found inside a VPC's namespace.
pub(super) struct Found {
    pub links: Vec<Link>,
    pub listing: Listing,
    addresses: Vec<(u32, Ipv4Net)>,
    routes: Vec<Route>,
    choices: Vec<Choice>,
    settings: Vec<String>,
}

impl Found {
    /// Looks around in the calling thread's namespace.
    pub(super) fn here(netlink: &Netlink) -> Result<Self, Error> {
        let links = netlink.links()?;
        let bridges = links.iter().filter(|link| link.name.starts_with(names::BRIDGE));
        let settings =
            namespace_settings().into_iter().chain(bridges.flat_map(|link| bridge_settings(&link.name)));
        let settings = settings.map(|setting| format!("{} {:?}", setting.path, setting.now())).collect();
        Ok(Self {
            listing: Listing::here()?,
            addresses: netlink.addresses()?,
            routes: netlink.routes()?,
            choices: netlink.choices()?,
            settings,
            links,
        })
    }

    /// The seal on the VPC.
    pub(super) fn seal(&self) -> Option<&str> {
        self.links.iter().find(|link| link.name == "lo")?.alias.as_deref()
    }
}

/// All that a VPC consists of, in words to be digested; nothing where it cannot be whole. Interfaces and
/// groups are not part of it.
pub(super) fn facts(vpc: VpcId, found: &Found, host: &HostView) -> Option<Vec<String>> {
    let mut facts = found.settings.clone();
    for link in found.links.iter().filter(|link| !link.name.starts_with(names::TAP)) {
        let Link { index, name, kind, up, mtu, mac, .. } = link;
        facts.push(format!("{index} {name} {kind:?} {up} {mtu} {mac:?}"));
    }
    facts.extend(found.addresses.iter().map(|address| format!("{address:?}")));
    facts.extend(found.routes.iter().map(|route| format!("{route:?}")));
    facts.extend(found.choices.iter().map(|choice| format!("{choice:?}")));
    for (family, name) in rules::BASE_CHAINS {
        let chain = found.listing.chain(family, name)?;
        facts.push(format!("{name} {:?} {} {}", chain.hook, chain.drops, chain.seal()?));
    }
    if found.links.iter().any(|link| link.name == names::uplink_vpc(vpc)) {
        facts.extend(host.facts(vpc)?);
    }
    facts.sort();
    Some(facts)
}
