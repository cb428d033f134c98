//! Who wants to speak with a program in the guest: connections to a Unix socket.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixListener;

use devices::virtio::vsock::{Caller, Callers};

/// The socket at which they call.
pub(crate) struct CallersAt(UnixListener);

impl CallersAt {
    /// Takes a listening socket over; it is made non-blocking.
    pub(crate) fn new(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }
}

impl Callers for CallersAt {
    fn event(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    fn next(&self) -> io::Result<Box<dyn Caller>> {
        let (stream, _) = self.0.accept()?;
        stream.set_nonblocking(true)?;
        Ok(Box::new(stream))
    }
}
