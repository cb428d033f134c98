//! vhost-net (Linux, linux/vhost.h): the host's kernel carries packets between a NIC's rings and its TAP by itself, on a
//! thread that it makes for it. Each open `/dev/vhost-net` does so for one pair of queues.
//!
//! What a driver wrote is read by the kernel then: descriptors it bounds by the table of the guest's memory, but where the
//! rings themselves lie it believes us. So each ring must lie in one piece of guest memory.
#![allow(unsafe_code, reason = "the ioctl that binds vhost to a TAP")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use devices::memory::Memory;
use devices::virtio::net::Way;
use devices::virtio::queue::Ring;
use vhost::vhost_kern::VhostKernBackend;
use vhost::vhost_kern::vhost_binding::{
    VHOST_GET_FEATURES, VHOST_GET_VRING_BASE, VHOST_NET_SET_BACKEND, VHOST_SET_FEATURES, VHOST_SET_MEM_TABLE,
    VHOST_SET_OWNER, VHOST_SET_VRING_ADDR, VHOST_SET_VRING_BASE, VHOST_SET_VRING_CALL, VHOST_SET_VRING_KICK,
    VHOST_SET_VRING_NUM, vhost_vring_file,
};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};
use vmm_sys_util::ioctl::ioctl_with_ref;

/// The ioctls that this takes.
pub(crate) fn ioctls() -> Vec<u64> {
    let all = [
        VHOST_SET_OWNER(),
        VHOST_GET_FEATURES(),
        VHOST_SET_FEATURES(),
        VHOST_SET_MEM_TABLE(),
        VHOST_SET_VRING_NUM(),
        VHOST_SET_VRING_ADDR(),
        VHOST_SET_VRING_BASE(),
        VHOST_GET_VRING_BASE(),
        VHOST_SET_VRING_KICK(),
        VHOST_SET_VRING_CALL(),
        VHOST_NET_SET_BACKEND(),
    ];
    all.map(u64::from).into()
}

/// Features of rings and headers, which vhost must know of: MRG_RXBUF, INDIRECT_DESC, EVENT_IDX, VERSION_1. All others are
/// the TAP's business.
const FEATURES: u64 = 1 << 15 | 1 << 28 | 1 << 29 | 1 << 32;

/// No descriptor.
const NOBODY: RawFd = -1;

/// One pair of queues.
pub(super) struct Vhost {
    file: File,
    used: [EventFd; 2],
}

/// An open `/dev/vhost-net` with the memory that it is to see.
struct Kernel<'v> {
    file: &'v File,
    memory: &'v Memory,
}

impl AsRawFd for Kernel<'_> {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl<'v> VhostKernBackend for Kernel<'v> {
    type AS = &'v Memory;

    fn mem(&self) -> &Self::AS {
        &self.memory
    }
}

impl Vhost {
    /// Takes an open `/dev/vhost-net` over, for this process.
    pub(super) fn new(file: File) -> io::Result<Self> {
        let event = || EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC);
        let vhost = Self { file, used: [event()?, event()?] };
        vhost.with(&Memory::new()).set_owner().map_err(io::Error::other)?;
        Ok(vhost)
    }

    fn with<'v>(&'v self, memory: &'v Memory) -> Kernel<'v> {
        Kernel { file: &self.file, memory }
    }

    /// What becomes readable when buffers of a ring were used.
    pub(super) fn used(&self, way: Way) -> RawFd {
        self.used[usize::from(way == Way::Out)].as_raw_fd()
    }

    /// Carries packets between these rings and this TAP from now on.
    pub(super) fn begin(
        &self,
        memory: &Memory,
        features: u64,
        rings: [&Ring; 2],
        tap: &File,
    ) -> io::Result<()> {
        self.set_up(&self.with(memory), features, rings).map_err(io::Error::other)?;
        self.bind(Some(tap)).inspect_err(|_| {
            // One ring may be bound: it is nobody's that the host works at, as before.
            let _ = self.bind(None);
        })
    }

    fn set_up(&self, kernel: &Kernel<'_>, features: u64, rings: [&Ring; 2]) -> vhost::Result<()> {
        let features = features & FEATURES;
        if features & !kernel.get_features()? != 0 {
            return Err(vhost::Error::InvalidOperation);
        }
        kernel.set_features(features)?;
        kernel.set_mem_table(&regions(kernel.memory)?)?;
        for ((index, ring), used) in rings.into_iter().enumerate().zip(&self.used) {
            let place = ring.place();
            let data = VringConfigData {
                queue_max_size: place.size,
                queue_size: place.size,
                flags: 0,
                desc_table_addr: place.table,
                used_ring_addr: place.used,
                avail_ring_addr: place.available,
                log_addr: None,
            };
            check_pieces(kernel.memory, &data)?;
            kernel.set_vring_num(index, place.size)?;
            kernel.set_vring_base(index, place.next)?;
            kernel.set_vring_addr(index, &data)?;
            kernel.set_vring_call(index, used)?;
            kernel.set_vring_kick(index, &ring.bell)?;
        }
        Ok(())
    }

    /// Carries nothing any more; the next request of each ring.
    pub(super) fn end(&self) -> io::Result<[u16; 2]> {
        self.bind(None)?;
        // Or every doorbell that is rung for us would wake the kernel's thread too.
        self.give_both(VHOST_SET_VRING_KICK(), NOBODY)?;
        let memory = Memory::new();
        let next = |index| {
            let base = self.with(&memory).get_vring_base(index).map_err(io::Error::other)?;
            u16::try_from(base).map_err(io::Error::other)
        };
        Ok([next(0)?, next(1)?])
    }

    /// Binds both rings to a TAP, or to none.
    fn bind(&self, tap: Option<&File>) -> io::Result<()> {
        self.give_both(VHOST_NET_SET_BACKEND(), tap.map_or(NOBODY, AsRawFd::as_raw_fd))
    }

    /// Gives both rings a descriptor for something.
    fn give_both(&self, request: libc::c_ulong, fd: RawFd) -> io::Result<()> {
        (0..2).try_for_each(|index| {
            // SAFETY: the kernel reads one structure, ours. What it keeps of all that it was told are addresses in guest
            // memory, which it uses only while bound; that ends before the device's thread does, which holds the memory.
            let result = unsafe { ioctl_with_ref(&self.file, request, &vhost_vring_file { index, fd }) };
            if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        })
    }
}

/// The table of guest memory.
fn regions(memory: &Memory) -> vhost::Result<Vec<VhostUserMemoryRegionInfo>> {
    let region = |region: &_| {
        let address = GuestMemoryRegion::get_host_address(region, MemoryRegionAddress(0));
        Ok(VhostUserMemoryRegionInfo {
            guest_phys_addr: GuestMemoryRegion::start_addr(region).0,
            memory_size: GuestMemoryRegion::len(region),
            userspace_addr: address.map_err(|_| vhost::Error::InvalidGuestMemory)?.addr() as u64,
            mmap_offset: 0,
            mmap_handle: -1,
        })
    };
    memory.iter().map(region).collect()
}

/// Whether all of a ring's parts lie in one piece of guest memory each.
fn check_pieces(memory: &Memory, ring: &VringConfigData) -> vhost::Result<()> {
    let size = usize::from(ring.queue_size);
    let parts = [
        (ring.desc_table_addr, 16 * size),
        (ring.avail_ring_addr, 6 + 2 * size),
        (ring.used_ring_addr, 6 + 8 * size),
    ];
    let is_piece = |(address, bytes)| memory.get_slice(GuestAddress(address), bytes).is_ok();
    if parts.into_iter().all(is_piece) { Ok(()) } else { Err(vhost::Error::DescriptorTableAddress) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_over_the_edge_of_memory_is_refused() {
        let memory =
            Memory::from_ranges(&[(GuestAddress(0), 0x2000), (GuestAddress(0x2000), 0x1000)]).unwrap();
        let ring = |table| VringConfigData {
            queue_max_size: 256,
            queue_size: 256,
            flags: 0,
            desc_table_addr: table,
            used_ring_addr: 0,
            avail_ring_addr: 0,
            log_addr: None,
        };
        assert!(check_pieces(&memory, &ring(0x1000)).is_ok());
        for table in [0x1001, 0x1ff0, 0x2001, 0x3000, u64::MAX] {
            assert!(check_pieces(&memory, &ring(table)).is_err(), "{table:#x}");
        }
    }
}
