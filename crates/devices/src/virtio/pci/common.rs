//! The common configuration (virtio 1.2, 4.1.4.3): negotiating features, describing queues, and the
//! status byte, by which a driver starts and resets its device (3.1.1).
//!
//! Pure registers: [`Common::write`] says what follows ([`Then`]), and whoever owns the worker does it.

use serde::{Deserialize, Serialize};
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, Permissions};

use super::notifier::Notifier;
use crate::memory::Memory;
use crate::saved::Unfit;
use crate::virtio::queue::Broken;

/// Bits of the status byte.
pub(super) mod status {
    pub(crate) const DRIVER_OK: u8 = 4;
    pub(crate) const FEATURES_OK: u8 = 8;
    pub(crate) const NEEDS_RESET: u8 = 64;
}

/// Feature bits of rings and transport (chapter 6).
const RING_INDIRECT_DESC: u64 = 1 << 28;
const RING_EVENT_IDX: u64 = 1 << 29;
const VERSION_1: u64 = 1 << 32;

/// Bytes of the structure.
pub(super) const LEN: u32 = 60;

const DEVICE_FEATURE_SELECT: usize = 0;
const DRIVER_FEATURE_SELECT: usize = 8;
const DRIVER_FEATURE: usize = 12;
const CONFIG_VECTOR: usize = 16;
const STATUS: usize = 20;
const QUEUE_SELECT: usize = 22;
const QUEUE_SIZE: usize = 24;
const QUEUE_VECTOR: usize = 26;
const QUEUE_ENABLE: usize = 28;
const QUEUE_DESCRIPTORS: usize = 32;
const QUEUE_END: usize = 56;

/// What follows from a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing.
    Nothing,
    /// The driver is ready: the device starts.
    Start,
    /// The device stops, and begins anew when it has.
    Reset,
}

/// A queue as its driver describes it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Setup {
    greatest: u16,
    size: u16,
    enabled: bool,
    /// Descriptor table, available ring ("driver area"), used ring ("device area").
    areas: [u64; 3],
}

/// The registers. Saved as they are; see [`Self::restore`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Common {
    offered: u64,
    agreed: u64,
    device_select: u32,
    driver_select: u32,
    queue_select: u16,
    status: u8,
    queues: Vec<Setup>,
}

impl Common {
    pub(super) fn new(features: u64, queue_sizes: &[u16]) -> Self {
        let setup = |&greatest: &u16| Setup { greatest, size: greatest, enabled: false, areas: [0; 3] };
        Self {
            offered: features | VERSION_1 | RING_EVENT_IDX | RING_INDIRECT_DESC,
            agreed: 0,
            device_select: 0,
            driver_select: 0,
            queue_select: 0,
            status: 0,
            queues: queue_sizes.iter().map(setup).collect(),
        }
    }

    pub(super) fn agreed(&self) -> u64 {
        self.agreed
    }

    /// As it was when it was saved, if this device can go on there: it has the same queues, and offers all that the
    /// driver agreed on.
    pub(super) fn restore(&mut self, saved: &Self) -> Result<(), Unfit> {
        let fits = |(own, other): (&Setup, &Setup)| {
            own.greatest == other.greatest && other.size.is_power_of_two() && other.size <= own.greatest
        };
        if saved.queues.len() != self.queues.len() || !self.queues.iter().zip(&saved.queues).all(fits) {
            return Err(Unfit("the device has other queues"));
        }
        if saved.is_running() && saved.agreed & !self.offered != 0 {
            return Err(Unfit("the driver uses features that this device does not offer"));
        }
        *self = Self { offered: self.offered, ..saved.clone() };
        Ok(())
    }

    /// Whether the driver has set it to work.
    pub(super) fn is_running(&self) -> bool {
        let ready = status::FEATURES_OK | status::DRIVER_OK;
        self.status & ready == ready
    }

    /// As it was in the beginning.
    pub(super) fn reset(&mut self) {
        let features = self.offered;
        let sizes: Vec<u16> = self.queues.iter().map(|queue| queue.greatest).collect();
        *self = Self::new(features, &sizes);
    }

    /// Reads at any width: the registers' image, cut.
    pub(super) fn read(&self, offset: usize, data: &mut [u8], notifier: &Notifier) {
        let mut image = [0; LEN as usize];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            image[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        let queue = self.queues.get(usize::from(self.queue_select));
        let needs_reset = if notifier.is_broken() { status::NEEDS_RESET } else { 0 };
        put(&self.device_select.to_le_bytes());
        put(&half(self.offered, self.device_select).to_le_bytes());
        put(&self.driver_select.to_le_bytes());
        put(&half(self.agreed, self.driver_select).to_le_bytes());
        put(&notifier.config_vector().to_le_bytes());
        put(&u16::try_from(self.queues.len()).unwrap_or(u16::MAX).to_le_bytes());
        put(&[self.status | needs_reset]);
        put(&[notifier.generation()]);
        put(&self.queue_select.to_le_bytes());
        // A queue that is not there has size 0.
        put(&queue.map_or(0, |queue| queue.size).to_le_bytes());
        put(&notifier.queue_vector(self.queue_select).to_le_bytes());
        put(&u16::from(queue.is_some_and(|queue| queue.enabled)).to_le_bytes());
        put(&self.queue_select.to_le_bytes()); // its doorbell: the one with its number
        for area in queue.map_or([0; 3], |queue| queue.areas) {
            put(&area.to_le_bytes());
        }
        for (at, byte) in (offset..).zip(data) {
            *byte = image.get(at).copied().unwrap_or(0);
        }
    }

    /// Writes. A driver writes each register whole, and the halves of 64-bit ones (4.1.3.1); anything
    /// else does nothing.
    pub(super) fn write(&mut self, offset: usize, data: &[u8], notifier: &Notifier) -> Then {
        match (offset, data) {
            (DEVICE_FEATURE_SELECT, &[a, b, c, d]) => self.device_select = u32::from_le_bytes([a, b, c, d]),
            (DRIVER_FEATURE_SELECT, &[a, b, c, d]) => self.driver_select = u32::from_le_bytes([a, b, c, d]),
            (DRIVER_FEATURE, &[a, b, c, d]) => self.agree(u32::from_le_bytes([a, b, c, d])),
            (CONFIG_VECTOR, &[a, b]) => notifier.set_config_vector(u16::from_le_bytes([a, b])),
            (STATUS, &[status]) => return self.write_status(status),
            (QUEUE_SELECT, &[a, b]) => self.queue_select = u16::from_le_bytes([a, b]),
            (QUEUE_VECTOR, &[a, b]) => {
                notifier.set_queue_vector(self.queue_select, u16::from_le_bytes([a, b]));
            }
            (QUEUE_SIZE | QUEUE_ENABLE | QUEUE_DESCRIPTORS..QUEUE_END, _) => self.write_queue(offset, data),
            _ => {}
        }
        Then::Nothing
    }

    fn agree(&mut self, half: u32) {
        if self.status & status::FEATURES_OK == 0 {
            match self.driver_select {
                0 => self.agreed = self.agreed & !u64::from(u32::MAX) | u64::from(half),
                1 => self.agreed = self.agreed & u64::from(u32::MAX) | u64::from(half) << 32,
                // There are no features beyond 64 here; who agrees to one is refused by FEATURES_OK.
                _ if half != 0 => self.agreed = !self.offered,
                _ => {}
            }
        }
    }

    fn write_status(&mut self, new: u8) -> Then {
        if new == 0 {
            return Then::Reset;
        }
        let set = new & !self.status;
        // The driver only ever adds bits (2.1.1); NEEDS_RESET is not its to set.
        self.status |= new & !status::NEEDS_RESET;
        if set & status::FEATURES_OK != 0
            && (self.agreed & !self.offered != 0 || self.agreed & VERSION_1 == 0)
        {
            self.status &= !status::FEATURES_OK;
        }
        if set & status::DRIVER_OK != 0 && self.is_running() { Then::Start } else { Then::Nothing }
    }

    fn write_queue(&mut self, offset: usize, data: &[u8]) {
        let running = self.status & status::DRIVER_OK != 0;
        let queue = self.queues.get_mut(usize::from(self.queue_select));
        // A queue that is in use is not rebuilt under the device's hands (4.1.4.3.2).
        let Some(queue) = queue.filter(|queue| !running && !queue.enabled) else { return };
        match (offset, data) {
            (QUEUE_SIZE, &[a, b]) => {
                let size = u16::from_le_bytes([a, b]);
                if size.is_power_of_two() && size <= queue.greatest {
                    queue.size = size;
                }
            }
            (QUEUE_ENABLE, &[a, b]) => queue.enabled = u16::from_le_bytes([a, b]) == 1,
            _ => {
                let within = offset.saturating_sub(QUEUE_DESCRIPTORS);
                let Some(area) = queue.areas.get_mut(within / 8) else { return };
                match (within % 8, data) {
                    (0, &[a, b, c, d]) => {
                        *area = *area >> 32 << 32 | u64::from(u32::from_le_bytes([a, b, c, d]))
                    }
                    (4, &[a, b, c, d]) => {
                        *area =
                            *area & u64::from(u32::MAX) | u64::from(u32::from_le_bytes([a, b, c, d])) << 32;
                    }
                    (0, &[a, b, c, d, e, f, g, h]) => *area = u64::from_le_bytes([a, b, c, d, e, f, g, h]),
                    _ => {}
                }
            }
        }
    }

    /// The queues as the driver described them; `None` where it left one out.
    pub(super) fn build_queues(&self, memory: &Memory) -> Result<Vec<Option<Queue>>, Broken> {
        self.queues
            .iter()
            .map(|setup| {
                setup.enabled.then(|| setup.build(memory, self.agreed & RING_EVENT_IDX != 0)).transpose()
            })
            .collect()
    }
}

impl Setup {
    fn build(&self, memory: &Memory, event_idx: bool) -> Result<Queue, Broken> {
        let [descriptors, available, used] = self.areas.map(GuestAddress);
        let build = || {
            let mut queue = Queue::new(self.greatest)?;
            queue.try_set_size(self.size)?;
            queue.try_set_desc_table_address(descriptors)?;
            queue.try_set_avail_ring_address(available)?;
            queue.try_set_used_ring_address(used)?;
            queue.set_event_idx(event_idx);
            queue.set_ready(true);
            Ok::<_, virtio_queue::Error>(queue)
        };
        let queue = build().map_err(|_| Broken("a queue is of a bad size or badly aligned"))?;
        // Sizes in bytes: 2.7; the six are two of flags, two of index and two of the event.
        let size = usize::from(self.size);
        let inside = |address, bytes| {
            vm_memory::GuestMemory::check_range(memory, address, bytes, Permissions::ReadWrite)
        };
        let all =
            inside(descriptors, 16 * size) && inside(available, 6 + 2 * size) && inside(used, 6 + 8 * size);
        if all { Ok(queue) } else { Err(Broken("a queue is not in memory")) }
    }
}

fn half(bits: u64, select: u32) -> u32 {
    let [a, b, c, d, e, f, g, h] = bits.to_le_bytes();
    match select {
        0 => u32::from_le_bytes([a, b, c, d]),
        1 => u32::from_le_bytes([e, f, g, h]),
        _ => 0,
    }
}
