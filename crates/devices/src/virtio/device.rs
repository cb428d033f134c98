//! What a kind of device must answer, and the thread on which it works.
//!
//! ```text
//!            start                    stop, then the ring is left
//!    idle ───────────▶ at work ──────────────────────────────────▶ idle
//!     ▲                   │ the driver broke a rule
//!     └───────────────────┘ (DEVICE_NEEDS_RESET)
//! ```
//!
//! A worker's thread is made with the machine, before the guest runs, and ends with it; a driver that
//! comes and goes makes no thread. Starting and stopping never wait: whether a worker is idle again is
//! asked ([`Worker::is_idle`]), so that the vCPU that resets a device is not held up by a disk.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::pci::Notifier;
use super::queue::{Broken, Position, Ring};
use crate::lock;
use crate::memory::Memory;

/// Which kind of device, and what PCI calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The virtio device id (virtio 1.2, chapter 5).
    pub id: u16,
    /// The PCI class code.
    pub class: u32,
    /// For names of threads and messages.
    pub name: &'static str,
}

/// A kind of device: what it offers, and its work.
pub trait Device: Send + 'static {
    /// What it is.
    fn kind(&self) -> Kind;
    /// The feature bits of this kind that it offers; those of rings and transport are not its affair.
    fn features(&self) -> u64;
    /// The greatest size of each of its queues, powers of two.
    fn queue_sizes(&self) -> Vec<u16>;
    /// Its configuration, as the driver reads it.
    fn config(&self) -> Vec<u8>;
    /// Works until told to stop, or the driver breaks a rule. Who stops leaves nothing under way: what was taken off a
    /// ring is answered or put back, because somebody may go on there (see [`Worker::left`]).
    fn run(&mut self, active: &mut Active, stop: &Stop) -> Result<(), Broken>;
}

/// What a driver has set up.
pub struct Active {
    /// The guest's memory.
    pub memory: Memory,
    /// The features that both sides agreed on.
    pub features: u64,
    /// The rings; `None` where the driver left a queue out.
    pub rings: Vec<Option<Ring>>,
    /// What the device has to know again should it stop and go on, besides its rings' positions; 0 at the driver's start.
    pub kept: u64,
}

/// How a device left its rings when it stopped.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Left {
    /// Of each ring that there is.
    pub positions: Vec<Option<Position>>,
    /// See [`Active::kept`].
    pub kept: u64,
}

impl Active {
    /// Whether the feature with this bit number was agreed on.
    pub fn has(&self, bit: u32) -> bool {
        self.features & (1 << bit) != 0
    }
}

/// The word to stop.
#[derive(Debug)]
pub struct Stop {
    event: EventFd,
    said: AtomicBool,
}

impl Stop {
    /// A word not said yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self { event: EventFd::new(EFD_NONBLOCK)?, said: AtomicBool::new(false) })
    }

    /// Says it.
    pub fn say(&self) {
        self.said.store(true, Ordering::Release);
        // An event descriptor's counter that is full is readable all the same.
        let _ = self.event.write(1);
    }

    /// Whether it was said.
    pub fn said(&self) -> bool {
        self.said.load(Ordering::Acquire)
    }

    fn take_back(&self) {
        // Nothing to read is fine.
        let _ = self.event.read();
        self.said.store(false, Ordering::Release);
    }
}

/// Waits for a device's own events and the word to stop, on its thread.
///
/// Events are edges: whoever waits has done all there was to do, or knows by which other event it will go on.
pub struct Wait(Epoll);

impl Wait {
    /// Waits for these descriptors to become readable, at most [`Self::MOST`].
    pub fn new(stop: &Stop, sources: &[RawFd]) -> Result<Self, Broken> {
        debug_assert!(sources.len() <= Self::MOST);
        let set_up = || {
            let epoll = Epoll::new()?;
            let add = |fd, set, bit| epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(set, bit));
            add(stop.event.as_raw_fd(), EventSet::IN, 0)?;
            for (index, fd) in sources.iter().enumerate() {
                add(*fd, EventSet::IN | EventSet::EDGE_TRIGGERED, 1 << index)?;
            }
            io::Result::Ok(Self(epoll))
        };
        set_up().map_err(|_| Broken("the host refused to wait for the device's events"))
    }

    /// As many sources as there are bits to say which of them.
    pub const MOST: usize = 64;

    /// Until something happened; a bit for each source of which it is known, counted from the lowest. The others' turn
    /// comes with the next waiting.
    pub fn wait(&self) -> Result<u64, Broken> {
        let mut events = [EpollEvent::default(); 8];
        match self.0.wait(-1, &mut events) {
            Ok(count) => Ok(events.iter().take(count).fold(0, |all, event| all | event.data())),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(_) => Err(Broken("the host failed to wait for the device's events")),
        }
    }
}

/// The thread of one device.
pub struct Worker {
    work: Option<Sender<Active>>,
    stop: Arc<Stop>,
    idle: Arc<AtomicBool>,
    left: Arc<Mutex<Option<Left>>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread; it waits for [`Self::start`].
    pub fn new(mut device: Box<dyn Device>, notifier: Arc<Notifier>) -> io::Result<Self> {
        let (work, orders) = channel::<Active>();
        let stop = Arc::new(Stop::new()?);
        let idle = Arc::new(AtomicBool::new(true));
        let left = Arc::new(Mutex::new(None));
        let name = device.kind().name.to_owned();
        let thread = std::thread::Builder::new().name(name).spawn({
            let (stop, idle, left) = (stop.clone(), idle.clone(), left.clone());
            move || {
                while let Ok(mut active) = orders.recv() {
                    let end = device.run(&mut active, &stop);
                    let positions = active.rings.iter().map(|ring| ring.as_ref().map(Ring::position));
                    *lock(&left) = Some(Left { positions: positions.collect(), kept: active.kept });
                    drop(active);
                    if end.is_err() {
                        notifier.needs_reset();
                    }
                    idle.store(true, Ordering::Release);
                }
            }
        })?;
        Ok(Self { work: Some(work), stop, idle, left, thread: Some(thread) })
    }

    /// Sets the device to work. It must be idle.
    pub fn start(&self, active: Active) {
        self.idle.store(false, Ordering::Release);
        if let Some(work) = &self.work {
            // The thread ends only after `work` is dropped.
            let _ = work.send(active);
        }
    }

    /// How the device left its rings when it last stopped; nothing before it ever worked.
    pub fn left(&self) -> Option<Left> {
        lock(&self.left).clone()
    }

    /// Tells the device to stop.
    pub fn stop(&self) {
        self.stop.say();
    }

    /// Whether the device has left guest memory alone. The answer yes takes back an earlier word to stop.
    pub fn is_idle(&self) -> bool {
        let idle = self.idle.load(Ordering::Acquire);
        if idle {
            self.stop.take_back();
        }
        idle
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
        self.work = None;
        if let Some(thread) = self.thread.take() {
            // A device's thread that panicked has told so already.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::virtio::queue::tests::memory;

    struct Waiter {
        broken: bool,
    }

    impl Device for Waiter {
        fn kind(&self) -> Kind {
            Kind { id: 0, class: 0, name: "waiter" }
        }
        fn features(&self) -> u64 {
            0
        }
        fn queue_sizes(&self) -> Vec<u16> {
            Vec::new()
        }
        fn config(&self) -> Vec<u8> {
            Vec::new()
        }
        fn run(&mut self, _active: &mut Active, stop: &Stop) -> Result<(), Broken> {
            if self.broken {
                return Err(Broken("as asked"));
            }
            let wait = Wait::new(stop, &[])?;
            while !stop.said() {
                wait.wait()?;
            }
            Ok(())
        }
    }

    fn until_idle(worker: &Worker) {
        let begin = Instant::now();
        while !worker.is_idle() {
            assert!(begin.elapsed() < Duration::from_secs(10), "the worker hangs");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_worker_stops_and_starts_again_however_soon_it_is_told() {
        let worker = Worker::new(Box::new(Waiter { broken: false }), Arc::new(Notifier::silent(0))).unwrap();
        assert!(worker.is_idle());
        for _ in 0..50 {
            worker.start(Active { memory: memory(), features: 0, rings: Vec::new(), kept: 0 });
            assert!(!worker.is_idle());
            worker.stop();
            until_idle(&worker);
        }
        worker.start(Active { memory: memory(), features: 0, rings: Vec::new(), kept: 0 });
        drop(worker); // ends though at work
    }

    #[test]
    fn a_broken_driver_is_told() {
        let notifier = Arc::new(Notifier::silent(0));
        let worker = Worker::new(Box::new(Waiter { broken: true }), notifier.clone()).unwrap();
        worker.start(Active { memory: memory(), features: 0, rings: Vec::new(), kept: 0 });
        until_idle(&worker);
        assert!(notifier.is_broken());
    }
}
