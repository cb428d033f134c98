//! Everything a kernel finds its machine by, written into guest memory: the device tree, whose address it is
//! entered with; EFI, ACPI and SMBIOS, to which the tree leads.

use devices::memory::Memory;
use devices::pci::slots;
use devices::virtio::rng::Entropy;
use spec::machine::Machine;

use super::memory_map::{
    DEVICE_TREE, DEVICE_TREE_BYTES, EFI, EFI_BYTES, EFI_RUNTIME, EFI_RUNTIME_BYTES, RAM,
};
use super::{efi, efi_runtime, fdt};
use crate::backend::KernelEntropy;
use crate::boot::Loaded;
use crate::boot::tables::{self, put};

/// Linux takes the device tree where both are there, unless it is told otherwise.
const PREFER_ACPI: &str = "acpi=on";

/// Why the tables could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TablesError {
    #[error(transparent)]
    Common(#[from] tables::TablesError),
    #[error("Cannot describe the machine as a device tree")]
    Tree(#[from] vm_fdt::Error),
}

/// Writes them.
pub(crate) fn write_tables(
    memory: &Memory,
    machine: &Machine,
    command_line: &str,
    loaded: &Loaded,
) -> Result<(), TablesError> {
    tables::write(memory, machine)?;
    let (efi, places) = efi::tables(RAM + (u64::from(machine.memory_mib) << 20));
    put(memory, EFI, &efi, EFI_BYTES, "EFI")?;
    put(memory, EFI_RUNTIME, &efi_runtime::services(), EFI_RUNTIME_BYTES, "EFI runtime")?;

    let command_line = complete(command_line);
    tables::check_command_line(&command_line)?;
    let mut seed = [0; 40];
    // Without, a kernel lies at its usual place and gathers by itself; getrandom does not fail in the end.
    let _ = KernelEntropy.fill(&mut seed);
    let tree = fdt::tree(&fdt::Facts {
        vcpus: machine.vcpus,
        memory_mib: machine.memory_mib,
        last_bus: slots::last_bus(machine.ports),
        command_line: &command_line,
        initrd: loaded.initrd,
        efi: &places,
        seed,
    })?;
    Ok(put(memory, DEVICE_TREE, &tree, DEVICE_TREE_BYTES, "device tree")?)
}

/// A command line that says whether to use ACPI; its own word comes first.
fn complete(command_line: &str) -> String {
    if command_line.split_ascii_whitespace().any(|word| word.starts_with("acpi=")) {
        return command_line.to_owned();
    }
    // Before what is not the kernel's but its first process's.
    let (kernel, process) =
        command_line.split_once(" -- ").map_or((command_line, None), |(a, b)| (a, Some(b)));
    let kernel = format!("{kernel} {PREFER_ACPI}");
    process.map_or(kernel.clone(), |process| format!("{kernel} -- {process}")).trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_says_whether_to_use_acpi() {
        for (given, complete_one) in [
            ("", "acpi=on"),
            ("console=ttyAMA0 quiet", "console=ttyAMA0 quiet acpi=on"),
            ("quiet acpi=off", "quiet acpi=off"),
            ("quiet -- single", "quiet acpi=on -- single"),
        ] {
            assert_eq!(complete(given), complete_one);
        }
    }
}
