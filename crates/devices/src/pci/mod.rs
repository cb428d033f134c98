//! PCI as a guest finds it: one root bus, reached through ECAM, its functions' memory in one window.
//!
//! The guest learns of the ECAM from ACPI's MCFG table or the device tree; a PC also has the old way by
//! ports. There is no I/O space. Devices interrupt by MSI-X alone, root ports by MSI, for which they need
//! no memory.
//!
//! ```text
//! config_space.rs   a function's registers        msix.rs      its messages
//! root.rs           bus 0 and what is below it    slots.rs     who sits where on bus 0
//! port.rs           a root port with one card     hotplug.rs   its registers, and what the guest is told
//! ```

mod config_space;
mod hotplug;
mod msix;
mod port;
mod root;
pub mod slots;

pub use config_space::{COMMAND, ConfigSpace, Identity, command};
pub use hotplug::{Lamp, SavedSlot};
pub use msix::{Msix, MsixEntry};
pub use port::{Occupied, Port};
pub use root::{BUS_BYTES, ConfigPorts, Ecam, Function, HostBridge, NoRoom, Root, SlotTaken, Window};
