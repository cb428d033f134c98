//! The block device (virtio 1.2, 5.2): a disk.
//!
//! ```text
//! request.rs   what a driver asks, read off a chain: pure, trusting nothing
//! session.rs   the disk at work: requests off the rings, carried out as fast as the Limiter allows, and given back
//! engine.rs    whoever carries out many reads at a time, where the host has one (io_uring)
//! ```
//!
//! Everything can be done by the [`Backend`], one request at a time; an [`Engine`] only makes it faster. There are as
//! many queues as the machine has vCPUs, up to [`MOST_QUEUES`], and one thread for all of them, which takes from each in
//! turn.

mod engine;
pub mod request;
mod session;

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

pub use self::engine::{Engine, Read};
pub use self::session::MOST_UNDER_WAY;
use self::session::Session;
use super::device::{Active, Device, Kind, Stop, Wait};
use super::queue::Broken;
use crate::limits::Limiter;
use crate::memory::Piece;

/// Bytes of a sector, the unit of all numbers in requests.
pub const SECTOR: u64 = 512;
/// What a serial has at most, in bytes; the driver sees the rest as zeros.
pub const SERIAL_BYTES: usize = 20;

/// Where a disk's bytes are. Called on the disk's thread; may block. Offsets and lengths are in
/// bytes, whole sectors, and inside the disk's size.
pub trait Backend: Send + Sync {
    /// The disk's size in bytes.
    fn size(&self) -> u64;
    /// Fills the pieces with what is at `offset`.
    fn read(&self, offset: u64, into: &[Piece<'_>]) -> io::Result<()>;
    /// Writes the pieces to `offset`. On stable storage only after [`Self::flush`].
    fn write(&self, offset: u64, from: &[Piece<'_>]) -> io::Result<()>;
    /// Puts everything written so far on stable storage.
    fn flush(&self) -> io::Result<()>;
    /// The guest no longer needs what is there.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()>;
    /// What is there shall read as zeros; `release` allows to give the room back.
    fn write_zeroes(&self, offset: u64, len: u64, release: bool) -> io::Result<()>;
}

/// A disk as its driver sees it.
struct Face {
    backend: Arc<dyn Backend>,
    limiter: Arc<Limiter>,
    serial: [u8; SERIAL_BYTES],
    read_only: bool,
    queues: u16,
}

/// A disk.
pub struct Block {
    face: Face,
    engine: Option<Box<dyn Engine>>,
}

/// Feature bits (5.2.3).
mod feature {
    pub(super) const SEG_MAX: u32 = 2;
    pub(super) const RO: u32 = 5;
    pub(super) const BLK_SIZE: u32 = 6;
    pub(super) const FLUSH: u32 = 9;
    pub(super) const TOPOLOGY: u32 = 10;
    pub(super) const MQ: u32 = 12;
    pub(super) const DISCARD: u32 = 13;
    pub(super) const WRITE_ZEROES: u32 = 14;
}

/// Status bytes (5.2.6).
const STATUS_OK: u8 = 0;
const STATUS_IO_ERROR: u8 = 1;
const STATUS_UNSUPPORTED: u8 = 2;

const QUEUE_SIZE: u16 = 256;
/// Queues that a disk has at most.
pub const MOST_QUEUES: u16 = 16;
/// Sectors that one range of write-zeroes may have: 32 MiB, so that a backend that has to write them ends
/// soon.
const MOST_ZEROES: u32 = 65536;
/// Physical blocks are 4096 bytes: 2^3 sectors. Drivers align to them.
const SECTORS_PER_BLOCK_EXPONENT: u8 = 3;

impl Block {
    /// A disk with this backend and serial (its first 20 bytes), with one to [`MOST_QUEUES`] queues.
    pub fn new(
        backend: Arc<dyn Backend>,
        limiter: Arc<Limiter>,
        serial: &str,
        read_only: bool,
        queues: u16,
    ) -> Self {
        let mut bytes = [0; SERIAL_BYTES];
        let len = serial.len().min(SERIAL_BYTES);
        bytes[..len].copy_from_slice(&serial.as_bytes()[..len]);
        let queues = queues.clamp(1, MOST_QUEUES);
        Self { face: Face { backend, limiter, serial: bytes, read_only, queues }, engine: None }
    }

    /// The same disk with an engine for its reads, if there is one.
    pub fn with_engine(self, engine: Option<Box<dyn Engine>>) -> Self {
        Self { engine, ..self }
    }
}

impl Device for Block {
    fn kind(&self) -> Kind {
        Kind { id: 2, class: 0x01_00_00, name: "disk" }
    }

    fn features(&self) -> u64 {
        use feature::{BLK_SIZE, DISCARD, FLUSH, MQ, RO, SEG_MAX, TOPOLOGY, WRITE_ZEROES};
        let changing = if self.face.read_only { 1 << RO } else { 1 << DISCARD | 1 << WRITE_ZEROES };
        let several = if self.face.queues > 1 { 1 << MQ } else { 0 };
        changing | several | 1 << SEG_MAX | 1 << BLK_SIZE | 1 << FLUSH | 1 << TOPOLOGY
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; usize::from(self.face.queues)]
    }

    fn config(&self) -> Vec<u8> {
        config(self.face.backend.size(), self.face.queues)
    }

    fn run(&mut self, active: &mut Active, stop: &Stop) -> Result<(), Broken> {
        let write_through = !active.has(feature::FLUSH);
        let Active { memory, rings, .. } = active;
        let mut sources = vec![self.face.limiter.event()];
        sources.extend(rings.iter().flatten().map(|ring| ring.bell.as_raw_fd()));
        sources.extend(self.engine.iter().map(|engine| engine.event()));
        let wait = Wait::new(stop, &sources)?;
        let mut session = Session::new(&self.face, self.engine.as_mut(), memory, write_through);
        while !stop.said() {
            if !session.turn(rings, stop)? {
                wait.wait()?;
            }
        }
        session.finish(rings)
    }
}

/// The beginning of what a disk of so many bytes says of itself: all of it that changes with its size.
pub fn capacity(bytes: u64) -> [u8; 8] {
    (bytes / SECTOR).to_le_bytes()
}

/// What a disk says of itself: `struct virtio_blk_config` (5.2.4).
fn config(bytes: u64, queues: u16) -> Vec<u8> {
    let sector = u32::try_from(SECTOR).unwrap_or_default();
    let mut config = Vec::with_capacity(60);
    config.extend(capacity(bytes));
    config.extend(0_u32.to_le_bytes()); // size_max: not offered
    config.extend(u32::from(QUEUE_SIZE - 2).to_le_bytes()); // seg_max: a chain less header and status
    config.extend([0; 4]); // geometry: not offered
    config.extend(sector.to_le_bytes()); // blk_size
    config.extend([SECTORS_PER_BLOCK_EXPONENT, 0]); // physical block, first aligned block
    config.extend(1_u16.to_le_bytes()); // suggested smallest request, in blk_size
    config.extend(0_u32.to_le_bytes()); // suggested best request: no opinion
    config.extend([0, 0]); // writeback: not offered
    config.extend(queues.to_le_bytes()); // num_queues
    config.extend(u32::MAX.to_le_bytes()); // max_discard_sectors
    config.extend(request::MOST_RANGES.to_le_bytes()); // max_discard_seg
    config.extend((1_u32 << SECTORS_PER_BLOCK_EXPONENT).to_le_bytes()); // discard_sector_alignment
    config.extend(MOST_ZEROES.to_le_bytes()); // max_write_zeroes_sectors
    config.extend(request::MOST_RANGES.to_le_bytes()); // max_write_zeroes_seg
    config.extend([1, 0, 0, 0]); // write_zeroes_may_unmap
    config
}

#[cfg(test)]
mod tests;
