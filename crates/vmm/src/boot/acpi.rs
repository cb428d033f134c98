//! The machine as ACPI tables, of the reduced-hardware kind (ACPI 6.4, 4.1): no legacy registers at all.
//!
//! ```text
//! RSDP ─▶ XSDT ─┬▶ FADT ─▶ DSDT   fixed facts: reset and sleep registers; devices, as code
//!               ├▶ MCFG           where PCI's configuration space is
//!               └▶ MADT, …        vCPUs, interrupt controller and timers: the architecture's
//! ```
//!
//! The same on all architectures, but for what [`arch::acpi`] says: where registers are, how vCPUs and their
//! interrupts are described.
//!
//! Linux uses PCI's ECAM only where MCFG names it *and* a motherboard device reserves it, and takes over
//! hotplug only where `_OSC` grants it; both cost days to find out.

use acpi_tables::Aml;
use acpi_tables::aml::{
    self, AddressSpace, AddressSpaceCacheable, And, Arg, CreateDWordField, Device, EISAName, Equal, Field,
    FieldAccessType, FieldEntry, FieldLockRule, FieldUpdateRule, If, Interrupt, Memory32Fixed, Method, Name,
    NotEqual, Notify, ONE, OpRegion, Or, Package, Path, ResourceTemplate, Return, Scope, Store, Uuid, ZERO,
};
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, GAS};
use acpi_tables::mcfg::MCFG;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use devices::power;

use crate::arch;
use crate::arch::memory_map::{ACPI, ECAM, ECAM_BYTES, PANIC, PCI_WINDOW, POWER, POWER_GSI};

/// Who made a table, which, and of which revision.
pub(crate) const OEM: [u8; 6] = *b"CUMULT";
pub(crate) const TABLE: [u8; 8] = *b"CUMULET ";
pub(crate) const REVISION: u32 = 1;

/// What `_OSC` grants of what a kernel asks for (PCI Firmware 3.3, 4.5.1): native hotplug, and the PCI Express
/// capability's structure. No power management events: nothing here sleeps, and each port would look out for
/// them.
const OSC_GRANTED: u32 = 1 << 0 | 1 << 4;

/// All tables for so many vCPUs and PCI buses up to this one, to lie at [`ACPI`], the RSDP first.
pub(crate) fn tables(vcpus: u8, last_bus: u8) -> Vec<u8> {
    let mut out = Tables { bytes: vec![0; Rsdp::len().next_multiple_of(16)] };
    let dsdt = out.add(&dsdt(vcpus, last_bus));
    let mut xsdt = XSDT::new(OEM, TABLE, REVISION);
    xsdt.add_entry(out.add(&fadt(dsdt)));
    let mut mcfg = MCFG::new(OEM, TABLE, REVISION);
    mcfg.add_ecam(u64::from(ECAM), 0, 0, last_bus);
    xsdt.add_entry(out.add(&mcfg));
    for table in arch::acpi::tables(vcpus) {
        xsdt.add_entry(out.add(&*table));
    }
    let xsdt = out.add(&xsdt);
    let rsdp = bytes(&Rsdp::new(OEM, xsdt));
    out.bytes[..rsdp.len()].copy_from_slice(&rsdp);
    out.bytes
}

struct Tables {
    bytes: Vec<u8>,
}

impl Tables {
    /// Appends a table, aligned; its address.
    fn add(&mut self, table: &dyn Aml) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(16), 0);
        let at = ACPI.0 + self.bytes.len() as u64;
        table.to_aml_bytes(&mut self.bytes);
        at
    }
}

/// Tables and code as they lie in memory.
pub(crate) fn bytes(aml: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    aml.to_aml_bytes(&mut bytes);
    bytes
}

fn fadt(dsdt: u64) -> impl Aml {
    let register = |offset: u16| {
        GAS::new(arch::acpi::SPACE, 8, 0, AccessSize::ByteAccess, u64::from(POWER) + u64::from(offset))
    };
    let mut fadt = FADTBuilder::new(OEM, TABLE, REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::Wbinvd)
        // Set: there is no such fixed button; the one there is is a device.
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::ResetRegSup);
    arch::acpi::set_boot_flags(&mut fadt);
    fadt.reset_reg = register(power::RESET);
    fadt.reset_value = power::RESET_VALUE;
    fadt.sleep_control_reg = register(power::SLEEP_CONTROL);
    fadt.sleep_status_reg = register(power::SLEEP_STATUS);
    fadt.finalize()
}

fn dsdt(vcpus: u8, last_bus: u8) -> Sdt {
    let mut dsdt = Sdt::new(*b"DSDT", 36, 2, OEM, TABLE, REVISION);
    let off = power::SLEEP_TYPE_OFF;
    let s5 = Name::new("_S5_".into(), &Package::new(vec![&off, &ZERO, &ZERO, &ZERO]));
    for part in [
        pci(last_bus),
        motherboard(),
        arch::acpi::serial(),
        power_button(),
        events(),
        panic_device(),
        bytes(&s5),
    ] {
        dsdt.append_slice(&part);
    }
    for part in arch::acpi::processors(vcpus) {
        dsdt.append_slice(&part);
    }
    dsdt
}

/// A device under `\_SB`.
pub(crate) fn device(name: &str, children: Vec<&dyn Aml>) -> Vec<u8> {
    bytes(&Scope::new("_SB_".into(), vec![&Device::new(name.into(), children)]))
}

pub(crate) fn name(name: &str, value: &dyn Aml) -> Name {
    Name::new(name.into(), value)
}

/// A resource list under the name `_CRS`.
pub(crate) fn resources(list: Vec<&dyn Aml>) -> Name {
    name("_CRS", &ResourceTemplate::new(list))
}

fn pci(last_bus: u8) -> Vec<u8> {
    let window =
        AddressSpace::new_memory(AddressSpaceCacheable::NotCacheable, true, PCI_WINDOW, ECAM - 1, None);
    device(
        "PCI0",
        vec![
            &name("_HID", &EISAName::new("PNP0A08")),
            &name("_CID", &EISAName::new("PNP0A03")),
            &name("_SEG", &ZERO),
            &name("_BBN", &ZERO),
            &name("_UID", &ZERO),
            // Its devices see memory as processors do; where architectures differ in that, it must be said.
            &name("_CCA", &ONE),
            &resources(vec![&AddressSpace::new_bus_number(0_u16, u16::from(last_bus)), &window]),
            &Osc,
        ],
    )
}

/// `_OSC(uuid, revision, count, buffer)`: of the third word of the buffer, what is asked for, grants what
/// we can; says so in the first where that was less (bit 4), or the uuid is none that we know (bit 2).
struct Osc;

impl Aml for Osc {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        let (uuid, buffer) = (Arg(0), Arg(3));
        let (status, asked) = (Path::new("CDW1"), Path::new("CDW3"));
        let pci = Uuid::new("33DB4D5B-1FF7-401C-9657-7441C03DD766");
        let known = Equal::new(&uuid, &pci);
        let granted = And::new(&aml::Local(0), &asked, &OSC_GRANTED);
        let less = Or::new(&status, &status, &0x10_u8);
        let tell = Store::new(&asked, &aml::Local(0));
        let answer = Return::new(&buffer);
        let differs = NotEqual::new(&aml::Local(0), &asked);
        let compare = If::new(&differs, vec![&less]);
        let third = CreateDWordField::new(&asked, &buffer, &8_u8);
        let when_known = If::new(&known, vec![&third, &granted, &compare, &tell, &answer]);
        let unknown = Or::new(&status, &status, &4_u8);
        let first = CreateDWordField::new(&status, &buffer, &0_u8);
        Method::new("_OSC".into(), 4, true, vec![&first, &when_known, &unknown, &answer]).to_aml_bytes(sink);
    }
}

/// Reserves the ECAM.
fn motherboard() -> Vec<u8> {
    device(
        "MBRD",
        vec![
            &name("_HID", &EISAName::new("PNP0C02")),
            &name("_UID", &ZERO),
            &resources(vec![&Memory32Fixed::new(true, ECAM, ECAM_BYTES)]),
        ],
    )
}

/// An interrupt by one edge, of an input of the interrupt controller.
pub(crate) fn interrupt(gsi: u32) -> Interrupt {
    Interrupt::new(true, true, false, false, arch::acpi::FIRST_INTERRUPT + gsi)
}

fn power_button() -> Vec<u8> {
    device("PWRB", vec![&name("_HID", &EISAName::new("PNP0C0C")), &name("_UID", &ZERO)])
}

/// The generic event device (5.6.9): its interrupt runs `_EVT`, which reads what happened and notifies.
fn events() -> Vec<u8> {
    let register = u64::from(POWER) + u64::from(power::EVENTS);
    let region = OpRegion::new("EVRG".into(), arch::acpi::REGION, &register, &ONE);
    let field = Field::new(
        "EVRG".into(),
        FieldAccessType::Byte,
        FieldLockRule::NoLock,
        FieldUpdateRule::WriteAsZeroes,
        vec![FieldEntry::Named(*b"EVNT", 8)],
    );
    let (event, happened) = (Path::new("EVNT"), aml::Local(0));
    let read = Store::new(&happened, &event);
    let pressed = And::new(&aml::Local(1), &happened, &power::EVENT_POWER_BUTTON);
    let button = Path::new("\\_SB_.PWRB");
    let notify = Notify::new(&button, &0x80_u8);
    let is_pressed = If::new(&aml::Local(1), vec![&notify]);
    device(
        "GED_",
        vec![
            &name("_HID", &"ACPI0013"),
            &name("_UID", &ZERO),
            &resources(vec![&interrupt(POWER_GSI)]),
            &region,
            &field,
            &Method::new("_EVT".into(), 1, true, vec![&read, &pressed, &is_pressed]),
        ],
    )
}

fn panic_device() -> Vec<u8> {
    device(
        "PEVT",
        vec![
            &name("_HID", &"QEMU0001"),
            &resources(vec![&arch::acpi::registers(PANIC, 1)]),
            &name("_STA", &0xf_u8),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    fn table(all: &[u8], address: u64) -> &[u8] {
        let at = usize::try_from(address - ACPI.0).unwrap();
        let table = &all[at..at + usize::try_from(word(all, at + 4)).unwrap()];
        assert_eq!(sum(table), 0, "{:?}", &table[..4]);
        table
    }

    #[test]
    fn every_table_is_found_and_sums_to_zero() {
        let all = tables(3, 8);
        assert_eq!((&all[..8], sum(&all[..20]), sum(&all[..36])), (&b"RSD PTR "[..], 0, 0));
        let address = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let xsdt = table(&all, address(&all, 24));
        let found: Vec<_> = (36..xsdt.len()).step_by(8).map(|at| table(&all, address(xsdt, at))).collect();
        let names: Vec<_> = found.iter().map(|t| &t[..4]).collect();
        assert_eq!(names[..3], [b"FACP", b"MCFG", b"APIC"]);
        let fadt = found[0];
        assert_eq!(word(fadt, 112) & (1 << 20 | 1 << 10), 1 << 20 | 1 << 10);
        assert_eq!(&table(&all, address(fadt, 140))[..4], b"DSDT");
        assert_eq!(address(found[1], 44), u64::from(ECAM));
        let more = table(&all, address(xsdt, xsdt.len() - 8)).len();
        assert_eq!(
            address(xsdt, xsdt.len() - 8) + more as u64 - ACPI.0,
            all.len() as u64 - xsdt.len() as u64
        );
    }
}
