//! From files to a guest that is ready to run its first instruction.
//!
//! ```text
//! kernel.rs       kernel and initrd into memory
//! acpi.rs         the machine as ACPI tables
//! smbios.rs       the machine's name plate
//! tables.rs       both in their places
//! ```

pub(crate) mod acpi;
pub(crate) mod kernel;
pub(crate) mod smbios;
pub(crate) mod tables;

use vm_memory::GuestAddress;

use crate::arch::Entry;

/// A kernel in memory.
pub(crate) struct Kernel {
    /// Where the first vCPU begins, and by which protocol.
    pub(crate) entry: Entry,
    /// The end of the memory that it needs before it knows of any other.
    pub(crate) end: u64,
    /// Where its initrd must end, at the latest.
    pub(crate) initrd_end: u64,
}

/// A kernel in memory, and its initrd.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Where to begin.
    pub(crate) entry: Entry,
    /// Where the initrd lies, and its bytes.
    pub(crate) initrd: Option<(GuestAddress, u64)>,
}
