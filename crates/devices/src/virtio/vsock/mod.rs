//! The socket device (virtio 1.2, 5.10): streams between programs at the host and programs in the guest.
//!
//! ```text
//! packet.rs       what travels in the rings: pure, trusting nothing
//! connection.rs   one connection: what is said, what is owed, how much may be on its way; pure
//! line.rs         who called, and the connection that he was given
//! session.rs      all of them, from the rings to the callers and back
//! ```
//!
//! Connections are begun at the host: a caller says `CONNECT 1234` and a newline, the guest is asked for a connection to
//! its port 1234, and when it agrees the caller hears `OK` with the number of his own port, and is through. Where nobody
//! in the guest listens he is hung up on. What a guest begins is refused: nobody at the host listens.

mod connection;
mod line;
pub mod packet;
mod session;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

pub use self::session::{MOST_CONNECTIONS, Session};
use super::device::{Active, Device, Kind, Stop, Wait};
use super::queue::{Broken, Ring};
use crate::memory::Memory;

/// The lowest address that a guest may have (5.10.4).
pub const FIRST_GUEST: u32 = 3;

/// The host's end of a connection. Does not block.
pub trait Caller: Read + Write + AsRawFd + Send {
    /// Says that nothing more will be written.
    fn finish(&mut self) -> io::Result<()>;
}

impl Caller for UnixStream {
    fn finish(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// Where callers come from.
pub trait Callers: Send + Sync {
    /// What becomes readable when somebody calls.
    fn event(&self) -> RawFd;
    /// The next one; `WouldBlock` when nobody waits.
    fn next(&self) -> io::Result<Box<dyn Caller>>;
}

/// Queue 0 is to the guest, 1 from it; 2 is for what happens to the whole device: all connections are gone.
const QUEUE_SIZES: [u16; 3] = [128, 128, 16];
/// What is kept of a device that has worked.
const WORKED: u64 = 1;
/// It carries streams (5.10.3).
const FEATURES: u64 = 1 << 0;

/// The sockets of a guest.
pub struct Vsock {
    callers: Arc<dyn Callers>,
    guest: u32,
}

impl Vsock {
    /// Those of the guest with this address, [`FIRST_GUEST`] or above.
    pub fn new(callers: Arc<dyn Callers>, guest: u32) -> Self {
        Self { callers, guest }
    }
}

impl Device for Vsock {
    fn kind(&self) -> Kind {
        Kind { id: 19, class: 0x07_80_00, name: "sockets" }
    }

    fn features(&self) -> u64 {
        FEATURES
    }

    fn queue_sizes(&self) -> Vec<u16> {
        QUEUE_SIZES.to_vec()
    }

    /// `struct virtio_vsock_config` (5.10.4).
    fn config(&self) -> Vec<u8> {
        u64::from(self.guest).to_le_bytes().into()
    }

    fn run(&mut self, active: &mut Active, stop: &Stop) -> Result<(), Broken> {
        let Active { memory, rings, kept, .. } = active;
        let [Some(to_guest), Some(from_guest), events] = rings.as_mut_slice() else { return Ok(()) };
        if std::mem::replace(kept, WORKED) == WORKED
            && let Some(events) = events
        {
            tell_of_reset(events, memory)?;
        }
        let mut session = Session::new(self.callers.as_ref(), self.guest)
            .map_err(|_| Broken("the host refused to wait for callers"))?;
        let sources =
            [self.callers.event(), session.event(), to_guest.bell.as_raw_fd(), from_guest.bell.as_raw_fd()];
        let wait = Wait::new(stop, &sources)?;
        while !stop.said() {
            if !session.turn(to_guest, from_guest, memory)? {
                wait.wait()?;
            }
        }
        Ok(())
    }
}

/// Tells the driver that no connection is one any more (5.10.6.7): those of before the device rested are gone.
fn tell_of_reset(events: &mut Ring, memory: &Memory) -> Result<(), Broken> {
    const TRANSPORT_RESET: u32 = 0;
    if let Some(chain) = events.next(memory)? {
        let written = chain.writable.copy_from(&TRANSPORT_RESET.to_le_bytes());
        events.complete(memory, chain.head, written)?;
        events.publish(memory)?;
    }
    Ok(())
}
