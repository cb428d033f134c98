//! One ring, and a request taken off it.
//!
//! virtio-queue reads the available ring and the descriptors. The used ring is written here, because a
//! packet that fills several buffers must appear in it all at once. And here every way in which a driver
//! can lie is turned into [`Broken`]: an index past the end, a chain that loops or leads nowhere, a
//! buffer outside of memory, writable before readable. A device that meets one stops and asks its driver
//! for a reset (virtio 1.2, 2.1.1, DEVICE_NEEDS_RESET), and so does no more harm than that driver's own.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use serde::{Deserialize, Serialize};
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};
use vmm_sys_util::eventfd::EventFd;

use super::pci::Notifier;
use crate::memory::{Memory, Span};

/// The driver wants no interrupts; a flag of the available ring, looked at where no event index is agreed
/// on (2.7.7).
const NO_INTERRUPT: u16 = 1;

/// The driver did what a driver must not do, or the device cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub &'static str);

/// How far a device has come with a ring, as the specification counts: both indices only grow, and wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The next request to be taken, in the available ring.
    pub next: u16,
    /// Where the next one given back goes, in the used ring.
    pub used: u16,
}

/// A ring that the driver has set up.
pub struct Ring {
    queue: Queue,
    index: u16,
    /// Where the next used buffer goes, and up to where the driver can see them.
    used: u16,
    visible: u16,
    /// Rung by the driver when it made something available.
    pub bell: Arc<EventFd>,
    notifier: Arc<Notifier>,
}

/// A ring as its driver described it, for who works at it in our place.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Descriptors.
    pub size: u16,
    /// The next request to be taken.
    pub next: u16,
    /// Address of the descriptors,
    pub table: u64,
    /// of the available ring,
    pub available: u64,
    /// and of the used ring.
    pub used: u64,
}

/// A request: one chain of descriptors, its bytes checked to be in memory.
#[derive(Debug)]
pub struct Chain<'m> {
    /// Names the chain when it is given back.
    pub head: u16,
    /// What the device may read.
    pub readable: Span<'m>,
    /// What the device may write.
    pub writable: Span<'m>,
}

impl Ring {
    /// A ring, as the driver described it.
    pub fn new(queue: Queue, index: u16, bell: Arc<EventFd>, notifier: Arc<Notifier>) -> Self {
        Self { queue, index, used: 0, visible: 0, bell, notifier }
    }

    /// The same ring, gone on with where somebody left it.
    pub fn at(mut self, position: Position) -> Self {
        self.go_to(position);
        self
    }

    fn go_to(&mut self, position: Position) {
        self.queue.set_next_avail(position.next);
        (self.used, self.visible) = (position.used, position.used);
    }

    /// How far the device has come, as the driver can see it. It holds for who goes on here later once nothing is under
    /// way: all that was taken is given back and published, or put back.
    pub fn position(&self) -> Position {
        Position { next: self.queue.next_avail(), used: self.visible }
    }

    /// Where it is, for who works at it in our place.
    pub fn place(&self) -> Place {
        Place {
            size: self.queue.size(),
            next: self.queue.next_avail(),
            table: self.queue.desc_table(),
            available: self.queue.avail_ring(),
            used: self.queue.used_ring(),
        }
    }

    /// Interrupts the driver, whether or not it wants that: who works at the ring in our place has looked.
    pub fn tell(&self) {
        self.notifier.queue_used(self.index);
    }

    /// Goes on behind somebody else who worked at it: with this request, and behind what the driver can see.
    pub fn go_on(&mut self, memory: &Memory, next: u16) -> Result<(), Broken> {
        let index = GuestAddress(self.queue.used_ring().wrapping_add(2));
        let used = memory.load(index, Ordering::Acquire).map(u16::from_le);
        self.go_to(Position { next, used: used.map_err(|_| Broken("the used ring is broken"))? });
        Ok(())
    }

    /// The next request that the driver made available.
    pub fn next<'m>(&mut self, memory: &'m Memory) -> Result<Option<Chain<'m>>, Broken> {
        let size = self.queue.size();
        let mut heads = self.queue.iter(memory).map_err(|_| Broken("the available ring is broken"))?;
        let Some(descriptors) = heads.next() else { return Ok(None) };
        let mut chain =
            Chain { head: descriptors.head_index(), readable: Span::default(), writable: Span::default() };
        let (mut count, mut whole) = (0_u16, false);
        for descriptor in descriptors {
            count += 1;
            if count > size {
                return Err(Broken("a chain is longer than its queue"));
            }
            let span = match (descriptor.is_write_only(), chain.writable.is_empty()) {
                (true, _) => &mut chain.writable,
                (false, true) => &mut chain.readable,
                (false, false) => return Err(Broken("a chain has a readable part after a writable one")),
            };
            let len = usize::try_from(descriptor.len()).map_err(|_| Broken("a buffer is too long"))?;
            span.push(memory, descriptor.addr(), len).ok_or(Broken("a buffer is not in memory"))?;
            whole = !descriptor.has_next();
        }
        if whole { Ok(Some(chain)) } else { Err(Broken("a chain leads nowhere")) }
    }

    /// Puts the request that was taken last back: the next call gives it again. So for several, the last one first.
    pub fn put_back(&mut self) {
        self.queue.go_to_previous_position();
    }

    /// Gives a request back, `written` bytes of it filled. The driver sees it after [`Self::publish`].
    pub fn complete(&mut self, memory: &Memory, head: u16, written: usize) -> Result<(), Broken> {
        let written = u32::try_from(written).unwrap_or(u32::MAX);
        let slot = u64::from(self.used % self.queue.size());
        let element = u64::from(written) << 32 | u64::from(head);
        let place = GuestAddress(self.queue.used_ring().wrapping_add(4 + 8 * slot));
        let written =
            memory.get_slice(place, size_of::<u64>()).map(|piece| piece.write_obj(element.to_le(), 0));
        written.ok().and_then(Result::ok).ok_or(Broken("the used ring is broken"))?;
        self.used = self.used.wrapping_add(1);
        Ok(())
    }

    /// Shows the driver what was completed, all at once, and interrupts it if it wants that.
    pub fn publish(&mut self, memory: &Memory) -> Result<(), Broken> {
        if self.used == self.visible {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.visible, self.used);
        let index = GuestAddress(self.queue.used_ring().wrapping_add(2));
        memory
            .store(self.used.to_le(), index, Ordering::Release)
            .map_err(|_| Broken("the used ring is broken"))?;
        // The driver first says what it wants and then looks at the index; we the other way round, so one
        // of us sees the other.
        fence(Ordering::SeqCst);
        if self.wants_interrupt(memory, before)? {
            self.notifier.queue_used(self.index);
        }
        Ok(())
    }

    /// 2.7.7 and 2.7.10: by flag, or by the index at which the driver wants to hear next.
    fn wants_interrupt(&self, memory: &Memory, before: u16) -> Result<bool, Broken> {
        let at_end = 4 + 2 * u64::from(self.queue.size());
        let offset = if self.queue.event_idx_enabled() { at_end } else { 0 };
        let place = GuestAddress(self.queue.avail_ring().wrapping_add(offset));
        let word = memory.load(place, Ordering::Relaxed).map(u16::from_le);
        let word = word.map_err(|_| Broken("the available ring is broken"))?;
        if self.queue.event_idx_enabled() {
            let since_wanted = self.used.wrapping_sub(word).wrapping_sub(1);
            Ok(since_wanted < self.used.wrapping_sub(before))
        } else {
            Ok(word & NO_INTERRUPT == 0)
        }
    }

    /// Asks the driver to ring the bell for the next request. `true`: there is one already, so look again
    /// first.
    pub fn arm(&mut self, memory: &Memory) -> Result<bool, Broken> {
        self.queue.enable_notification(memory).map_err(|_| Broken("the used ring is broken"))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use virtio_queue::desc::RawDescriptor;
    use virtio_queue::desc::split::Descriptor;
    use virtio_queue::mock::MockSplitQueue;
    use vm_memory::{Bytes, GuestAddress};
    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    use super::*;
    use crate::testing::Random;

    pub(crate) const NEXT: u16 = 1;
    pub(crate) const WRITE: u16 = 2;
    pub(crate) const INDIRECT: u16 = 4;
    /// Memory of the tests, in bytes; the ring lies at its beginning, buffers from `BUFFERS` on.
    pub(crate) const MEMORY: usize = 0x10_0000;
    pub(crate) const BUFFERS: u64 = 0x1_0000;

    pub(crate) fn memory() -> Memory {
        Memory::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap()
    }

    pub(crate) fn ring(mock: &MockSplitQueue<'_, Memory>) -> Ring {
        let bell = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
        Ring::new(mock.create_queue().unwrap(), 0, bell, Arc::new(Notifier::silent(1)))
    }

    pub(crate) fn descriptor(address: u64, len: u32, flags: u16, next: u16) -> RawDescriptor {
        RawDescriptor::from(Descriptor::new(address, len, flags, next))
    }

    /// A descriptor table, an indirect table and an available ring full of what a driver would never
    /// write, or only nearly.
    pub(crate) fn scramble(
        memory: &Memory,
        mock: &MockSplitQueue<'_, Memory>,
        size: u16,
        random: &mut Random,
    ) {
        let descriptor = |random: &mut Random| {
            let address = match random.below(4) {
                0 => random.edge(),
                1 => MEMORY as u64 - random.below(64),
                _ => BUFFERS + random.below(MEMORY as u64 - BUFFERS),
            };
            let len = if random.below(3) == 0 { random.edge32() } else { u32::from(random.small(5000)) };
            let flags = random.small(8);
            descriptor(address, len, flags, random.small(u64::from(size) + 2))
        };
        for index in 0..size {
            let raw = descriptor(random);
            mock.desc_table().store(index, raw).unwrap();
            memory.write_obj(descriptor(random), GuestAddress(BUFFERS + 16 * u64::from(index))).unwrap();
            if random.below(4) == 0 {
                let table = descriptor_of_table(random, size);
                mock.desc_table().store(index, table).unwrap();
            }
        }
        for index in 0..size {
            let head = random.small(u64::from(size) + 1);
            memory.write_obj(head, mock.avail_addr().unchecked_add_bytes(4 + 2 * u64::from(index))).unwrap();
        }
        let count = random.small(u64::from(size) + 2);
        memory.write_obj(count, mock.avail_addr().unchecked_add_bytes(2)).unwrap();
    }

    fn descriptor_of_table(random: &mut Random, size: u16) -> RawDescriptor {
        let len = if random.below(4) == 0 {
            random.edge32()
        } else {
            16 * u32::from(random.small(u64::from(size) + 9))
        };
        descriptor(BUFFERS, len, INDIRECT, 0)
    }

    trait AddBytes {
        fn unchecked_add_bytes(self, bytes: u64) -> Self;
    }

    impl AddBytes for GuestAddress {
        fn unchecked_add_bytes(self, bytes: u64) -> Self {
            GuestAddress(self.0 + bytes)
        }
    }

    #[test]
    fn a_request_is_taken_and_given_back() {
        let memory = memory();
        let mock = MockSplitQueue::new(&memory, 16);
        let mut ring = ring(&mock);
        assert!(ring.next(&memory).unwrap().is_none());
        mock.build_desc_chain(&[
            descriptor(BUFFERS, 16, 0, 0),
            descriptor(BUFFERS + 0x1000, 32, 0, 0),
            descriptor(BUFFERS + 0x2000, 64, WRITE, 0),
        ])
        .unwrap();
        let chain = ring.next(&memory).unwrap().unwrap();
        assert_eq!((chain.head, chain.readable.len(), chain.writable.len()), (0, 48, 64));
        ring.put_back();
        assert!(ring.next(&memory).unwrap().is_some());
        ring.complete(&memory, 0, 64).unwrap();
        assert_eq!(mock.used().idx().load(), 0);
        ring.publish(&memory).unwrap();
        assert!(!ring.arm(&memory).unwrap());
        assert_eq!(mock.used().idx().load(), 1);
    }

    #[test]
    fn the_driver_says_when_it_is_interrupted() {
        let memory = memory();
        let mock = MockSplitQueue::new(&memory, 4);
        let flags = GuestAddress(mock.avail_addr().0);
        let event = mock.avail_addr().unchecked_add_bytes(4 + 2 * 4);
        let mut ring = ring(&mock);
        // The mock's own used ring overlaps the end of the available ring.
        ring.queue.try_set_used_ring_address(GuestAddress(0x8000)).unwrap();
        let interrupted = |ring: &mut Ring, count: u16| {
            for _ in 0..count {
                ring.complete(&memory, 0, 0).unwrap();
            }
            ring.publish(&memory).unwrap();
            let isr = ring.notifier.isr_for_test();
            isr != 0
        };
        assert!(interrupted(&mut ring, 1));
        assert!(!interrupted(&mut ring, 0));
        memory.write_obj(NO_INTERRUPT, flags).unwrap();
        assert!(!interrupted(&mut ring, 1));
        ring.queue.set_event_idx(true);
        for (event_at, count, expected) in
            [(2, 1, true), (2, 1, false), (6, 2, false), (6, 3, true), (9, 5, true)]
        {
            memory.write_obj::<u16>(event_at, event).unwrap();
            assert_eq!(interrupted(&mut ring, count), expected, "event at {event_at}");
        }
    }

    #[test]
    fn lies_break_the_ring_and_nothing_else() {
        let cases: [(&[RawDescriptor], &str); 5] = [
            (&[descriptor(BUFFERS, 1, NEXT, 0)], "a chain is longer than its queue"), // itself, for ever
            (&[descriptor(BUFFERS, 1, NEXT, 16)], "a chain leads nowhere"),
            (&[descriptor(MEMORY as u64 - 1, 2, 0, 0)], "a buffer is not in memory"),
            (&[descriptor(u64::MAX, 2, 0, 0)], "a buffer is not in memory"),
            (
                &[descriptor(BUFFERS, 1, NEXT | WRITE, 1), descriptor(BUFFERS, 1, 0, 0)],
                "a chain has a readable part after a writable one",
            ),
        ];
        for (descriptors, why) in cases {
            let memory = memory();
            let mock = MockSplitQueue::new(&memory, 16);
            let mut ring = ring(&mock);
            mock.add_desc_chains(descriptors, 0).unwrap();
            let error = ring.next(&memory).unwrap_err();
            assert!(error.0 == why || error.0 == "a chain leads nowhere", "{error} is not {why}");
        }
    }

    #[test]
    fn scrambled_rings_end() {
        for seed in 0..300 {
            let memory = memory();
            let size = 1 << (seed % 6);
            let mock = MockSplitQueue::new(&memory, size);
            let mut random = Random::new(seed);
            scramble(&memory, &mock, size, &mut random);
            let mut ring = ring(&mock);
            let mut taken = 0;
            while let Ok(Some(chain)) = ring.next(&memory) {
                assert!(chain.readable.len() + chain.writable.len() <= u32::MAX as usize);
                ring.complete(&memory, chain.head, chain.writable.len()).unwrap();
                taken += 1;
            }
            ring.publish(&memory).unwrap();
            assert!(taken <= size, "seed {seed}");
        }
    }
}
