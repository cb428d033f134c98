//! Kernel and initrd into guest memory.
//!
//! What a kernel's file may look like is the architecture's affair ([`arch::load_kernel`]); what holds for
//! all of them is here. The files come from a guest's own disk, so nothing in them is believed: the loader
//! checks each place against memory, and here against each other.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};

use devices::memory::Memory;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use super::Loaded;
use crate::arch::memory_map::HIGH_RAM;
use crate::arch::{self, KernelError};
use crate::memory::{self, Pages};

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
    #[error(transparent)]
    Kernel(#[from] KernelError),
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

/// Loads both, into the first range of memory: the kernel into what pages the host likes best, the initrd, and all that the
/// guest touches by itself, into small ones.
pub(crate) fn load(memory: &Memory, mut kernel: &File, initrd: Option<&File>) -> Result<Loaded, LoadError> {
    let end = memory.iter().next().map_or(0, |region| region.start_addr().0 + region.len());
    let bytes = kernel.seek(SeekFrom::End(0)).map_err(|error| LoadError::Read("kernel", error))?;
    if bytes > MOST_KERNEL {
        return Err(LoadError::KernelFile(bytes));
    }
    let kernel = arch::load_kernel(memory, end, kernel)?;
    memory::prefer(memory, Pages::Small);
    if kernel.end > end {
        return Err(LoadError::KernelTooLarge { needed: kernel.end, end });
    }
    let at = kernel.entry.address();
    if !(HIGH_RAM.0..kernel.end).contains(&at) {
        return Err(LoadError::EntryOutside(at));
    }
    let room = (kernel.end, end.min(kernel.initrd_end));
    let initrd = initrd.map(|file| load_initrd(memory, file, room)).transpose()?;
    Ok(Loaded { entry: kernel.entry, initrd })
}

/// Puts the initrd at the end of the room for it, as far from a growing kernel as can be.
fn load_initrd(
    memory: &Memory,
    mut file: &File,
    (from, end): (u64, u64),
) -> Result<(GuestAddress, u64), LoadError> {
    let read = |error| LoadError::Read("initrd", error);
    let bytes = file.seek(SeekFrom::End(0)).map_err(read)?;
    file.rewind().map_err(read)?;
    let from = from.next_multiple_of(PAGE);
    let too_large = LoadError::InitrdTooLarge { bytes, from, end };
    let Some(start) = end.checked_sub(bytes).map(|start| start / PAGE * PAGE).filter(|start| *start >= from)
    else {
        return Err(too_large);
    };
    let count = usize::try_from(bytes).map_err(|_| too_large)?;
    memory.read_exact_volatile_from(GuestAddress(start), &mut file, count).map_err(LoadError::Initrd)?;
    Ok((GuestAddress(start), bytes))
}
