//! What an architecture must do for a machine; everything else is the same on all of them.
//!
//! Each architecture is a module with the same few names, chosen here and nowhere else. In the order in
//! which a machine is made:
//!
//! - `memory_map`: where memory, devices and tables lie in the guest's address space;
//! - `create_vm`, then `Processors`: what vCPUs look like to the guest, and `create`, which makes one;
//! - `add_interrupt_controller`: what comes after vCPUs and before devices;
//! - `platform_bus`, `Serial`, `CONSOLE`: where its devices at fixed addresses answer, and which serial port it has;
//!   `add_own_devices`: what only this architecture has;
//! - `load_kernel`, `Entry`: which kernels it boots, and how they are entered;
//! - `write_tables`: what a kernel finds all this by; `acpi`: its part in the ACPI tables;
//! - `begin`: the first vCPU at a kernel's entry;
//! - `save_vm`, `save_vcpu` and back, `OwnDevices`: what is known of a machine that stands still, as plain data
//!   (`SavedVm`, `SavedVcpu`, `SavedSerial`, `SavedOwnDevices`); `was_away` tells a vCPU that it did;
//! - `instruction_address`: where in its code a vCPU is, for a sentence about a crash, and `KVM_GET_PLACE`, by which it
//!   asks; `OWN_CALLS`: system calls that only here stand for something (see `sandbox`).

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub(crate) use aarch64::*;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::*;
