//! Links, addresses, routes and neighbours of one namespace, by rtnetlink.
//!
//! `rtnetlink` speaks async; the driver's calls block. So a [`Netlink`] carries a small runtime that
//! turns only while one of its methods runs. Its socket belongs to the namespace of the thread that made it, and
//! reaches that namespace from wherever it is used later.
//!
//! Methods named `put_…` make something be so, however it was before; asking twice changes nothing.

use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use futures_util::stream::{Stream, StreamExt};
use ipnet::Ipv4Net;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoBridgePort, InfoData, InfoPortData, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{
    Handle, IpVersion, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth,
    RouteMessageBuilder,
};
use spec::machine::Mac;
use tokio::runtime::Runtime;

use crate::linux::sys::netns::Namespace;
use crate::{Error, ErrorKind};

/// The largest packet on every link of ours, in bytes.
const MTU: u32 = 1500;
/// `NUD_NOARP` in a bridge's table marks an address that stays at its port (`bridge fdb add … static`);
/// `NUD_PERMANENT` would make it an address of the bridge itself.
const STATIC: NeighbourState = NeighbourState::Noarp;

/// The main routing table.
pub(super) const MAIN: u32 = 254;

/// A connection to the routing half of a namespace.
pub(super) struct Netlink {
    runtime: Runtime,
    handle: Handle,
}

/// What there is to know of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub index: u32,
    pub name: String,
    pub kind: Option<String>,
    /// Up by the administrator's will, whether or not there is a carrier.
    pub up: bool,
    pub mtu: u32,
    pub mac: Option<Mac>,
    pub alias: Option<String>,
    /// The index of the bridge it is a port of.
    pub bridge: Option<u32>,
    /// Whether it is a port that may not talk to other isolated ports.
    pub isolated: bool,
}

/// A route that someone set (protocol `static`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Route {
    pub table: u32,
    pub destination: Ipv4Net,
    pub metric: u32,
    pub way: Way,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Way {
    /// To a neighbour on the link of this index.
    Via(Ipv4Addr, u32),
    /// Nowhere, without a word.
    Blackhole,
    /// Something that this driver never sets.
    Foreign,
}

/// A rule that says which routing table is asked, and when (`ip rule`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Choice {
    /// Lower ones are asked first.
    pub priority: u32,
    /// Only packets that come in by the link of this name.
    pub input: Option<String>,
    pub table: u32,
    /// The table's default route counts for nothing.
    pub no_default: bool,
}

impl Netlink {
    /// Connects to the namespace of the calling thread.
    pub(super) fn here() -> Result<Self, Error> {
        let failed = |error| Error::passing("Could not open a netlink connection", error);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
        let guard = runtime.enter();
        let (connection, handle, _) = rtnetlink::new_connection().map_err(failed)?;
        drop(guard);
        runtime.spawn(connection);
        Ok(Self { runtime, handle })
    }

    /// Connects to a namespace.
    pub(super) fn inside(namespace: &Namespace) -> Result<Self, Error> {
        super::inside(namespace, Self::here)
    }

    // Links.

    pub(super) fn links(&self) -> Result<Vec<Link>, Error> {
        let links = self.dump(self.handle.link().get().execute());
        Ok(links.map_err(failed("Could not list links"))?.iter().map(Link::from).collect())
    }

    pub(super) fn link(&self, name: &str) -> Result<Option<Link>, Error> {
        match self.dump(self.handle.link().get().match_name(name).execute()) {
            Ok(found) => Ok(found.first().map(Link::from)),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(failed(format!("Could not look up link {name}"))(error)),
        }
    }

    /// A link that was just made or must be there.
    pub(super) fn existing(&self, name: &str) -> Result<Link, Error> {
        self.link(name)?.ok_or_else(|| Error::new(ErrorKind::Passing, format!("Link {name} is not there")))
    }

    /// Makes a bridge that does not ask who listens to multicast. Its address is given: it would
    /// otherwise change as ports come and go, and guests would keep the old one.
    pub(super) fn put_bridge(&self, name: &str, mac: Mac) -> Result<Link, Error> {
        let found = self.link(name)?;
        if !found.as_ref().is_some_and(|link| link.is_bridge() && link.mac == Some(mac) && link.mtu == MTU) {
            let bridge =
                LinkBridge::new(name).down().address(mac.0.to_vec()).mtu(MTU).mcast_snooping(false).build();
            let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
            self.ask(self.handle.link().add(bridge).set_flags(flags).execute())
                .map_err(failed(format!("Could not make bridge {name}")))?;
        }
        self.existing(name)
    }

    /// Makes a veth pair: `name` here, `peer` in another namespace, in one go.
    pub(super) fn add_veth(&self, name: &str, peer: &str, peer_in: &Namespace) -> Result<(), Error> {
        let other_end = LinkMessageBuilder::<LinkUnspec>::new()
            .name(peer)
            .mtu(MTU)
            .setns_by_fd(peer_in.file().as_raw_fd())
            .build();
        let veth =
            LinkVeth::new(name, peer).mtu(MTU).set_info_data(InfoData::Veth(InfoVeth::Peer(other_end)));
        self.ask(self.handle.link().add(veth.build()).execute())
            .map_err(failed(format!("Could not make veth pair {name} and {peer}")))
    }

    pub(super) fn remove_link(&self, link: &Link) -> Result<(), Error> {
        let removed = self.ask(self.handle.link().del(link.index).execute());
        unless_gone(removed).map_err(failed(format!("Could not remove link {}", link.name)))
    }

    pub(super) fn bring_up(&self, link: &Link) -> Result<(), Error> {
        let change = LinkUnspec::new_with_index(link.index).up().build();
        self.change(change, || format!("Could not bring up link {}", link.name))
    }

    pub(super) fn put_alias(&self, link: &Link, alias: &str) -> Result<(), Error> {
        let change = LinkUnspec::new_with_index(link.index).alias(alias).build();
        self.change(change, || format!("Could not leave a mark on link {}", link.name))
    }

    /// Makes a link an isolated port of a bridge. What is sent to an address that nobody has reaches no
    /// port, and a port's address is what we say, not what it sends from.
    pub(super) fn put_port(&self, link: &Link, bridge: &Link) -> Result<(), Error> {
        let what = || format!("Could not attach link {} to bridge {}", link.name, bridge.name);
        let attach = LinkUnspec::new_with_index(link.index).controller(bridge.index).mtu(MTU).build();
        self.change(attach, what)?;
        let port =
            LinkBridgePort::new(link.index).isolated(true).learning(false).flood(false).mcast_flood(false);
        self.change(port.build(), what)
    }

    fn change(&self, change: LinkMessage, what: impl FnOnce() -> String) -> Result<(), Error> {
        self.ask(self.handle.link().change(change).execute()).map_err(|error| failed(what())(error))
    }

    // Addresses.

    /// All IPv4 addresses, each with the index of its link.
    pub(super) fn addresses(&self) -> Result<Vec<(u32, Ipv4Net)>, Error> {
        let messages = self.dump(self.handle.address().get().execute());
        Ok(messages.map_err(failed("Could not list addresses"))?.iter().filter_map(address).collect())
    }

    pub(super) fn put_address(&self, link: &Link, address: Ipv4Net) -> Result<(), Error> {
        let add = self.handle.address().add(link.index, address.addr().into(), address.prefix_len());
        self.ask(add.replace().execute())
            .map_err(failed(format!("Could not give address {address} to link {}", link.name)))
    }

    pub(super) fn remove_address(&self, link: &Link, address: Ipv4Net) -> Result<(), Error> {
        let message = rtnetlink::AddressMessageBuilder::<Ipv4Addr>::new()
            .index(link.index)
            .address(address.addr(), address.prefix_len())
            .build();
        let removed = self.ask(self.handle.address().del(message).execute());
        unless_gone(removed)
            .map_err(failed(format!("Could not take address {address} from link {}", link.name)))
    }

    // Routes and the choice between their tables.

    pub(super) fn routes(&self) -> Result<Vec<Route>, Error> {
        let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let messages = self.dump(self.handle.route().get(all).execute());
        Ok(messages.map_err(failed("Could not list routes"))?.iter().filter_map(route).collect())
    }

    pub(super) fn put_route(&self, route: &Route) -> Result<(), Error> {
        self.ask(self.handle.route().add(route.message()).replace().execute())
            .map_err(failed(format!("Could not set the route to {}", route.destination)))
    }

    pub(super) fn remove_route(&self, route: &Route) -> Result<(), Error> {
        let mut message = route.message();
        message.header.scope = RouteScope::NoWhere; // of any scope
        let removed = self.ask(self.handle.route().del(message).execute());
        unless_gone(removed).map_err(failed(format!("Could not remove the route to {}", route.destination)))
    }

    pub(super) fn choices(&self) -> Result<Vec<Choice>, Error> {
        let messages = self.dump(self.handle.rule().get(IpVersion::V4).execute());
        Ok(messages.map_err(failed("Could not list routing rules"))?.iter().map(Choice::from).collect())
    }

    pub(super) fn add_choice(&self, choice: &Choice) -> Result<(), Error> {
        let mut request = self.handle.rule().add();
        *request.message_mut() = choice.message();
        self.ask(request.execute()).map_err(failed(format!("Could not add routing rule {}", choice.priority)))
    }

    pub(super) fn remove_choice(&self, choice: &Choice) -> Result<(), Error> {
        let removed = self.ask(self.handle.rule().del(choice.message()).execute());
        unless_gone(removed).map_err(failed(format!("Could not remove routing rule {}", choice.priority)))
    }

    // Neighbours.

    /// All permanent IPv4 neighbours, each with the index of its link.
    pub(super) fn neighbours(&self) -> Result<Vec<(u32, Ipv4Addr, Mac)>, Error> {
        let get = self.handle.neighbours().get().set_address_family(AddressFamily::Inet);
        let messages = self.dump(get.execute()).map_err(failed("Could not list neighbours"))?;
        Ok(messages.iter().filter_map(neighbour).collect())
    }

    pub(super) fn put_neighbour(&self, link: &Link, address: Ipv4Addr, mac: Mac) -> Result<(), Error> {
        let add = self.handle.neighbours().add(link.index, address.into()).link_layer_address(&mac.0);
        self.ask(add.replace().execute())
            .map_err(failed(format!("Could not make {address} a neighbour on link {}", link.name)))
    }

    pub(super) fn remove_neighbour(&self, link: u32, address: Ipv4Addr) -> Result<(), Error> {
        let message = self.handle.neighbours().add(link, address.into()).message_mut().clone();
        let removed = self.ask(self.handle.neighbours().del(message).execute());
        unless_gone(removed).map_err(failed(format!("Could not remove neighbour {address}")))
    }

    /// The link addresses that are fixed to bridge ports, each with the index of its port.
    pub(super) fn port_addresses(&self) -> Result<Vec<(u32, Mac)>, Error> {
        let get = self.handle.neighbours().get().set_address_family(AddressFamily::Bridge);
        let messages = self.dump(get.execute()).map_err(failed("Could not list the bridges' tables"))?;
        Ok(messages.iter().filter_map(port_address).collect())
    }

    pub(super) fn put_port_address(&self, port: &Link, mac: Mac) -> Result<(), Error> {
        let add = self.handle.neighbours().add_bridge(port.index, &mac.0);
        self.ask(add.state(STATIC).flags(NeighbourFlags::Controller).replace().execute())
            .map_err(failed(format!("Could not fix {mac} to link {}", port.name)))
    }

    pub(super) fn remove_port_address(&self, port: &Link, mac: Mac) -> Result<(), Error> {
        let mut add =
            self.handle.neighbours().add_bridge(port.index, &mac.0).flags(NeighbourFlags::Controller);
        let removed = self.ask(self.handle.neighbours().del(add.message_mut().clone()).execute());
        unless_gone(removed).map_err(failed(format!("Could not take {mac} from link {}", port.name)))
    }

    fn ask(&self, request: impl Future<Output = Result<(), rtnetlink::Error>>) -> io::Result<()> {
        self.runtime.block_on(request).map_err(into_io)
    }

    fn dump<T>(&self, answers: impl Stream<Item = Result<T, rtnetlink::Error>>) -> io::Result<Vec<T>> {
        let answers: Vec<_> = self.runtime.block_on(answers.collect());
        answers.into_iter().map(|answer| answer.map_err(into_io)).collect()
    }
}

fn into_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::passing(what, error)
}

/// What is to be removed and is not there is removed.
fn unless_gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENODEV | libc::ENOENT | libc::ESRCH | libc::EADDRNOTAVAIL)
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

impl From<&LinkMessage> for Link {
    fn from(message: &LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            kind: None,
            up: message.header.flags.contains(LinkFlags::Up),
            mtu: 0,
            mac: None,
            alias: None,
            bridge: None,
            isolated: false,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Address(bytes) => link.mac = mac(bytes),
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
                LinkAttribute::Controller(index) => link.bridge = Some(*index),
                LinkAttribute::LinkInfo(infos) => link.read_infos(infos),
                _ => {}
            }
        }
        link
    }
}

impl Link {
    pub(super) fn is_bridge(&self) -> bool {
        self.kind.as_deref() == Some("bridge")
    }

    /// Whether it is an interface's port as it should be: up, and apart from the others.
    pub(super) fn is_port(&self) -> bool {
        self.up && self.isolated && self.mtu == MTU
    }

    fn read_infos(&mut self, infos: &[LinkInfo]) {
        for info in infos {
            match info {
                LinkInfo::Kind(kind) => self.kind = Some(kind.to_string()),
                LinkInfo::PortData(InfoPortData::BridgePort(port)) => {
                    self.isolated = port.contains(&InfoBridgePort::Isolated(true));
                }
                _ => {}
            }
        }
    }
}

impl Route {
    /// Whether packets to an address go out by a link.
    pub(super) fn leads(&self, address: Ipv4Addr, by: u32) -> bool {
        self.destination == Ipv4Net::from(address) && matches!(self.way, Way::Via(_, link) if link == by)
    }

    fn message(&self) -> RouteMessage {
        let builder = RouteMessageBuilder::<Ipv4Addr>::new()
            .table_id(self.table)
            .destination_prefix(self.destination.network(), self.destination.prefix_len());
        let builder = if self.metric > 0 { builder.priority(self.metric) } else { builder };
        match self.way {
            Way::Via(gateway, link) => builder.gateway(gateway).output_interface(link),
            Way::Blackhole => builder.kind(RouteType::BlackHole),
            Way::Foreign => builder.kind(RouteType::Unspec), // to remove it, whatever it is
        }
        .build()
    }
}

/// The route in a message, unless the kernel or a routing daemon set it.
fn route(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    if header.address_family != AddressFamily::Inet || header.protocol != RouteProtocol::Static {
        return None;
    }
    let (mut table, mut destination, mut metric) = (u32::from(header.table), Ipv4Addr::UNSPECIFIED, 0);
    let (mut gateway, mut link) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(id) => table = *id,
            RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = *address,
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(*address),
            RouteAttribute::Oif(index) => link = Some(*index),
            _ => {}
        }
    }
    let way = match (header.kind, gateway, link) {
        (RouteType::Unicast, Some(gateway), Some(link)) => Way::Via(gateway, link),
        (RouteType::BlackHole, ..) => Way::Blackhole,
        _ => Way::Foreign,
    };
    let destination = Ipv4Net::new(destination, header.destination_prefix_length).ok()?;
    Some(Route { table, destination, metric, way })
}

impl Choice {
    fn message(&self) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.action = RuleAction::ToTable;
        message.attributes.push(RuleAttribute::Table(self.table));
        message.attributes.push(RuleAttribute::Priority(self.priority));
        message.attributes.extend(self.input.clone().map(RuleAttribute::Iifname));
        message.attributes.extend(self.no_default.then_some(RuleAttribute::SuppressPrefixLen(0)));
        message
    }
}

impl From<&RuleMessage> for Choice {
    fn from(message: &RuleMessage) -> Self {
        let table = u32::from(message.header.table);
        let mut choice = Self { priority: 0, input: None, table, no_default: false };
        for attribute in &message.attributes {
            match attribute {
                RuleAttribute::Table(table) => choice.table = *table,
                RuleAttribute::Priority(priority) => choice.priority = *priority,
                RuleAttribute::Iifname(name) => choice.input = Some(name.clone()),
                RuleAttribute::SuppressPrefixLen(length) => choice.no_default = *length == 0,
                _ => {}
            }
        }
        choice
    }
}

fn address(message: &AddressMessage) -> Option<(u32, Ipv4Net)> {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(std::net::IpAddr::V4(address)) => Some(*address),
        _ => None,
    })?;
    Some((message.header.index, Ipv4Net::new(address, message.header.prefix_len).ok()?))
}

fn neighbour(message: &NeighbourMessage) -> Option<(u32, Ipv4Addr, Mac)> {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(*address),
        _ => None,
    })?;
    let permanent = message.header.state == NeighbourState::Permanent;
    Some((message.header.ifindex, address, link_address(message)?)).filter(|_| permanent)
}

/// A link address that was fixed to a port of a bridge.
fn port_address(message: &NeighbourMessage) -> Option<(u32, Mac)> {
    let of_bridge = message.attributes.iter().any(|a| matches!(a, NeighbourAttribute::Controller(_)));
    let fixed = of_bridge && message.header.state == STATIC;
    Some((message.header.ifindex, link_address(message)?)).filter(|_| fixed)
}

fn link_address(message: &NeighbourMessage) -> Option<Mac> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => mac(bytes),
        _ => None,
    })
}

fn mac(bytes: &[u8]) -> Option<Mac> {
    bytes.try_into().map(Mac).ok()
}
