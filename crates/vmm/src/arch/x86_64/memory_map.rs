//! Where everything is in an x86_64 guest's address space.
//!
//! ```text
//! 0x0_0000_0000   RAM: start information, page tables, command line          below 640 KiB
//! 0x0_000e_0000     ACPI tables (RSDP first), SMBIOS at 0xf0000,              RAM that is reported as reserved
//!                   the reset vector at 0xffff0
//! 0x0_0010_0000     kernel, initrd at the end
//! 0x0_c000_0000   PCI memory window                                          512 MiB
//! 0x0_e000_0000   PCI configuration space (ECAM)                             256 MiB, one per bus
//! 0x0_fec0_0000   I/O APIC
//! 0x0_fee0_0000   local APICs, and where messages (MSI) are written
//! 0x0_fffb_c000   four pages that KVM needs on Intel
//! 0x1_0000_0000   RAM beyond 3 GiB
//! ```
//!
//! The hole for devices is where firmware puts it on a PC, between 3 and 4 GiB; memory that would lie in
//! it continues above. A machine's memory ends at the latest where its processors' physical addresses do.

use vm_memory::GuestAddress;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The global descriptor table that a vCPU starts with.
pub(crate) const GDT: GuestAddress = GuestAddress(0x500);
/// PVH's start information (56 bytes), its module list, and then its memory map.
pub(crate) const PVH_START: GuestAddress = GuestAddress(0x6000);
/// Linux' boot parameters, the "zero page", for kernels without a PVH entry.
pub(crate) const ZERO_PAGE: GuestAddress = GuestAddress(0x7000);
/// Six pages of page tables that map the first 4 GiB to themselves, for the 64-bit entry.
pub(crate) const PAGE_TABLES: GuestAddress = GuestAddress(0x9000);
/// A stack pointer, for entries that want one before they have their own.
pub(crate) const STACK: GuestAddress = GuestAddress(0x8ff0);
/// The kernel's command line with its final zero.
pub(crate) const COMMAND_LINE: GuestAddress = GuestAddress(0x2_0000);
/// Bytes that a command line may have, its final zero included: x86 Linux' COMMAND_LINE_SIZE.
pub(crate) const COMMAND_LINE_BYTES: usize = 2048;

/// Where low RAM ends for the guest: an extended BIOS data area would begin here, and what follows is the
/// PC's ROMs.
pub(crate) const LOW_RAM_END: u64 = 639 * KIB;
/// The ACPI tables, the RSDP first: kernels that are not told search from here.
pub(crate) const ACPI: GuestAddress = GuestAddress(0xe_0000);
/// Bytes for ACPI tables.
pub(crate) const ACPI_BYTES: usize = 0x1_0000;
/// SMBIOS' entry point and structures: Linux searches these 64 KiB.
pub(crate) const SMBIOS: GuestAddress = GuestAddress(0xf_0000);
/// Bytes for SMBIOS.
pub(crate) const SMBIOS_BYTES: usize = 0xfff0;
/// Where a processor in real mode begins after a reset, and where software jumps that wants a PC's BIOS
/// to reboot it.
pub(crate) const RESET_VECTOR: GuestAddress = GuestAddress(0xf_fff0);
/// Where RAM begins that belongs to the kernel alone.
pub(crate) const HIGH_RAM: GuestAddress = GuestAddress(MIB);

/// Where the hole for devices begins.
pub(crate) const HOLE: u64 = 3 * GIB;
/// Where it ends and RAM continues.
pub(crate) const HOLE_END: u64 = 4 * GIB;

/// The window for PCI functions' memory, up to the ECAM.
pub(crate) const PCI_WINDOW: u32 = 0xc000_0000;
/// PCI configuration space: 1 MiB for each bus.
pub(crate) const ECAM: u32 = 0xe000_0000;
/// Bytes set aside for it: 256 buses, the most there can be.
pub(crate) const ECAM_BYTES: u32 = 0x1000_0000;

/// The I/O APIC.
pub(crate) const IO_APIC: u32 = 0xfec0_0000;
/// Each vCPU's local APIC.
pub(crate) const LOCAL_APIC: u32 = 0xfee0_0000;
/// One page in which KVM puts page tables for real mode on Intel, beside the three of the TSS.
pub(crate) const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;
/// Three pages for the task state segment that KVM needs on Intel.
pub(crate) const KVM_TSS: usize = 0xfffb_d000;

/// The devices at fixed addresses, which are I/O ports here: the first serial port, where every PC has it.
pub(crate) const SERIAL: u16 = 0x3f8;
/// The panic device, where QEMU has it.
pub(crate) const PANIC: u16 = 0x505;
/// Power and reset registers, [`devices::power`].
pub(crate) const POWER: u16 = 0x600;

/// Inputs of the I/O APIC: the serial port's, as on every PC,
pub(crate) const SERIAL_GSI: u32 = 4;
/// and the power registers'.
pub(crate) const POWER_GSI: u32 = 5;

/// What a range of the guest's addresses is; the numbers are those of E820 and of PVH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Memory to use.
    Ram = 1,
    /// Memory, devices or nothing: not to use.
    Reserved = 2,
}

/// RAM as the host allocates it: start and bytes of each range.
pub(crate) fn ram(memory_mib: u32) -> Vec<(GuestAddress, u64)> {
    let bytes = u64::from(memory_mib) * MIB;
    let mut ranges = vec![(GuestAddress(0), bytes.min(HOLE))];
    if bytes > HOLE {
        ranges.push((GuestAddress(HOLE_END), bytes - HOLE));
    }
    ranges
}

/// The address space as the guest is told of it: start, bytes, and what it is.
pub(crate) fn regions(memory_mib: u32) -> Vec<(u64, u64, Kind)> {
    let mut regions = vec![
        (0, LOW_RAM_END, Kind::Ram),
        (LOW_RAM_END, HIGH_RAM.0 - LOW_RAM_END, Kind::Reserved),
        // Linux believes in the ECAM of an MCFG table where it is reserved.
        (u64::from(ECAM), u64::from(ECAM_BYTES), Kind::Reserved),
    ];
    for (start, bytes) in ram(memory_mib) {
        let begin = start.0.max(HIGH_RAM.0);
        regions.push((begin, start.0 + bytes - begin, Kind::Ram));
    }
    regions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_round_the_hole_and_nothing_overlaps() {
        for memory_mib in [64, 3071, 3072, 3073, 4096, 512 * 1024, u32::MAX] {
            let total: u64 = ram(memory_mib).iter().map(|(_, bytes)| bytes).sum();
            assert_eq!(total, u64::from(memory_mib) * MIB);
            let mut regions = regions(memory_mib);
            regions.sort_unstable_by_key(|region| region.0);
            for pair in regions.windows(2) {
                assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{memory_mib} MiB: {pair:x?}");
            }
            assert!(regions.iter().all(|(start, bytes, kind)| {
                *kind == Kind::Reserved || start + bytes <= HOLE || *start >= HOLE_END
            }));
        }
    }
}
