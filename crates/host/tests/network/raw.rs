//! A guest that speaks in single frames, true or forged, at a TAP's far side.

use std::fs::File;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use host::linux::network::Networks;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use spec::machine::Mac;
use spec::network::Interface;

pub(crate) const BROADCAST: Mac = Mac([0xff; 6]);
/// How long to wait for what must come. It always comes much earlier, or never.
const PATIENCE: Duration = Duration::from_secs(20);
/// The header before each frame (virtio 1.2, 5.1.6; without a number of buffers).
const VNET_HEADER: usize = 10;

/// One end of an Ethernet cable.
pub(crate) struct RawGuest {
    pub(crate) mac: Mac,
    pub(crate) address: Ipv4Addr,
    tap: File,
    frames: Receiver<Vec<u8>>,
}

/// What a frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Arp { operation: u8, sender_mac: Mac, sender: Ipv4Addr, target: Ipv4Addr },
    Udp { from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), data: Vec<u8> },
    Tcp { from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), flags: u8 },
    Icmp { from: Ipv4Addr, kind: u8, code: u8 },
    OtherIp { from: Ipv4Addr, protocol: u8 },
    Other(u16),
}

/// Opens an interface's TAP for blocking reads.
pub(crate) fn open_tap(networks: &Networks, interface: &Interface) -> File {
    let tap = File::from(networks.open_tap(interface.vpc, interface.id, 1).unwrap().remove(0));
    fcntl(&tap, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    tap
}

impl RawGuest {
    /// Plugs into an interface.
    pub(crate) fn new(networks: &Networks, interface: &Interface) -> Self {
        let tap = open_tap(networks, interface);
        let (sender, frames) = channel();
        let mut reader = tap.try_clone().unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(length) = reader.read(&mut buffer) {
                if sender.send(buffer[VNET_HEADER.min(length)..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        let guest = Self { mac: interface.mac, address: interface.addresses[0], tap, frames };
        guest.wait_for_link();
        guest
    }

    /// The kernel takes up to a second to notice that a TAP was opened, and until then loses its frames.
    fn wait_for_link(&self) {
        let [a, b, c, _] = self.address.octets();
        let [router, resolver] = [1, 2].map(|host| Ipv4Addr::new(a, b, c, host));
        let deadline = Instant::now() + PATIENCE;
        while self.frames.try_iter().next().is_none() {
            assert!(Instant::now() < deadline, "the router does not answer {}", self.address);
            self.send(&arp_request(self.mac, self.mac, self.address, router));
            thread::sleep(Duration::from_millis(20));
        }
        self.arp(resolver); // its answer comes after all others
    }

    /// Sends a frame, whatever it says.
    pub(crate) fn send(&self, frame: &[u8]) {
        let bytes = [&[0; VNET_HEADER], frame].concat();
        (&self.tap).write_all(&bytes).unwrap();
    }

    /// Sends an IPv4 packet under its own addresses, by way of the router.
    pub(crate) fn send_ip(&self, router: Mac, to: Ipv4Addr, protocol: u8, payload: &[u8]) {
        self.send(&ethernet(router, self.mac, 0x0800, &ipv4(self.address, to, protocol, payload)));
    }

    pub(crate) fn send_udp(&self, router: Mac, to: Ipv4Addr, port: u16, data: &[u8]) {
        self.send_ip(router, to, 17, &udp((self.address, 4000), (to, port), data));
    }

    /// Asks who has an address, and returns who answers.
    pub(crate) fn arp(&self, target: Ipv4Addr) -> Mac {
        self.send(&arp_request(self.mac, self.mac, self.address, target));
        self.wait_for(|seen| match seen {
            Seen::Arp { operation: 2, sender_mac, sender, .. } if *sender == target => Some(*sender_mac),
            _ => None,
        })
    }

    /// The next frame, answers to ARP aside.
    pub(crate) fn next(&self) -> Seen {
        self.wait_for(|seen| (!is_arp_answer(seen)).then(|| seen.clone()))
    }

    /// The first frame from now on that is what is wanted; others are passed over.
    pub(crate) fn wait_for<T>(&self, wanted: impl Fn(&Seen) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.frames.recv_timeout(left) {
                Ok(frame) => {
                    if let Some(found) = wanted(&read(&frame)) {
                        return found;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("{} waited in vain", self.address),
                Err(RecvTimeoutError::Disconnected) => panic!("the TAP of {} is gone", self.address),
            }
        }
    }

    /// Whatever has come and was not looked at, answers to ARP aside.
    pub(crate) fn leftovers(&self) -> Vec<Seen> {
        self.frames.try_iter().map(|frame| read(&frame)).filter(|seen| !is_arp_answer(seen)).collect()
    }
}

fn is_arp_answer(seen: &Seen) -> bool {
    matches!(seen, Seen::Arp { operation: 2, .. })
}

pub(crate) fn ethernet(to: Mac, from: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to.0[..], &from.0, &kind.to_be_bytes(), payload].concat()
}

pub(crate) fn arp_request(from: Mac, sender_mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let header = [0, 1, 8, 0, 6, 4, 0, 1];
    let body = [&header[..], &sender_mac.0, &sender.octets(), &[0; 6], &target.octets()].concat();
    ethernet(BROADCAST, from, 0x0806, &body)
}

pub(crate) fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let mut header = vec![0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, protocol, 0, 0];
    header.extend(from.octets());
    header.extend(to.octets());
    let sum = checksum(&header).to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    [header, payload.to_vec()].concat()
}

pub(crate) fn udp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + data.len()).unwrap();
    let mut bytes =
        [&from.1.to_be_bytes()[..], &to.1.to_be_bytes(), &length.to_be_bytes(), &[0, 0], data].concat();
    let sum = transport_checksum(from.0, to.0, 17, &bytes);
    bytes[6..8].copy_from_slice(&sum);
    bytes
}

pub(crate) fn tcp_syn(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16)) -> Vec<u8> {
    let mut bytes =
        [&from.1.to_be_bytes()[..], &to.1.to_be_bytes(), &[0; 8], &[0x50, 0x02, 0x10, 0, 0, 0, 0, 0]]
            .concat();
    let sum = transport_checksum(from.0, to.0, 6, &bytes);
    bytes[16..18].copy_from_slice(&sum);
    bytes
}

pub(crate) fn icmp(kind: u8, code: u8) -> Vec<u8> {
    let mut bytes = vec![kind, code, 0, 0, 0, 7, 0, 1];
    let sum = checksum(&bytes).to_be_bytes();
    bytes[2..4].copy_from_slice(&sum);
    bytes
}

fn transport_checksum(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, segment: &[u8]) -> [u8; 2] {
    let length = u16::try_from(segment.len()).unwrap().to_be_bytes();
    let pseudo = [&from.octets()[..], &to.octets(), &[0, protocol], &length, segment].concat();
    checksum(&pseudo).to_be_bytes()
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap()
}

fn read(frame: &[u8]) -> Seen {
    let address = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).unwrap());
    let short = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    match short(12) {
        0x0806 => Seen::Arp {
            operation: frame[21],
            sender_mac: Mac(frame[22..28].try_into().unwrap()),
            sender: address(28),
            target: address(38),
        },
        0x0800 => {
            let (from, to, body) = (address(26), address(30), 14 + usize::from(frame[14] & 15) * 4);
            let ports = || ((from, short(body)), (to, short(body + 2)));
            match frame[23] {
                1 => Seen::Icmp { from, kind: frame[body], code: frame[body + 1] },
                6 => Seen::Tcp { from: ports().0, to: ports().1, flags: frame[body + 13] },
                17 => Seen::Udp {
                    from: ports().0,
                    to: ports().1,
                    data: frame[body + 8..14 + usize::from(short(16))].to_vec(),
                },
                protocol => Seen::OtherIp { from, protocol },
            }
        }
        kind => Seen::Other(kind),
    }
}
