//! io_uring behind a disk: reads that lie in one file, many at a time.
//!
//! Only reads, because only they wait for the disk. A write goes to the page cache, which most file systems do not do for
//! a ring without a thread of the kernel's in between: on ext4 that took twice as long as the system call, while reads
//! that the cache did not have, 32 at a time, took a third.
//!
//! The ring is made by the thread that decides, together with the device, so that the disk's own thread needs no right
//! to make one. A ring that did whatever it is asked would be a way around the process's system call filters, so it is
//! restricted to reading before it is used (io_uring_register(2), `IORING_REGISTER_RESTRICTIONS`). Where the kernel has
//! no such ring to give, the disk works without.
#![allow(unsafe_code, reason = "handing buffers in guest memory to the kernel for longer than a system call")]

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use devices::memory::{Memory, Piece};
use devices::virtio::block::{Engine, MOST_UNDER_WAY, Read};
use io_uring::register::Restriction;
use io_uring::{IoUring, opcode, types};
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};

use super::pieces::Vectors;
use super::{Removable, Store};

/// Threads of the kernel's own for one ring.
const MOST_WORKERS: u32 = 2;
/// The flag by which entering the ring waits for completions (io_uring_enter(2)).
const GETEVENTS: u32 = 1;
/// Between two looks where the kernel fails to wait.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Buffers of a read under way: addresses, for the kernel.
struct Buffers(Vec<libc::iovec>);

// SAFETY: they are only addresses here; who may look at what is there is the business of who hands them to the kernel.
unsafe impl Send for Buffers {}

struct UnderWay {
    _buffers: Buffers,
    /// Keeps the file open.
    _store: Arc<dyn Store>,
    len: u64,
}

/// The engine of one disk.
pub(crate) struct Uring {
    ring: IoUring,
    store: Arc<Removable<dyn Store>>,
    /// Whose pieces are under way, kept mapped as long as one is.
    memory: Option<Memory>,
    /// By tag.
    under_way: Vec<Option<UnderWay>>,
    /// Tags of those that the kernel has not heard of.
    not_submitted: Vec<u16>,
    failed: bool,
}

impl Uring {
    /// A ring for what lies in this store's files, if the kernel gives one.
    pub(crate) fn new(store: Arc<Removable<dyn Store>>) -> io::Result<Self> {
        let ring = IoUring::builder().setup_r_disabled().build(MOST_UNDER_WAY.into())?;
        let mut allowed = [Restriction::sqe_op(opcode::Readv::CODE)];
        // Threads that the kernel makes in this process for file systems that cannot do without. A kernel that does not
        // know this (before 5.15) has some more of them.
        let _ = ring.submitter().register_iowq_max_workers(&mut [MOST_WORKERS, 1]);
        ring.submitter().register_restrictions(&mut allowed)?;
        ring.submitter().register_enable_rings()?;
        let under_way = (0..MOST_UNDER_WAY).map(|_| None).collect();
        Ok(Self { ring, store, memory: None, under_way, not_submitted: Vec::new(), failed: false })
    }

    /// The entries that were not handed over never will be: the ring is not used again.
    fn give_up(&mut self) {
        self.failed = true;
        for tag in self.not_submitted.drain(..) {
            self.under_way[usize::from(tag)] = None;
        }
    }
}

impl Engine for Uring {
    fn event(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    fn enter(&mut self, memory: &Memory) {
        self.leave();
        self.memory = Some(memory.clone());
    }

    fn begin(&mut self, tag: u16, read: Read<'_, '_>) -> bool {
        let Read { offset, len, pieces } = read;
        let memory = self.memory.as_ref();
        let free = self.under_way.get(usize::from(tag)).is_some_and(Option::is_none);
        if self.failed
            || !free
            || !memory.is_some_and(|memory| pieces.iter().all(|piece| is_in(piece, memory)))
        {
            return false;
        }
        let Some(store) = self.store.hold() else { return false };
        let range = offset..offset.saturating_add(len);
        let Some(file) = store.file_of(range).map(|file| file.as_raw_fd()) else { return false };
        let buffers = Buffers(Vectors::new(pieces).into_raw());
        let Ok(count) = u32::try_from(buffers.0.len()) else { return false };
        let vectors = buffers.0.as_ptr();
        let entry = opcode::Readv::new(types::Fd(file), vectors, count).offset(offset).build();
        // SAFETY: the array of vectors and the open file stay in `under_way`, and the memory they name, which is
        // mapped guest memory, in `memory`, until the kernel is done: both are let go only after the completion, for
        // which `leave` waits. The kernel may write it at any time, as may the guest.
        if unsafe { self.ring.submission().push(&entry.user_data(tag.into())) }.is_err() {
            return false;
        }
        self.under_way[usize::from(tag)] = Some(UnderWay { _buffers: buffers, _store: store, len });
        self.not_submitted.push(tag);
        true
    }

    fn submit(&mut self) -> io::Result<()> {
        while !self.not_submitted.is_empty() {
            match self.ring.submit() {
                Ok(count) => drop(self.not_submitted.drain(..count.min(self.not_submitted.len()))),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.give_up();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn ended(&mut self) -> Option<(u16, bool)> {
        let entry = self.ring.completion().next()?;
        let tag = u16::try_from(entry.user_data()).ok()?;
        let ended = self.under_way.get_mut(usize::from(tag))?.take()?;
        Some((tag, u64::try_from(entry.result()).is_ok_and(|count| count == ended.len)))
    }

    fn wait(&mut self) {
        // SAFETY: nothing is submitted and no argument is passed; it only waits.
        let waited = unsafe { self.ring.submitter().enter::<libc::sigset_t>(0, 1, GETEVENTS, None) };
        if waited.is_err_and(|error| error.kind() != io::ErrorKind::Interrupted) {
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn leave(&mut self) {
        // What cannot be handed over is not under way either.
        let _ = self.submit();
        while self.under_way.iter().any(Option::is_some) {
            if self.ended().is_none() {
                self.wait();
            }
        }
        self.memory = None;
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Whether a piece is one of this memory.
fn is_in(piece: &Piece<'_>, memory: &Memory) -> bool {
    let start = piece.ptr_guard().as_ptr().addr();
    memory.iter().any(|region| {
        let (base, len) = (region.get_host_address(MemoryRegionAddress(0)), region.len());
        base.is_ok_and(|base| {
            let within = start.checked_sub(base.addr()).and_then(|within| within.checked_add(piece.len()));
            within.is_some_and(|end| end as u64 <= len)
        })
    })
}

#[cfg(test)]
mod tests {
    use devices::memory::Span;
    use devices::virtio::block::Backend as _;
    use vm_memory::{Bytes, GuestAddress};
    use vmm_sys_util::tempfile::TempFile;

    use super::*;
    use crate::backend::DiskFile;

    const BYTES: u64 = 1 << 20;

    fn memory() -> Memory {
        Memory::from_ranges(&[(GuestAddress(0), 0x10_0000), (GuestAddress(0x10_0000), 0x1000)]).unwrap()
    }

    /// A ring on a file, where this system gives one.
    fn uring() -> Option<(Uring, Arc<Removable<dyn Store>>)> {
        let file = TempFile::new().unwrap().into_file();
        file.set_len(BYTES).unwrap();
        let store: Box<dyn Store> = Box::new(DiskFile::new(file).unwrap());
        let store = Arc::new(Removable::new(store));
        match Uring::new(store.clone()) {
            Ok(uring) => Some((uring, store)),
            Err(error) => {
                println!("skipped: the kernel gives no io_uring: {error}");
                None
            }
        }
    }

    fn span(memory: &Memory, at: u64, len: usize) -> Span<'_> {
        let mut span = Span::default();
        span.push(memory, GuestAddress(at), len).unwrap();
        span
    }

    fn read<'p, 'm>(offset: u64, span: &'p Span<'m>) -> Read<'p, 'm> {
        Read { offset, len: span.len() as u64, pieces: span.pieces() }
    }

    fn end_of_all(uring: &mut Uring, count: usize) -> Vec<(u16, bool)> {
        uring.submit().unwrap();
        let mut ended = Vec::new();
        while ended.len() < count {
            match uring.ended() {
                Some(end) => ended.push(end),
                None => uring.wait(),
            }
        }
        ended.sort_unstable();
        ended
    }

    #[test]
    fn many_reads_at_a_time() {
        let Some((mut uring, store)) = uring() else { return };
        let memory = memory();
        for tag in 0..MOST_UNDER_WAY {
            let byte = u8::try_from(tag).unwrap() + 1;
            memory.write_slice(&[byte; 0x1000], GuestAddress(0)).unwrap();
            store.write(u64::from(tag) * 0x1000, span(&memory, 0, 0x1000).pieces()).unwrap();
        }
        uring.enter(&memory);
        for tag in 0..MOST_UNDER_WAY {
            let page = span(&memory, 0x8_0000 - u64::from(tag) * 0x1000, 0x1000);
            assert!(uring.begin(tag, read(u64::from(tag) * 0x1000, &page)));
            assert!(!uring.begin(tag, read(0, &page)), "the tag is taken");
        }
        let whole: Vec<_> = (0..MOST_UNDER_WAY).map(|tag| (tag, true)).collect();
        assert_eq!(end_of_all(&mut uring, MOST_UNDER_WAY.into()), whole);
        let byte = |at| memory.read_obj::<u8>(GuestAddress(at)).unwrap();
        assert_eq!([0x8_0fff, 0x8_0000, 0x7_ffff, 0x4_1000, 0x4_0fff].map(byte), [1, 1, 2, 64, 0]);
        // Across two regions.
        let page = span(&memory, 0x10_0000 - 0x800, 0x1000);
        assert!(uring.begin(7, read(5 * 0x1000, &page)));
        assert_eq!(end_of_all(&mut uring, 1), [(7, true)]);
        assert_eq!([0xf_f7ff, 0xf_f800, 0x10_07ff, 0x10_0800].map(byte), [0, 6, 6, 0]);
    }

    #[test]
    fn what_it_cannot_do_it_leaves() {
        let Some((mut uring, store)) = uring() else { return };
        let (memory, other) = (memory(), memory());
        let page = span(&memory, 0, 0x1000);
        assert!(!uring.begin(0, read(0, &page)), "it knows no memory yet");
        uring.enter(&memory);
        assert!(!uring.begin(0, read(0, &span(&other, 0, 0x1000))), "another's memory");
        assert!(!uring.begin(0, read(BYTES - 512, &page)), "past the end");
        assert!(!uring.begin(MOST_UNDER_WAY, read(0, &page)), "no such tag");
        assert!(uring.begin(0, read(0, &page)));
        uring.leave();
        assert_eq!(uring.ended(), None);
        uring.enter(&memory);
        store.close().unwrap();
        assert!(!uring.begin(0, read(0, &page)), "closed");
    }

    #[test]
    fn it_does_nothing_but_read() {
        let Some((mut uring, _store)) = uring() else { return };
        let open = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), c"/dev/null".as_ptr()).build();
        for entry in [opcode::Nop::new().build(), open] {
            // SAFETY: the path is a constant that ends with a zero byte.
            unsafe { uring.ring.submission().push(&entry) }.unwrap();
            uring.ring.submit_and_wait(1).unwrap();
            assert_eq!(uring.ring.completion().next().unwrap().result(), -libc::EACCES);
        }
        assert!(uring.ring.submitter().register_eventfd(0).is_err());
    }

    #[test]
    fn closing_waits_for_reads() {
        let Some((mut uring, store)) = uring() else { return };
        let memory = memory();
        uring.enter(&memory);
        assert!(uring.begin(0, read(0, &span(&memory, 0, 0x1000))));
        let closer = std::thread::spawn({
            let store = store.clone();
            move || store.close()
        });
        std::thread::sleep(Duration::from_millis(50));
        assert!(!store.is_closed());
        assert_eq!(end_of_all(&mut uring, 1), [(0, true)]);
        closer.join().unwrap().unwrap();
        assert!(store.is_closed());
    }
}
