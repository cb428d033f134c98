//! Waiting for any of a handful of descriptors, for a time.
#![allow(unsafe_code, reason = "the system call poll")]

use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// What to wait for, collected anew each time: the set is small and changes with every connection.
#[derive(Default)]
pub(crate) struct Poll(Vec<libc::pollfd>);

impl Poll {
    /// Waits for input, for room for output, or only for the other end to go away.
    pub(crate) fn add(&mut self, fd: RawFd, input: bool, output: bool) {
        let wanted = |want: bool, flag| if want { flag } else { 0 };
        let events = wanted(input, libc::POLLIN) | wanted(output, libc::POLLOUT);
        self.0.push(libc::pollfd { fd, events, revents: 0 });
    }

    /// Waits until something is ready, or this moment has come.
    pub(crate) fn wait(&mut self, until: Option<Instant>) -> io::Result<()> {
        let count = libc::nfds_t::try_from(self.0.len()).unwrap_or(libc::nfds_t::MAX);
        // SAFETY: the array is ours, of that many elements, and the kernel writes only `revents`.
        let result = unsafe { libc::poll(self.0.as_mut_ptr(), count, timeout(until)) };
        let error = io::Error::last_os_error();
        if result >= 0 || error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) }
    }

    /// Whether there is input, or an end of it.
    pub(crate) fn has_input(&self, fd: RawFd) -> bool {
        self.has(fd, libc::POLLIN | libc::POLLHUP | libc::POLLERR)
    }

    /// Whether the other end is gone for good.
    pub(crate) fn is_gone(&self, fd: RawFd) -> bool {
        self.has(fd, libc::POLLHUP | libc::POLLERR | libc::POLLNVAL)
    }

    fn has(&self, fd: RawFd, flags: libc::c_short) -> bool {
        self.0.iter().any(|entry| entry.fd == fd && entry.revents & flags != 0)
    }
}

/// Milliseconds until then, rounded up, so that the moment has come when the wait ends.
fn timeout(until: Option<Instant>) -> libc::c_int {
    let Some(until) = until else { return -1 };
    let left = until.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
    libc::c_int::try_from(left.as_millis()).unwrap_or(libc::c_int::MAX)
}
