//! x86_64: a PC without the parts that nobody needs any more. No BIOS, no PIT, no RTC, no keyboard
//! controller; an I/O APIC and local APICs (all of them KVM's), PCI by ECAM, ACPI of the reduced-hardware
//! kind.

mod cpuid;
mod platform;
mod processor;
mod tables;

pub(crate) mod memory_map;

use kvm_ioctls::{Kvm, VmFd};

pub(crate) use platform::{Platform, PlatformError, add_config_ports};
pub(crate) use processor::{Processors, instruction_address};
pub(crate) use tables::{TablesError, write_tables};

/// What KVM must be told about messages: on x86 the address alone names the processor.
pub(crate) const MESSAGE_FLAGS: u32 = 0;

/// The most vCPUs: 255 is the APICs' word for "all", and KVM may allow fewer.
pub(crate) fn most_processors(kvm: &Kvm) -> usize {
    kvm.get_max_vcpus().min(254)
}

/// What a new machine needs before it has vCPUs.
pub(crate) fn prepare(vm: &VmFd) -> Result<(), kvm_ioctls::Error> {
    // The order is KVM's: both places before the first vCPU.
    vm.set_tss_address(memory_map::KVM_TSS)?;
    vm.set_identity_map_address(memory_map::KVM_IDENTITY_MAP)?;
    vm.create_irq_chip()
}
