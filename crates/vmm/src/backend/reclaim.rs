//! Guest memory goes back to the host, page by page.
//!
//! The guest's memory is anonymous and private ([`crate::memory`]), so a page that is dropped is a page of zeros when
//! the guest touches it again; KVM learns of it from the kernel. Nothing else in this process relies on what is in
//! guest memory.
#![allow(unsafe_code, reason = "the system calls madvise and sysconf")]

use std::io;
use std::ops::Range;

use devices::memory::Piece;
use devices::virtio::balloon::Reclaim;

/// madvise(2), `MADV_DONTNEED`.
pub(crate) struct DropPages {
    page_bytes: usize,
}

impl DropPages {
    pub(crate) fn new() -> Self {
        // SAFETY: only a number is passed and returned.
        let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        Self { page_bytes: usize::try_from(bytes).unwrap_or(usize::MAX) }
    }
}

impl Reclaim for DropPages {
    fn reclaim(&mut self, piece: &Piece<'_>) -> io::Result<()> {
        let guard = piece.ptr_guard_mut();
        let start = guard.as_ptr();
        let Some(pages) = whole_pages(start.addr(), piece.len(), self.page_bytes) else { return Ok(()) };
        // SAFETY: the pages lie inside the piece, which is mapped guest memory as long as it is borrowed. Their bytes become zeros,
        // as if the guest had written them: guest memory is only ever read as what may change at any moment.
        let result =
            unsafe { libc::madvise(start.with_addr(pages.start).cast(), pages.len(), libc::MADV_DONTNEED) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// The whole pages within `len` bytes from `start` on, if there is one.
fn whole_pages(start: usize, len: usize, page_bytes: usize) -> Option<Range<usize>> {
    let first = start.checked_next_multiple_of(page_bytes)?;
    let end = start.checked_add(len)? / page_bytes * page_bytes;
    (first < end).then_some(first..end)
}

#[cfg(test)]
mod tests {
    use devices::memory::{Memory, Span};
    use vm_memory::{Bytes, GuestAddress};

    use super::*;

    #[test]
    fn only_whole_pages_are_dropped() {
        for (start, len, pages) in [
            (0, 8192, Some(0..8192)),
            (1, 8191, Some(4096..8192)),
            (1, 4096, None),
            (4095, 4098, Some(4096..8192)),
            (4096, 0, None),
            (usize::MAX - 5000, 5001, None), // its end is no address
            (usize::MAX - 10, 5, None),
        ] {
            assert_eq!(whole_pages(start, len, 4096), pages, "{start} and {len} bytes");
        }
        let memory = Memory::from_ranges(&[(GuestAddress(0), 0x8_0000)]).unwrap();
        memory.write_slice(&[7; 0x8_0000], GuestAddress(0)).unwrap();
        let mut span = Span::default();
        span.push(&memory, GuestAddress(0x1_0000 - 1), 0x3_0002).unwrap();
        let mut drop_pages = DropPages::new();
        span.pieces().iter().try_for_each(|piece| drop_pages.reclaim(piece)).unwrap();
        let byte = |at| memory.read_obj::<u8>(GuestAddress(at)).unwrap();
        assert_eq!([0xffff, 0x1_0000, 0x3_ffff, 0x4_0000].map(byte), [7, 0, 0, 7]);
    }
}
