//! How a device's thread tells its driver something: queue used, configuration changed, needs reset.
//!
//! Shared between the device's thread, which tells, and the vCPUs, which choose the vectors.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, Ordering};

use serde::{Deserialize, Serialize};

use crate::interrupts::Messages;
use crate::pci::{Msix, MsixEntry};
use crate::saved::Unfit;

/// The driver wants no interrupt for this (virtio 1.2, 4.1.5.1.2).
const NO_VECTOR: u16 = 0xffff;
/// Bits of the ISR byte.
const ISR_QUEUE: u8 = 1 << 0;
const ISR_CONFIG: u8 = 1 << 1;

/// The ways from a device to its driver.
pub struct Notifier {
    pub(super) msix: Msix,
    config_vector: AtomicU16,
    queue_vectors: Box<[AtomicU16]>,
    isr: AtomicU8,
    broken: AtomicBool,
    /// Counts the changes of the configuration, so that a driver that reads it in parts knows whether they
    /// belong together (2.5.3).
    generation: AtomicU8,
}

/// What a machine that goes on later must find again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Saved {
    table: Vec<MsixEntry>,
    config_vector: u16,
    queue_vectors: Vec<u16>,
    isr: u8,
    broken: bool,
    generation: u8,
}

impl Notifier {
    /// What there is to save.
    pub(super) fn save(&self) -> Saved {
        Saved {
            table: self.msix.save(),
            config_vector: self.config_vector(),
            queue_vectors: self.queue_vectors.iter().map(|vector| vector.load(Ordering::Acquire)).collect(),
            isr: self.isr.load(Ordering::Acquire),
            broken: self.is_broken(),
            generation: self.generation(),
        }
    }

    /// As it was when it was saved. Message control is configuration space's and comes after this.
    pub(super) fn restore(&self, saved: &Saved) -> Result<(), Unfit> {
        if saved.queue_vectors.len() != self.queue_vectors.len() {
            return Err(Unfit("the device has another number of queues"));
        }
        self.msix.restore(&saved.table)?;
        self.set_config_vector(saved.config_vector);
        for (queue, vector) in (0..).zip(&saved.queue_vectors) {
            self.set_queue_vector(queue, *vector);
        }
        self.isr.store(saved.isr, Ordering::Release);
        self.broken.store(saved.broken, Ordering::Release);
        self.generation.store(saved.generation, Ordering::Release);
        Ok(())
    }

    /// For a function with this requester id and so many queues: one vector each, and one for the
    /// configuration.
    pub fn new(queues: u16, messages: Arc<dyn Messages>, requester: u16) -> Self {
        Self {
            msix: Msix::new(queues + 1, messages, requester),
            config_vector: AtomicU16::new(NO_VECTOR),
            queue_vectors: (0..queues).map(|_| AtomicU16::new(NO_VECTOR)).collect(),
            isr: AtomicU8::new(0),
            broken: AtomicBool::new(false),
            generation: AtomicU8::new(0),
        }
    }

    /// The device used buffers of a queue.
    pub fn queue_used(&self, queue: u16) {
        self.isr.fetch_or(ISR_QUEUE, Ordering::AcqRel);
        self.msix.fire(self.queue_vector(queue));
    }

    /// The device says something else of itself now.
    pub(super) fn config_changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.tell_of_config();
    }

    pub(super) fn generation(&self) -> u8 {
        self.generation.load(Ordering::Acquire)
    }

    /// The device cannot go on before it is reset.
    pub fn needs_reset(&self) {
        self.broken.store(true, Ordering::Release);
        self.tell_of_config();
    }

    fn tell_of_config(&self) {
        self.isr.fetch_or(ISR_CONFIG, Ordering::AcqRel);
        self.msix.fire(self.config_vector());
    }

    /// Whether the device asked for a reset.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    pub(super) fn config_vector(&self) -> u16 {
        self.config_vector.load(Ordering::Acquire)
    }

    /// The driver chooses; what is not in the table reads back as "none" (4.1.5.1.2.1).
    pub(super) fn set_config_vector(&self, vector: u16) {
        self.config_vector.store(self.existing(vector), Ordering::Release);
    }

    pub(super) fn queue_vector(&self, queue: u16) -> u16 {
        let vector = self.queue_vectors.get(usize::from(queue));
        vector.map_or(NO_VECTOR, |vector| vector.load(Ordering::Acquire))
    }

    pub(super) fn set_queue_vector(&self, queue: u16, vector: u16) {
        if let Some(place) = self.queue_vectors.get(usize::from(queue)) {
            place.store(self.existing(vector), Ordering::Release);
        }
    }

    fn existing(&self, vector: u16) -> u16 {
        if usize::from(vector) <= self.queue_vectors.len() { vector } else { NO_VECTOR }
    }

    /// The ISR byte; reading clears it.
    pub(super) fn take_isr(&self) -> u8 {
        self.isr.swap(0, Ordering::AcqRel)
    }

    /// As it was in the beginning. The MSI-X table stays: it is PCI's, not the driver's.
    pub(super) fn reset(&self) {
        self.config_vector.store(NO_VECTOR, Ordering::Release);
        for vector in &self.queue_vectors {
            vector.store(NO_VECTOR, Ordering::Release);
        }
        self.take_isr();
        self.broken.store(false, Ordering::Release);
    }

    #[cfg(test)]
    pub(crate) fn isr_for_test(&self) -> u8 {
        self.take_isr()
    }

    /// One that nobody hears.
    #[cfg(test)]
    pub(crate) fn silent(queues: u16) -> Self {
        struct Nowhere;
        impl Messages for Nowhere {
            fn send(&self, _message: crate::interrupts::Message) {}
        }
        Self::new(queues, Arc::new(Nowhere), 0)
    }
}
