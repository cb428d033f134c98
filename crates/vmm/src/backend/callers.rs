//! Who wants to speak with a program in the guest: connections to a Unix socket.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};

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
        Ok(Box::new(Stream(stream)))
    }
}

struct Stream(UnixStream);

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Stream {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.0.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Caller for Stream {
    fn finish(&mut self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }
}
