//! What a volume asks of one of its files: positioned reads and writes, holes, and durability.
//!
//! A trait, so that the crash tests can put a file under a volume that forgets what was not
//! synced. The one real maker is [`File`].

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::uio::{preadv, pwritev};

/// The most buffers that one call to the kernel takes (`IOV_MAX`).
const MOST_BUFFERS: usize = 1024;
/// How much is written at once where holes cannot be punched.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// A file under a volume.
pub(crate) trait Part: Send + Sync {
    /// Reads some bytes from `offset` on; 0 at the end of the file.
    fn read(&self, buffers: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<usize>;
    /// Writes some bytes from `offset` on.
    fn write(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;
    /// Makes `range` read as zeros, giving its space back where the file system can.
    fn punch(&self, range: Range<u64>) -> io::Result<()>;
    /// Makes the file so long, which is longer than it is; the new bytes are zeros.
    fn lengthen(&self, bytes: u64) -> io::Result<()>;
    /// Makes all that was written and punched durable, and the file's length.
    fn sync(&self) -> io::Result<()>;
    /// Bytes in the file.
    fn bytes(&self) -> io::Result<u64>;
    /// The open file, if it is one.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl Part for File {
    fn read(&self, buffers: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<usize> {
        let count = buffers.len().min(MOST_BUFFERS);
        Ok(preadv(self, &mut buffers[..count], signed(offset)?)?)
    }

    fn write(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(pwritev(self, &buffers[..buffers.len().min(MOST_BUFFERS)], signed(offset)?)?)
    }

    fn punch(&self, range: Range<u64>) -> io::Result<()> {
        let how = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        match fallocate(self, how, signed(range.start)?, signed(range.end - range.start)?) {
            Err(Errno::EOPNOTSUPP) => overwrite_with_zeros(self, range),
            result => Ok(result?),
        }
    }

    fn lengthen(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}

fn signed(offset: u64) -> io::Result<i64> {
    i64::try_from(offset).map_err(|_| io::Error::from(ErrorKind::InvalidInput))
}

fn overwrite_with_zeros(part: &dyn Part, range: Range<u64>) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        let length = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(ZEROS.len());
        write_all(part, &mut [IoSlice::new(&ZEROS[..length])], at)?;
        at += length as u64;
    }
    Ok(())
}

/// Fills all of `buffers` from `offset` on; the file must reach that far.
pub(crate) fn read_all(
    part: &dyn Part,
    mut buffers: &mut [IoSliceMut<'_>],
    mut offset: u64,
) -> io::Result<()> {
    IoSliceMut::advance_slices(&mut buffers, 0); // drops empty ones at the front
    while !buffers.is_empty() {
        match part.read(buffers, offset) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                IoSliceMut::advance_slices(&mut buffers, count);
                offset += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all of `buffers` from `offset` on.
pub(crate) fn write_all(part: &dyn Part, mut buffers: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
    IoSlice::advance_slices(&mut buffers, 0);
    while !buffers.is_empty() {
        match part.write(buffers, offset) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                IoSlice::advance_slices(&mut buffers, count);
                offset += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
