//! The block device (virtio 1.2, 5.2): a disk.
//!
//! A request is read off the ring by `request.rs`, which is pure and trusts nothing, and carried out here
//! against a [`Backend`]. One queue, one thread, one request at a time; an engine that has many under way
//! (io_uring) takes the same requests and completes them in whatever order they finish.

mod request;

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use self::request::{Operation, Refusal, Request};
use super::device::{Active, Device, Kind, Stop, Wait};
use super::queue::{Broken, Ring};
use crate::memory::{Memory, Piece};

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
pub struct Block {
    backend: Arc<dyn Backend>,
    serial: [u8; SERIAL_BYTES],
    read_only: bool,
}

/// Feature bits (5.2.3).
mod feature {
    pub(super) const SEG_MAX: u32 = 2;
    pub(super) const RO: u32 = 5;
    pub(super) const BLK_SIZE: u32 = 6;
    pub(super) const FLUSH: u32 = 9;
    pub(super) const TOPOLOGY: u32 = 10;
    pub(super) const DISCARD: u32 = 13;
    pub(super) const WRITE_ZEROES: u32 = 14;
}

/// Status bytes (5.2.6).
const STATUS_OK: u8 = 0;
const STATUS_IO_ERROR: u8 = 1;
const STATUS_UNSUPPORTED: u8 = 2;

const QUEUE_SIZE: u16 = 256;
const QUEUES: &[u16] = &[QUEUE_SIZE];
/// Sectors that one range of write-zeroes may have: 32 MiB, so that a backend that has to write them ends
/// soon.
const MOST_ZEROES: u32 = 65536;
/// Physical blocks are 4096 bytes: 2^3 sectors. Drivers align to them.
const SECTORS_PER_BLOCK_EXPONENT: u8 = 3;

impl Block {
    /// A disk with this backend and serial (its first 20 bytes).
    pub fn new(backend: Arc<dyn Backend>, serial: &str, read_only: bool) -> Self {
        let mut bytes = [0; SERIAL_BYTES];
        let len = serial.len().min(SERIAL_BYTES);
        bytes[..len].copy_from_slice(&serial.as_bytes()[..len]);
        Self { backend, serial: bytes, read_only }
    }

    fn serve(
        &self,
        ring: &mut Ring,
        memory: &Memory,
        write_through: bool,
        stop: &Stop,
    ) -> Result<(), Broken> {
        while let Some(chain) = ring.next(memory)? {
            let head = chain.head;
            let mut request = Request::parse(chain, self.backend.size() / SECTOR)?;
            let (status, written) = match self.carry_out(&mut request.operation, write_through) {
                Ok(written) => (STATUS_OK, written),
                Err(status) => (status, 0),
            };
            request.status.copy_from(&[status]);
            ring.complete(memory, head, written + 1)?;
            ring.publish(memory)?;
            if stop.said() {
                break;
            }
        }
        Ok(())
    }

    /// Does it; bytes written to the guest, or the status to give back.
    fn carry_out(
        &self,
        operation: &mut Result<Operation<'_>, Refusal>,
        write_through: bool,
    ) -> Result<usize, u8> {
        let operation = operation.as_ref().map_err(|refusal| match refusal {
            Refusal::Bad => STATUS_IO_ERROR,
            Refusal::Unknown => STATUS_UNSUPPORTED,
        })?;
        if self.read_only && operation.changes() {
            return Err(STATUS_IO_ERROR);
        }
        let done = match operation {
            Operation::Read { offset, into } => {
                return match self.backend.read(*offset, into.pieces()) {
                    Ok(()) => Ok(into.len()),
                    Err(_) => Err(STATUS_IO_ERROR),
                };
            }
            Operation::Identify { into } => return Ok(into.copy_from(&self.serial)),
            Operation::Write { offset, from } => self.backend.write(*offset, from.pieces()),
            Operation::Flush => self.backend.flush(),
            Operation::Discard(ranges) => {
                ranges.iter().try_for_each(|range| self.backend.discard(range.offset, range.len))
            }
            Operation::WriteZeroes(ranges) => ranges
                .iter()
                .try_for_each(|range| self.backend.write_zeroes(range.offset, range.len, range.release)),
        };
        let stable = if write_through && operation.changes() {
            done.and_then(|()| self.backend.flush())
        } else {
            done
        };
        stable.map(|()| 0).map_err(|_| STATUS_IO_ERROR)
    }
}

impl Device for Block {
    fn kind(&self) -> Kind {
        Kind { id: 2, class: 0x01_00_00, name: "disk" }
    }

    fn features(&self) -> u64 {
        use feature::{BLK_SIZE, DISCARD, FLUSH, RO, SEG_MAX, TOPOLOGY, WRITE_ZEROES};
        let changing = if self.read_only { 1 << RO } else { 1 << DISCARD | 1 << WRITE_ZEROES };
        changing | 1 << SEG_MAX | 1 << BLK_SIZE | 1 << FLUSH | 1 << TOPOLOGY
    }

    fn queue_sizes(&self) -> &'static [u16] {
        QUEUES
    }

    fn config(&self) -> Vec<u8> {
        config(self.backend.size())
    }

    fn run(&mut self, active: &mut Active, stop: &Stop) -> Result<(), Broken> {
        // Without FLUSH the driver takes every write for stable (5.2.6.2).
        let write_through = !active.has(feature::FLUSH);
        let Some(ring) = active.rings.first_mut().and_then(Option::as_mut) else { return Ok(()) };
        let wait = Wait::new(stop, &[ring.bell.as_raw_fd()])?;
        while !stop.said() {
            self.serve(ring, &active.memory, write_through, stop)?;
            if !ring.arm(&active.memory)? {
                wait.wait()?;
            }
        }
        Ok(())
    }
}

/// What a disk of so many bytes says of itself: `struct virtio_blk_config` (5.2.4).
pub fn config(bytes: u64) -> Vec<u8> {
    let sector = u32::try_from(SECTOR).unwrap_or_default();
    let mut config = Vec::with_capacity(60);
    config.extend((bytes / SECTOR).to_le_bytes()); // capacity
    config.extend(0_u32.to_le_bytes()); // size_max: not offered
    config.extend(u32::from(QUEUE_SIZE - 2).to_le_bytes()); // seg_max: a chain less header and status
    config.extend([0; 4]); // geometry: not offered
    config.extend(sector.to_le_bytes()); // blk_size
    config.extend([SECTORS_PER_BLOCK_EXPONENT, 0]); // physical block, first aligned block
    config.extend(1_u16.to_le_bytes()); // suggested smallest request, in blk_size
    config.extend(0_u32.to_le_bytes()); // suggested best request: no opinion
    config.extend([0, 0]); // writeback: not offered
    config.extend(1_u16.to_le_bytes()); // num_queues
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
