//! The devices' ways to vCPUs and back, with KVM.

use std::io;
use std::sync::Arc;

use devices::interrupts::{Doorbells, Message, Messages};
use kvm_bindings::kvm_msi;
use kvm_ioctls::{IoEventAddress, NoDatamatch, VmFd};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::arch;

/// Both, for one virtual machine.
pub(crate) struct Kvm(pub(crate) Arc<VmFd>);

impl Messages for Kvm {
    fn send(&self, message: Message) {
        let [low, high] = [message.address, message.address >> 32].map(|half| half & u64::from(u32::MAX));
        let message = kvm_msi {
            address_lo: u32::try_from(low).unwrap_or_default(),
            address_hi: u32::try_from(high).unwrap_or_default(),
            data: message.data,
            devid: u32::from(message.requester),
            flags: arch::MESSAGE_FLAGS,
            ..Default::default()
        };
        // KVM refuses what names no vCPU; on hardware such a message is lost too.
        let _ = self.0.signal_msi(message);
    }
}

impl Doorbells for Kvm {
    fn attach(&self, address: u64, bell: &EventFd) -> io::Result<()> {
        Ok(self.0.register_ioevent(bell, &IoEventAddress::Mmio(address), NoDatamatch)?)
    }

    fn detach(&self, address: u64, bell: &EventFd) -> io::Result<()> {
        Ok(self.0.unregister_ioevent(bell, &IoEventAddress::Mmio(address), NoDatamatch)?)
    }
}

/// A wire to this input of the interrupt controller: whoever signals the event gives it one edge.
pub(crate) fn line(vm: &VmFd, gsi: u32) -> io::Result<EventFd> {
    let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
    vm.register_irqfd(&event, gsi)?;
    Ok(event)
}
