//! A plain file as a disk: byte n of the file is byte n of the disk. For trying, measuring and teaching.
#![allow(unsafe_code, reason = "the system calls preadv, pwritev and fallocate")]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use devices::memory::Piece;
use devices::virtio::block::{Backend, SECTOR};

use super::Store;
use super::pieces::Vectors;

/// Why a file is no disk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskFileError {
    #[error("Cannot learn the size of the disk")]
    Size(#[source] io::Error),
    #[error("A disk has whole sectors of {SECTOR} bytes, and at least one; this file has {0} bytes")]
    Sectors(u64),
}

/// The disk.
pub(crate) struct DiskFile {
    file: File,
    size: AtomicU64,
}

impl DiskFile {
    /// A file or block device as it is now; what others append later is not seen.
    pub(crate) fn new(file: File) -> Result<Self, DiskFileError> {
        let size = io::Seek::seek(&mut &file, io::SeekFrom::End(0)).map_err(DiskFileError::Size)?;
        if size == 0 || !size.is_multiple_of(SECTOR) {
            return Err(DiskFileError::Sectors(size));
        }
        Ok(Self { file, size: AtomicU64::new(size) })
    }

    /// Repeats a system call until all pieces are done. The call is given descriptor, vectors, their
    /// number, and the offset.
    fn all(
        &self,
        pieces: &[Piece<'_>],
        offset: u64,
        call: unsafe extern "C" fn(i32, *const libc::iovec, i32, i64) -> isize,
    ) -> io::Result<()> {
        let mut vectors = Vectors::new(pieces);
        let mut offset = i64::try_from(offset).map_err(io::Error::other)?;
        while vectors.len() > 0 {
            let (pointer, count) = vectors.as_raw();
            // SAFETY: the vectors name mapped guest memory, for as long as `pieces` is borrowed; the
            // kernel may read or write all of it.
            let done = unsafe { call(self.file.as_raw_fd(), pointer, count, offset) };
            match usize::try_from(done) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    vectors.advance(count);
                    offset += i64::try_from(count).map_err(io::Error::other)?;
                }
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error => return Err(error),
                },
            }
        }
        Ok(())
    }

    fn allocate(&self, mode: libc::c_int, offset: u64, len: u64) -> io::Result<()> {
        let [offset, len] = [offset, len].map(|number| i64::try_from(number).map_err(io::Error::other));
        // SAFETY: only numbers are passed.
        let result = unsafe { libc::fallocate(self.file.as_raw_fd(), mode, offset?, len?) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Backend for DiskFile {
    fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    fn read(&self, offset: u64, into: &[Piece<'_>]) -> io::Result<()> {
        self.all(into, offset, libc::preadv)
    }

    fn write(&self, offset: u64, from: &[Piece<'_>]) -> io::Result<()> {
        self.all(from, offset, libc::pwritev)
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        match self.write_zeroes(offset, len, true) {
            // A file system without holes: the room stays, which a discard allows.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
            result => result,
        }
    }

    fn write_zeroes(&self, offset: u64, len: u64, release: bool) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        let how = if release { libc::FALLOC_FL_PUNCH_HOLE } else { libc::FALLOC_FL_ZERO_RANGE };
        self.allocate(how | libc::FALLOC_FL_KEEP_SIZE, offset, len)
    }
}

impl Store for DiskFile {
    fn grow(&self, bytes: u64) -> io::Result<()> {
        if bytes > self.size() {
            if !bytes.is_multiple_of(SECTOR) {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, DiskFileError::Sectors(bytes)));
            }
            self.file.set_len(bytes)?;
            self.size.store(bytes, Ordering::Release);
        }
        Ok(())
    }

    fn file_of(&self, range: Range<u64>) -> Option<BorrowedFd<'_>> {
        (range.start < range.end && range.end <= self.size()).then(|| self.file.as_fd())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use devices::memory::{Memory, Span};
    use vm_memory::{Bytes, GuestAddress};
    use vmm_sys_util::tempfile::TempFile;

    use super::*;

    #[test]
    fn bytes_go_to_and_fro() {
        let file = TempFile::new().unwrap().into_file();
        file.set_len(8192).unwrap();
        let disk = DiskFile::new(file.try_clone().unwrap()).unwrap();
        assert_eq!(disk.size(), 8192);
        let memory = Memory::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
        memory.write_slice(&[5; 1024], GuestAddress(0)).unwrap();
        let span = |ranges: &[(u64, usize)]| {
            let mut span = Span::default();
            for &(at, len) in ranges {
                span.push(&memory, GuestAddress(at), len).unwrap();
            }
            span
        };
        disk.write(512, span(&[(0, 100), (200, 412)]).pieces()).unwrap();
        disk.read(1000, span(&[(0x800, 30)]).pieces()).unwrap();
        let mut seen = [0; 30];
        memory.read_slice(&mut seen, GuestAddress(0x800)).unwrap();
        assert_eq!((&seen[..24], &seen[24..]), (&[5; 24][..], &[0; 6][..]));
        assert!(disk.read(8192 - 512, span(&[(0, 1024)]).pieces()).is_err());
        disk.discard(512, 512).unwrap();
        let mut byte = [9];
        file.read_exact_at(&mut byte, 700).unwrap();
        assert_eq!(byte, [0]);
        disk.flush().unwrap();
    }

    #[test]
    fn half_a_sector_is_no_disk() {
        for size in [0, 1, 513] {
            let file = TempFile::new().unwrap().into_file();
            file.set_len(size).unwrap();
            assert!(matches!(DiskFile::new(file), Err(DiskFileError::Sectors(n)) if n == size));
        }
    }
}
