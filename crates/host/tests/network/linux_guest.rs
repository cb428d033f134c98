//! A guest with Linux's own network stack: a namespace with a TAP whose frames are carried by hand to and
//! from the interface's TAP.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use host::linux::network::Networks;
use host::linux::sys::netns::Namespace;
use host::linux::sys::tap;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use spec::network::Interface;

use crate::raw::open_tap;
use crate::world::sh;

/// How long to wait for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// How long to wait for what must not come.
const IMPATIENCE: Duration = Duration::from_millis(400);

pub(crate) struct LinuxGuest {
    pub(crate) address: Ipv4Addr,
    namespace: Namespace,
}

impl LinuxGuest {
    /// Plugs into an interface, and configures itself as DHCP would.
    pub(crate) fn new(networks: &Networks, interface: &Interface) -> Self {
        let address = interface.addresses[0];
        let [a, b, c, _] = address.octets();
        let namespace = Namespace::unnamed().unwrap();
        let outer = open_tap(networks, interface);
        let inner = namespace.run(|| {
            tap::create("eth0", false).unwrap();
            sh(&format!(
                "ip link set lo up; ip link set eth0 address {}; ip address add {address}/24 dev eth0
                 echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6
                 ip link set eth0 up; ip route add default via {a}.{b}.{c}.1",
                interface.mac
            ));
            tap::open("eth0", 1).unwrap().remove(0)
        });
        let inner = File::from(inner.unwrap());
        fcntl(&inner, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        carry(inner.try_clone().unwrap(), outer.try_clone().unwrap());
        carry(outer, inner);
        let guest = Self { address, namespace };
        guest.wait_for_link();
        guest
    }

    /// See the raw guest's: until the link is noticed, frames are lost.
    fn wait_for_link(&self) {
        let deadline = Instant::now() + PATIENCE;
        let known = || self.run(|| sh("ip neighbour show dev eth0")).contains("lladdr");
        let [a, b, c, _] = self.address.octets();
        let socket = self.udp(1);
        while !known() {
            assert!(Instant::now() < deadline, "the router does not answer {}", self.address);
            socket.send_to(b"", (Ipv4Addr::new(a, b, c, 1), 9)).unwrap();
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Does something inside the guest.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.namespace.run(work).unwrap()
    }

    /// Listens on a TCP port and answers each connection with the address it came from.
    pub(crate) fn serve_tcp(&self, port: u16) {
        let listener = self.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
        serve(listener);
    }

    /// See [`ask`].
    pub(crate) fn ask_tcp(&self, to: Ipv4Addr, port: u16) -> Ipv4Addr {
        self.run(|| ask(to, port))
    }

    /// See [`reaches`].
    pub(crate) fn reaches(&self, to: Ipv4Addr, port: u16) -> bool {
        self.run(|| reaches(to, port))
    }

    pub(crate) fn udp(&self, port: u16) -> UdpSocket {
        self.run(|| UdpSocket::bind((self.address, port)).unwrap())
    }
}

impl Drop for LinuxGuest {
    fn drop(&mut self) {
        self.run(|| sh("ip link del eth0")); // ends the carriers
    }
}

/// Answers each connection with the address it came from, for as long as the test's process lives.
pub(crate) fn serve(listener: TcpListener) {
    thread::spawn(move || {
        while let Ok((mut connection, peer)) = listener.accept() {
            let SocketAddr::V4(peer) = peer else { continue };
            let _ = connection.write_all(&peer.ip().octets());
        }
    });
}

/// Connects from the calling thread's namespace, and returns whom the server sees.
pub(crate) fn ask(to: Ipv4Addr, port: u16) -> Ipv4Addr {
    let connection = TcpStream::connect_timeout(&(to, port).into(), PATIENCE);
    let mut connection =
        connection.unwrap_or_else(|error| panic!("{to} port {port} cannot be reached: {error}"));
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = [0; 4];
    connection.read_exact(&mut answer).unwrap();
    answer.into()
}

/// Whether a connection from the calling thread's namespace is made, for those that should not be.
pub(crate) fn reaches(to: Ipv4Addr, port: u16) -> bool {
    TcpStream::connect_timeout(&(to, port).into(), IMPATIENCE).is_ok()
}

/// Carries frames, with their headers, until one side is gone.
fn carry(mut from: File, mut to: File) {
    thread::spawn(move || {
        let mut buffer = [0; 65600];
        while let Ok(length) = from.read(&mut buffer) {
            let _ = to.write_all(&buffer[..length]); // a link that is down loses frames, like any cable
        }
    });
}
