//! Sockets inside a VPC's namespace: those of its guests' services, and connections to guests.
//!
//! A socket belongs to the namespace of the thread that opened it and can be used from any other.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt};
use spec::names;
use spec::network::{Network, Subnet};

use crate::{Error, GuestSockets, METADATA_ADDRESS, SubnetSockets};

const HTTP: u16 = 80;
const DHCP: u16 = 67;
const DNS: u16 = 53;

/// Opens the sockets of a VPC's services, in the calling thread's namespace.
pub(super) fn open(network: &Network) -> Result<GuestSockets, Error> {
    let metadata = listen(METADATA_ADDRESS, HTTP)?;
    let subnets = network.subnets.iter().map(open_subnet).collect::<Result<_, _>>()?;
    Ok(GuestSockets { metadata, subnets })
}

fn open_subnet(subnet: &Subnet) -> Result<SubnetSockets, Error> {
    let bridge = names::bridge(subnet.id);
    let dhcp = dhcp(&bridge)
        .map_err(|error| Error::passing(format!("Could not open the DHCP socket on {bridge}"), error))?;
    let resolver = SocketAddrV4::new(subnet.resolver(), DNS);
    let dns = UdpSocket::bind(resolver).and_then(|socket| {
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    let dns = dns.map_err(|error| Error::passing(format!("Could not open UDP {resolver}"), error))?;
    Ok(SubnetSockets { subnet: subnet.id, dhcp, dns, dns_tcp: listen(subnet.resolver(), DNS)? })
}

fn listen(address: Ipv4Addr, port: u16) -> Result<TcpListener, Error> {
    let address = SocketAddrV4::new(address, port);
    let open = || {
        let listener = TcpListener::bind(address)?; // sets SO_REUSEADDR
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    open().map_err(|error: io::Error| Error::passing(format!("Could not listen on TCP {address}"), error))
}

/// Bound to the bridge before the port, so that each subnet has its own. Broadcasts are allowed: a guest may
/// ask for one.
fn dhcp(bridge: &str) -> io::Result<UdpSocket> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket: OwnedFd = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
    setsockopt(&socket, sockopt::BindToDevice, &bridge.into())?;
    setsockopt(&socket, sockopt::Broadcast, &true)?;
    bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, DHCP)))?;
    Ok(socket.into())
}

/// Connects to a guest, in the calling thread's namespace. The route to the guest's subnet has the router's
/// address there as its source.
pub(super) fn connect(to: SocketAddrV4, patience: Duration) -> Result<TcpStream, Error> {
    TcpStream::connect_timeout(&to.into(), patience)
        .map_err(|error| Error::passing(format!("Could not connect to {to}"), error))
}
