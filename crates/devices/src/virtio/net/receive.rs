//! From the link to the guest: packets into buffers that the driver posted.
//!
//! How long the next packet is, nobody knows before it is read. So buffers are taken off the ring until
//! the largest packet would fit, the packet is read into all of them, and those it filled are given back;
//! the others wait for the next. Without MRG_RXBUF a packet has one buffer, and the driver sees to its
//! size (virtio 1.2, 5.1.6.3).

use std::collections::VecDeque;
use std::io;

use super::{HEADER, Link, MOST_PIECES, TURN, payload};
use crate::limits::Limiter;
use crate::memory::{Memory, Piece};
use crate::virtio::queue::{Broken, Chain, Ring};

/// Offset of `num_buffers` in the header: how many buffers the packet fills.
const NUM_BUFFERS: usize = 10;

/// Takes packets off a link.
pub(super) struct Receiver<'m> {
    link: &'m dyn Link,
    limiter: &'m Limiter,
    merge: bool,
    /// Bytes that must be free before a packet is read.
    largest: usize,
    /// Buffers off the ring, empty.
    posted: VecDeque<Chain<'m>>,
}

impl<'m> Receiver<'m> {
    pub(super) fn new(link: &'m dyn Link, limiter: &'m Limiter, merge: bool, largest: usize) -> Self {
        Self { link, limiter, merge, largest, posted: VecDeque::new() }
    }

    /// Takes packets out of each of these queues of the link, as long as there are any, buffers to put them into, and it
    /// is the queue's turn; whether a turn ended first.
    pub(super) fn turn(
        &mut self,
        queues: impl Iterator<Item = usize>,
        ring: &mut Ring,
        memory: &'m Memory,
    ) -> Result<bool, Broken> {
        let mut more = false;
        for queue in queues {
            more |= self.drain(queue, ring, memory)?;
        }
        Ok(more)
    }

    fn drain(&mut self, queue: usize, ring: &mut Ring, memory: &'m Memory) -> Result<bool, Broken> {
        for _ in 0..TURN {
            if !self.has_room(ring, memory)? {
                // The bell rings when there are more buffers; the link keeps its packets until then.
                return ring.arm(memory);
            }
            if !self.limiter.admits() {
                // Its event comes when the next packet may; until then the link keeps it.
                return Ok(false);
            }
            let pieces = self.pieces();
            match self.link.receive(queue, &pieces) {
                Ok(len) => {
                    self.limiter.count(1, payload(len));
                    self.deliver(ring, memory, &pieces, len)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                // The link is down or gone: it says when it is back, if ever.
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Puts the buffers back that wait for packets.
    pub(super) fn put_back(&mut self, ring: &mut Ring) {
        self.posted.drain(..).for_each(|_| ring.put_back());
    }

    fn has_room(&mut self, ring: &mut Ring, memory: &'m Memory) -> Result<bool, Broken> {
        loop {
            let room: usize = self.posted.iter().map(|chain| chain.writable.len()).sum();
            if room >= self.largest || (!self.merge && !self.posted.is_empty()) {
                return Ok(true);
            }
            let pieces: usize = self.posted.iter().map(|chain| chain.writable.pieces().len()).sum();
            if pieces >= MOST_PIECES {
                return Err(Broken("receive buffers are too small"));
            }
            match ring.next(memory)? {
                Some(chain) if chain.writable.len() < HEADER && !self.merge => {
                    return Err(Broken("a receive buffer does not hold the header"));
                }
                Some(chain) => self.posted.push_back(chain),
                None => return Ok(false),
            }
        }
    }

    /// The pieces that the next packet is read into.
    fn pieces(&self) -> Vec<Piece<'m>> {
        let buffers = if self.merge { self.posted.len() } else { 1 };
        let pieces = self.posted.iter().take(buffers).flat_map(|chain| chain.writable.pieces());
        pieces.take(MOST_PIECES).copied().collect()
    }

    /// Gives the buffers back that a packet of `len` bytes lies in.
    fn deliver(
        &mut self,
        ring: &mut Ring,
        memory: &Memory,
        pieces: &[Piece<'_>],
        len: usize,
    ) -> Result<(), Broken> {
        let (mut rest, mut buffers) = (len, 0_u16);
        while let Some(chain) = self.posted.pop_front() {
            let here = rest.min(chain.writable.len());
            ring.complete(memory, chain.head, here)?;
            rest -= here;
            buffers += 1;
            if rest == 0 || !self.merge {
                break;
            }
        }
        put(pieces, NUM_BUFFERS, &buffers.to_le_bytes());
        ring.publish(memory)
    }
}

/// Writes bytes at an offset of what the pieces are together.
fn put(pieces: &[Piece<'_>], offset: usize, bytes: &[u8]) {
    let mut start = 0;
    for piece in pieces {
        for (at, byte) in (offset..).zip(bytes) {
            if let Some(place) = at.checked_sub(start).and_then(|within| piece.subslice(within, 1).ok()) {
                place.copy_from(std::slice::from_ref(byte));
            }
        }
        start += piece.len();
        if start >= offset + bytes.len() {
            break;
        }
    }
}
