//! How a device reaches a vCPU, and how a driver reaches a device's thread.
//!
//! Both ways go past the vCPUs' threads: a device sends a message ([`Messages`]) from its own
//! thread, and a driver's doorbell wakes that thread by an event descriptor that the hypervisor
//! signals itself ([`Doorbells`]), so that no vCPU ever waits for I/O. The monitor implements both with KVM.

use std::io;

use vm_superio::Trigger;
use vmm_sys_util::eventfd::EventFd;

/// A message-signalled interrupt, as the guest programmed it (PCI 3.0, 6.8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where the message is written: it names the processor, or the translation service.
    pub address: u64,
    /// What is written: it names the vector.
    pub data: u32,
    /// Who writes: bus, device and function number, which Arm's ITS looks at.
    pub requester: u16,
}

/// Whoever delivers messages.
pub trait Messages: Send + Sync {
    /// Delivers one. A message that the guest programmed wrongly goes nowhere, as on hardware.
    fn send(&self, message: Message);
}

/// Whoever turns a guest's write into an event, without an exit to us.
pub trait Doorbells: Send + Sync {
    /// From now on a write to this guest-physical address signals `bell`.
    fn attach(&self, address: u64, bell: &EventFd) -> io::Result<()>;
    /// No longer.
    fn detach(&self, address: u64, bell: &EventFd) -> io::Result<()>;
}

/// A wire to the interrupt controller: each signal is one edge. Who has the other end of the
/// event descriptor (KVM's irqfd) knows which input it is.
#[derive(Debug)]
pub struct Line(pub EventFd);

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}
