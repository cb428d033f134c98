//! A guest's memory: anonymous, private to this process, and given by the host page by page as the guest
//! touches it. That of a machine that goes on from a saved one is a private view of its file: a page is read when it is
//! first touched, and what is written stays here.
//!
//! Huge pages make a guest that works faster, and one that boots slower: it touches a little here and a little there, and the
//! host clears two megabytes each time. So a guest boots on small pages, but for its kernel, and is given huge ones when it
//! has booted (docs/decisions/0025-small-pages-until-booted.md).
#![allow(unsafe_code, reason = "handing guest memory to KVM, and madvise")]

use std::fs::File;

use devices::memory::Memory;
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryRegion, GuestRegionMmap, MemoryRegionAddress,
    MmapRegion,
};

/// Why a guest got no memory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MemoryError {
    #[error("Cannot map {0} bytes of memory for the guest")]
    Map(u64, #[source] vm_memory::mmap::FromRangesError),
    #[error("Cannot map the saved memory at {0:#x}")]
    MapSaved(u64, #[source] vm_memory::mmap::MmapRegionError),
    #[error("The memory at {0:#x} overlaps another")]
    Overlap(u64),
    #[error("This host cannot address {0:#x} bytes of memory")]
    TooLarge(u64),
    #[error("KVM does not take the guest's memory at {0:#x}")]
    Register(u64, #[source] kvm_ioctls::Error),
    #[error("The guest's memory at {0:#x} has no address here")]
    Lost(u64, #[source] vm_memory::GuestMemoryError),
}

/// Maps these ranges. Nothing is touched, so nothing is used yet.
pub(crate) fn map(ranges: &[(GuestAddress, u64)]) -> Result<Memory, MemoryError> {
    let total = ranges.iter().map(|(_, bytes)| bytes).sum();
    let sized = ranges.iter().map(|&(start, bytes)| Some((start, usize::try_from(bytes).ok()?)));
    let sized: Vec<_> = sized.collect::<Option<_>>().ok_or(MemoryError::TooLarge(total))?;
    Memory::from_ranges(&sized).map_err(|error| MemoryError::Map(total, error))
}

/// Maps these ranges of a machine that was saved: one after the other in `file`, which is as long as all of them.
/// Nothing is read yet.
pub(crate) fn map_saved(ranges: &[(GuestAddress, u64)], file: &File) -> Result<Memory, MemoryError> {
    let mut offset = 0;
    let mut regions = Vec::with_capacity(ranges.len());
    for &(start, bytes) in ranges {
        let refused = |error| MemoryError::MapSaved(start.0, error);
        let file =
            file.try_clone().map_err(|error| refused(vm_memory::mmap::MmapRegionError::Mmap(error)))?;
        let place = Some(FileOffset::new(file, offset));
        let size = usize::try_from(bytes).map_err(|_| MemoryError::TooLarge(bytes))?;
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_NORESERVE);
        let region = MmapRegion::build(place, size, access, kind).map_err(refused)?;
        regions.push(GuestRegionMmap::new(region, start).ok_or(MemoryError::Overlap(start.0))?);
        offset += bytes;
    }
    let start = ranges.first().map_or(0, |(start, _)| start.0);
    Memory::from_regions(regions).map_err(|_| MemoryError::Overlap(start))
}

/// What pages the host is to give from now on; those that are there stay.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pages {
    /// Of the smallest size.
    Small,
    /// Huge ones, where it has them; it also puts small ones together, in its own time.
    Huge,
}

/// Tells the host.
pub(crate) fn prefer(memory: &Memory, pages: Pages) {
    let advice = match pages {
        Pages::Small => libc::MADV_NOHUGEPAGE,
        Pages::Huge => libc::MADV_HUGEPAGE,
    };
    for region in memory.iter() {
        let place = region.get_host_address(MemoryRegionAddress(0));
        if let (Ok(start), Ok(bytes)) = (place, usize::try_from(region.len())) {
            // SAFETY: the range is the region's mapping, whose contents this does not change. A kernel without huge pages
            // refuses, and that is as good.
            unsafe { libc::madvise(start.cast(), bytes, advice) };
        }
    }
}

/// Makes it the memory of a virtual machine.
///
/// `memory` must outlive the machine's vCPUs, which the machine sees to: it owns both and ends the vCPUs
/// first.
pub(crate) fn register(vm: &VmFd, memory: &Memory) -> Result<(), MemoryError> {
    for (slot, region) in (0..).zip(memory.iter()) {
        let start = region.start_addr().0;
        let address = region
            .get_host_address(MemoryRegionAddress(0))
            .map_err(|error| MemoryError::Lost(start, error))?;
        let region = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: start,
            memory_size: region.len(),
            userspace_addr: address as u64,
        };
        // SAFETY: the range is one mapping, of this size, that lives as long as `memory`; slots and guest
        // addresses do not overlap, as the regions of a `Memory` never do.
        unsafe { vm.set_user_memory_region(region) }.map_err(|error| MemoryError::Register(start, error))?;
    }
    Ok(())
}
