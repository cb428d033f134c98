//! What is an Arm machine's own in the ACPI tables ([`crate::boot::acpi`] has the rest): registers in memory,
//! PSCI, GIC, timers, a PL011.
//!
//! ```text
//! MADT   vCPUs, GIC with redistributors and translation service
//! GTDT   the timers of each vCPU
//! IORT   which messages go where: PCI's through the translation service, by requester id
//! SPCR   which serial port is the console, for kernels whose command line names none
//! ```

use acpi_tables::Aml;
use acpi_tables::aml::{Memory32Fixed, OpRegionSpace};
use acpi_tables::fadt::FADTBuilder;
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, GicIts, GicVersion, Gicc, Gicd, Gicr, LocalInterruptController, MADT,
};
use acpi_tables::sdt::Sdt;

use super::memory_map::{
    FIRST_PRIVATE_INTERRUPT, FIRST_SHARED_INTERRUPT, GIC_DISTRIBUTOR, GIC_ITS, GIC_REDISTRIBUTOR_BYTES,
    GIC_REDISTRIBUTORS, SERIAL, SERIAL_GSI, TIMERS,
};
use super::processor::affinity;
use crate::boot::acpi::{OEM, REVISION, TABLE, bytes, device, interrupt, name, resources};

/// Where the devices at fixed addresses have their registers.
pub(crate) const SPACE: AddressSpace = AddressSpace::SystemMemory;
/// The same for code.
pub(crate) const REGION: OpRegionSpace = OpRegionSpace::SystemMemory;
/// ACPI's number of the interrupt controller's first input that devices share.
pub(crate) const FIRST_INTERRUPT: u32 = FIRST_SHARED_INTERRUPT;

/// FADT, Arm boot architecture flags (table 5.11): there is PSCI, by hypervisor calls.
const PSCI: u16 = 1 << 0;
const PSCI_BY_HVC: u16 = 1 << 1;

pub(crate) fn set_boot_flags(fadt: &mut FADTBuilder) {
    fadt.arm_boot_arch = (PSCI | PSCI_BY_HVC).into();
}

/// Registers as a resource.
pub(crate) fn registers(start: u32, len: u8) -> Memory32Fixed {
    Memory32Fixed::new(true, start, u32::from(len))
}

/// All of them.
pub(crate) fn tables(vcpus: u8) -> Vec<Box<dyn Aml>> {
    vec![Box::new(madt(vcpus)), Box::new(gtdt()), Box::new(iort()), Box::new(spcr())]
}

fn madt(vcpus: u8) -> MADT {
    // The field is a PC's; there is no local APIC here.
    let mut madt = MADT::new(OEM, TABLE, REVISION, LocalInterruptController::Address(0));
    madt.add_structure(Gicd::new(0, GIC_DISTRIBUTOR, GicVersion::GICv3));
    for index in 0..vcpus {
        let processor = Gicc::new(EnabledStatus::Enabled)
            .cpu_interface_number(u32::from(index))
            .acpi_processor_uid(u32::from(index))
            .mpidr(affinity(index));
        madt.add_structure(processor);
    }
    let len = u64::from(vcpus) * GIC_REDISTRIBUTOR_BYTES;
    madt.add_structure(Gicr::new(GIC_REDISTRIBUTORS, u32::try_from(len).unwrap_or(u32::MAX)));
    madt.add_structure(GicIts::new(0, GIC_ITS));
    madt
}

/// The generic timers (ACPI 6.4, 5.2.25), revision 2.
fn gtdt() -> Sdt {
    /// Works in every power state; a level, active when high.
    const ALWAYS_ON: u32 = 1 << 2;
    let mut table = Sdt::new(*b"GTDT", 36, 2, OEM, TABLE, REVISION);
    // No counter in memory.
    table.append(u64::MAX);
    table.append(0_u32);
    for timer in TIMERS {
        table.append(FIRST_PRIVATE_INTERRUPT + timer);
        table.append(ALWAYS_ON);
    }
    table.append(u64::MAX);
    // No other timers: their number, and where they would be.
    table.append(0_u32);
    table.append(0_u32);
    table
}

/// How requester ids become device ids of the translation service: as they are (Arm DEN 0049).
fn iort() -> Sdt {
    const HEADER: u32 = 48;
    const ITS_GROUP: u8 = 0;
    const ITS_GROUP_BYTES: u16 = 24;
    const ROOT_COMPLEX: u8 = 2;
    const ROOT_COMPLEX_BYTES: u16 = 36;
    const MAPPING_BYTES: u16 = 20;
    /// Cache coherent accesses, in two words.
    const COHERENT: u32 = 1;
    const COHERENT_BY_ITSELF: u8 = 0b11;

    let mut table = Sdt::new(*b"IORT", 36, 0, OEM, TABLE, REVISION);
    // Two nodes.
    table.append(2_u32);
    table.append(HEADER);
    table.append(0_u32);

    let node = |table: &mut Sdt, kind: u8, len: u16, revision: u8, mappings: u32, mapping_at: u32| {
        table.append(kind);
        table.append(len);
        table.append(revision);
        table.append(0_u32);
        table.append(mappings);
        table.append(mapping_at);
    };
    // One translation service, by its number in the MADT.
    node(&mut table, ITS_GROUP, ITS_GROUP_BYTES, 0, 0, 0);
    table.append(1_u32);
    table.append(0_u32);

    let len = ROOT_COMPLEX_BYTES + MAPPING_BYTES;
    node(&mut table, ROOT_COMPLEX, len, 1, 1, u32::from(ROOT_COMPLEX_BYTES));
    table.append(COHERENT);
    table.append(0_u8);
    table.append(0_u16);
    table.append(COHERENT_BY_ITSELF);
    // No address translation service; segment 0; 64 bits of addresses.
    table.append(0_u32);
    table.append(0_u32);
    table.append(64_u32);

    // The mapping: from 0, so many ids (less one), to 0, of the first node.
    for word in [0, 0xffff, 0, HEADER, 0] {
        table.append(word);
    }
    table
}

/// The console (Microsoft's *Serial Port Console Redirection Table*), revision 2.
fn spcr() -> Sdt {
    const PL011: u8 = 3;
    const BY_GIC: u8 = 1 << 3;
    const BAUD_115200: u8 = 7;
    const NO_PARITY: u8 = 0;
    const ONE_STOP_BIT: u8 = 1;
    const ANY_TERMINAL: u8 = 3;
    let mut table = Sdt::new(*b"SPCR", 36, 2, OEM, TABLE, REVISION);
    table.append_slice(&[PL011, 0, 0, 0]);
    let place = GAS::new(SPACE, 32, 0, AccessSize::DwordAccess, u64::from(SERIAL));
    table.append_slice(&bytes(&place));
    // The PC's interrupt, then the GIC's.
    table.append_slice(&[BY_GIC, 0]);
    table.append(FIRST_INTERRUPT + SERIAL_GSI);
    table.append_slice(&[BAUD_115200, NO_PARITY, ONE_STOP_BIT, 0, ANY_TERMINAL, 0]);
    // No PCI device: both ids all ones; bus, device, function, flags, segment, reserved.
    table.append(u32::MAX);
    table.append_slice(&[0; 3]);
    table.append(0_u32);
    table.append(0_u8);
    table.append(0_u32);
    table
}

/// vCPUs as devices: newer kernels count only those.
pub(crate) fn processors(vcpus: u8) -> Vec<Vec<u8>> {
    let processor =
        |uid: u8| device(&format!("C{uid:03X}"), vec![&name("_HID", &"ACPI0007"), &name("_UID", &uid)]);
    (0..vcpus).map(processor).collect()
}

/// The serial port.
pub(crate) fn serial() -> Vec<u8> {
    let len = u32::try_from(devices::pl011::LEN).unwrap_or(u32::MAX);
    let place = Memory32Fixed::new(true, SERIAL, len);
    device(
        "COM0",
        vec![
            &name("_HID", &"ARMH0011"),
            &name("_UID", &0_u8),
            &resources(vec![&place, &interrupt(SERIAL_GSI)]),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_the_length_of_their_revision() {
        let length = |table: &dyn Aml| bytes(table).len();
        assert_eq!(length(&madt(3)), 44 + 24 + 3 * 82 + 16 + 20);
        assert_eq!((length(&gtdt()), length(&iort()), length(&spcr())), (96, 48 + 24 + 56, 80));
    }

    #[test]
    fn messages_are_mapped_to_the_translation_service() {
        let table = bytes(&iort());
        let word = |at: usize| u32::from_le_bytes(table[at..at + 4].try_into().unwrap());
        let service = usize::try_from(word(40)).unwrap();
        assert_eq!((table[service], word(service + 16)), (0, 1));
        let root = service + usize::from(table[service + 1]);
        assert_eq!((table[root], root + usize::from(table[root + 1])), (2, table.len()));
        let mapping = root + usize::try_from(word(root + 12)).unwrap();
        assert_eq!([0, 4, 8, 12].map(|at| word(mapping + at)), [0, 0xffff, 0, word(40)]);
    }
}
