//! The machine as a device tree (Devicetree Specification 0.4, and Linux' bindings, named at each node).
//!
//! All of it, for kernels that know nothing else. Those that know EFI and ACPI take these, where `/chosen`
//! points, since only there is a power button that stock kernels have a driver for.

use vm_fdt::{Error, FdtWriter};
use vm_memory::GuestAddress;

use super::efi::{self, Places};
use super::memory_map::{
    ECAM, GIC_DISTRIBUTOR, GIC_DISTRIBUTOR_BYTES, GIC_ITS, GIC_ITS_BYTES, GIC_REDISTRIBUTOR_BYTES,
    GIC_REDISTRIBUTORS, PCI_WINDOW, RAM, SERIAL, SERIAL_GSI, TIMERS,
};
use super::processor::affinity;

/// Handles by which nodes name others.
const GIC: u32 = 1;
const ITS: u32 = 2;
const CLOCK: u32 = 3;

/// An interrupt (`arm,gic-v3`): shared or of a processor's own; by edge or by level.
const SHARED: u32 = 0;
const OWN: u32 = 1;
const EDGE: u32 = 1;
const LEVEL: u32 = 4;

/// A PCI range's first cell: 32-bit memory.
const PCI_MEMORY_32: u32 = 0x0200_0000;
/// The clock that a PL011 thinks to run with, in Hz; nothing is derived from it.
const UART_CLOCK: u32 = 24_000_000;

/// What differs between machines.
pub(crate) struct Facts<'a> {
    pub(crate) vcpus: u8,
    pub(crate) memory_mib: u32,
    pub(crate) last_bus: u8,
    pub(crate) command_line: &'a str,
    pub(crate) initrd: Option<(GuestAddress, u64)>,
    pub(crate) efi: &'a Places,
    /// Random bytes, for the kernel's place and its generator.
    pub(crate) seed: [u8; 40],
}

/// The tree.
pub(crate) fn tree(facts: &Facts<'_>) -> Result<Vec<u8>, Error> {
    let mut fdt = FdtWriter::new()?;
    let root = fdt.begin_node("")?;
    fdt.property_string("compatible", "linux,dummy-virt")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_u32("interrupt-parent", GIC)?;
    chosen(&mut fdt, facts)?;
    memory(&mut fdt, facts.memory_mib)?;
    processors(&mut fdt, facts.vcpus)?;
    psci(&mut fdt)?;
    timer(&mut fdt)?;
    gic(&mut fdt, facts.vcpus)?;
    serial(&mut fdt)?;
    pci(&mut fdt, facts.last_bus)?;
    fdt.end_node(root)?;
    fdt.finish()
}

/// Linux, `Documentation/devicetree/bindings/chosen.txt` and `Documentation/arch/arm/uefi.rst`.
fn chosen(fdt: &mut FdtWriter, facts: &Facts<'_>) -> Result<(), Error> {
    let node = fdt.begin_node("chosen")?;
    fdt.property_string("bootargs", facts.command_line)?;
    fdt.property_string("stdout-path", &format!("/serial@{SERIAL:x}"))?;
    if let Some((start, bytes)) = facts.initrd {
        fdt.property_u64("linux,initrd-start", start.0)?;
        fdt.property_u64("linux,initrd-end", start.0 + bytes)?;
    }
    let (place, generator) = facts.seed.split_at(8);
    fdt.property("kaslr-seed", place)?;
    fdt.property("rng-seed", generator)?;
    fdt.property_u64("linux,uefi-system-table", facts.efi.system_table)?;
    fdt.property_u64("linux,uefi-mmap-start", facts.efi.map)?;
    fdt.property_u32("linux,uefi-mmap-size", facts.efi.map_bytes)?;
    fdt.property_u32("linux,uefi-mmap-desc-size", efi::DESCRIPTOR_BYTES)?;
    fdt.property_u32("linux,uefi-mmap-desc-ver", efi::DESCRIPTOR_VERSION)?;
    // Debian's and Ubuntu's kernels believe in EFI only where this is said, too.
    fdt.property_u32("linux,uefi-secure-boot", efi::SECURE_BOOT_DISABLED)?;
    fdt.end_node(node)
}

fn memory(fdt: &mut FdtWriter, memory_mib: u32) -> Result<(), Error> {
    let node = fdt.begin_node(&format!("memory@{RAM:x}"))?;
    fdt.property_string("device_type", "memory")?;
    fdt.property_array_u64("reg", &[RAM, u64::from(memory_mib) << 20])?;
    fdt.end_node(node)
}

fn processors(fdt: &mut FdtWriter, vcpus: u8) -> Result<(), Error> {
    let node = fdt.begin_node("cpus")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 0)?;
    for index in 0..vcpus {
        let cpu = fdt.begin_node(&format!("cpu@{:x}", affinity(index)))?;
        fdt.property_string("device_type", "cpu")?;
        fdt.property_string("compatible", "arm,armv8")?;
        fdt.property_string("enable-method", "psci")?;
        fdt.property_u64("reg", affinity(index))?;
        fdt.end_node(cpu)?;
    }
    fdt.end_node(node)
}

/// Arm DEN 0022; the calls' numbers are the specification's.
fn psci(fdt: &mut FdtWriter) -> Result<(), Error> {
    let node = fdt.begin_node("psci")?;
    fdt.property_string_list("compatible", vec!["arm,psci-1.0".into(), "arm,psci-0.2".into()])?;
    fdt.property_string("method", "hvc")?;
    fdt.end_node(node)
}

/// `arm,arch_timer`.
fn timer(fdt: &mut FdtWriter) -> Result<(), Error> {
    let node = fdt.begin_node("timer")?;
    fdt.property_string("compatible", "arm,armv8-timer")?;
    fdt.property_null("always-on")?;
    let interrupts: Vec<u32> = TIMERS.iter().flat_map(|timer| [OWN, *timer, LEVEL]).collect();
    fdt.property_array_u32("interrupts", &interrupts)?;
    fdt.end_node(node)
}

/// `arm,gic-v3`.
fn gic(fdt: &mut FdtWriter, vcpus: u8) -> Result<(), Error> {
    let node = fdt.begin_node(&format!("interrupt-controller@{GIC_DISTRIBUTOR:x}"))?;
    fdt.property_string("compatible", "arm,gic-v3")?;
    fdt.property_phandle(GIC)?;
    fdt.property_null("interrupt-controller")?;
    fdt.property_u32("#interrupt-cells", 3)?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_null("ranges")?;
    let redistributors = u64::from(vcpus) * GIC_REDISTRIBUTOR_BYTES;
    let places = [GIC_DISTRIBUTOR, GIC_DISTRIBUTOR_BYTES, GIC_REDISTRIBUTORS, redistributors];
    fdt.property_array_u64("reg", &places)?;
    let its = fdt.begin_node(&format!("msi-controller@{GIC_ITS:x}"))?;
    fdt.property_string("compatible", "arm,gic-v3-its")?;
    fdt.property_phandle(ITS)?;
    fdt.property_null("msi-controller")?;
    fdt.property_u32("#msi-cells", 1)?;
    fdt.property_array_u64("reg", &[GIC_ITS, GIC_ITS_BYTES])?;
    fdt.end_node(its)?;
    fdt.end_node(node)
}

/// `arm,pl011`, and the clock without which its driver does not begin.
fn serial(fdt: &mut FdtWriter) -> Result<(), Error> {
    let clock = fdt.begin_node("clock")?;
    fdt.property_string("compatible", "fixed-clock")?;
    fdt.property_phandle(CLOCK)?;
    fdt.property_u32("#clock-cells", 0)?;
    fdt.property_u32("clock-frequency", UART_CLOCK)?;
    fdt.end_node(clock)?;
    let node = fdt.begin_node(&format!("serial@{SERIAL:x}"))?;
    fdt.property_string_list("compatible", vec!["arm,pl011".into(), "arm,primecell".into()])?;
    fdt.property_array_u64("reg", &[u64::from(SERIAL), devices::pl011::LEN])?;
    fdt.property_array_u32("interrupts", &[SHARED, SERIAL_GSI, EDGE])?;
    fdt.property_array_u32("clocks", &[CLOCK, CLOCK])?;
    fdt.property_string_list("clock-names", vec!["uartclk".into(), "apb_pclk".into()])?;
    fdt.end_node(node)
}

/// `pci-host-ecam-generic`, and `pci-msi`: a function's requester id is its id for the translation service.
fn pci(fdt: &mut FdtWriter, last_bus: u8) -> Result<(), Error> {
    let node = fdt.begin_node(&format!("pcie@{ECAM:x}"))?;
    fdt.property_string("compatible", "pci-host-ecam-generic")?;
    fdt.property_string("device_type", "pci")?;
    fdt.property_u32("#address-cells", 3)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_u32("linux,pci-domain", 0)?;
    fdt.property_null("dma-coherent")?;
    fdt.property_array_u32("bus-range", &[0, u32::from(last_bus)])?;
    fdt.property_array_u64("reg", &[u64::from(ECAM), devices::pci::BUS_BYTES * (u64::from(last_bus) + 1)])?;
    // From the bus's address, in three cells, to the machine's, in two; size, in two.
    let window = [PCI_MEMORY_32, 0, PCI_WINDOW, 0, PCI_WINDOW, 0, ECAM - PCI_WINDOW];
    fdt.property_array_u32("ranges", &window)?;
    fdt.property_array_u32("msi-map", &[0, ITS, 0, 0x1_0000])?;
    fdt.end_node(node)
}
