//! What a kernel finds on all architectures alike: ACPI, SMBIOS, and a command line that it can take.

use devices::memory::Memory;
use devices::pci::slots;
use spec::machine::Machine;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use super::{acpi, smbios};
use crate::arch::memory_map::{ACPI, ACPI_BYTES, COMMAND_LINE_BYTES, SMBIOS, SMBIOS_BYTES};

/// Why the tables could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TablesError {
    #[error("The kernel's command line has {0} bytes and may have {most}", most = COMMAND_LINE_BYTES - 1)]
    CommandLineTooLong(usize),
    #[error("The kernel's command line has a zero byte in it")]
    CommandLineZero,
    #[error("The {0} tables do not fit where they belong")]
    TooLarge(&'static str),
    #[error("Cannot write the tables for the kernel into guest memory")]
    Memory(#[from] GuestMemoryError),
}

/// Writes the tables.
pub(crate) fn write(memory: &Memory, machine: &Machine) -> Result<(), TablesError> {
    put(memory, ACPI, &acpi::tables(machine.vcpus, slots::last_bus(machine.ports)), ACPI_BYTES, "ACPI")?;
    let name_plate = smbios::tables(machine.instance, &machine.instance_type, SMBIOS);
    put(memory, SMBIOS, &name_plate, SMBIOS_BYTES, "SMBIOS")
}

/// Refuses a command line that no kernel would read to its end.
pub(crate) fn check_command_line(command_line: &str) -> Result<(), TablesError> {
    if command_line.len() >= COMMAND_LINE_BYTES {
        return Err(TablesError::CommandLineTooLong(command_line.len()));
    }
    if command_line.contains('\0') { Err(TablesError::CommandLineZero) } else { Ok(()) }
}

/// Writes something into its place, if there is room for it.
pub(crate) fn put(
    memory: &Memory,
    at: GuestAddress,
    bytes: &[u8],
    room: usize,
    what: &'static str,
) -> Result<(), TablesError> {
    if bytes.len() > room { Err(TablesError::TooLarge(what)) } else { Ok(memory.write_slice(bytes, at)?) }
}
