//! The PCI transport (virtio 1.2, 4.1): a device as a PCI function.
//!
//! One function has one piece of memory, register 0, with everything in it:
//!
//! ```text
//! 0x0000  common configuration   features, status, queues      (common.rs)
//! 0x0400  ISR                    for drivers without MSI-X; of no use to them, as there is no pin
//! 0x0800  device configuration   what the kind of device says of itself
//! 0x1000  MSI-X table
//! 0x1800  MSI-X pending bits
//! 0x2000  doorbells              four bytes for each queue; KVM turns writes into events
//! ```
//!
//! Vector 0 is commonly the configuration's, vector n + 1 queue n's, but the driver chooses.

mod common;
mod function;
mod notifier;

pub use function::rest::SavedFunction;
pub use function::{Function, MEMORY_BYTES};
pub use notifier::Notifier;
