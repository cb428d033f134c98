//! What is a PC's own in the ACPI tables ([`crate::boot::acpi`] has the rest): I/O ports, APICs, a 16550.

use acpi_tables::Aml;
use acpi_tables::aml::{EISAName, IO, OpRegionSpace, ZERO};
use acpi_tables::fadt::FADTBuilder;
use acpi_tables::gas::AddressSpace;
use acpi_tables::madt::{EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic};

use super::memory_map::{IO_APIC, LOCAL_APIC, SERIAL, SERIAL_GSI};
use crate::boot::acpi::{OEM, REVISION, TABLE, device, interrupt, name, resources};

/// Where the devices at fixed addresses have their registers.
pub(crate) const SPACE: AddressSpace = AddressSpace::SystemIo;
/// The same for code.
pub(crate) const REGION: OpRegionSpace = OpRegionSpace::SystemIO;
/// ACPI's number of the interrupt controller's first input.
pub(crate) const FIRST_INTERRUPT: u32 = 0;

/// FADT, IA-PC boot architecture flags (table 5.10): no VGA, no CMOS clock. (Bits for legacy devices and
/// 8042 stay clear: none.)
const NO_VGA: u16 = 1 << 2;
const NO_CMOS_CLOCK: u16 = 1 << 5;

pub(crate) fn set_boot_flags(fadt: &mut FADTBuilder) {
    fadt.iapc_boot_arch = (NO_VGA | NO_CMOS_CLOCK).into();
}

/// Registers as a resource.
pub(crate) fn registers(start: u16, len: u8) -> IO {
    IO::new(start, start, 1, len)
}

/// vCPUs and the I/O APIC.
pub(crate) fn tables(vcpus: u8) -> Vec<Box<dyn Aml>> {
    let mut madt = MADT::new(OEM, TABLE, REVISION, LocalInterruptController::Address(LOCAL_APIC));
    for id in 0..vcpus {
        madt.add_structure(ProcessorLocalApic::new(id, id, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(vcpus, IO_APIC, 0));
    vec![Box::new(madt)]
}

/// vCPUs as devices: a PC does without.
pub(crate) fn processors(_vcpus: u8) -> Vec<Vec<u8>> {
    Vec::new()
}

/// The serial port.
pub(crate) fn serial() -> Vec<u8> {
    let len = u8::try_from(devices::serial::LEN).unwrap_or(u8::MAX);
    device(
        "COM1",
        vec![
            &name("_HID", &EISAName::new("PNP0501")),
            &name("_UID", &ZERO),
            &resources(vec![&registers(SERIAL, len), &interrupt(SERIAL_GSI)]),
        ],
    )
}
