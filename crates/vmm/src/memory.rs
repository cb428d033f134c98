//! A guest's memory: anonymous, private to this process, and given by the host page by page as the guest
//! touches it.
//!
//! Huge pages make a guest that works faster, and one that boots slower: it touches a little here and a little there, and the
//! host clears two megabytes each time. So a guest boots on small pages, but for its kernel, and is given huge ones when it
//! has booted (docs/decisions/0025-small-pages-until-booted.md).
#![allow(unsafe_code, reason = "handing guest memory to KVM, and madvise")]

use devices::memory::Memory;
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};

/// Why a guest got no memory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MemoryError {
    #[error("Cannot map {0} bytes of memory for the guest")]
    Map(u64, #[source] vm_memory::mmap::FromRangesError),
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
