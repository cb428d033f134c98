//! What stands behind a device that can be taken away from it while it works.
//!
//! A device's thread uses its backing call by call. Taking it away waits for the calls under way and fails the
//! later ones, so that a volume is unlocked and a TAP free for others though the guest, or a thread of
//! ours, has not let go of the device yet.

use std::io;
use std::ops::Range;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use devices::memory::{Memory, Piece};
use devices::virtio::block::Backend;
use devices::virtio::net::{Link, Offloads, Way};
use devices::virtio::queue::Ring;

use super::Tap;

/// A disk's bytes, and what the monitor itself does with them.
pub(crate) trait Store: Backend {
    /// Makes it larger, to so many bytes; never smaller.
    fn grow(&self, bytes: u64) -> io::Result<()>;
    /// The file in which all of a range of bytes lies, at the same offset, to be read from. `None` where it lies in
    /// several.
    fn file_of(&self, range: Range<u64>) -> Option<BorrowedFd<'_>>;
}

/// Between two looks at whether nobody holds a backing any more.
const LAST_HOLDS: Duration = Duration::from_millis(1);

/// A backing, until it is taken away.
pub(crate) struct Removable<T: ?Sized> {
    backing: RwLock<Option<Arc<T>>>,
    closed: AtomicBool,
    /// The first thing that it did not do, in a sentence.
    failure: Mutex<Option<String>>,
}

impl<T: ?Sized> Removable<T> {
    pub(crate) fn new(backing: Box<T>) -> Self {
        Self {
            backing: RwLock::new(Some(backing.into())),
            closed: AtomicBool::new(false),
            failure: Mutex::default(),
        }
    }

    /// Whether it was taken away and is closed: others may have it.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Takes it away as soon as nobody is using it, does the last thing with it, and closes it.
    fn close_after<R>(&self, last: impl FnOnce(&T) -> R) -> Option<R> {
        let backing = self.backing.write().unwrap_or_else(PoisonError::into_inner).take()?;
        // Those who hold it have something under way that ends by itself, and nobody new can get hold of it.
        while Arc::strong_count(&backing) > 1 {
            std::thread::sleep(LAST_HOLDS);
        }
        let result = last(&backing);
        drop(backing);
        self.closed.store(true, Ordering::Release);
        Some(result)
    }

    fn with<R>(&self, call: impl FnOnce(&T) -> io::Result<R>) -> io::Result<R> {
        let backing = self.backing.read().unwrap_or_else(PoisonError::into_inner);
        backing.as_deref().map_or_else(|| Err(io::ErrorKind::NotConnected.into()), call)
    }
}

impl Removable<dyn Store> {
    /// Closes it, with all that the guest was told to be written on stable storage.
    pub(crate) fn close(&self) -> io::Result<()> {
        self.close_after(|store| store.flush()).unwrap_or(Ok(()))
    }

    /// Makes it larger.
    pub(crate) fn grow(&self, bytes: u64) -> io::Result<()> {
        self.with(|store| store.grow(bytes))
    }

    /// The backing, kept from being taken away until this is dropped: for who begins something and does not wait.
    pub(crate) fn hold(&self) -> Option<Arc<dyn Store>> {
        self.backing.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first thing that it did not do for the guest, which then got an I/O error, and why.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Does something for the guest, and remembers why where it fails.
    fn work(&self, what: &str, call: impl FnOnce(&dyn Store) -> io::Result<()>) -> io::Result<()> {
        self.with(|store| {
            call(store).inspect_err(|error| {
                let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
                failure.get_or_insert_with(|| format!("{what} failed: {error}"));
            })
        })
    }
}

impl Backend for Removable<dyn Store> {
    /// A disk that is gone has no sector, so that no request gets further than that.
    fn size(&self) -> u64 {
        self.with(|store| Ok(store.size())).unwrap_or_default()
    }

    fn read(&self, offset: u64, into: &[Piece<'_>]) -> io::Result<()> {
        self.work("A read", |store| store.read(offset, into))
    }

    fn write(&self, offset: u64, from: &[Piece<'_>]) -> io::Result<()> {
        self.work("A write", |store| store.write(offset, from))
    }

    fn flush(&self) -> io::Result<()> {
        self.work("A flush", |store| store.flush())
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.work("A discard", |store| store.discard(offset, len))
    }

    fn write_zeroes(&self, offset: u64, len: u64, release: bool) -> io::Result<()> {
        self.work("Writing zeros", |store| store.write_zeroes(offset, len, release))
    }
}

impl Removable<Tap> {
    /// Closes it.
    pub(crate) fn close(&self) {
        self.close_after(|_| ());
    }
}

impl Link for Removable<Tap> {
    fn queues(&self) -> usize {
        self.with(|tap| Ok(tap.queues())).unwrap_or_default()
    }

    fn event(&self, queue: usize) -> RawFd {
        self.with(|tap| Ok(tap.event(queue))).unwrap_or(-1)
    }

    fn receive(&self, queue: usize, into: &[Piece<'_>]) -> io::Result<usize> {
        self.with(|tap| tap.receive(queue, into))
    }

    fn send(&self, queue: usize, from: &[Piece<'_>]) -> io::Result<()> {
        self.with(|tap| tap.send(queue, from))
    }

    fn segments_udp(&self) -> bool {
        self.with(|tap| Ok(tap.segments_udp())).unwrap_or(false)
    }

    fn set_offloads(&self, offloads: Offloads) -> io::Result<()> {
        self.with(|tap| tap.set_offloads(offloads))
    }

    fn carries(&self) -> bool {
        self.with(|tap| Ok(tap.carries())).unwrap_or(false)
    }

    fn carry(&self, queue: usize, memory: &Memory, features: u64, rings: [&Ring; 2]) -> io::Result<()> {
        self.with(|tap| tap.carry(queue, memory, features, rings))
    }

    fn carried(&self, queue: usize, way: Way) -> RawFd {
        self.with(|tap| Ok(tap.carried(queue, way))).unwrap_or(-1)
    }

    fn carry_no_more(&self, queue: usize) -> io::Result<[u16; 2]> {
        self.with(|tap| tap.carry_no_more(queue))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Answers a flush when it is told to.
    struct Slow {
        begun: Sender<()>,
        go_on: std::sync::Mutex<Receiver<()>>,
    }

    impl Backend for Slow {
        fn size(&self) -> u64 {
            4096
        }
        fn read(&self, _offset: u64, _into: &[Piece<'_>]) -> io::Result<()> {
            Ok(())
        }
        fn write(&self, _offset: u64, _from: &[Piece<'_>]) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            self.begun.send(()).map_err(io::Error::other)?;
            self.go_on.lock().unwrap().recv().map_err(io::Error::other)
        }
        fn discard(&self, _offset: u64, _len: u64) -> io::Result<()> {
            Err(io::Error::other("no room"))
        }
        fn write_zeroes(&self, _offset: u64, _len: u64, _release: bool) -> io::Result<()> {
            Ok(())
        }
    }

    impl Store for Slow {
        fn grow(&self, _bytes: u64) -> io::Result<()> {
            Ok(())
        }
        fn file_of(&self, _range: Range<u64>) -> Option<BorrowedFd<'_>> {
            None
        }
    }

    #[test]
    fn closing_waits_for_what_is_under_way_and_flushes() {
        let ((begun, begins), (goes, go_on)) = (channel(), channel());
        let slow = Slow { begun, go_on: std::sync::Mutex::new(go_on) };
        let store: Arc<Removable<dyn Store>> = Arc::new(Removable::new(Box::new(slow)));
        assert!(store.read(0, &[]).is_ok() && store.size() == 4096);
        let (worker, closer) = (store.clone(), store.clone());
        let worker = std::thread::spawn(move || worker.flush());
        begins.recv().unwrap();
        let closer = std::thread::spawn(move || closer.close());
        goes.send(()).unwrap();
        worker.join().unwrap().unwrap();
        begins.recv().unwrap(); // the close's own flush
        assert!(!store.is_closed() && store.size() == 0);
        goes.send(()).unwrap();
        closer.join().unwrap().unwrap();
        assert!(store.is_closed());
        assert_eq!(store.read(0, &[]).unwrap_err().kind(), io::ErrorKind::NotConnected);
        assert_eq!(store.failure(), None);
        assert!(store.close().is_ok());
    }

    #[test]
    fn the_first_failure_is_remembered() {
        let ((begun, begins), (goes, go_on)) = (channel(), channel());
        let slow = Slow { begun, go_on: std::sync::Mutex::new(go_on) };
        let store: Removable<dyn Store> = Removable::new(Box::new(slow));
        assert_eq!(store.failure(), None);
        assert!(store.discard(0, 512).is_err());
        drop((begins, goes));
        assert!(store.flush().is_err());
        assert_eq!(store.failure().as_deref(), Some("A discard failed: no room"));
    }
}
