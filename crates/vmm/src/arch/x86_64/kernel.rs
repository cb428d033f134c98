//! The forms that an x86_64 kernel comes in.
//!
//! Two. An ELF `vmlinux` is entered by PVH where its notes say how, else by Linux' 64-bit protocol. A bzImage
//! carries the same, compressed, and unpacks itself, which costs more than all the rest of a boot: whoever
//! launches machines should hand over the ELF inside.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use devices::memory::Memory;
use linux_loader::loader::bootparam::setup_header;
use linux_loader::loader::elf::PvhBootCapability;
use linux_loader::loader::{BzImage, Elf, KernelLoader};

use super::memory_map::HIGH_RAM;
use crate::boot::Kernel;

/// The first bytes of an ELF file.
const ELF_MAGIC: [u8; 4] = *b"\x7fELF";
/// A bzImage's magic, and where it is (`Documentation/arch/x86/boot.rst`).
const BZIMAGE_MAGIC: ([u8; 4], u64) = (*b"HdrS", 0x202);
/// `xloadflags`: the kernel has the 64-bit entry, at this offset of its loaded part.
const XLF_KERNEL_64: u16 = 1 << 0;
const ENTRY_64: u64 = 0x200;

/// Where the first vCPU begins, and by which protocol.
#[derive(Debug)]
pub(crate) enum Entry {
    /// PVH: 32-bit, no paging.
    Pvh(u64),
    /// Linux' 64-bit boot protocol, with the header that the boot parameters repeat; an ELF file has none.
    Linux64(u64, Option<setup_header>),
}

impl Entry {
    /// The first instruction's address.
    pub(crate) fn address(&self) -> u64 {
        let (Self::Pvh(at) | Self::Linux64(at, _)) = self;
        *at
    }
}

/// Why a kernel could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KernelError {
    #[error("Cannot read the kernel")]
    Read(#[source] io::Error),
    #[error("The kernel is neither an ELF file nor a bzImage")]
    NoKernel,
    #[error("Cannot load the kernel into {0} MiB of memory")]
    Load(u64, #[source] linux_loader::loader::Error),
    #[error("The kernel has no 64-bit entry")]
    No64BitEntry,
}

/// Loads a kernel into memory that ends at `end`.
pub(crate) fn load_kernel(memory: &Memory, end: u64, mut kernel: &File) -> Result<Kernel, KernelError> {
    let failed = |error| KernelError::Load(end >> 20, error);
    if magic(kernel, 0)? == ELF_MAGIC {
        let result = Elf::load(memory, None, &mut kernel, Some(HIGH_RAM)).map_err(failed)?;
        let entry = match result.pvh_boot_cap {
            PvhBootCapability::PvhEntryPresent(at) => Entry::Pvh(at.0),
            _ => Entry::Linux64(result.kernel_load.0, None),
        };
        return Ok(Kernel { entry, end: result.kernel_end, initrd_end: u64::MAX });
    }
    if magic(kernel, BZIMAGE_MAGIC.1)? != BZIMAGE_MAGIC.0 {
        return Err(KernelError::NoKernel);
    }
    let result = BzImage::load(memory, None, &mut kernel, Some(HIGH_RAM)).map_err(failed)?;
    let header = result.setup_header.unwrap_or_default();
    if header.xloadflags & XLF_KERNEL_64 == 0 {
        return Err(KernelError::No64BitEntry);
    }
    let start = result.kernel_load.0;
    // It unpacks itself to where it prefers to be, and needs `init_size` bytes there.
    let unpacked = start.max(header.pref_address).saturating_add(u64::from(header.init_size));
    Ok(Kernel {
        entry: Entry::Linux64(start.saturating_add(ENTRY_64), Some(header)),
        end: result.kernel_end.max(unpacked),
        initrd_end: u64::from(header.initrd_addr_max).saturating_add(1),
    })
}

fn magic(kernel: &File, at: u64) -> Result<[u8; 4], KernelError> {
    let mut bytes = [0; 4];
    match kernel.read_exact_at(&mut bytes, at) {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(KernelError::Read(error)),
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use vm_memory::GuestAddress;
    use vmm_sys_util::tempfile::TempFile;

    use super::*;
    use crate::boot::Loaded;
    use crate::boot::kernel::{LoadError, load};

    const MEMORY: u64 = 64 << 20;

    fn load_bytes(kernel: &[u8], initrd: Option<&[u8]>) -> Result<Loaded, LoadError> {
        let memory = Memory::from_ranges(&[(GuestAddress(0), usize::try_from(MEMORY).unwrap())]).unwrap();
        let file = |bytes: &[u8]| {
            let mut file = TempFile::new().unwrap().into_file();
            file.write_all(bytes).unwrap();
            file
        };
        load(&memory, &file(kernel), initrd.map(file).as_ref())
    }

    /// An ELF file with one segment of `memory_size` at 16 MiB, beginning at `entry`, with a PVH note.
    fn elf(entry: u64, memory_size: u64) -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        file[16..20].copy_from_slice(&[2, 0, 62, 0]);
        file[24..32].copy_from_slice(&entry.to_le_bytes());
        file[32..40].copy_from_slice(&64_u64.to_le_bytes()); // program headers
        file[52..58].copy_from_slice(&[64, 0, 56, 0, 2, 0]);
        let header = |kind: u32, offset: u64, address: u64, bytes: u64, memory: u64| {
            let words = [offset, address, address, bytes, memory, 4096];
            [&kind.to_le_bytes()[..], &[5, 0, 0, 0], words.map(u64::to_le_bytes).as_flattened()].concat()
        };
        file.extend(header(1, 256, 0x100_0000, 16, memory_size));
        file.extend(header(4, 512, 0, 20, 20));
        file.resize(256, 0);
        file.extend([0xf4; 16]); // hlt
        file.resize(512, 0);
        let entry = u32::try_from(entry & 0xffff_ffff).unwrap();
        file.extend([4_u32, 4, 18].map(u32::to_le_bytes).as_flattened());
        file.extend(b"Xen\0");
        file.extend(entry.to_le_bytes());
        file
    }

    #[test]
    fn an_elf_kernel_is_entered_by_pvh_and_the_initrd_lies_at_the_end() {
        let loaded = load_bytes(&elf(0x100_0000, 0x1000), Some(&[7; 5000])).unwrap();
        assert!(matches!(loaded.entry, Entry::Pvh(0x100_0000)));
        assert_eq!(loaded.initrd, Some((GuestAddress(MEMORY - 8192), 5000)));
    }

    #[test]
    fn what_is_no_kernel_is_refused_with_a_reason() {
        assert!(matches!(load_bytes(b"", None), Err(LoadError::Kernel(KernelError::NoKernel))));
        assert!(matches!(load_bytes(&[0; 4096], None), Err(LoadError::Kernel(KernelError::NoKernel))));
        assert!(matches!(load_bytes(b"\x7fELF", None), Err(LoadError::Kernel(KernelError::Load(64, _)))));
        let outside = elf(0x200_0000, 0x1000);
        assert!(matches!(load_bytes(&outside, None), Err(LoadError::EntryOutside(0x200_0000))));
        let large = elf(0x100_0000, MEMORY);
        assert!(matches!(load_bytes(&large, None), Err(LoadError::KernelTooLarge { .. })));
        let initrd = vec![0; usize::try_from(MEMORY).unwrap() - 0x100_0000];
        let error = load_bytes(&elf(0x100_0000, 0x1000), Some(&initrd));
        assert!(matches!(error, Err(LoadError::InitrdTooLarge { .. })));
    }

    #[test]
    fn any_damage_is_refused_or_harmless() {
        let good = elf(0x100_0000, 0x1000);
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut damaged = good.clone();
                damaged[at] = value;
                let _ = load_bytes(&damaged, None);
            }
            let _ = load_bytes(&good[..at], None);
        }
    }
}
