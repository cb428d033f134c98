//! A ring in memory that a driver filled with whatever it liked, drained as a device does.

use std::sync::Arc;

use devices::interrupts::{Message, Messages};
use devices::memory::Memory;
use devices::virtio::pci::Notifier;
use devices::virtio::queue::Ring;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::input::Input;

/// Bytes of the guest's memory.
const MEMORY: usize = 0x1_0000;
/// The most requests that are taken: the ring may say that there are ever more.
const MOST: usize = 1024;

struct Nowhere;

impl Messages for Nowhere {
    fn send(&self, _: Message) {}
}

/// Places and size of the ring, then pieces of memory, each with its address.
pub(crate) fn target(bytes: &[u8]) {
    let mut input = Input(bytes);
    let Ok(memory) = Memory::from_ranges(&[(GuestAddress(0), MEMORY)]) else { return };
    let Ok(mut queue) = Queue::new(256) else { return };
    queue.set_size(1 << (input.byte() % 9));
    queue.set_event_idx(input.byte() % 2 == 1);
    // Mostly in memory, aligned or not; now and then anywhere.
    let place = |input: &mut Input<'_>| match input.byte() % 8 {
        0 => input.long(),
        _ => u64::from(input.half()),
    };
    let [table, available, used] = std::array::from_fn(|_| place(&mut input));
    let halves =
        |address: u64| (u32::try_from(address & 0xffff_ffff).ok(), u32::try_from(address >> 32).ok());
    let ((low, high), (low_a, high_a), (low_u, high_u)) = (halves(table), halves(available), halves(used));
    queue.set_desc_table_address(low, high);
    queue.set_avail_ring_address(low_a, high_a);
    queue.set_used_ring_address(low_u, high_u);
    queue.set_ready(true);
    while !input.0.is_empty() {
        let at = GuestAddress(u64::from(input.half()));
        // What does not fit is not written.
        let _ = memory.write_slice(input.piece(), at);
    }
    let Ok(bell) = EventFd::new(EFD_NONBLOCK) else { return };
    let notifier = Arc::new(Notifier::new(1, Arc::new(Nowhere), 8));
    drain(Ring::new(queue, 0, Arc::new(bell), notifier), &memory);
}

fn drain(mut ring: Ring, memory: &Memory) {
    for _ in 0..MOST {
        let Ok(Some(mut chain)) = ring.next(memory) else { return };
        let mut bytes = [0; 64];
        let read = chain.readable.copy_to(&mut bytes);
        assert!(read <= bytes.len() && read <= chain.readable.len());
        let front = chain.writable.take_front(7);
        assert!(front.is_none_or(|front| front.len() == 7));
        let written = chain.writable.copy_from(&bytes);
        assert!(written <= bytes.len());
        let head = chain.head;
        let done = ring.complete(memory, head, written).and_then(|()| ring.publish(memory));
        if done.and_then(|()| ring.arm(memory)).is_err() {
            return;
        }
    }
}
