//! The network device (virtio 1.2, 5.1): an Ethernet link.
//!
//! Packets go between the rings and a [`Link`] (a TAP) without being copied here: a packet is read into
//! the guest's buffers, and written from them, by one system call each. Checksums and segmentation are
//! left to whoever needs them: both sides speak of them in the 12-byte header that every packet begins
//! with, which the kernel understands too.
//!
//! ```text
//! session.rs   the interface at work: whose turn it is, and what the driver sends
//! receive.rs   from the link to the guest, into buffers that the driver posted
//! control.rs   what a driver asks on the control queue: how many pairs it uses
//! carried.rs   packets that the host's kernel carries itself
//! ```
//!
//! A pair of queues, one each way, is for one vCPU: the guest's processors need not wait for each other, and
//! hear of packets themselves. One thread serves all pairs: they share their limits, and a machine's devices
//! share one processor besides its vCPUs.

mod carried;
mod control;
mod receive;
mod session;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use self::session::Session;
use super::device::{Active, Device, Kind, Stop};
use super::queue::{Broken, Ring};
use crate::limits::{Limiter, Limits};
use crate::memory::{Memory, Piece};

/// Bytes of the header (5.1.6, `struct virtio_net_hdr`, with `num_buffers`).
pub const HEADER: usize = 12;
/// The largest packet with its header: 64 KiB of segments and an Ethernet header with a VLAN tag.
pub const MOST: usize = HEADER + 18 + 65535;
/// Pieces that one packet may have; more than a system call takes (`IOV_MAX`) is refused.
pub const MOST_PIECES: usize = 1024;
/// An Ethernet header with a VLAN tag.
const LINK_HEADER: usize = 18;
/// The largest packet where the host says nothing about it.
const DEFAULT_MTU: u16 = 1500;
/// Pairs of queues that an interface has at most.
pub const MOST_PAIRS: usize = 8;

/// What a packet from the link may leave to the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// The guest computes missing checksums, or does without.
    pub checksum: bool,
    /// It takes large TCP segments over IPv4,
    pub tcp4: bool,
    /// over IPv6,
    pub tcp6: bool,
    /// and with congestion notification.
    pub ecn: bool,
    /// It takes several UDP packets of a flow as one, over IPv4
    pub udp4: bool,
    /// and over IPv6.
    pub udp6: bool,
}

/// The other end of the wire. Called on the device's thread; never blocks.
///
/// It has one queue or several, each both ways, counted from 0. The packets of a flow come by the queue that the flow's
/// last packet from the guest was sent by.
pub trait Link: Send + Sync {
    /// How many queues.
    fn queues(&self) -> usize;
    /// What becomes readable when a packet waits in a queue.
    fn event(&self, queue: usize) -> RawFd;
    /// Reads one packet out of a queue, header first; its length. `WouldBlock` when there is none. What does not fit is
    /// lost.
    fn receive(&self, queue: usize, into: &[Piece<'_>]) -> io::Result<usize>;
    /// Writes one packet by a queue, header first.
    fn send(&self, queue: usize, from: &[Piece<'_>]) -> io::Result<()>;
    /// Whether it cuts large UDP packets into small ones, and puts them together: not every host's kernel does.
    fn segments_udp(&self) -> bool;
    /// Says what packets to come may leave to the guest.
    fn set_offloads(&self, offloads: Offloads) -> io::Result<()>;
    /// Whether the host's kernel can carry packets between rings and link by itself. The other three are called only then.
    fn carries(&self) -> bool {
        false
    }
    /// Has it carry a queue's packets to the first ring and from the second, which are nobody else's until
    /// [`Self::carry_no_more`]. `features` are those that the driver agreed on.
    fn carry(&self, _queue: usize, _memory: &Memory, _features: u64, _rings: [&Ring; 2]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// What becomes readable, as an edge, when it has used buffers of one of a queue's rings.
    fn carried(&self, _queue: usize, _way: Way) -> RawFd {
        -1
    }
    /// Ends that; the next request of each ring.
    fn carry_no_more(&self, _queue: usize) -> io::Result<[u16; 2]> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A direction, as the guest sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the guest.
    In,
    /// From the guest.
    Out,
}

impl Way {
    /// Both, as a pair has its queues.
    pub const BOTH: [Self; 2] = [Self::In, Self::Out];
}

/// Feature bits (5.1.3; those of UDP's segmentation came with virtio 1.3).
mod feature {
    pub(super) const CSUM: u32 = 0;
    pub(super) const GUEST_CSUM: u32 = 1;
    pub(super) const MTU: u32 = 3;
    pub(super) const MAC: u32 = 5;
    pub(super) const GUEST_TSO4: u32 = 7;
    pub(super) const GUEST_TSO6: u32 = 8;
    pub(super) const GUEST_ECN: u32 = 9;
    pub(super) const HOST_TSO4: u32 = 11;
    pub(super) const HOST_TSO6: u32 = 12;
    pub(super) const HOST_ECN: u32 = 13;
    pub(super) const MRG_RXBUF: u32 = 15;
    pub(super) const STATUS: u32 = 16;
    pub(super) const CTRL_VQ: u32 = 17;
    pub(super) const MQ: u32 = 22;
    pub(super) const GUEST_USO4: u32 = 54;
    pub(super) const GUEST_USO6: u32 = 55;
    pub(super) const HOST_USO: u32 = 56;
}

const OFFERED: [u32; 12] = [
    feature::CSUM,
    feature::GUEST_CSUM,
    feature::MTU,
    feature::MAC,
    feature::GUEST_TSO4,
    feature::GUEST_TSO6,
    feature::GUEST_ECN,
    feature::HOST_TSO4,
    feature::HOST_TSO6,
    feature::HOST_ECN,
    feature::MRG_RXBUF,
    feature::STATUS,
];
/// Where the link segments UDP.
const OFFERED_WITH_UDP: [u32; 3] = [feature::GUEST_USO4, feature::GUEST_USO6, feature::HOST_USO];
/// Where there are several pairs.
const OFFERED_WITH_PAIRS: [u32; 2] = [feature::CTRL_VQ, feature::MQ];

/// Bit of the configuration's status.
const LINK_UP: u16 = 1;
/// Of each pair's queues: the first receives, the second transmits (5.1.2).
const QUEUE_SIZE: u16 = 256;
const CONTROL_SIZE: u16 = 64;
/// Packets in one direction before the other has its turn.
const TURN: usize = 64;

/// How much may pass, counted in each direction by itself.
pub struct Traffic {
    /// From the guest.
    sent: Limiter,
    /// To the guest; what waits too long is lost in the host.
    received: Limiter,
}

impl Traffic {
    /// With the same limits in both directions.
    pub fn new(limits: Limits) -> io::Result<Self> {
        Ok(Self { sent: Limiter::new(limits)?, received: Limiter::new(limits)? })
    }

    /// What holds now in each direction.
    pub fn limits(&self) -> Limits {
        self.sent.limits()
    }

    /// Sets other limits.
    pub fn change(&self, limits: Limits) {
        self.sent.change(limits);
        self.received.change(limits);
    }
}

/// A network interface.
pub struct Net {
    link: Arc<dyn Link>,
    traffic: Arc<Traffic>,
    mac: [u8; 6],
    mtu: u16,
    pairs: usize,
}

impl Net {
    /// An interface on `link`, with a pair of queues for each of the link's, up to [`MOST_PAIRS`]; `mtu` is its largest
    /// packet in bytes, without link header.
    pub fn new(link: Arc<dyn Link>, traffic: Arc<Traffic>, mac: [u8; 6], mtu: u16) -> Self {
        let pairs = link.queues().clamp(1, MOST_PAIRS);
        Self { link, traffic, mac, mtu, pairs }
    }

    /// Room that is needed before a packet is read from the link.
    fn largest(&self, active: &Active) -> usize {
        let large = [feature::GUEST_TSO4, feature::GUEST_TSO6, feature::GUEST_USO4, feature::GUEST_USO6];
        if large.into_iter().any(|bit| active.has(bit)) {
            MOST
        } else {
            HEADER + LINK_HEADER + usize::from(self.mtu.max(DEFAULT_MTU))
        }
    }
}

impl Device for Net {
    fn kind(&self) -> Kind {
        Kind { id: 1, class: 0x02_00_00, name: "nic" }
    }

    fn features(&self) -> u64 {
        let with_udp = OFFERED_WITH_UDP.iter().filter(|_| self.link.segments_udp());
        let with_pairs = OFFERED_WITH_PAIRS.iter().filter(|_| self.pairs > 1);
        OFFERED.iter().chain(with_udp).chain(with_pairs).fold(0, |bits, bit| bits | 1 << bit)
    }

    fn queue_sizes(&self) -> Vec<u16> {
        let control = (self.pairs > 1).then_some(CONTROL_SIZE);
        std::iter::repeat_n(QUEUE_SIZE, 2 * self.pairs).chain(control).collect()
    }

    /// `struct virtio_net_config` (5.1.4), up to the MTU.
    fn config(&self) -> Vec<u8> {
        let pairs = u16::try_from(self.pairs).unwrap_or(1);
        let words = [LINK_UP, pairs, self.mtu].map(u16::to_le_bytes);
        [&self.mac[..], words.as_flattened()].concat()
    }

    fn run(&mut self, active: &mut Active, stop: &Stop) -> Result<(), Broken> {
        let offloads = Offloads {
            checksum: active.has(feature::GUEST_CSUM),
            tcp4: active.has(feature::GUEST_TSO4),
            tcp6: active.has(feature::GUEST_TSO6),
            ecn: active.has(feature::GUEST_ECN),
            udp4: active.has(feature::GUEST_USO4),
            udp6: active.has(feature::GUEST_USO6),
        };
        self.link
            .set_offloads(offloads)
            .map_err(|_| Broken("the host's end of the link refused its offloads"))?;
        Session::new(self, active).work(stop)
    }
}

/// Bytes of a packet that travel: without the header that only the two sides of the device know.
fn payload(len: usize) -> u64 {
    u64::try_from(len.saturating_sub(HEADER)).unwrap_or(u64::MAX)
}
