//! What happens in a machine, on its way to the one thread that decides.
//!
//! vCPUs and devices put events in, from any thread, without waiting; the supervisor takes them out, when its
//! [`Events::wake`] is readable.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Mutex, PoisonError};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The guest did something that decides on the machine's life.
    Guest(Guest),
    /// The guest wrote to the console after a silence.
    ConsoleOutput,
    /// The guest took all console input there was.
    ConsoleDrained,
    /// There may be something to do about devices that come and go.
    Devices,
}

/// What a guest did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Guest {
    /// It powered itself off.
    Off,
    /// It wants to begin anew: by the reset register, or because its processor gave up (a triple fault).
    Reset,
    /// Its kernel reported a panic.
    Panicked,
    /// It did what the processor cannot go on from; one sentence says what.
    Crashed(String),
    /// The monitor or the host failed it; one sentence says how.
    Failed(String),
}

/// The queue.
pub(crate) struct Events {
    queue: Mutex<VecDeque<Event>>,
    wake: EventFd,
}

/// A guest can make events faster than they are taken. What is beyond this many says nothing new.
const MOST: usize = 64;

impl Events {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { queue: Mutex::default(), wake: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)? })
    }

    /// Adds an event, unless the same is there already.
    pub(crate) fn push(&self, event: Event) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() < MOST && !queue.contains(&event) {
            queue.push_back(event);
            // A counter that is full is readable too.
            let _ = self.wake.write(1);
        }
    }

    /// Takes all events.
    pub(crate) fn take(&self) -> VecDeque<Event> {
        // Nothing to read is fine.
        let _ = self.wake.read();
        std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Readable when there are events.
    pub(crate) fn wake(&self) -> RawFd {
        self.wake.as_raw_fd()
    }
}
