//! What a guest can touch: buses, PCI, virtio, serial. Knows no KVM and no cloud.
//!
//! ```text
//!          vCPU exits                                   a device's own thread
//!              │                                                 │
//!   bus::Bus ──┼── serial, pl011, pvpanic, power                 │
//!              └── pci::Root ── virtio::pci::Function ─ worker ──┴─ block, net, rng, balloon, vsock
//!                                      │                             │
//!                              interrupts::{Messages, Doorbells}   Backend, Link, Entropy, Reclaim, Callers
//!                                      │                             │
//!                                (the monitor, with KVM)       (the monitor, with files, TAPs, pages)
//! ```
//!
//! Everything a guest writes arrives here: registers of any width at any offset, rings, descriptors,
//! requests. So this crate holds no `unsafe` at all, does no system call but on event and timer descriptors,
//! and meets the outside only through small traits. What a guest says is bounded before it is used;
//! nothing it does may panic, block a vCPU, or allocate by a length that it chose.

#![forbid(unsafe_code)]

pub mod bus;
pub mod clock;
pub mod interrupts;
pub mod limits;
pub mod memory;
pub mod pci;
pub mod pl011;
pub mod power;
pub mod pvpanic;
pub mod saved;
pub mod serial;
#[cfg(test)]
mod testing;
pub mod virtio;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock that no panic can have left in a bad state: each holder of these locks writes whole
/// values only.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
