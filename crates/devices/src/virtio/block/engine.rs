//! What a disk's thread hands reads to that go on while it does something else.

use std::io;
use std::os::fd::RawFd;

use crate::memory::{Memory, Piece};

/// A read that an [`Engine`] is to carry out.
#[derive(Clone, Copy, Debug)]
pub struct Read<'p, 'm> {
    /// From where on the disk, in bytes.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
    /// To where in guest memory.
    pub pieces: &'p [Piece<'m>],
}

/// Carries out reads, many at a time. It does what it can do at once and leaves the rest to the disk's
/// [`super::Backend`]: a read that it does not begin, or that ends otherwise than whole, is done there, by who can wait
/// and say what is wrong. Used by one thread at a time, the disk's.
pub trait Engine: Send {
    /// What becomes readable, as an edge, when a read has ended.
    fn event(&self) -> RawFd;
    /// The reads to come are into this memory: the engine keeps it mapped as long as one is under way.
    fn enter(&mut self, memory: &Memory);
    /// Begins a read that ends under this tag, of which none is under way; whether it did. The kernel hears of it after
    /// [`Self::submit`].
    fn begin(&mut self, tag: u16, read: Read<'_, '_>) -> bool;
    /// Hands over what was begun. After an error nothing will come of it, and nothing will be begun any more.
    fn submit(&mut self) -> io::Result<()>;
    /// A read that has ended, and whether whole.
    fn ended(&mut self) -> Option<(u16, bool)>;
    /// Waits until one has ended, or a moment.
    fn wait(&mut self);
    /// Waits until none is under way.
    fn leave(&mut self);
}
