//! x86_64: a PC without the parts that nobody needs any more. No BIOS, no PIT, no RTC, no keyboard
//! controller; an I/O APIC and local APICs (all of them KVM's), PCI by ECAM, ACPI of the reduced-hardware
//! kind.

mod cpuid;
mod kernel;
mod processor;
mod saved;
mod start_info;
mod tables;

pub(crate) mod acpi;
pub(crate) mod memory_map;

use std::sync::Arc;

use devices::bus::{BadRange, Bus};
use devices::pci::{ConfigPorts, Ecam};
use kvm_ioctls::{Kvm, VmFd};

use crate::vcpu::Buses;

pub(crate) use crate::boot::tables::TablesError;
pub(crate) use devices::serial::{LEN as SERIAL_BYTES, SavedSerial, Serial};
pub(crate) use kernel::{Entry, KernelError, load_kernel};
pub(crate) use processor::{Processors, begin, instruction_address};
pub(crate) use saved::{SavedVcpu, SavedVm, restore_vcpu, restore_vm, save_vcpu, save_vm, was_away};
pub(crate) use tables::write_tables;

/// Where Linux has its console.
pub(crate) const CONSOLE: &str = "ttyS0";

/// System calls that the C library makes here, and on younger architectures others for the same.
pub(crate) const OWN_CALLS: &[libc::c_long] = &[libc::SYS_epoll_wait, libc::SYS_poll];

/// The ioctl by which [`instruction_address`] asks: `KVM_GET_REGS`.
pub(crate) const KVM_GET_PLACE: u64 = 0x8090_ae81;

/// What KVM must be told about messages: on x86 the address alone names the processor.
pub(crate) const MESSAGE_FLAGS: u32 = 0;

/// The most vCPUs: 255 is the APICs' word for "all", and KVM may allow fewer.
pub(crate) fn most_processors(kvm: &Kvm) -> usize {
    kvm.get_max_vcpus().min(254)
}

/// Makes a virtual machine, with all that it needs before it has vCPUs.
pub(crate) fn create_vm(kvm: &Kvm) -> Result<VmFd, kvm_ioctls::Error> {
    let vm = kvm.create_vm()?;
    // The order is KVM's: both places before the first vCPU.
    vm.set_tss_address(memory_map::KVM_TSS)?;
    vm.set_identity_map_address(memory_map::KVM_IDENTITY_MAP)?;
    vm.create_irq_chip()?;
    Ok(vm)
}

/// Made with the machine, and asked of it.
pub(crate) struct InterruptController;

/// What a virtual machine needs after its vCPUs, before its devices: nothing.
pub(crate) fn add_interrupt_controller(
    _vm: &VmFd,
    _vcpus: u8,
) -> Result<InterruptController, kvm_ioctls::Error> {
    Ok(InterruptController)
}

/// The bus with the devices at fixed addresses.
pub(crate) fn platform_bus(buses: &mut Buses) -> &mut Bus {
    &mut buses.ports
}

/// What no other architecture has: a PC's older way to PCI's configuration space.
#[derive(Default)]
pub(crate) struct OwnDevices(Option<Arc<ConfigPorts>>);

/// Of which the address port is to be saved.
pub(crate) type SavedOwnDevices = u32;

/// Puts them on their bus.
pub(crate) fn add_own_devices(buses: &mut Buses, ecam: &Arc<Ecam>) -> Result<OwnDevices, BadRange> {
    let ports = Arc::new(ConfigPorts::new(ecam.clone()));
    buses.ports.insert(ConfigPorts::FIRST, ConfigPorts::LEN, ports.clone())?;
    Ok(OwnDevices(Some(ports)))
}

impl OwnDevices {
    pub(crate) fn save(&self) -> SavedOwnDevices {
        self.0.as_ref().map_or(0, |ports| ports.address())
    }

    pub(crate) fn restore(&self, saved: &SavedOwnDevices) {
        if let Some(ports) = &self.0 {
            ports.set_address(*saved);
        }
    }
}
