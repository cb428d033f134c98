//! Everything a kernel finds its machine by, written into guest memory: segment descriptors and page
//! tables, ACPI, SMBIOS, the reset vector, and the start information of the protocol it is entered by.

use devices::memory::Memory;
use devices::power;
use vm_memory::Bytes;

use super::Entry;
use super::memory_map::{ACPI, COMMAND_LINE, POWER, PVH_START, RESET_VECTOR, ZERO_PAGE, regions};
use super::processor::write_structures;
use super::start_info::Start;
use crate::boot::Loaded;
use crate::boot::tables::{self, TablesError};

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

/// Writes them.
pub(crate) fn write_tables(
    memory: &Memory,
    machine: &spec::machine::Machine,
    command_line: &str,
    loaded: &Loaded,
) -> Result<(), TablesError> {
    write_structures(memory, &loaded.entry)?;
    tables::write(memory, machine)?;
    memory.write_slice(&RESET_CODE, RESET_VECTOR)?;
    tables::check_command_line(command_line)?;
    memory.write_slice(&[command_line.as_bytes(), &[0]].concat(), COMMAND_LINE)?;
    let regions = regions(machine.memory_mib);
    let start = Start { command_line: COMMAND_LINE, rsdp: ACPI, regions, loaded };
    match loaded.entry {
        Entry::Pvh(_) => start.write_pvh(memory, PVH_START)?,
        Entry::Linux64(..) => start.write_zero_page(memory, ZERO_PAGE)?,
    }
    Ok(())
}
