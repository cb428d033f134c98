//! A volume as a disk.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;

use devices::memory::Piece;
use devices::virtio::block::Backend;
use volume::Volume;

use super::Store;
use super::pieces::{to_fill, to_write};

/// The disk.
pub(crate) struct VolumeDisk(pub(crate) Volume);

impl Backend for VolumeDisk {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read(&self, offset: u64, into: &[Piece<'_>]) -> io::Result<()> {
        self.0.read_vectored_at(&mut to_fill(into), offset)
    }

    fn write(&self, offset: u64, from: &[Piece<'_>]) -> io::Result<()> {
        self.0.write_vectored_at(&mut to_write(from), offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.0.flush()
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.0.discard(offset..offset.saturating_add(len))
    }

    fn write_zeroes(&self, offset: u64, len: u64, _release: bool) -> io::Result<()> {
        // A volume gives the room back in any case: a sparse file holds zeros as a hole.
        self.0.write_zeroes(offset..offset.saturating_add(len))
    }
}

impl Store for VolumeDisk {
    fn grow(&self, bytes: u64) -> io::Result<()> {
        self.0.grow(bytes)
    }

    fn file_of(&self, range: Range<u64>) -> Option<BorrowedFd<'_>> {
        self.0.file_of(range)
    }
}
