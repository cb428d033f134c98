//! aarch64: a machine such as Arm servers are. GICv3 with ITS, generic timers and PSCI (all of them KVM's), PCI by
//! ECAM, a PL011; described as device tree, and as ACPI by way of EFI's tables.

mod efi;
mod efi_runtime;
mod fdt;
mod gic;
mod kernel;
mod processor;
mod saved;
mod tables;

pub(crate) mod acpi;
pub(crate) mod memory_map;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use devices::bus::{BadRange, Bus};
use devices::clock::{self, Clock};
use devices::pci::Ecam;
use kvm_bindings::KVM_MSI_VALID_DEVID;
use kvm_ioctls::{Kvm, VmFd};

use crate::vcpu::Buses;

pub(crate) use devices::pl011::{LEN as SERIAL_BYTES, Pl011 as Serial, SavedSerial};
pub(crate) use gic::{InterruptController, add_interrupt_controller};
pub(crate) use kernel::{Entry, KernelError, load_kernel};
pub(crate) use processor::{Processors, begin, instruction_address};
pub(crate) use saved::{SavedVcpu, SavedVm, restore_vcpu, restore_vm, save_vcpu, save_vm, was_away};
pub(crate) use tables::{TablesError, write_tables};

/// Where Linux has its console.
pub(crate) const CONSOLE: &str = "ttyAMA0";

/// System calls that the C library makes here, and on younger architectures others for the same.
pub(crate) const OWN_CALLS: &[libc::c_long] = &[];

/// The ioctl by which [`instruction_address`] asks: `KVM_GET_ONE_REG`.
pub(crate) const KVM_GET_PLACE: u64 = 0x4010_aeab;

/// What KVM must be told about messages: who sends them, by which the translation service finds where to.
pub(crate) const MESSAGE_FLAGS: u32 = KVM_MSI_VALID_DEVID;

/// The most vCPUs: KVM may allow fewer than there is room for redistributors.
pub(crate) fn most_processors(kvm: &Kvm) -> usize {
    kvm.get_max_vcpus().min(255)
}

/// Makes a virtual machine, with addresses as large as the host can.
pub(crate) fn create_vm(kvm: &Kvm) -> Result<VmFd, kvm_ioctls::Error> {
    kvm.create_vm()
}

/// The bus with the devices at fixed addresses.
pub(crate) fn platform_bus(buses: &mut Buses) -> &mut Bus {
    &mut buses.memory
}

/// What no other architecture has: the clock that EFI's service reads.
#[derive(Default)]
pub(crate) struct OwnDevices;

/// Of which there is nothing to save.
pub(crate) type SavedOwnDevices = ();

/// Puts them on their bus.
pub(crate) fn add_own_devices(buses: &mut Buses, _ecam: &Arc<Ecam>) -> Result<OwnDevices, BadRange> {
    // A host whose clock is before 1970 has none.
    let seconds = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    buses.memory.insert(u64::from(memory_map::CLOCK), clock::LEN, Arc::new(Clock(seconds)))?;
    Ok(OwnDevices)
}

impl OwnDevices {
    pub(crate) fn save(&self) -> SavedOwnDevices {}

    pub(crate) fn restore(&self, (): &SavedOwnDevices) {}
}
