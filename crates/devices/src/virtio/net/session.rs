//! The interface at work for one driver, from its start to its reset.
//!
//! Pairs have turns, those whose events have come; whoever has more to do than a turn has the next one with all others.
//! A driver begins with one pair and says on the control queue when it uses more. The link's queues are all in use at any
//! time: what comes by one whose pair the driver does not use goes to another pair, so that nothing is to be switched in
//! the host's kernel at a guest's word.
//!
//! Where the host carries packets itself (`carried.rs`), only the control queue is served here, and interrupts are passed on.

use std::os::fd::{AsRawFd, RawFd};

use super::receive::Receiver;
use super::{HEADER, MOST, MOST_PAIRS, MOST_PIECES, Net, TURN, Way, control, feature, payload};
use crate::memory::Memory;
use crate::virtio::device::{Active, Stop, Wait};
use crate::virtio::queue::{Broken, Ring};

/// Who has something to do: a bit for each pair, and one for the control queue.
pub(super) type Due = u64;
const CONTROL: Due = 1 << MOST_PAIRS;
pub(super) const EVERYBODY: Due = Due::MAX;

/// What an event says.
#[derive(Clone, Copy, Debug)]
enum Cause {
    /// Something is to be done for these.
    Of(Due),
    /// A packet waits in this queue of the link.
    Link(usize),
    /// The host, which carries packets itself, has used buffers of this ring of a pair.
    Used(usize, Way),
}

/// A pair of queues.
pub(super) struct Pair<'m> {
    pub(super) receive: Option<&'m mut Ring>,
    pub(super) transmit: Option<&'m mut Ring>,
    receiver: Receiver<'m>,
}

/// The interface at work.
pub(super) struct Session<'m> {
    pub(super) net: &'m Net,
    pub(super) memory: &'m Memory,
    pub(super) pairs: Vec<Pair<'m>>,
    control: Option<&'m mut Ring>,
    /// Pairs that the driver uses, the first ones.
    pub(super) in_use: usize,
    /// The same, where it is found again by who goes on.
    kept: &'m mut u64,
    pub(super) features: u64,
    /// Whether the host can carry packets itself, as far as is known, and of how many pairs it does: the first ones.
    pub(super) can_carry: bool,
    pub(super) carried: usize,
}

impl<'m> Session<'m> {
    pub(super) fn new(net: &'m Net, active: &'m mut Active) -> Self {
        let (merge, largest) = (active.has(feature::MRG_RXBUF), net.largest(active));
        let several = active.has(feature::MQ);
        let with_control = active.has(feature::CTRL_VQ);
        let Active { memory, rings, kept, features } = active;
        // Without MQ there is one pair, and the control queue comes right behind it (5.1.2).
        let count = if several { net.pairs } else { 1 };
        let queues = rings.len().min(2 * count);
        let (data, rest) = rings.split_at_mut(queues);
        let mut pairs = Vec::with_capacity(count);
        for pair in data.chunks_mut(2) {
            let [receive, transmit] = pair else { continue };
            let receiver = Receiver::new(net.link.as_ref(), &net.traffic.received, merge, largest);
            pairs.push(Pair { receive: receive.as_mut(), transmit: transmit.as_mut(), receiver });
        }
        let control = rest.first_mut().and_then(Option::as_mut).filter(|_| with_control);
        let in_use = usize::try_from(*kept).unwrap_or(1).clamp(1, count.max(1));
        let (features, can_carry, carried) = (*features, net.link.carries(), 0);
        Self { net, memory, pairs, control, in_use, kept, features, can_carry, carried }
    }

    /// Works until told to stop.
    pub(super) fn work(mut self, stop: &Stop) -> Result<(), Broken> {
        let worked = self.work_until(stop);
        let taken_back = self.carry_no_more();
        self.pairs.iter_mut().for_each(Pair::leave);
        worked.and(taken_back)
    }

    fn work_until(&mut self, stop: &Stop) -> Result<(), Broken> {
        while !stop.said() {
            self.begin_to_carry()?;
            let (sources, causes): (Vec<RawFd>, Vec<Cause>) = self.events().into_iter().unzip();
            let wait = Wait::new(stop, &sources)?;
            let mut due = EVERYBODY;
            while !stop.said() && self.should_be_carried() == self.is_carried() {
                due = if self.turn(due)? { EVERYBODY } else { self.due(wait.wait()?, &causes) };
            }
            self.carry_no_more()?;
        }
        Ok(())
    }

    /// All that may happen, and what it says.
    fn events(&self) -> Vec<(RawFd, Cause)> {
        let bell = |ring: &Option<&'m mut Ring>, due| {
            ring.as_ref().map(|ring| (ring.bell.as_raw_fd(), Cause::Of(due)))
        };
        let Net { link, traffic, .. } = self.net;
        let mut events: Vec<_> =
            [&traffic.sent, &traffic.received].map(|limiter| (limiter.event(), Cause::Of(EVERYBODY))).into();
        events.extend(bell(&self.control, CONTROL));
        if self.is_carried() {
            for pair in 0..self.net.pairs {
                events.extend(Way::BOTH.map(|way| (link.carried(pair, way), Cause::Used(pair, way))));
            }
            return events;
        }
        events.extend((0..self.net.pairs).map(|queue| (link.event(queue), Cause::Link(queue))));
        for (index, pair) in self.pairs.iter().enumerate() {
            let rings = [&pair.receive, &pair.transmit];
            events.extend(rings.into_iter().filter_map(|ring| bell(ring, 1 << index)));
        }
        events
    }

    /// Who has something to do after these of the events.
    fn due(&self, happened: u64, causes: &[Cause]) -> Due {
        let happened = causes.iter().enumerate().filter(|(index, _)| happened & 1 << index != 0);
        happened.fold(0, |due, (_, cause)| {
            due | match cause {
                Cause::Of(these) => *these,
                Cause::Link(queue) => 1 << (queue % self.in_use),
                Cause::Used(pair, way) => {
                    self.tell(*pair, *way);
                    0
                }
            }
        })
    }

    /// Gives each its turn who has something to do; whether there may be more at once.
    pub(super) fn turn(&mut self, due: Due) -> Result<bool, Broken> {
        let mut more = false;
        if let Some(ring) = self.control.as_mut().filter(|_| due & CONTROL != 0) {
            let before = self.in_use;
            more |= control::serve(ring, self.memory, self.pairs.len(), &mut self.in_use)?;
            // The link's queues have other pairs now.
            more |= self.in_use != before;
            *self.kept = self.in_use as u64;
            self.pairs.iter_mut().skip(self.in_use).for_each(Pair::leave);
        }
        if self.is_carried() {
            return Ok(more);
        }
        for (index, pair) in self.pairs.iter_mut().enumerate().take(self.in_use) {
            if due & 1 << index == 0 {
                continue;
            }
            if let Some(ring) = &mut pair.transmit {
                more |= self.net.transmit(index, ring, self.memory)?;
            }
            if let Some(ring) = &mut pair.receive {
                let queues = (index..self.net.pairs).step_by(self.in_use);
                more |= pair.receiver.turn(queues, ring, self.memory)?;
            }
        }
        Ok(more)
    }
}

impl Pair<'_> {
    /// Leaves it as if nothing had been taken off its rings that is not done.
    pub(super) fn leave(&mut self) {
        if let Some(ring) = &mut self.receive {
            self.receiver.put_back(ring);
        }
    }
}

impl Net {
    /// Sends what the guest wants sent, by a queue of the link; whether its turn ended before its packets.
    pub(super) fn transmit(&self, queue: usize, ring: &mut Ring, memory: &Memory) -> Result<bool, Broken> {
        for _ in 0..TURN {
            if !self.traffic.sent.admits() {
                // The limiter's event comes when there is something to do.
                ring.publish(memory)?;
                return Ok(false);
            }
            let Some(chain) = ring.next(memory)? else {
                ring.publish(memory)?;
                return ring.arm(memory);
            };
            let packet = &chain.readable;
            self.traffic.sent.count(1, payload(packet.len()));
            if (HEADER..=MOST).contains(&packet.len()) && packet.pieces().len() <= MOST_PIECES {
                // A packet that the link refuses is lost, as packets are.
                let _ = self.link.send(queue, packet.pieces());
            }
            ring.complete(memory, chain.head, 0)?;
        }
        ring.publish(memory)?;
        Ok(true)
    }
}
