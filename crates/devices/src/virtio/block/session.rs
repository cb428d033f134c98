//! A disk at work for one driver, from its start to its reset: takes requests off the rings, carries them out or has
//! them carried out, and gives them back.
//!
//! Reads go to the [`Engine`] where there is one, as many as [`MOST_UNDER_WAY`] at a time, and come back in whatever
//! order they end; a driver that needs an order waits for answers (virtio 1.2, 5.2.6.2). All other requests are done on
//! the spot.

use super::engine::{Engine, Read};
use super::request::{Operation, Refusal, Request};
use super::{Face, SECTOR, STATUS_IO_ERROR, STATUS_OK, STATUS_UNSUPPORTED};
use crate::memory::{Memory, Span};
use crate::virtio::device::Stop;
use crate::virtio::queue::{Broken, Ring};

/// Reads that are under way at most; their tags are below it.
pub const MOST_UNDER_WAY: u16 = 64;
/// Requests from one queue before the next has its turn.
const TURN: usize = 32;
/// What counts as one operation, in bytes, before a request counts as several: as EBS counts on SSDs.
const OPERATION: u64 = 256 << 10;

/// A request, taken off its ring and not answered yet.
struct Asked<'m> {
    queue: usize,
    head: u16,
    operation: Operation<'m>,
    status: Span<'m>,
}

/// The disk at work.
pub(super) struct Session<'d, 'm> {
    face: &'d Face,
    engine: Option<&'d mut Box<dyn Engine>>,
    memory: &'m Memory,
    /// Without FLUSH the driver takes every write for stable (5.2.6.2).
    write_through: bool,
    /// By tag.
    under_way: Vec<Option<Asked<'m>>>,
    free_tags: Vec<u16>,
}

impl<'d, 'm> Session<'d, 'm> {
    pub(super) fn new(
        face: &'d Face,
        mut engine: Option<&'d mut Box<dyn Engine>>,
        memory: &'m Memory,
        write_through: bool,
    ) -> Self {
        if let Some(engine) = &mut engine {
            engine.enter(memory);
        }
        let tags = if engine.is_some() { MOST_UNDER_WAY } else { 0 };
        let under_way = (0..tags).map(|_| None).collect();
        Self { face, engine, memory, write_through, under_way, free_tags: (0..tags).collect() }
    }

    /// Takes each ring's turn; whether there may be more to do at once.
    pub(super) fn turn(&mut self, rings: &mut [Option<Ring>], stop: &Stop) -> Result<bool, Broken> {
        let mut more = false;
        for (queue, ring) in rings.iter_mut().enumerate() {
            if let Some(ring) = ring {
                more |= self.serve(queue, ring, stop)?;
            }
        }
        if let Some(engine) = &mut self.engine {
            engine.submit().map_err(|_| Broken("the host takes no more of the disk's requests"))?;
        }
        more |= self.give_back(rings)?;
        Ok(more)
    }

    /// Waits for what is under way and answers it.
    pub(super) fn finish(&mut self, rings: &mut [Option<Ring>]) -> Result<(), Broken> {
        while self.free_tags.len() < self.under_way.len() {
            if let Some(engine) = &mut self.engine {
                engine.wait();
            }
            self.give_back(rings)?;
        }
        Ok(())
    }

    /// Does or begins what is asked in one ring; whether its turn ended before its requests. Answers are shown together: a
    /// driver that is interrupted for the first asks for the next at once, and never again for many.
    pub(super) fn serve(&mut self, queue: usize, ring: &mut Ring, stop: &Stop) -> Result<bool, Broken> {
        let more = self.take(queue, ring, stop);
        ring.publish(self.memory)?;
        more
    }

    fn take(&mut self, queue: usize, ring: &mut Ring, stop: &Stop) -> Result<bool, Broken> {
        for _ in 0..TURN {
            if stop.said() || self.is_full() || !self.face.limiter.admits() {
                // What is waited for has an event: the word, the engine's, the limiter's.
                return Ok(false);
            }
            let Some(chain) = ring.next(self.memory)? else { return ring.arm(self.memory) };
            let head = chain.head;
            let Request { operation, status } = Request::parse(chain, self.face.backend.size() / SECTOR)?;
            match operation {
                Ok(operation) => {
                    self.face.limiter.count(operation.count(OPERATION), operation.bytes());
                    self.do_or_begin(ring, Asked { queue, head, operation, status })?;
                }
                Err(Refusal::Bad) => self.complete(ring, head, &status, Err(STATUS_IO_ERROR))?,
                Err(Refusal::Unknown) => self.complete(ring, head, &status, Err(STATUS_UNSUPPORTED))?,
            }
        }
        Ok(true)
    }

    fn is_full(&self) -> bool {
        self.engine.is_some() && self.free_tags.is_empty()
    }

    fn do_or_begin(&mut self, ring: &mut Ring, request: Asked<'m>) -> Result<(), Broken> {
        match self.begin(&request) {
            Some(tag) => self.under_way[usize::from(tag)] = Some(request),
            None => {
                // A write goes to the page cache; for what may take its time no answer is to wait.
                if !matches!(request.operation, Operation::Write { .. }) || self.write_through {
                    ring.publish(self.memory)?;
                }
                let result = self.carry_out(&request.operation);
                self.complete(ring, request.head, &request.status, result)?;
            }
        }
        Ok(())
    }

    /// Has the engine begin a request, if it can; under which tag.
    fn begin(&mut self, request: &Asked<'_>) -> Option<u16> {
        let Operation::Read { offset, into } = &request.operation else { return None };
        let read = Read { offset: *offset, len: request.operation.bytes(), pieces: into.pieces() };
        let engine = self.engine.as_mut()?;
        let tag = *self.free_tags.last()?;
        if engine.begin(tag, read) { self.free_tags.pop() } else { None }
    }

    /// Answers the reads that have ended; whether there were any.
    fn give_back(&mut self, rings: &mut [Option<Ring>]) -> Result<bool, Broken> {
        let mut any = false;
        while let Some((tag, whole)) = self.engine.as_mut().and_then(|engine| engine.ended()) {
            any = true;
            let Some(request) = self.under_way.get_mut(usize::from(tag)).and_then(Option::take) else {
                continue;
            };
            self.free_tags.push(tag);
            let result = match &request.operation {
                Operation::Read { into, .. } if whole => Ok(into.len()),
                // Done again by who can say what is wrong.
                operation => self.carry_out(operation),
            };
            if let Some(ring) = rings.get_mut(request.queue).and_then(Option::as_mut) {
                self.complete(ring, request.head, &request.status, result)?;
            }
        }
        if any {
            rings.iter_mut().flatten().try_for_each(|ring| ring.publish(self.memory))?;
        }
        Ok(any)
    }

    /// Gives a request back, to be shown to the driver later: bytes written to the guest, or the status that says why not.
    fn complete(
        &self,
        ring: &mut Ring,
        head: u16,
        status: &Span<'_>,
        result: Result<usize, u8>,
    ) -> Result<(), Broken> {
        let (byte, written) = match result {
            Ok(written) => (STATUS_OK, written),
            Err(byte) => (byte, 0),
        };
        status.copy_from(&[byte]);
        ring.complete(self.memory, head, written + 1)
    }

    /// Does it here and now; bytes written to the guest, or the status to give back.
    fn carry_out(&self, operation: &Operation<'_>) -> Result<usize, u8> {
        let backend = &self.face.backend;
        if self.face.read_only && operation.changes() {
            return Err(STATUS_IO_ERROR);
        }
        let done = match operation {
            Operation::Read { offset, into } => {
                return match backend.read(*offset, into.pieces()) {
                    Ok(()) => Ok(into.len()),
                    Err(_) => Err(STATUS_IO_ERROR),
                };
            }
            Operation::Identify { into } => return Ok(into.copy_from(&self.face.serial)),
            Operation::Write { offset, from } => backend.write(*offset, from.pieces()),
            Operation::Flush => backend.flush(),
            Operation::Discard(ranges) => {
                ranges.iter().try_for_each(|range| backend.discard(range.offset, range.len))
            }
            Operation::WriteZeroes(ranges) => ranges
                .iter()
                .try_for_each(|range| backend.write_zeroes(range.offset, range.len, range.release)),
        };
        let stable = if self.write_through && operation.changes() {
            done.and_then(|()| backend.flush())
        } else {
            done
        };
        stable.map(|()| 0).map_err(|_| STATUS_IO_ERROR)
    }
}

impl Drop for Session<'_, '_> {
    /// Guest memory is left before the driver hears that the device has stopped.
    fn drop(&mut self) {
        if let Some(engine) = &mut self.engine {
            engine.leave();
        }
    }
}
