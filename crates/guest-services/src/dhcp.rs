//! DHCP for IPv4 (RFC 2131): tells an interface the one address that is its own.
//!
//! There is nothing to allocate and nothing to remember: the address was settled when the interface was
//! made. So DISCOVER and REQUEST are looked up, RELEASE and DECLINE change nothing and get no answer.
//!
//! A client is known by the link address in its message. That is a claim; what makes it safe is that an
//! answer goes to the interface with that link address (the host holds a permanent neighbour entry for
//! each). Only a refusal, and what is sent to a client that asks for broadcast, is heard by the whole
//! subnet: an address and how to leave the subnet, no secret to a neighbour.

mod message;

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::names;
use crate::view::InterfaceView;
use message::{Answer, Request, code, kind};

/// Where servers listen.
pub const SERVER_PORT: u16 = 67;
/// Where clients listen.
pub const CLIENT_PORT: u16 = 68;

/// The most servers of one kind that an answer names; EC2's DHCP options hold no more.
const MOST_SERVERS: usize = 4;

/// An answer, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The message.
    pub bytes: Vec<u8>,
    /// Its destination. Broadcast means: on the subnet that the request came from.
    pub to: SocketAddrV4,
}

/// Answers a message that came from the address `source`; `find` knows interfaces by link address.
/// Most of what is not answered is none of our business: other servers' clients, relays, strangers.
pub fn answer<'a>(
    message: &[u8],
    source: Ipv4Addr,
    find: impl FnOnce([u8; 6]) -> Option<&'a InterfaceView>,
) -> Option<Reply> {
    let request = Request::parse(message)?;
    let interface = find(request.mac)?;
    if !source.is_unspecified() && source != interface.address {
        return None;
    }
    match request.kind {
        kind::DISCOVER => Some(lease(&request, interface, kind::OFFER)),
        kind::REQUEST => requested(&request, interface),
        kind::INFORM => inform(&request, interface),
        _ => None,
    }
}

/// A client selects our offer, asks whether its old address still holds, or renews: in each case the
/// address it means must be its own (RFC 2131, 4.3.2).
fn requested(request: &Request<'_>, interface: &InterfaceView) -> Option<Reply> {
    if request.server.is_some_and(|server| server != interface.network.router) {
        return None;
    }
    let meant = request.requested.or(request.client)?;
    Some(if meant == interface.address {
        lease(request, interface, kind::ACK)
    } else {
        refusal(request, interface)
    })
}

/// OFFER or ACK with the address and a lease.
fn lease(request: &Request<'_>, interface: &InterfaceView, kind: u8) -> Reply {
    let network = &interface.network;
    let client = request.client.filter(|client| kind == kind::ACK && *client == interface.address);
    let mut answer = Answer::new(request, kind, network.router, client, Some(interface.address));
    let seconds = network.lease_seconds;
    answer.seconds(code::LEASE_TIME, seconds);
    // The times at which RFC 2131, 4.4.5 has a client renew and rebind anyhow.
    answer.seconds(code::RENEWAL_TIME, seconds / 2);
    answer.seconds(code::REBINDING_TIME, seconds - seconds / 8);
    add_configuration(&mut answer, request, interface);
    // A client that has its address already takes what is sent there, whatever it says of itself. Where
    // else it claims to be does not count: answers would go to strangers.
    let deaf = client.is_none() && request.wants_broadcast();
    let to = if deaf { Ipv4Addr::BROADCAST } else { interface.address };
    reply(answer, to)
}

/// ACK to a client that has its address and wants the rest. It must not speak of a lease (RFC 2131, 4.3.5).
fn inform(request: &Request<'_>, interface: &InterfaceView) -> Option<Reply> {
    let client = request.client.filter(|client| *client == interface.address)?;
    let mut answer = Answer::new(request, kind::ACK, interface.network.router, Some(client), None);
    add_configuration(&mut answer, request, interface);
    Some(reply(answer, client))
}

/// NAK: the client must begin anew. All hear it, since an address the client may have is not its own.
fn refusal(request: &Request<'_>, interface: &InterfaceView) -> Reply {
    let answer = Answer::new(request, kind::NAK, interface.network.router, None, None);
    reply(answer, Ipv4Addr::BROADCAST)
}

/// What the interface's network is like. The first four are for every client, the rest for those that
/// ask (RFC 2131, 4.3.1).
fn add_configuration(answer: &mut Answer, request: &Request<'_>, interface: &InterfaceView) {
    let network = &interface.network;
    let subnet = interface.subnet_cidr;
    answer.addresses(code::SUBNET_MASK, &[subnet.netmask()]);
    answer.addresses(code::ROUTER, &[network.router]);
    answer.addresses(code::DOMAIN_NAME_SERVER, first(&network.dns_servers));
    answer.option(code::DOMAIN_NAME, network.domain_name.as_bytes());

    let mut if_wanted = |code: u8, value: &[u8]| {
        if request.wants(code) {
            answer.option(code, value);
        }
    };
    if_wanted(code::CLASSLESS_STATIC_ROUTE, &static_routes(network.router));
    if_wanted(code::HOST_NAME, names::private_host(interface.address).as_bytes());
    if_wanted(code::INTERFACE_MTU, &network.mtu.to_be_bytes());
    if_wanted(code::BROADCAST_ADDRESS, &subnet.broadcast().octets());
    let ntp_servers: Vec<u8> = first(&network.ntp_servers).iter().flat_map(Ipv4Addr::octets).collect();
    if_wanted(code::NTP_SERVERS, &ntp_servers);
}

/// The metadata service on the link itself, all else through the router. A client that knows this option
/// ignores the router option, so the default route is in it, too (RFC 3442).
fn static_routes(router: Ipv4Addr) -> Vec<u8> {
    let on_link = Ipv4Addr::UNSPECIFIED;
    let [a, b, c, d] = names::METADATA_ADDRESS.octets();
    let mut routes = vec![32, a, b, c, d];
    routes.extend(on_link.octets());
    routes.push(0);
    routes.extend(router.octets());
    routes
}

fn first(servers: &[Ipv4Addr]) -> &[Ipv4Addr] {
    servers.get(..MOST_SERVERS).unwrap_or(servers)
}

fn reply(answer: Answer, to: Ipv4Addr) -> Reply {
    Reply { bytes: answer.finish(), to: SocketAddrV4::new(to, CLIENT_PORT) }
}
