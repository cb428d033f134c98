//! From files to a guest that is ready to run its first instruction.
//!
//! ```text
//! kernel.rs       kernel and initrd into memory; by which protocol the kernel is entered
//! start_info.rs   what that protocol hands over: memory map, command line, initrd (x86_64)
//! acpi.rs         the machine as ACPI tables (x86_64)
//! smbios.rs       the machine's name plate
//! ```

pub(crate) mod acpi;
pub(crate) mod kernel;
pub(crate) mod smbios;
pub(crate) mod start_info;

use vm_memory::GuestAddress;

/// Where the first vCPU begins, and by which protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// PVH: 32-bit, no paging.
    Pvh(u64),
    /// Linux' 64-bit boot protocol.
    Linux64(u64),
}

/// A kernel in memory, and its initrd.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Where to begin.
    pub(crate) entry: Entry,
    /// A bzImage's header, which its boot parameters repeat.
    pub(crate) header: Option<linux_loader::loader::bootparam::setup_header>,
    /// Where the initrd lies, and its bytes.
    pub(crate) initrd: Option<(GuestAddress, u64)>,
}

/// What a range of the guest's addresses is; the numbers are those of E820 and of PVH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Memory to use.
    Ram = 1,
    /// Memory, devices or nothing: not to use.
    Reserved = 2,
}
