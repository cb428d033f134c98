//! Kernel and initrd into guest memory.
//!
//! Two forms of kernel. An ELF `vmlinux` is entered by PVH where its notes say how, else by Linux' 64-bit
//! protocol. A bzImage carries the same, compressed, and unpacks itself, which costs more than all the
//! rest of a boot: whoever launches machines should hand over the ELF inside. The files come from a
//! guest's own disk, so nothing in them is believed: the loader checks each place against memory, and
//! here against each other.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use devices::memory::Memory;
use linux_loader::loader::elf::PvhBootCapability;
use linux_loader::loader::{BzImage, Elf, KernelLoader, KernelLoaderResult};
use vm_memory::{Bytes, GuestAddress};

use super::{Entry, Loaded};
use crate::arch::memory_map::{HIGH_RAM, HOLE};

/// The first bytes of an ELF file.
const ELF_MAGIC: [u8; 4] = *b"\x7fELF";
/// A bzImage's magic, and where it is (`Documentation/arch/x86/boot.rst`).
const BZIMAGE_MAGIC: ([u8; 4], u64) = (*b"HdrS", 0x202);
/// `xloadflags`: the kernel has the 64-bit entry, at this offset of its loaded part.
const XLF_KERNEL_64: u16 = 1 << 0;
const ENTRY_64: u64 = 0x200;

const PAGE: u64 = 4096;
/// The largest kernel that is looked at, in bytes. Linux with everything built in and debug symbols is
/// smaller.
const MOST_KERNEL: u64 = 1 << 30;

/// Why a kernel or initrd could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("Cannot read the {0}")]
    Read(&'static str, #[source] io::Error),
    #[error("The kernel has {0} bytes, and may have {MOST_KERNEL}")]
    KernelFile(u64),
    #[error("The kernel is neither an ELF file nor a bzImage")]
    NoKernel,
    #[error("Cannot load the kernel into {0} MiB of memory")]
    Kernel(u64, #[source] linux_loader::loader::Error),
    #[error("The kernel has no 64-bit entry")]
    No64BitEntry,
    #[error("The kernel needs memory up to {needed:#x}, and there is memory up to {end:#x}")]
    KernelTooLarge { needed: u64, end: u64 },
    #[error("The kernel says to begin at {0:#x}, which is not in it")]
    EntryOutside(u64),
    #[error(
        "The initrd of {bytes} bytes does not fit beside the kernel, into memory between {from:#x} and {end:#x}"
    )]
    InitrdTooLarge { bytes: u64, from: u64, end: u64 },
    #[error("Cannot load the initrd")]
    Initrd(#[source] vm_memory::GuestMemoryError),
}

/// Loads both. `memory_bytes` is the machine's memory.
pub(crate) fn load(
    memory: &Memory,
    memory_bytes: u64,
    mut kernel: &File,
    initrd: Option<&File>,
) -> Result<Loaded, LoadError> {
    let end = memory_bytes.min(HOLE);
    let bytes = kernel.seek(SeekFrom::End(0)).map_err(|error| LoadError::Read("kernel", error))?;
    if bytes > MOST_KERNEL {
        return Err(LoadError::KernelFile(bytes));
    }
    let start = [magic(kernel, 0)?, magic(kernel, BZIMAGE_MAGIC.1)?];
    let (result, entry, kernel_end) = match start {
        [ELF_MAGIC, _] => load_elf(memory, end, &mut kernel)?,
        [_, magic] if magic == BZIMAGE_MAGIC.0 => load_bzimage(memory, end, &mut kernel)?,
        _ => return Err(LoadError::NoKernel),
    };
    if kernel_end > end {
        return Err(LoadError::KernelTooLarge { needed: kernel_end, end });
    }
    let (Entry::Pvh(at) | Entry::Linux64(at)) = entry;
    if !(HIGH_RAM.0..kernel_end).contains(&at) {
        return Err(LoadError::EntryOutside(at));
    }
    let initrd =
        initrd.map(|file| load_initrd(memory, file, kernel_end, end, result.setup_header)).transpose()?;
    Ok(Loaded { entry, header: result.setup_header, initrd })
}

fn magic(kernel: &File, at: u64) -> Result<[u8; 4], LoadError> {
    let mut bytes = [0; 4];
    match kernel.read_exact_at(&mut bytes, at) {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(LoadError::Read("kernel", error)),
        _ => Ok(bytes),
    }
}

fn load_elf(
    memory: &Memory,
    end: u64,
    kernel: &mut &File,
) -> Result<(KernelLoaderResult, Entry, u64), LoadError> {
    let result = Elf::load(memory, None, kernel, Some(HIGH_RAM))
        .map_err(|error| LoadError::Kernel(end >> 20, error))?;
    let entry = match result.pvh_boot_cap {
        PvhBootCapability::PvhEntryPresent(at) => Entry::Pvh(at.0),
        _ => Entry::Linux64(result.kernel_load.0),
    };
    Ok((result, entry, result.kernel_end))
}

fn load_bzimage(
    memory: &Memory,
    end: u64,
    kernel: &mut &File,
) -> Result<(KernelLoaderResult, Entry, u64), LoadError> {
    let result = BzImage::load(memory, None, kernel, Some(HIGH_RAM))
        .map_err(|error| LoadError::Kernel(end >> 20, error))?;
    let header = result.setup_header.unwrap_or_default();
    if header.xloadflags & XLF_KERNEL_64 == 0 {
        return Err(LoadError::No64BitEntry);
    }
    let start = result.kernel_load.0;
    // It unpacks itself to where it prefers to be, and needs `init_size` bytes there.
    let unpacked = start.max(header.pref_address).saturating_add(u64::from(header.init_size));
    Ok((result, Entry::Linux64(start.saturating_add(ENTRY_64)), result.kernel_end.max(unpacked)))
}

/// Puts the initrd at the end of low memory, as far from a growing kernel as can be.
fn load_initrd(
    memory: &Memory,
    mut file: &File,
    kernel_end: u64,
    memory_end: u64,
    header: Option<linux_loader::loader::bootparam::setup_header>,
) -> Result<(GuestAddress, u64), LoadError> {
    let read = |error| LoadError::Read("initrd", error);
    let bytes = file.seek(SeekFrom::End(0)).map_err(read)?;
    file.rewind().map_err(read)?;
    let highest = header.map_or(u64::MAX, |header| u64::from(header.initrd_addr_max).saturating_add(1));
    let end = memory_end.min(highest);
    let from = kernel_end.next_multiple_of(PAGE);
    let too_large = LoadError::InitrdTooLarge { bytes, from, end };
    let Some(start) = end.checked_sub(bytes).map(|start| start / PAGE * PAGE).filter(|start| *start >= from)
    else {
        return Err(too_large);
    };
    let count = usize::try_from(bytes).map_err(|_| too_large)?;
    memory.read_exact_volatile_from(GuestAddress(start), &mut file, count).map_err(LoadError::Initrd)?;
    Ok((GuestAddress(start), bytes))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use vmm_sys_util::tempfile::TempFile;

    use super::*;

    const MEMORY: u64 = 64 << 20;

    fn load_bytes(kernel: &[u8], initrd: Option<&[u8]>) -> Result<Loaded, LoadError> {
        let memory = Memory::from_ranges(&[(GuestAddress(0), usize::try_from(MEMORY).unwrap())]).unwrap();
        let file = |bytes: &[u8]| {
            let mut file = TempFile::new().unwrap().into_file();
            file.write_all(bytes).unwrap();
            file
        };
        load(&memory, MEMORY, &file(kernel), initrd.map(file).as_ref())
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
        assert_eq!(loaded.entry, Entry::Pvh(0x100_0000));
        assert_eq!(loaded.initrd, Some((GuestAddress(MEMORY - 8192), 5000)));
    }

    #[test]
    fn what_is_no_kernel_is_refused_with_a_reason() {
        assert!(matches!(load_bytes(b"", None), Err(LoadError::NoKernel)));
        assert!(matches!(load_bytes(&[0; 4096], None), Err(LoadError::NoKernel)));
        assert!(matches!(load_bytes(b"\x7fELF", None), Err(LoadError::Kernel(64, _))));
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
