//! Where everything is in an aarch64 guest's address space.
//!
//! ```text
//! 0x0_0100_0000   serial port, power registers, panic device       a page each
//! 0x0_0101_0000   clock
//! 0x0_0800_0000   GIC: distributor, translation service (ITS)
//! 0x0_0a00_0000   GIC: a redistributor for each vCPU               32 MiB
//! 0x0_1000_0000   PCI memory window                                512 MiB
//! 0x0_3000_0000   PCI configuration space (ECAM)                   256 MiB, one per bus
//! 0x0_4000_0000   RAM: device tree, EFI, ACPI, SMBIOS              the first 2 MiB
//! 0x0_4020_0000     kernel, initrd at the end
//! ```
//!
//! RAM begins at 1 GiB, below it is room for devices, and it ends at the latest where addresses of the host's
//! second stage of translation do.

use vm_memory::GuestAddress;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The serial port, the power registers, the panic device.
pub(crate) const SERIAL: u32 = 0x0100_0000;
pub(crate) const POWER: u32 = 0x0100_1000;
pub(crate) const PANIC: u32 = 0x0100_2000;
/// The clock, in pages of its own however large the kernel's are.
pub(crate) const CLOCK: u32 = 0x0101_0000;
pub(crate) const CLOCK_PAGES: u64 = 0x1_0000;

/// The interrupt controller's distributor: 64 KiB.
pub(crate) const GIC_DISTRIBUTOR: u64 = 0x0800_0000;
pub(crate) const GIC_DISTRIBUTOR_BYTES: u64 = 0x1_0000;
/// Its translation service, where messages (MSI) are written: 128 KiB.
pub(crate) const GIC_ITS: u64 = 0x0808_0000;
pub(crate) const GIC_ITS_BYTES: u64 = 0x2_0000;
/// Its redistributors, one after the other, 128 KiB for each vCPU.
pub(crate) const GIC_REDISTRIBUTORS: u64 = 0x0a00_0000;
pub(crate) const GIC_REDISTRIBUTOR_BYTES: u64 = 0x2_0000;

/// The window for PCI functions' memory, up to the ECAM.
pub(crate) const PCI_WINDOW: u32 = 0x1000_0000;
/// PCI configuration space: 1 MiB for each bus.
pub(crate) const ECAM: u32 = 0x3000_0000;
/// Bytes set aside for it: 256 buses, the most there can be.
pub(crate) const ECAM_BYTES: u32 = 0x1000_0000;

/// Where RAM begins.
pub(crate) const RAM: u64 = GIB;
/// The device tree, in one piece of at most 2 MiB (Linux, `Documentation/arch/arm64/booting.rst`).
pub(crate) const DEVICE_TREE: GuestAddress = GuestAddress(RAM);
pub(crate) const DEVICE_TREE_BYTES: usize = 0x4_0000;
/// What EFI's system table begins.
pub(crate) const EFI: GuestAddress = GuestAddress(RAM + 0x4_0000);
pub(crate) const EFI_BYTES: usize = 0x1_0000;
/// The ACPI tables, the RSDP first.
pub(crate) const ACPI: GuestAddress = GuestAddress(RAM + 0x5_0000);
pub(crate) const ACPI_BYTES: usize = 0x2_0000;
/// SMBIOS' entry point and structures.
pub(crate) const SMBIOS: GuestAddress = GuestAddress(RAM + 0x7_0000);
pub(crate) const SMBIOS_BYTES: usize = 0x1_0000;
/// EFI's runtime services, also in pages of their own.
pub(crate) const EFI_RUNTIME: GuestAddress = GuestAddress(RAM + 0x8_0000);
pub(crate) const EFI_RUNTIME_BYTES: usize = 0x1_0000;
/// Where RAM begins that belongs to the kernel alone; kernels want to lie at a multiple of 2 MiB.
pub(crate) const HIGH_RAM: GuestAddress = GuestAddress(RAM + 2 * MIB);

/// Bytes that a command line may have, its final zero included: arm64 Linux' COMMAND_LINE_SIZE.
pub(crate) const COMMAND_LINE_BYTES: usize = 2048;

/// Inputs of the interrupt controller: the serial port's and the power registers', counted from the first
/// that devices share (SPI 0).
pub(crate) const SERIAL_GSI: u32 = 0;
pub(crate) const POWER_GSI: u32 = 1;
/// The GIC's own number of that input, and of the first of a vCPU's own (PPI 0).
pub(crate) const FIRST_SHARED_INTERRUPT: u32 = 32;
pub(crate) const FIRST_PRIVATE_INTERRUPT: u32 = 16;
/// A vCPU's timers among its own interrupts, as KVM and all Arm servers have them: secure, non-secure, virtual,
/// hypervisor. The order is that of all tables.
pub(crate) const TIMERS: [u32; 4] = [13, 14, 11, 10];
/// How many interrupts the GIC has, those of a vCPU's own (32) included: a multiple of 32, 64 at least.
pub(crate) const INTERRUPTS: u32 = 64;

/// RAM as the host allocates it: start and bytes of each range.
pub(crate) fn ram(memory_mib: u32) -> Vec<(GuestAddress, u64)> {
    vec![(GuestAddress(RAM), u64::from(memory_mib) * MIB)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overlaps() {
        let redistributors = 256 * GIC_REDISTRIBUTOR_BYTES;
        let bytes = |bytes: usize| u64::try_from(bytes).unwrap();
        let places = [
            (u64::from(SERIAL), devices::pl011::LEN),
            (u64::from(POWER), devices::power::LEN),
            (u64::from(PANIC), 1),
            (u64::from(CLOCK), CLOCK_PAGES),
            (GIC_DISTRIBUTOR, GIC_DISTRIBUTOR_BYTES),
            (GIC_ITS, GIC_ITS_BYTES),
            (GIC_REDISTRIBUTORS, redistributors),
            (u64::from(PCI_WINDOW), u64::from(ECAM - PCI_WINDOW)),
            (u64::from(ECAM), u64::from(ECAM_BYTES)),
            (DEVICE_TREE.0, bytes(DEVICE_TREE_BYTES)),
            (EFI.0, bytes(EFI_BYTES)),
            (ACPI.0, bytes(ACPI_BYTES)),
            (SMBIOS.0, bytes(SMBIOS_BYTES)),
            (EFI_RUNTIME.0, bytes(EFI_RUNTIME_BYTES)),
            (HIGH_RAM.0, 16 * MIB),
        ];
        for pair in places.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:x?}");
        }
    }
}
