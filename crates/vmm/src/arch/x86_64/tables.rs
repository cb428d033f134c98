//! Everything a kernel finds its machine by, written into guest memory: segment descriptors and page
//! tables, ACPI, SMBIOS, the reset vector, and the start information of the protocol it is entered by.

use devices::memory::Memory;
use devices::power;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use super::Entry;
use super::memory_map::{
    ACPI, ACPI_BYTES, COMMAND_LINE, COMMAND_LINE_BYTES, POWER, PVH_START, RESET_VECTOR, SMBIOS, SMBIOS_BYTES,
    ZERO_PAGE, regions,
};
use super::processor::write_structures;
use super::start_info::Start;
use crate::boot::{Loaded, acpi, smbios};

/// What stands at the reset vector, in 16-bit code: a write to the reset register.
///
/// Linux on reduced-hardware ACPI reboots by EFI, without asking whether there is any
/// (`efi_reboot_required`), and then the old way: back to real mode, and a jump to the BIOS. ACPI's reset
/// register it would try only if it had begun with that.
const RESET_CODE: [u8; 9] = {
    let [low, high] = (POWER + power::RESET).to_le_bytes();
    // mov al, value; mov dx, port; out dx, al; halt: hlt; jmp halt
    [0xb0, power::RESET_VALUE, 0xba, low, high, 0xee, 0xf4, 0xeb, 0xfd]
};

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

/// Writes them.
pub(crate) fn write_tables(
    memory: &Memory,
    machine: &spec::machine::Machine,
    command_line: &str,
    loaded: &Loaded,
) -> Result<(), TablesError> {
    write_structures(memory, &loaded.entry)?;
    let tables = acpi::tables(machine.vcpus);
    put(memory, ACPI, &tables, ACPI_BYTES, "ACPI")?;
    memory.write_slice(&RESET_CODE, RESET_VECTOR)?;
    let name_plate = smbios::tables(machine.instance, &machine.instance_type, SMBIOS);
    put(memory, SMBIOS, &name_plate, SMBIOS_BYTES, "SMBIOS")?;

    if command_line.len() >= COMMAND_LINE_BYTES {
        return Err(TablesError::CommandLineTooLong(command_line.len()));
    }
    if command_line.contains('\0') {
        return Err(TablesError::CommandLineZero);
    }
    memory.write_slice(&[command_line.as_bytes(), &[0]].concat(), COMMAND_LINE)?;
    let regions = regions(machine.memory_mib);
    let start = Start { command_line: COMMAND_LINE, rsdp: ACPI, regions, loaded };
    match loaded.entry {
        Entry::Pvh(_) => start.write_pvh(memory, PVH_START)?,
        Entry::Linux64(..) => start.write_zero_page(memory, ZERO_PAGE)?,
    }
    Ok(())
}

fn put(
    memory: &Memory,
    at: GuestAddress,
    bytes: &[u8],
    room: usize,
    what: &'static str,
) -> Result<(), TablesError> {
    if bytes.len() > room { Err(TablesError::TooLarge(what)) } else { Ok(memory.write_slice(bytes, at)?) }
}
