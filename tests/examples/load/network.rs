//! A network at work: bytes over TCP, small packets over UDP, both ways.
//!
//! Small packets go in groups, and the next group only when the other side has had the last, so that nobody's queue runs over:
//! each packet that is counted has arrived.
#![allow(unsafe_code, reason = "the ioctls that set an interface up")]

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

const GUEST: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
/// Where the peer reads all that comes, says a byte when it has, and closes.
const SINK: u16 = 7001;
/// Where it sends as many KiB as a line asks for.
const SOURCE: u16 = 7002;
/// Where it takes packets, of which the first byte says what to do.
const PACKETS: u16 = 7003;
/// Nothing.
const COUNT: u8 = b'c';
/// Send it back.
const ECHO: u8 = b'e';
/// Send a group.
const GROUP: u8 = b'g';
/// Packets of a group: fewer than any queue on the way has room for.
const OF_GROUP: u64 = 64;
/// With the headers of UDP, IPv4 and Ethernet, the smallest frame that there is (60 bytes).
const SMALL: usize = 18;
const PATIENCE: Duration = Duration::from_secs(60);
const KIB: u64 = 1 << 10;

/// What a guest does.
pub(crate) fn work(interface: &str) -> io::Result<()> {
    set_up(interface)?;
    let socket = UdpSocket::bind((GUEST, 0))?;
    socket.connect((PEER, PACKETS))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // What is done for the first time only, as asking who has the address, is done before.
    round_trips(&socket, 32)?;
    send_bytes(KIB)?;
    receive_bytes(KIB)?;
    let kib = 16 * KIB;
    super::measure("tcp-out", "KiB", kib, || send_bytes(kib))?;
    super::measure("tcp-in", "KiB", kib, || receive_bytes(kib))?;
    let groups = 40;
    super::measure("packets-out", "packet", groups * OF_GROUP, || send_groups(&socket, groups))?;
    super::measure("packets-in", "packet", groups * OF_GROUP, || receive_groups(&socket, groups))?;
    super::measure("round-trip", "packet", 800, || round_trips(&socket, 800))
}

fn send_bytes(kib: u64) -> io::Result<()> {
    let mut stream = TcpStream::connect((PEER, SINK))?;
    let chunk = vec![7; 64 << 10];
    let mut left = kib * KIB;
    while left > 0 {
        let len = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        stream.write_all(&chunk[..len])?;
        left -= len as u64;
    }
    stream.shutdown(Shutdown::Write)?;
    stream.read_exact(&mut [0])
}

fn receive_bytes(kib: u64) -> io::Result<()> {
    let mut stream = TcpStream::connect((PEER, SOURCE))?;
    stream.write_all(&kib.to_le_bytes())?;
    let came = swallow(&mut stream)?;
    if came == kib * KIB { Ok(()) } else { Err(io::Error::other(format!("{came} bytes of {kib} KiB came"))) }
}

fn send_groups(socket: &UdpSocket, groups: u64) -> io::Result<()> {
    for _ in 0..groups {
        for _ in 1..OF_GROUP {
            socket.send(&[COUNT; SMALL])?;
        }
        round_trips(socket, 1)?;
    }
    Ok(())
}

fn receive_groups(socket: &UdpSocket, groups: u64) -> io::Result<()> {
    for _ in 0..groups {
        socket.send(&[GROUP; SMALL])?;
        for _ in 0..OF_GROUP {
            socket.recv(&mut [0; SMALL])?;
        }
    }
    Ok(())
}

fn round_trips(socket: &UdpSocket, count: u64) -> io::Result<()> {
    for _ in 0..count {
        socket.send(&[ECHO; SMALL])?;
        socket.recv(&mut [0; SMALL])?;
    }
    Ok(())
}

/// Reads to the end; how many bytes.
fn swallow(stream: &mut TcpStream) -> io::Result<u64> {
    let mut chunk = vec![0; 256 << 10];
    let mut came = 0;
    loop {
        match stream.read(&mut chunk)? {
            0 => return Ok(came),
            len => came += len as u64,
        }
    }
}

/// What the host does, for one guest after the other, to no end. A guest that breaks off is of no concern to the next.
pub(crate) fn peer() -> io::Result<()> {
    let sink = TcpListener::bind((PEER, SINK))?;
    let source = TcpListener::bind((PEER, SOURCE))?;
    let packets = UdpSocket::bind((PEER, PACKETS))?;
    thread::spawn(move || serve(&sink, |stream| swallow(stream).and_then(|_| stream.write_all(b"."))));
    thread::spawn(move || serve(&source, give_bytes));
    loop {
        let mut packet = [0; SMALL];
        let (_, guest) = packets.recv_from(&mut packet)?;
        let _ = answer(&packets, &packet, guest);
    }
}

fn serve(listener: &TcpListener, what: impl Fn(&mut TcpStream) -> io::Result<()>) {
    for mut stream in listener.incoming().flatten() {
        let _ = what(&mut stream);
    }
}

fn give_bytes(stream: &mut TcpStream) -> io::Result<()> {
    let mut kib = [0; 8];
    stream.read_exact(&mut kib)?;
    let chunk = vec![7; 64 << 10];
    let mut left = u64::from_le_bytes(kib) * KIB;
    while left > 0 {
        let len = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        stream.write_all(&chunk[..len])?;
        left -= len as u64;
    }
    Ok(())
}

fn answer(socket: &UdpSocket, packet: &[u8; SMALL], guest: SocketAddr) -> io::Result<()> {
    let count = match packet[0] {
        ECHO => 1,
        GROUP => OF_GROUP,
        _ => 0,
    };
    for _ in 0..count {
        socket.send_to(packet, guest)?;
    }
    Ok(())
}

/// Gives the guest's interface its address, and sets it up (netdevice(7)).
fn set_up(interface: &str) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let call = |number: libc::Ioctl, fill: &dyn Fn(&mut libc::ifreq)| {
        // SAFETY: all of it is numbers, of which zero is one.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (place, byte) in request.ifr_name.iter_mut().zip(interface.bytes()) {
            *place = libc::c_char::from_ne_bytes([byte]);
        }
        fill(&mut request);
        // SAFETY: the kernel reads one `ifreq`, ours.
        super::check(unsafe { libc::ioctl(socket.as_raw_fd(), number, &raw const request) })
    };
    let address = |address: Ipv4Addr| {
        move |request: &mut libc::ifreq| {
            let mut bytes = [0; 14];
            bytes[2..6].copy_from_slice(&address.octets());
            // `struct sockaddr_in` in its general form: a port of zero, the address, zeros.
            let data = bytes.map(|byte| libc::c_char::from_ne_bytes([byte]));
            let family = libc::sa_family_t::try_from(libc::AF_INET).unwrap_or_default();
            request.ifr_ifru.ifru_addr = libc::sockaddr { sa_family: family, sa_data: data };
        }
    };
    call(libc::SIOCSIFADDR, &address(GUEST))?;
    call(libc::SIOCSIFNETMASK, &address(MASK))?;
    call(libc::SIOCSIFFLAGS, &|request| {
        request.ifr_ifru.ifru_flags =
            libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or_default();
    })
}
