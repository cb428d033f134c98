//! Links, routes and neighbours as plain values, and what netlink says of them.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_core::Nla;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoBridgePort, InfoData, InfoPortData, InfoTun, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use spec::machine::Mac;

/// The largest packet on every link of ours, in bytes.
pub(super) const MTU: u32 = 1500;
/// The main routing table.
pub(super) const MAIN: u32 = 254;
/// `NUD_NOARP` in a bridge's table marks an address that stays at its port (`bridge fdb add … static`);
/// `NUD_PERMANENT` would make it an address of the bridge itself.
pub(super) const STATIC: NeighbourState = NeighbourState::Noarp;

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
    /// Of a TAP: whether somebody has it open.
    pub carrier: bool,
    /// Of a TAP: whether it can be opened several times, each time another queue.
    pub several_queues: bool,
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
            carrier: false,
            several_queues: false,
            bridge: None,
            isolated: false,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Address(bytes) => link.mac = mac(bytes),
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
                LinkAttribute::Carrier(carrier) => link.carrier = *carrier != 0,
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

    pub(super) fn is_tap(&self) -> bool {
        self.kind.as_deref() == Some("tun")
    }

    /// Whether it is an interface's port as it should be: up, and apart from the others.
    pub(super) fn is_port(&self) -> bool {
        self.up && self.isolated && self.mtu == MTU
    }

    fn read_infos(&mut self, infos: &[LinkInfo]) {
        for info in infos {
            match info {
                LinkInfo::Kind(kind) => self.kind = Some(kind.to_string()),
                LinkInfo::Data(InfoData::Tun(facts)) => {
                    self.several_queues = facts.iter().any(says_several_queues);
                }
                LinkInfo::PortData(InfoPortData::BridgePort(port)) => {
                    self.isolated = port.contains(&InfoBridgePort::Isolated(true));
                }
                _ => {}
            }
        }
    }
}

/// `IFLA_TUN_MULTI_QUEUE` of linux/if_link.h, one byte.
const TUN_MULTI_QUEUE: u16 = 7;

fn says_several_queues(fact: &InfoTun) -> bool {
    let mut value = [0];
    if fact.kind() == TUN_MULTI_QUEUE && fact.value_len() == value.len() {
        fact.emit_value(&mut value);
    }
    value != [0]
}

impl Route {
    /// Whether packets to an address go out by a link.
    pub(super) fn leads(&self, address: Ipv4Addr, by: u32) -> bool {
        self.destination == Ipv4Net::from(address) && matches!(self.way, Way::Via(_, link) if link == by)
    }

    /// The message that sets it or, of whatever scope, takes it away.
    pub(super) fn message(&self) -> RouteMessage {
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
pub(super) fn route(message: &RouteMessage) -> Option<Route> {
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
    /// The message that sets it or takes it away.
    pub(super) fn message(&self) -> RuleMessage {
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

/// An IPv4 address, and the index of its link.
pub(super) fn address(message: &AddressMessage) -> Option<(u32, Ipv4Net)> {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
        _ => None,
    })?;
    Some((message.header.index, Ipv4Net::new(address, message.header.prefix_len).ok()?))
}

/// A neighbour that was set for good, with the index of its link.
pub(super) fn neighbour(message: &NeighbourMessage) -> Option<(u32, Ipv4Addr, Mac)> {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(*address),
        _ => None,
    })?;
    let permanent = message.header.state == NeighbourState::Permanent;
    Some((message.header.ifindex, address, link_address(message)?)).filter(|_| permanent)
}

/// A link address that was fixed to a port of a bridge.
pub(super) fn port_address(message: &NeighbourMessage) -> Option<(u32, Mac)> {
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
