//! The sockets at work for one driver, from its start to its reset: packets off the rings and onto them, bytes from and to
//! callers.
//!
//! All is bounded: callers by [`MOST_CONNECTIONS`] (who comes when there are so many waits in his queue), what waits for a
//! caller by the room that its guest was told of, and refusals that the guest has not fetched by [`MOST_REFUSALS`]: while
//! there are so many, nothing is taken off its ring.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::Callers;
use super::connection::{Connection, Heard};
use super::line::{Asked, Line, Phase};
use super::packet::{Credit, HEADER, Header, Operation, Packet, Ports, Refusal};
use crate::memory::Memory;
use crate::virtio::queue::{Broken, Chain, Ring};

/// Callers at a time.
pub const MOST_CONNECTIONS: usize = 128;
/// Refusals that wait for the guest before no more of its packets are taken.
const MOST_REFUSALS: usize = 64;
/// Packets in one direction before the other has its turn.
const TURN: usize = 64;
/// The ports that callers are given begin here, far above those that programs choose.
const FIRST_PORT: u32 = 1 << 30;

/// All connections.
pub struct Session<'d> {
    callers: &'d dyn Callers,
    guest: u32,
    /// What happens to callers who were let in.
    crowd: Epoll,
    lines: Vec<Option<Line>>,
    by_ports: BTreeMap<Ports, usize>,
    /// The guest is told that there are no such connections.
    refusals: VecDeque<Ports>,
    /// The port that the next caller is given, if it is free.
    port: u32,
    /// Whose turn it is to send to the guest.
    next: usize,
    /// A place became free, which somebody may wait for.
    freed: bool,
    payload: Vec<u8>,
}

impl<'d> Session<'d> {
    /// None yet, with the guest of this address.
    pub fn new(callers: &'d dyn Callers, guest: u32) -> io::Result<Self> {
        Ok(Self {
            callers,
            guest,
            crowd: Epoll::new()?,
            lines: (0..MOST_CONNECTIONS).map(|_| None).collect(),
            by_ports: BTreeMap::new(),
            refusals: VecDeque::new(),
            port: FIRST_PORT,
            next: 0,
            freed: false,
            payload: Vec::new(),
        })
    }

    /// What becomes readable when something happens to a caller who was let in.
    pub fn event(&self) -> RawFd {
        self.crowd.as_raw_fd()
    }

    /// Does some of what there is to do; whether there may be more at once.
    pub fn turn(
        &mut self,
        to_guest: &mut Ring,
        from_guest: &mut Ring,
        memory: &Memory,
    ) -> Result<bool, Broken> {
        let mut more = self.listen()?;
        self.let_in();
        more |= self.take_packets(from_guest, memory)?;
        self.look_after_all();
        let held = self.refuses_enough();
        more |= self.send_packets(to_guest, memory)?;
        Ok(more | std::mem::take(&mut self.freed) | (held && !self.refuses_enough()))
    }

    /// Hears what happened to callers; whether that was not all.
    fn listen(&mut self) -> Result<bool, Broken> {
        let mut events = [EpollEvent::default(); 32];
        let count = match self.crowd.wait(0, &mut events) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(_) => return Err(Broken("the host failed to wait for callers")),
        };
        for event in events.iter().take(count) {
            let gone = event.event_set().intersects(EventSet::HANG_UP | EventSet::ERROR);
            let index = usize::try_from(event.data()).unwrap_or(usize::MAX);
            if let Some(Some(line)) = self.lines.get_mut(index) {
                line.wake(gone);
            }
        }
        Ok(count == events.len())
    }

    /// Lets callers in, as long as there is room.
    fn let_in(&mut self) {
        while let Some(index) = self.lines.iter().position(Option::is_none) {
            // Who cannot be let in now, for whatever reason, is heard of again with the next one.
            let Ok(caller) = self.callers.next() else { return };
            let all = EventSet::IN | EventSet::OUT | EventSet::READ_HANG_UP | EventSet::EDGE_TRIGGERED;
            let event = EpollEvent::new(all, u64::try_from(index).unwrap_or(u64::MAX));
            if self.crowd.ctl(ControlOperation::Add, caller.as_raw_fd(), event).is_ok() {
                self.lines[index] = Some(Line::new(caller));
            }
        }
    }

    /// Takes what the guest sends; whether its turn ended first.
    fn take_packets(&mut self, ring: &mut Ring, memory: &Memory) -> Result<bool, Broken> {
        for _ in 0..TURN {
            if self.refuses_enough() {
                // The bell of the other ring rings when the guest has made room for them.
                ring.publish(memory)?;
                return Ok(false);
            }
            let Some(Chain { head, readable, .. }) = ring.next(memory)? else {
                ring.publish(memory)?;
                return ring.arm(memory);
            };
            match Packet::parse(readable, self.guest.into()) {
                Ok(packet) => self.hear(&packet),
                Err(Refusal::Nonsense(ports)) => self.refuse(ports),
                Err(Refusal::Ignored) => {}
            }
            ring.complete(memory, head, 0)?;
        }
        ring.publish(memory)?;
        Ok(true)
    }

    fn hear(&mut self, packet: &Packet<'_>) {
        let Header { ports, operation, credit } = packet.header;
        let line = self.by_ports.get(&ports).and_then(|index| self.lines.get_mut(*index)?.as_mut());
        let Some(line) = line else {
            // The guest asks for somebody, and nobody listens; or it speaks to who is gone.
            if operation != Operation::Reset {
                self.refusals.push_back(ports);
            }
            return;
        };
        let Phase::Connected(_, connection) = &mut line.phase else { return };
        let refused = match connection.hear(operation, credit, packet.payload.len()) {
            Heard::Nothing => false,
            Heard::Opened => line.greet(ports).is_err(),
            Heard::Bytes => {
                line.keep(&packet.payload);
                false
            }
            Heard::Gone => {
                line.flush();
                self.end(ports);
                false
            }
            Heard::Broken => true,
        };
        if refused {
            self.refuse(ports);
        }
    }

    /// Ends a connection, and tells the guest.
    fn refuse(&mut self, ports: Ports) {
        self.end(ports);
        self.refusals.push_back(ports);
    }

    /// Ends a connection, if there is one.
    fn end(&mut self, ports: Ports) {
        if let Some(index) = self.by_ports.remove(&ports) {
            self.free(index);
        }
    }

    fn free(&mut self, index: usize) {
        self.lines[index] = None;
        self.freed = true;
    }

    fn refuses_enough(&self) -> bool {
        self.refusals.len() >= MOST_REFUSALS
    }

    /// Carries on with every caller: what he wants, what he has not been given, whether he is done.
    fn look_after_all(&mut self) {
        for index in 0..self.lines.len() {
            let Some(line) = &mut self.lines[index] else { continue };
            match &line.phase {
                Phase::Asking(_) => match line.ask() {
                    Asked::NotYet => {}
                    Asked::Nothing => self.free(index),
                    Asked::Port(guest) => self.connect(index, guest),
                },
                Phase::Connected(..) => {
                    line.flush();
                    self.end_if_over(index);
                }
            }
        }
    }

    fn end_if_over(&mut self, index: usize) {
        let line = self.lines.get(index).and_then(Option::as_ref);
        match line.and_then(|line| Some((line.is_over()?, line.is_known()))) {
            Some((ports, true)) => self.refuse(ports),
            Some((ports, false)) => self.end(ports),
            None => {}
        }
    }

    fn connect(&mut self, index: usize, guest: u32) {
        // There are more ports than callers, so one is free.
        let free = |host: &u32| !self.by_ports.contains_key(&Ports { guest, host: *host });
        let mut hosts = std::iter::successors(Some(self.port), |port| Some(after(*port)));
        let host = hosts.find(free).unwrap_or(self.port);
        self.port = after(host);
        let ports = Ports { guest, host };
        self.by_ports.insert(ports, index);
        if let Some(line) = &mut self.lines[index] {
            line.phase = Phase::Connected(ports, Connection::new());
        }
    }

    /// Sends to the guest, each connection in turn, as long as it has buffers; whether its turn ended first.
    fn send_packets(&mut self, ring: &mut Ring, memory: &Memory) -> Result<bool, Broken> {
        for _ in 0..TURN {
            let Some(index) = self.who_is_next() else {
                ring.publish(memory)?;
                return Ok(false);
            };
            let Some(chain) = ring.next(memory)? else {
                ring.publish(memory)?;
                return ring.arm(memory);
            };
            let Some(room) = chain.writable.len().checked_sub(HEADER + 1) else {
                return Err(Broken("a receive buffer does not hold a header and a byte"));
            };
            match self.write_packet(index, room + 1) {
                Some(header) => {
                    let mut buffer = chain.writable;
                    buffer.take_front(HEADER).map(|front| front.copy_from(&header));
                    let written = buffer.copy_from(&self.payload);
                    ring.complete(memory, chain.head, HEADER + written)?;
                }
                None => ring.put_back(),
            }
        }
        ring.publish(memory)?;
        Ok(true)
    }

    /// Who has something for the guest: a connection, or where it is one behind the last, the refusals.
    fn who_is_next(&self) -> Option<usize> {
        if !self.refusals.is_empty() {
            return Some(self.lines.len());
        }
        let has_packet =
            |index: &usize| self.lines.get(*index).and_then(Option::as_ref).is_some_and(Line::has_packet);
        (self.next..self.lines.len()).chain(0..self.next).find(has_packet)
    }

    /// The header of a packet to the guest, whose payload, at most `room` bytes, is then in `self.payload`; none where it
    /// turns out that there is nothing to send.
    fn write_packet(&mut self, index: usize, room: usize) -> Option<[u8; HEADER]> {
        let guest = u64::from(self.guest);
        let Some(line) = self.lines.get_mut(index) else {
            self.payload.clear();
            let ports = self.refusals.pop_front()?;
            let header = Header { ports, operation: Operation::Reset, credit: Credit::default() };
            return Some(header.to_guest(guest, 0));
        };
        self.next = (index + 1) % MOST_CONNECTIONS;
        let header = line.as_mut()?.packet(room, &mut self.payload);
        self.end_if_over(index);
        let len = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        header.map(|header| header.to_guest(guest, len))
    }

    /// Connections and refusals that there are: both are bounded.
    pub fn counts(&self) -> (usize, usize) {
        (self.lines.iter().flatten().count(), self.refusals.len())
    }
}

/// The port after this one; the last number of all means any port.
fn after(port: u32) -> u32 {
    match port.checked_add(1) {
        None | Some(u32::MAX) => FIRST_PORT,
        Some(next) => next,
    }
}
