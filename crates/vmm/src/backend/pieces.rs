//! Pieces of guest memory as the buffers of a system call: the kernel reads and writes them, nothing is
//! copied here.
#![allow(unsafe_code, reason = "guest memory as the buffers of system calls")]

use std::io::{IoSlice, IoSliceMut};
use std::marker::PhantomData;

use devices::memory::Piece;

/// Pieces as an array of `struct iovec`.
pub(super) struct Vectors<'m> {
    vectors: Vec<libc::iovec>,
    _memory: PhantomData<Piece<'m>>,
}

impl<'m> Vectors<'m> {
    pub(super) fn new(pieces: &[Piece<'m>]) -> Self {
        let vector = |piece: &Piece<'m>| libc::iovec {
            iov_base: piece.ptr_guard_mut().as_ptr().cast(),
            iov_len: piece.len(),
        };
        Self { vectors: pieces.iter().map(vector).collect(), _memory: PhantomData }
    }

    /// The array and its length, for a system call that lasts no longer than `self`.
    pub(super) fn as_raw(&self) -> (*const libc::iovec, libc::c_int) {
        (self.vectors.as_ptr(), libc::c_int::try_from(self.vectors.len()).unwrap_or(libc::c_int::MAX))
    }

    /// Only the array: addresses that say nothing of how long they are good.
    pub(super) fn into_raw(self) -> Vec<libc::iovec> {
        self.vectors
    }

    /// Bytes in all.
    pub(super) fn len(&self) -> usize {
        self.vectors.iter().map(|vector| vector.iov_len).sum()
    }

    /// Takes `count` bytes off the front.
    pub(super) fn advance(&mut self, mut count: usize) {
        self.vectors.retain_mut(|vector| {
            let here = count.min(vector.iov_len);
            vector.iov_base = vector.iov_base.wrapping_byte_add(here);
            vector.iov_len -= here;
            count -= here;
            vector.iov_len > 0
        });
    }
}

/// Pieces as buffers that a volume fills.
///
/// The volume hands them to the kernel, or fills them with zeros; it never reads them and decides nothing
/// by them.
pub(super) fn to_fill<'m>(pieces: &[Piece<'m>]) -> Vec<IoSliceMut<'m>> {
    let slice = |piece: &Piece<'m>| {
        // SAFETY: the piece is mapped for 'm, readable and writable, of this length. The guest may write
        // it at the same time, as a device may any DMA buffer: these bytes are only stored to, by the
        // kernel or by `fill`, and never looked at, so no decision can rest on what changes.
        IoSliceMut::new(unsafe {
            std::slice::from_raw_parts_mut(piece.ptr_guard_mut().as_ptr(), piece.len())
        })
    };
    pieces.iter().map(slice).collect()
}

/// Pieces as buffers that a volume writes to its files: it hands them to the kernel and does not look at
/// them.
pub(super) fn to_write<'m>(pieces: &[Piece<'m>]) -> Vec<IoSlice<'m>> {
    let slice = |piece: &Piece<'m>| {
        // SAFETY: the piece is mapped for 'm and readable, of this length. The guest may change it at the
        // same time, so what reaches the file is one of the values it had, as with DMA; nothing here
        // looks at the bytes.
        IoSlice::new(unsafe { std::slice::from_raw_parts(piece.ptr_guard().as_ptr(), piece.len()) })
    };
    pieces.iter().map(slice).collect()
}

#[cfg(test)]
mod tests {
    use devices::memory::{Memory, Span};
    use vm_memory::GuestAddress;

    use super::*;

    #[test]
    fn advancing_leaves_what_is_not_done() {
        let memory = Memory::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
        let mut span = Span::default();
        for (at, len) in [(0, 10), (100, 20), (200, 30)] {
            span.push(&memory, GuestAddress(at), len).unwrap();
        }
        let mut vectors = Vectors::new(span.pieces());
        for (step, left) in [(0, 60), (9, 51), (1, 50), (25, 25), (25, 0)] {
            vectors.advance(step);
            assert_eq!(vectors.len(), left);
        }
        assert_eq!(vectors.as_raw().1, 0);
    }
}
