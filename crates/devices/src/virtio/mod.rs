//! virtio 1.2: devices whose requests lie in rings in guest memory.
//!
//! ```text
//! device.rs   what a kind of device must answer, and the thread on which it works
//! queue.rs    one ring, and a request taken off it
//! pci/        the transport: how a driver finds a device, negotiates, starts and resets it
//! block/ net/ rng.rs balloon.rs vsock/    the devices
//! ```
//!
//! Specification: OASIS, *Virtual I/O Device (VIRTIO) Version 1.2*.

pub mod balloon;
pub mod block;
pub mod device;
pub mod net;
pub mod pci;
pub mod queue;
pub mod rng;
pub mod vsock;
