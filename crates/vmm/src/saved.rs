//! A machine written down: its state as JSON in one file, its memory page by page in another. The state has two lines: in
//! what form it is, which can be read of every state, and then the rest.
//!
//! The memory's file is as long as the guest's memory and has holes where it is zeros, so it can be mapped as it is. The
//! state is small: what KVM knows, what the devices' registers say, where each device sits. Both are written whole and
//! put on the disk before anybody is told that the machine is saved. The state may be what a guest wanted it to be that
//! had taken over its monitor: it is read behind locked doors, and each part is judged by whoever takes it over.

use std::env::consts::ARCH;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use devices::memory::Memory;
use devices::saved::Unfit;
use serde::{Deserialize, Serialize};
use spec::ids::VolumeId;
use spec::machine::DeviceId;
use vm_memory::{Bytes, GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};

use crate::arch::{self, SavedVcpu, SavedVm};
use crate::attachments::Place;
use crate::launch::{Held, SavedFiles};
use crate::machine::Machine;
use crate::pci::SavedPci;
use crate::platform::SavedPlatform;

/// The number of the form that a state has here; one that means something else has another.
const FORM: u32 = 2;
/// The largest state that is read, in bytes.
const MOST_STATE: u64 = 16 << 20;
/// So much memory is looked at in one go.
const CHUNK: usize = 64 << 10;
const PAGE: usize = 4096;
const ZEROS: [u8; PAGE] = [0; PAGE];

/// The first line.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    form: u32,
    architecture: String,
}

/// The state.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct State {
    /// When it was written down, by the host's clock, since 1970.
    at: Duration,
    memory_mib: u32,
    vm: SavedVm,
    vcpus: Vec<SavedVcpu>,
    pub(crate) platform: SavedPlatform,
    pub(crate) pci: SavedPci,
    pub(crate) places: Vec<(DeviceId, Place)>,
}

/// Why a machine could not be saved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SaveError {
    #[error("KVM does not say how the machine is")]
    Kvm(#[source] kvm_ioctls::Error),
    #[error("The last flush of {0} failed")]
    Flush(VolumeId, #[source] io::Error),
    #[error("Cannot write the machine's state")]
    WriteState(#[source] io::Error),
    #[error("Cannot write the machine's memory")]
    WriteMemory(#[source] io::Error),
}

/// Why a machine cannot go on from what was saved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    #[error("Cannot read the saved state")]
    Read(#[source] io::Error),
    #[error("The saved state is none")]
    Parse(#[source] serde_json::Error),
    #[error("The saved state has form {0} of {1}, and this monitor reads form {FORM} of {ARCH}")]
    Form(u32, String),
    #[error("A machine of {0} MiB and {1} vCPUs was saved, and this one has {2} and {3}")]
    Size(u32, usize, u32, u8),
    #[error("The saved memory has {0} bytes instead of {1}")]
    Memory(u64, u64),
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error("KVM does not take what was saved")]
    Kvm(#[source] kvm_ioctls::Error),
}

impl State {
    /// Of a machine that stands still.
    pub(crate) fn of(machine: &Machine, held: &Held) -> Result<Self, SaveError> {
        let vcpus = machine.vcpus.still().iter().map(|vcpu| arch::save_vcpu(&held.kvm, vcpu));
        Ok(Self {
            at: now(),
            memory_mib: held.machine.memory_mib,
            vcpus: vcpus.collect::<Result<_, _>>().map_err(SaveError::Kvm)?,
            vm: arch::save_vm(&machine.vm, &machine.controller).map_err(SaveError::Kvm)?,
            platform: machine.platform.save(),
            pci: machine.pci.save(),
            places: held.attachments.places(),
        })
    }

    /// Reads one for this machine.
    pub(crate) fn read(files: &SavedFiles, machine: &spec::machine::Machine) -> Result<Self, RestoreError> {
        let mut json = Vec::new();
        (&files.state).take(MOST_STATE).read_to_end(&mut json).map_err(RestoreError::Read)?;
        let (head, rest) = json.split_at(json.iter().position(|byte| *byte == b'\n').unwrap_or(json.len()));
        let head: Head = serde_json::from_slice(head).map_err(RestoreError::Parse)?;
        if head != Head::ours() {
            return Err(RestoreError::Form(head.form, head.architecture));
        }
        let state: Self = serde_json::from_slice(rest).map_err(RestoreError::Parse)?;
        if (state.memory_mib, state.vcpus.len()) != (machine.memory_mib, usize::from(machine.vcpus)) {
            let (memory_mib, vcpus) = (machine.memory_mib, machine.vcpus);
            return Err(RestoreError::Size(state.memory_mib, state.vcpus.len(), memory_mib, vcpus));
        }
        let there = files.memory.metadata().map_err(RestoreError::Read)?.len();
        let needed = u64::from(state.memory_mib) << 20;
        if there == needed { Ok(state) } else { Err(RestoreError::Memory(there, needed)) }
    }

    /// Gives KVM's part back; the vCPUs have never run.
    pub(crate) fn restore_kvm(&self, machine: &Machine) -> Result<(), RestoreError> {
        let away = now().saturating_sub(self.at);
        arch::restore_vm(&machine.vm, &machine.controller, &self.vm, away).map_err(RestoreError::Kvm)?;
        let mut pairs = machine.vcpus.still().iter().zip(&self.vcpus);
        pairs.try_for_each(|(vcpu, saved)| arch::restore_vcpu(vcpu, saved, away)).map_err(RestoreError::Kvm)
    }

    /// Writes it and the memory down, for good.
    pub(crate) fn write(&self, memory: &Memory, files: &SavedFiles) -> Result<(), SaveError> {
        write_memory(memory, &files.memory)
            .and_then(|()| files.memory.sync_all())
            .map_err(SaveError::WriteMemory)?;
        let head = serde_json::to_vec(&Head::ours());
        let mut json = head.map_err(|error| SaveError::WriteState(error.into()))?;
        json.push(b'\n');
        serde_json::to_writer(&mut json, self).map_err(|error| SaveError::WriteState(error.into()))?;
        let written = files.state.write_all_at(&json, 0).and_then(|()| files.state.sync_all());
        written.map_err(SaveError::WriteState)
    }
}

impl Head {
    /// That of what this monitor writes and reads.
    fn ours() -> Self {
        Self { form: FORM, architecture: ARCH.to_owned() }
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Writes all pages that are not zeros; the file ends up as long as the memory.
fn write_memory(memory: &Memory, file: &File) -> io::Result<()> {
    file.set_len(memory.iter().map(GuestMemoryRegion::len).sum())?;
    let (mut chunk, mut offset) = (vec![0; CHUNK], 0);
    for region in memory.iter() {
        let mut at = 0;
        while at < region.len() {
            let len = usize::try_from(region.len() - at).map_or(CHUNK, |rest| rest.min(CHUNK));
            let part = &mut chunk[..len];
            region.read_slice(part, MemoryRegionAddress(at)).map_err(io::Error::other)?;
            for run in runs(part) {
                file.write_all_at(&part[run.clone()], offset + run.start as u64)?;
            }
            (at, offset) = (at + len as u64, offset + len as u64);
        }
    }
    Ok(())
}

/// The runs of whole pages that are not all zeros.
fn runs(part: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for (page, bytes) in part.chunks(PAGE).enumerate() {
        if bytes != &ZEROS[..bytes.len()] {
            let (start, end) = (page * PAGE, page * PAGE + bytes.len());
            match runs.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => runs.push(start..end),
            }
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use vm_memory::GuestAddress;
    use vmm_sys_util::tempfile::TempFile;

    use super::*;
    use crate::memory;

    #[test]
    fn memory_comes_back_and_zeros_take_no_room() {
        let ranges = [(GuestAddress(0), 1 << 20), (GuestAddress(1 << 32), 1 << 20)];
        let memory = memory::map(&ranges).unwrap();
        let places = [0x1000, 0x2fff, 0xf_ffff, 1 << 32, (1 << 32) + 0x5_0000];
        for (value, place) in (1_u8..).zip(places) {
            memory.write_obj(value, GuestAddress(place)).unwrap();
        }
        let file = TempFile::new().unwrap().into_file();
        write_memory(&memory, &file).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 2 << 20);
        assert!(std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap()) * 512 < 1 << 20);
        let back = memory::map_saved(&ranges, &file).unwrap();
        for (value, place) in (1_u8..).zip(places) {
            assert_eq!(back.read_obj::<u8>(GuestAddress(place)).unwrap(), value);
        }
        assert_eq!(back.read_obj::<u8>(GuestAddress(0x1001)).unwrap(), 0);
        // What is written there is this machine's alone.
        back.write_obj(9_u8, GuestAddress(0)).unwrap();
        let again = memory::map_saved(&ranges, &file).unwrap();
        assert_eq!(again.read_obj::<u8>(GuestAddress(0)).unwrap(), 0);
    }

    #[test]
    fn runs_are_of_pages() {
        let mut part = vec![0; 5 * PAGE];
        assert_eq!(runs(&part), []);
        for at in [0, PAGE, 4 * PAGE + 7] {
            part[at] = 1;
        }
        assert_eq!(runs(&part), [0..2 * PAGE, 4 * PAGE..5 * PAGE]);
    }
}
