//! As much of EFI as a kernel needs to find ACPI and SMBIOS: on Arm, Linux looks for them nowhere else.
//!
//! No firmware ran. The device tree names a system table and a memory map as the kernel's own EFI stub would
//! have left them, boot services over and everything mapped where it lies (Linux,
//! `Documentation/arch/arm/uefi.rst`). Of runtime services there is the time of day ([`super::efi_runtime`]),
//! and a table says so. Structures: UEFI 2.10.
//!
//! ```text
//! 0x0000   system table, its vendor's name, configuration tables and the small ones that they name
//! 0x1000   memory map
//! ```

use super::efi_runtime;
use super::memory_map::{
    ACPI, CLOCK, CLOCK_PAGES, DEVICE_TREE, EFI, EFI_RUNTIME, EFI_RUNTIME_BYTES, HIGH_RAM, SMBIOS,
    SMBIOS_BYTES,
};

/// Offsets of the pieces.
const VENDOR: u64 = 0x100;
const CONFIGURATION: u64 = 0x200;
const RUNTIME_PROPERTIES: u64 = 0x300;
const RESERVATIONS: u64 = 0x400;
const MAP: u64 = 0x1000;

/// The version whose structures these are, 2.10; and its table's header (4.2).
const SIGNATURE: u64 = u64::from_le_bytes(*b"IBI SYST");
const REVISION: u32 = 2 << 16 | 100;
/// Where a header has its checksum.
const CHECKSUM: std::ops::Range<usize> = 16..20;
const SYSTEM_TABLE_BYTES: u32 = 120;

/// Names of configuration tables, their first three fields little-endian.
const ACPI_20: [u8; 16] = guid(0x8868_e871, 0xe4f1, 0x11d3, [0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81]);
const SMBIOS_3: [u8; 16] =
    guid(0xf2fd_1544, 0x9794, 0x4a2c, [0x99, 0x2e, 0xe5, 0xbb, 0xcf, 0x20, 0xe3, 0x94]);
const RT_PROPERTIES: [u8; 16] =
    guid(0xeb66_918a, 0x7eef, 0x402a, [0x84, 0x2e, 0x93, 0x1d, 0x21, 0xc3, 0x8a, 0xe9]);
/// Linux' own (`LINUX_EFI_MEMRESERVE_TABLE_GUID`): a list on which the kernel notes what the next one, started
/// by kexec, must leave alone; the GIC's tables are. It warns where there is none to write on.
const MEMRESERVE: [u8; 16] =
    guid(0x888e_b0c6, 0x8ede, 0x4ff5, [0xa8, 0xf0, 0x9a, 0xee, 0x5c, 0xb9, 0x77, 0xc2]);

const fn guid(a: u32, b: u16, c: u16, d: [u8; 8]) -> [u8; 16] {
    let ([a0, a1, a2, a3], [b0, b1], [c0, c1]) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
    [a0, a1, a2, a3, b0, b1, c0, c1, d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]]
}

/// Types of memory (7.2.1): what a loader left, to use; services that stay; free; ACPI's, to use when it has
/// been read; registers.
const LOADER_DATA: u32 = 2;
const RUNTIME_CODE: u32 = 5;
const CONVENTIONAL: u32 = 7;
const ACPI_RECLAIM: u32 = 9;
const REGISTERS: u32 = 11;
/// Attributes: no caches; write-back caches; nobody writes; the services need it.
const UNCACHED: u64 = 1 << 0;
const WRITE_BACK: u64 = 1 << 3;
const READ_ONLY: u64 = 1 << 17;
const RUNTIME: u64 = 1 << 63;
const PAGE: u64 = 4096;

/// Bytes of a piece of the memory map, and its version.
pub(crate) const DESCRIPTOR_BYTES: u32 = 40;
pub(crate) const DESCRIPTOR_VERSION: u32 = 1;

/// Linux' number for "there is none" (`enum efi_secureboot_mode`).
pub(crate) const SECURE_BOOT_DISABLED: u32 = 2;

/// What the device tree says of it.
pub(crate) struct Places {
    pub(crate) system_table: u64,
    pub(crate) map: u64,
    pub(crate) map_bytes: u32,
}

/// Everything, to lie at [`EFI`], for a machine whose RAM ends at `end`.
pub(crate) fn tables(end: u64) -> (Vec<u8>, Places) {
    let mut out = Vec::new();
    let map = memory_map(end);
    put(&mut out, 0, &system_table());
    put(&mut out, VENDOR, &utf16("cumulet"));
    put(&mut out, CONFIGURATION, &configuration());
    // Version 1, eight bytes.
    let properties = [&[1, 0, 8, 0][..], &efi_runtime::SUPPORTED.to_le_bytes()].concat();
    put(&mut out, RUNTIME_PROPERTIES, &properties);
    // Room for no entries, none in use, no next list.
    put(&mut out, RESERVATIONS, &[0; 16]);
    put(&mut out, MAP, &map);
    let map_bytes = u32::try_from(map.len()).unwrap_or_default();
    (out, Places { system_table: EFI.0, map: EFI.0 + MAP, map_bytes })
}

fn put(out: &mut Vec<u8>, at: u64, bytes: &[u8]) {
    let at = usize::try_from(at).unwrap_or_default();
    debug_assert!(out.len() <= at, "pieces in order");
    out.resize(at, 0);
    out.extend(bytes);
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

/// A table's header, its checksum still missing (4.2).
pub(super) fn header(signature: u64, bytes: u32) -> Vec<u8> {
    let words = [REVISION, bytes, 0, 0].map(u32::to_le_bytes);
    [&signature.to_le_bytes()[..], words.as_flattened()].concat()
}

/// Puts the checksum into a table that is complete.
pub(super) fn seal(table: &mut [u8]) {
    let checksum = crc32fast::hash(table).to_le_bytes();
    table[CHECKSUM].copy_from_slice(&checksum);
}

/// Header, vendor and its revision; no console; the services; the configuration tables (4.3).
fn system_table() -> Vec<u8> {
    let mut table = header(SIGNATURE, SYSTEM_TABLE_BYTES);
    let no_consoles = [0; 6];
    let no_boot_services = 0;
    let words = [&[EFI.0 + VENDOR, 0][..], &no_consoles, &[EFI_RUNTIME.0, no_boot_services]].concat();
    table.extend(words.into_iter().flat_map(u64::to_le_bytes));
    table.extend((CONFIGURED.len() as u64).to_le_bytes());
    table.extend((EFI.0 + CONFIGURATION).to_le_bytes());
    seal(&mut table);
    table
}

const CONFIGURED: [([u8; 16], u64); 4] = [
    (ACPI_20, ACPI.0),
    (SMBIOS_3, SMBIOS.0),
    (RT_PROPERTIES, EFI.0 + RUNTIME_PROPERTIES),
    (MEMRESERVE, EFI.0 + RESERVATIONS),
];

fn configuration() -> Vec<u8> {
    CONFIGURED.iter().flat_map(|(name, at)| [&name[..], &at.to_le_bytes()].concat()).collect()
}

/// All RAM: the device tree, the tables, the services, the rest. And what the services touch.
fn memory_map(end: u64) -> Vec<u8> {
    let services_end = EFI_RUNTIME.0 + EFI_RUNTIME_BYTES as u64;
    let clock = u64::from(CLOCK);
    let regions = [
        (REGISTERS, clock, clock + CLOCK_PAGES, UNCACHED | RUNTIME),
        (LOADER_DATA, DEVICE_TREE.0, EFI.0, WRITE_BACK),
        (ACPI_RECLAIM, EFI.0, SMBIOS.0 + SMBIOS_BYTES as u64, WRITE_BACK),
        (RUNTIME_CODE, EFI_RUNTIME.0, services_end, WRITE_BACK | READ_ONLY | RUNTIME),
        (LOADER_DATA, services_end, HIGH_RAM.0, WRITE_BACK),
        (CONVENTIONAL, HIGH_RAM.0, end, WRITE_BACK),
    ];
    let descriptor = |(kind, start, end, attributes): (u32, u64, u64, u64)| {
        // Type and padding; physical and virtual address, which are the same; pages; attributes.
        [u64::from(kind), start, start, (end - start) / PAGE, attributes].map(u64::to_le_bytes).concat()
    };
    regions.into_iter().flat_map(descriptor).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    #[test]
    fn a_kernel_finds_the_tables() {
        let (bytes, places) = tables(HIGH_RAM.0 + 0x1000_0000);
        assert_eq!(&bytes[..8], b"IBI SYST");
        let mut table = bytes[..SYSTEM_TABLE_BYTES as usize].to_vec();
        table[CHECKSUM].fill(0);
        assert_eq!(crc32fast::hash(&table).to_le_bytes(), bytes[CHECKSUM]);
        let (count, at) = (word(&bytes, 104), usize::try_from(word(&bytes, 112) - EFI.0).unwrap());
        assert_eq!((count, &bytes[at..at + 4]), (4, &[0x71, 0xe8, 0x68, 0x88][..]));
        assert_eq!((word(&bytes, at + 16), word(&bytes, at + 40)), (ACPI.0, SMBIOS.0));
        assert_eq!(places.system_table, EFI.0);
    }

    #[test]
    fn the_map_is_all_of_ram_without_gaps() {
        let end = HIGH_RAM.0 + 0x1000_0000;
        let (bytes, places) = tables(end);
        let map = &bytes[usize::try_from(places.map - EFI.0).unwrap()..];
        assert_eq!(map.len(), usize::try_from(places.map_bytes).unwrap());
        let mut at = DEVICE_TREE.0;
        for descriptor in map.chunks(DESCRIPTOR_BYTES as usize).skip(1) {
            assert_eq!(word(descriptor, 8), at);
            at += word(descriptor, 24) * PAGE;
        }
        assert_eq!(at, end);
    }
}
