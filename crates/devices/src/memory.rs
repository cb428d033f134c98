//! A guest's memory, and pieces of it that a request named.
//!
//! Guest memory changes under our eyes: another vCPU may write it at any moment. So it is never seen as
//! `&[u8]`; [`Piece`] copies in and out, or is handed whole to a system call. What decides anything is
//! copied out first and judged afterwards.

use smallvec::SmallVec;
use vm_memory::{Bytes, GuestAddress, GuestMemory, Permissions, VolatileSlice};

/// All of a guest's memory.
pub type Memory = vm_memory::GuestMemoryMmap<()>;

/// A piece of guest memory, checked to be there.
pub type Piece<'m> = VolatileSlice<'m, ()>;

/// Bytes of guest memory that lie in several pieces but are meant as one run.
///
/// How a driver cuts a request into descriptors means nothing (virtio 1.2, 2.7.4): whoever reads
/// a request takes bytes off the front or the back of a span, wherever the cuts are.
#[derive(Clone, Debug, Default)]
pub struct Span<'m> {
    /// Most have one, or a header's and one.
    pieces: SmallVec<[Piece<'m>; 2]>,
    len: usize,
}

impl<'m> Span<'m> {
    /// Adds `len` bytes at `address` to the end; `None`, and nothing added, where they are not all in memory.
    pub fn push(&mut self, memory: &'m Memory, address: GuestAddress, len: usize) -> Option<()> {
        let total = self.len.checked_add(len)?;
        // Nearly always it lies in one region, and that is quickly found.
        if let Ok(piece) = vm_memory::GuestMemoryBackend::get_slice(memory, address, len) {
            self.pieces.push(piece);
            self.len = total;
            return Some(());
        }
        let before = self.pieces.len();
        for piece in memory.get_slices(address, len, Permissions::ReadWrite).ok()? {
            match piece {
                Ok(piece) => self.pieces.push(piece),
                Err(_) => {
                    self.pieces.truncate(before);
                    return None;
                }
            }
        }
        self.len = total;
        Some(())
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no byte in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces, in order.
    pub fn pieces(&self) -> &[Piece<'m>] {
        &self.pieces
    }

    /// Cuts `len` bytes off the front; `None`, and nothing cut, where there are not so many.
    pub fn take_front(&mut self, len: usize) -> Option<Span<'m>> {
        let rest = self.split_off(len)?;
        Some(std::mem::replace(self, rest))
    }

    /// Cuts `len` bytes off the back; `None`, and nothing cut, where there are not so many.
    pub fn take_back(&mut self, len: usize) -> Option<Span<'m>> {
        self.split_off(self.len.checked_sub(len)?)
    }

    fn split_off(&mut self, at: usize) -> Option<Span<'m>> {
        let len = self.len.checked_sub(at)?;
        let mut before = 0;
        let mut index = 0;
        while let Some(piece) = self.pieces.get(index) {
            if before + piece.len() > at {
                break;
            }
            before += piece.len();
            index += 1;
        }
        let mut tail: SmallVec<[Piece<'m>; 2]> = self.pieces.drain(index..).collect();
        if at > before
            && let Some(cut) = tail.first_mut()
        {
            // `at` lies inside this piece, so both halves exist.
            let (head, rest) = cut.split_at(at - before).ok()?;
            self.pieces.push(head);
            *cut = rest;
        }
        self.len = at;
        Some(Span { pieces: tail, len })
    }

    /// Copies the first bytes out; how many, at most what `into` holds.
    pub fn copy_to(&self, into: &mut [u8]) -> usize {
        let mut done = 0;
        for piece in &self.pieces {
            done += piece.copy_to(into.get_mut(done..).unwrap_or_default());
        }
        done
    }

    /// Copies bytes in, to the front; how many, at most what there is room for.
    pub fn copy_from(&self, from: &[u8]) -> usize {
        let mut done = 0;
        for piece in &self.pieces {
            let part = from.get(done..).unwrap_or_default();
            let count = part.len().min(piece.len());
            if count == 0 {
                break;
            }
            // The piece was checked when it was made and holds `count` bytes.
            done += piece.write(&part[..count], 0).unwrap_or_default();
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Memory {
        Memory::from_ranges(&[(GuestAddress(0), 0x1000), (GuestAddress(0x1000), 0x1000)]).unwrap()
    }

    #[test]
    fn a_span_is_cut_anywhere_and_copies_across_its_cuts() {
        let memory = memory();
        let mut span = Span::default();
        span.push(&memory, GuestAddress(0xffd), 6).unwrap(); // across two regions
        span.push(&memory, GuestAddress(0x10), 4).unwrap();
        assert_eq!(span.copy_from(b"abcdefghijKLM"), 10);
        for at in 0..=10 {
            let mut back = span.clone();
            let front = back.take_front(at).unwrap();
            assert_eq!((front.len(), back.len()), (at, 10 - at));
            let mut out = [0; 10];
            assert_eq!(front.copy_to(&mut out[..]), at);
            assert_eq!(back.copy_to(&mut out[at..]), 10 - at);
            assert_eq!(&out, b"abcdefghij", "cut at {at}");
            let mut front = span.clone();
            let back = front.take_back(at).unwrap();
            assert_eq!((front.len(), back.len()), (10 - at, at));
        }
        assert!(span.take_front(11).is_none());
        assert!(span.take_back(11).is_none());
        assert_eq!(span.len(), 10);
    }

    #[test]
    fn what_is_not_in_memory_is_not_in_a_span() {
        let memory = memory();
        let mut span = Span::default();
        assert!(span.push(&memory, GuestAddress(0x1fff), 2).is_none());
        assert!(span.push(&memory, GuestAddress(u64::MAX), 2).is_none());
        assert!(span.push(&memory, GuestAddress(0x5000), 1).is_none());
        assert!(span.is_empty() && span.pieces().is_empty());
    }
}
