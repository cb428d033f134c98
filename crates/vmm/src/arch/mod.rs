//! What an architecture must do for a machine; everything else is the same on all of them.
//!
//! Each architecture is a module with the same few names, chosen here and nowhere else:
//!
//! - `memory_map`: where memory, devices and tables lie in the guest's address space;
//! - `prepare`: what a new virtual machine needs before it has vCPUs (interrupt controller);
//! - `Processors`: what vCPUs look like to the guest, and `configure`, which makes one ready to run from an [`crate::boot::Entry`];
//! - `instruction_address`: where in its code a vCPU is, for a sentence about a crash;
//! - `Platform`: its devices at fixed addresses (serial port, power, panic), put on the buses; `add_config_ports`, where PCI has
//!   another way in than ECAM;
//! - `write_tables`: the tables by which a kernel finds all this.

#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::*;
