//! What an x86_64 kernel is handed at its entry: memory map, command line, initrd, and where ACPI begins.
//!
//! The same facts in two forms: PVH's start information (Xen's `start_info.h`) and Linux' boot parameters
//! (`Documentation/arch/x86/zero-page.rst`).

use std::mem::size_of;

use devices::memory::Memory;
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params};
use linux_loader::loader::elf::start_info::{
    XEN_HVM_START_MAGIC_VALUE, hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use super::Entry;
use super::memory_map::Kind;
use crate::boot::Loaded;

/// Boot parameters for kernels without a header of their own: magic numbers, and a loader without a number.
const BOOT_FLAG: u16 = 0xaa55;
const HEADER_MAGIC: u32 = u32::from_le_bytes(*b"HdrS");
const LOADER_UNDEFINED: u8 = 0xff;

/// The facts.
pub(crate) struct Start<'a> {
    pub(crate) command_line: GuestAddress,
    pub(crate) rsdp: GuestAddress,
    /// Start, bytes, and what it is.
    pub(crate) regions: Vec<(u64, u64, Kind)>,
    pub(crate) loaded: &'a Loaded,
}

impl Start<'_> {
    /// Writes PVH's form, with what it points at right behind it.
    pub(crate) fn write_pvh(&self, memory: &Memory, at: GuestAddress) -> Result<(), GuestMemoryError> {
        let modules = at.0 + size_of::<hvm_start_info>() as u64;
        let map = modules + size_of::<hvm_modlist_entry>() as u64;
        let mut info = hvm_start_info {
            magic: XEN_HVM_START_MAGIC_VALUE,
            version: 1,
            cmdline_paddr: self.command_line.0,
            rsdp_paddr: self.rsdp.0,
            memmap_paddr: map,
            memmap_entries: u32::try_from(self.regions.len()).unwrap_or_default(),
            ..Default::default()
        };
        if let Some((start, bytes)) = self.loaded.initrd {
            info.nr_modules = 1;
            info.modlist_paddr = modules;
            let module = hvm_modlist_entry { paddr: start.0, size: bytes, ..Default::default() };
            memory.write_obj(module, GuestAddress(modules))?;
        }
        for (&(addr, size, kind), at) in
            self.regions.iter().zip((map..).step_by(size_of::<hvm_memmap_table_entry>()))
        {
            memory.write_obj(
                hvm_memmap_table_entry { addr, size, type_: kind as u32, reserved: 0 },
                GuestAddress(at),
            )?;
        }
        memory.write_obj(info, at)
    }

    /// Writes Linux' form.
    pub(crate) fn write_zero_page(&self, memory: &Memory, at: GuestAddress) -> Result<(), GuestMemoryError> {
        let low = |value: u64| u32::try_from(value & u64::from(u32::MAX)).unwrap_or_default();
        let mut page = boot_params { acpi_rsdp_addr: self.rsdp.0, ..Default::default() };
        if let Entry::Linux64(_, Some(header)) = &self.loaded.entry {
            page.hdr = *header;
        }
        page.hdr.boot_flag = BOOT_FLAG;
        page.hdr.header = HEADER_MAGIC;
        page.hdr.type_of_loader = LOADER_UNDEFINED;
        // Low memory holds both, so neither has a high half.
        page.hdr.cmd_line_ptr = low(self.command_line.0);
        if let Some((start, bytes)) = self.loaded.initrd {
            page.hdr.ramdisk_image = low(start.0);
            page.hdr.ramdisk_size = low(bytes);
        }
        let mut table = page.e820_table;
        for (place, &(addr, size, kind)) in table.iter_mut().zip(&self.regions) {
            *place = boot_e820_entry { addr, size, r#type: kind as u32 };
            page.e820_entries += 1;
        }
        page.e820_table = table;
        memory.write_obj(page, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: vm_memory::ByteValued>(memory: &Memory, at: u64) -> T {
        memory.read_obj(GuestAddress(at)).unwrap()
    }

    #[test]
    fn both_forms_say_the_same() {
        let memory = Memory::from_ranges(&[(GuestAddress(0), 0x10000)]).unwrap();
        let loaded = Loaded { entry: Entry::Pvh(0), initrd: Some((GuestAddress(0x7000_0000), 99)) };
        let regions = vec![(0, 0x9fc00, Kind::Ram), (0x9fc00, 0x60400, Kind::Reserved)];
        let start = Start {
            command_line: GuestAddress(0x20000),
            rsdp: GuestAddress(0xe0000),
            regions,
            loaded: &loaded,
        };
        start.write_pvh(&memory, GuestAddress(0x6000)).unwrap();
        let info: hvm_start_info = read(&memory, 0x6000);
        assert_eq!((info.magic, info.nr_modules, info.memmap_entries), (0x336e_c578, 1, 2));
        let module: hvm_modlist_entry = read(&memory, info.modlist_paddr);
        assert_eq!((module.paddr, module.size), (0x7000_0000, 99));
        let second: hvm_memmap_table_entry = read(&memory, info.memmap_paddr + 24);
        assert_eq!((second.addr, second.size, second.type_), (0x9fc00, 0x60400, 2));

        start.write_zero_page(&memory, GuestAddress(0x7000)).unwrap();
        let page: boot_params = read(&memory, 0x7000);
        let (image, size, line) = (page.hdr.ramdisk_image, page.hdr.ramdisk_size, page.hdr.cmd_line_ptr);
        assert_eq!((image, size, line, page.e820_entries), (0x7000_0000, 99, 0x20000, 2));
        let (table, rsdp) = (page.e820_table, page.acpi_rsdp_addr);
        let (addr, kind) = (table[1].addr, table[1].r#type);
        assert_eq!((addr, kind, rsdp), (0x9fc00, 2, 0xe0000));
    }
}
