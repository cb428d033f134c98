//! What a driver asks of a disk, read off a chain: pure, bounded, trusting nothing (virtio 1.2, 5.2.6).
//!
//! A request is a 16-byte header, then data, and a last byte for the status, cut into
//! descriptors as the driver likes. A chain without room for header and status cannot even be answered:
//! the driver is broken. Everything else that is wrong gets a status.

use super::{MOST_ZEROES, SECTOR};
use crate::memory::Span;
use crate::virtio::queue::{Broken, Chain};

/// Ranges that one discard or write-zeroes may have.
pub const MOST_RANGES: u32 = 32;

const HEADER: usize = 16;
/// A range: first sector, number of sectors, flags.
const RANGE: usize = 16;
/// The flag by which write-zeroes may give the room back.
const UNMAP: u32 = 1;

/// Types of requests.
mod kind {
    pub(super) const IN: u32 = 0;
    pub(super) const OUT: u32 = 1;
    pub(super) const FLUSH: u32 = 4;
    pub(super) const GET_ID: u32 = 8;
    pub(super) const DISCARD: u32 = 11;
    pub(super) const WRITE_ZEROES: u32 = 13;
}

/// A request.
#[derive(Debug)]
pub struct Request<'m> {
    /// What is asked, or why it is refused.
    pub operation: Result<Operation<'m>, Refusal>,
    /// The byte that the answer goes to.
    pub status: Span<'m>,
}

/// What is asked. Offsets and lengths are in bytes and inside the disk.
#[derive(Debug)]
pub enum Operation<'m> {
    /// What is on the disk.
    Read {
        /// From where on.
        offset: u64,
        /// To where.
        into: Span<'m>,
    },
    /// To be on the disk.
    Write {
        /// From where on.
        offset: u64,
        /// From where in memory.
        from: Span<'m>,
    },
    /// What was written to be on stable storage.
    Flush,
    /// The disk's serial.
    Identify {
        /// To where.
        into: Span<'m>,
    },
    /// What is no longer needed.
    Discard(Vec<Range>),
    /// What shall read as zeros.
    WriteZeroes(Vec<Range>),
}

impl Operation<'_> {
    /// Whether it changes the disk.
    pub fn changes(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Discard(_) | Self::WriteZeroes(_))
    }

    /// Bytes that go between guest and disk.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Read { into: span, .. } | Self::Write { from: span, .. } => {
                u64::try_from(span.len()).unwrap_or(u64::MAX)
            }
            Self::Flush | Self::Identify { .. } | Self::Discard(_) | Self::WriteZeroes(_) => 0,
        }
    }

    /// As how many operations it counts, where one has at most so many bytes. What moves no bytes to or from the disk
    /// counts as none, but for taking room away.
    pub fn count(&self, most_bytes: u64) -> u64 {
        match self {
            Self::Read { .. } | Self::Write { .. } => self.bytes().div_ceil(most_bytes).max(1),
            Self::Discard(_) | Self::WriteZeroes(_) => 1,
            Self::Flush | Self::Identify { .. } => 0,
        }
    }
}

/// Part of a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// From where on.
    pub offset: u64,
    /// How many.
    pub len: u64,
    /// The room may be given back.
    pub release: bool,
}

/// Why a request is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It reaches outside of the disk, is not whole sectors, or has too many ranges.
    Bad,
    /// There is no such type of request.
    Unknown,
}

impl<'m> Request<'m> {
    /// Reads a request for a disk with so many sectors.
    pub fn parse(mut chain: Chain<'m>, sectors: u64) -> Result<Self, Broken> {
        let status =
            chain.writable.take_back(1).ok_or(Broken("a disk request has no place for its status"))?;
        let header = chain.readable.take_front(HEADER).ok_or(Broken("a disk request has no header"))?;
        let mut bytes = [0; HEADER];
        header.copy_to(&mut bytes);
        let [k0, k1, k2, k3, _, _, _, _, s0, s1, s2, s3, s4, s5, s6, s7] = bytes;
        let kind = u32::from_le_bytes([k0, k1, k2, k3]);
        let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let operation = Operation::parse(kind, sector, chain.readable, chain.writable, sectors);
        Ok(Self { operation, status })
    }
}

impl<'m> Operation<'m> {
    fn parse(kind: u32, sector: u64, from: Span<'m>, into: Span<'m>, sectors: u64) -> Result<Self, Refusal> {
        let offset = |span: &Span<'_>| {
            let len = u64::try_from(span.len()).map_err(|_| Refusal::Bad)?;
            if len % SECTOR == 0 { inside(sector, len / SECTOR, sectors) } else { Err(Refusal::Bad) }
        };
        match kind {
            kind::IN => Ok(Self::Read { offset: offset(&into)?, into }),
            kind::OUT => Ok(Self::Write { offset: offset(&from)?, from }),
            kind::FLUSH => Ok(Self::Flush),
            kind::GET_ID => Ok(Self::Identify { into }),
            kind::DISCARD => ranges(from, sectors, u32::MAX).map(Self::Discard),
            kind::WRITE_ZEROES => ranges(from, sectors, MOST_ZEROES).map(Self::WriteZeroes),
            _ => Err(Refusal::Unknown),
        }
    }
}

/// The offset of `sector`, where so many sectors from there on are inside the disk.
fn inside(sector: u64, count: u64, sectors: u64) -> Result<u64, Refusal> {
    match sector.checked_add(count) {
        // What is inside the disk has a byte offset: the disk's size came from one.
        Some(end) if end <= sectors => Ok(sector * SECTOR),
        _ => Err(Refusal::Bad),
    }
}

fn ranges(mut from: Span<'_>, sectors: u64, most: u32) -> Result<Vec<Range>, Refusal> {
    let count = from.len() / RANGE;
    if !from.len().is_multiple_of(RANGE) || count == 0 || count > MOST_RANGES as usize {
        return Err(Refusal::Bad);
    }
    let mut ranges = Vec::with_capacity(count);
    while let Some(range) = from.take_front(RANGE) {
        let mut bytes = [0; RANGE];
        range.copy_to(&mut bytes);
        let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, f0, f1, f2, f3] = bytes;
        let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let count = u32::from_le_bytes([n0, n1, n2, n3]);
        let flags = u32::from_le_bytes([f0, f1, f2, f3]);
        if flags & !UNMAP != 0 {
            return Err(Refusal::Unknown);
        }
        if count > most {
            return Err(Refusal::Bad);
        }
        let count = u64::from(count);
        let release = flags & UNMAP != 0;
        ranges.push(Range { offset: inside(sector, count, sectors)?, len: count * SECTOR, release });
    }
    Ok(ranges)
}
