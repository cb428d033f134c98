//! PCI as a guest finds it: one root bus, reached through ECAM, its functions' memory in one window.
//!
//! There is no configuration mechanism by ports (0xcf8) and no I/O space: the guest learns of the ECAM from ACPI's MCFG
//! table or the device tree. Devices interrupt by MSI-X alone.

mod config_space;
mod msix;
mod root;
pub mod slots;

pub use config_space::{ConfigSpace, Identity, command};
pub use msix::Msix;
pub use root::{BUS_BYTES, Ecam, Function, HostBridge, NoRoom, Root, SlotTaken, Window};
