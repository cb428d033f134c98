//! The form that an arm64 kernel comes in: an `Image` (Linux, `Documentation/arch/arm64/booting.rst`), which
//! is entered at its first byte with the address of a device tree.
//!
//! A packed one (gzip, or EFI's own way to unpack itself) is for those who launch machines to unpack.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use devices::memory::Memory;
use linux_loader::loader::{KernelLoader, PE};

use super::memory_map::HIGH_RAM;
use crate::boot::Kernel;

/// Fields of the header: bytes of memory that the kernel takes, its unset memory included; flags; magic.
const IMAGE_SIZE: u64 = 16;
const FLAGS: u64 = 24;
const MAGIC: u64 = 56;
/// `ARM\x64`.
const IMAGE_MAGIC: u64 = 0x644d_5241;
/// Flags: the kernel is big-endian.
const BIG_ENDIAN: u64 = 1 << 0;

/// How far from the kernel its initrd may end: both lie in 32 GiB that begin at a multiple of one.
const INITRD_REACH: u64 = 31 << 30;

/// Where the first vCPU begins.
#[derive(Debug)]
pub(crate) struct Entry(pub(crate) u64);

impl Entry {
    /// The first instruction's address.
    pub(crate) fn address(&self) -> u64 {
        self.0
    }
}

/// Why a kernel could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KernelError {
    #[error("Cannot read the kernel")]
    Read(#[source] io::Error),
    #[error("The kernel is no arm64 Image")]
    NoKernel,
    #[error("The kernel is a big-endian one")]
    BigEndian,
    #[error("Cannot load the kernel into {0} MiB of memory")]
    Load(u64, #[source] linux_loader::loader::Error),
}

/// Loads a kernel into memory that ends at `end`.
pub(crate) fn load_kernel(memory: &Memory, end: u64, mut kernel: &File) -> Result<Kernel, KernelError> {
    if field(kernel, MAGIC)? & u64::from(u32::MAX) != IMAGE_MAGIC {
        return Err(KernelError::NoKernel);
    }
    if field(kernel, FLAGS)? & BIG_ENDIAN != 0 {
        return Err(KernelError::BigEndian);
    }
    let room = (end - HIGH_RAM.0) >> 20;
    let result = PE::load(memory, Some(HIGH_RAM), &mut kernel, None)
        .map_err(|error| KernelError::Load(room, error))?;
    let start = result.kernel_load.0;
    Ok(Kernel {
        entry: Entry(start),
        end: result.kernel_end.max(start.saturating_add(field(kernel, IMAGE_SIZE)?)),
        initrd_end: HIGH_RAM.0 + INITRD_REACH,
    })
}

/// Eight bytes of the header; zero where the file ends before.
fn field(kernel: &File, at: u64) -> Result<u64, KernelError> {
    let mut bytes = [0; 8];
    match kernel.read_exact_at(&mut bytes, at) {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(KernelError::Read(error)),
        _ => Ok(u64::from_le_bytes(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use vm_memory::GuestAddress;
    use vmm_sys_util::tempfile::TempFile;

    use super::super::memory_map::RAM;
    use super::*;
    use crate::boot::Loaded;
    use crate::boot::kernel::{LoadError, load};

    const MEMORY: u64 = 64 << 20;

    fn load_bytes(kernel: &[u8], initrd: Option<&[u8]>) -> Result<Loaded, LoadError> {
        let memory = Memory::from_ranges(&[(GuestAddress(RAM), usize::try_from(MEMORY).unwrap())]).unwrap();
        let file = |bytes: &[u8]| {
            let mut file = TempFile::new().unwrap().into_file();
            file.write_all(bytes).unwrap();
            file
        };
        load(&memory, &file(kernel), initrd.map(file).as_ref())
    }

    /// An Image of one page that says to take `size` bytes.
    fn image(size: u64) -> Vec<u8> {
        let mut file = vec![0; 4096];
        file[16..24].copy_from_slice(&size.to_le_bytes());
        file[56..60].copy_from_slice(b"ARM\x64");
        file
    }

    #[test]
    fn an_image_is_entered_at_its_start_and_the_initrd_lies_at_the_end() {
        let loaded = load_bytes(&image(0x10_0000), Some(&[7; 5000])).unwrap();
        assert_eq!(loaded.entry.address(), RAM + 0x20_0000);
        assert_eq!(loaded.initrd, Some((GuestAddress(RAM + MEMORY - 8192), 5000)));
    }

    #[test]
    fn what_is_no_kernel_is_refused_with_a_reason() {
        for none in [&[][..], &[0; 4096], b"\x1f\x8b", b"MZ\0\0zimg"] {
            assert!(matches!(load_bytes(none, None), Err(LoadError::Kernel(KernelError::NoKernel))));
        }
        let mut big = image(4096);
        big[24] = 1;
        assert!(matches!(load_bytes(&big, None), Err(LoadError::Kernel(KernelError::BigEndian))));
        for size in [MEMORY, u64::MAX] {
            assert!(matches!(load_bytes(&image(size), None), Err(LoadError::KernelTooLarge { .. })));
        }
        let initrd = vec![0; usize::try_from(MEMORY).unwrap() - 0x20_0000];
        let error = load_bytes(&image(4096), Some(&initrd));
        assert!(matches!(error, Err(LoadError::InitrdTooLarge { .. })));
    }

    #[test]
    fn any_damage_is_refused_or_harmless() {
        let good = image(4096);
        for at in 0..64 {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut damaged = good.clone();
                damaged[at] = value;
                let _ = load_bytes(&damaged, None);
            }
            let _ = load_bytes(&good[..at], None);
        }
    }
}
