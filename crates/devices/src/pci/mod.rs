//! PCI as a guest finds it: one root bus, reached through ECAM, its functions' memory in one window.
//!
//! The guest learns of the ECAM from ACPI's MCFG table or the device tree; a PC also has the old way by
//! ports. There is no I/O space. Devices interrupt by MSI-X alone.

mod config_space;
mod msix;
mod root;
pub mod slots;

pub use config_space::{ConfigSpace, Identity, command};
pub use msix::Msix;
pub use root::{BUS_BYTES, ConfigPorts, Ecam, Function, HostBridge, NoRoom, Root, SlotTaken, Window};
