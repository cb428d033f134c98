//! Launching a machine's process: everything it needs is opened here and handed over.
//!
//! The process opens no path and has no rights of its own, so what is not in the list below it never
//! gets. The lock is taken before the process exists and goes over to it with the descriptor; were this process killed at any line
//! of this file, the lock would be free, nothing would run, and the folder would say so.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use spec::ids::{InstanceId, VolumeId};
use spec::machine::{Disk, Launch, Machine, Nic, Rate, descriptors as names};
use volume::{Access, Parts};

use super::folder::Folder;
use super::logs::Logs;
use crate::linux::storage::{Saved, Storage};
use crate::linux::sys::cgroup::{Cgroups, DiskLimits, DiskNumber, Limits, USUAL_WEIGHT};
use crate::linux::sys::command::{self, Detached, Who};
use crate::{Error, ErrorKind};

/// Memory that a machine's process may use besides its guest's, in bytes: its own few, and cached pages of its disks.
const MEMORY_BESIDES: u64 = 256 << 20;
/// Threads that it may have besides one for each vCPU: one for each device, and those that the kernel may make for a
/// disk's ring.
const TASKS_BESIDES: u32 = 128;
/// Processors that it may use besides one for each vCPU: its devices work on threads of their own.
const PROCESSORS_BESIDES: u32 = 1;
/// The largest file that a process without a larger disk may write, in bytes.
const LEAST_FILE: u64 = 1 << 20;

/// How an interface's TAP is opened: its queues and what belongs to them, with their names
/// ([`spec::machine::descriptors`]).
pub type OpenTap<'a> = &'a dyn Fn(&Nic) -> Result<Vec<(String, OwnedFd)>, Error>;

/// What stands around a machine.
pub(super) struct Ground<'a> {
    pub(super) program: &'a PathBuf,
    pub(super) kvm: &'a PathBuf,
    pub(super) cgroups: &'a Cgroups,
    pub(super) logs: &'a Logs,
    pub(super) storage: &'a Storage,
    pub(super) open_tap: OpenTap<'a>,
}

/// The descriptors to hand over, with their names.
#[derive(Default)]
struct Handed {
    names: Vec<String>,
    descriptors: Vec<OwnedFd>,
}

impl Handed {
    fn add(&mut self, name: impl Into<String>, descriptor: impl Into<OwnedFd>) {
        self.names.push(name.into());
        self.descriptors.push(descriptor.into());
    }
}

/// Launches a machine in a folder that is not there yet.
pub(super) fn launch(machine: &Machine, folder: &Folder, ground: &Ground<'_>) -> Result<(), Error> {
    let (id, user) = (machine.instance, machine.user);
    if user == 0 {
        return Err(Error::new(ErrorKind::Lasting, format!("Machine {id} would run as root")));
    }
    let failed = |step: &str| {
        let what = format!("Could not {step} of machine {id}");
        move |error: io::Error| Error::passing(what, error)
    };
    let mut handed = Handed::default();
    handed.add(names::LOCK, folder.make().map_err(failed("make the folder"))?);
    handed.add(
        names::CONTROL,
        UnixListener::bind(folder.control()).map_err(failed("make the control socket"))?,
    );
    handed.add(
        names::CONSOLE,
        UnixListener::bind(folder.console()).map_err(failed("make the console socket"))?,
    );
    handed.add(names::ENDING, folder.make_ending().map_err(failed("make the ending file"))?);
    let kvm = OpenOptions::new().read(true).write(true).open(ground.kvm);
    handed.add(names::KVM, kvm.map_err(failed("open KVM for the process"))?);
    let disks = open_disks(machine, ground.storage)?;
    let files = disks.iter().flat_map(|(_, parts)| [&parts.data, &parts.map]);
    let largest_file =
        largest(files).map_err(failed("learn the size of the disks"))?.max(saved_bytes(machine));
    let command_line = add_kernel(id, &disks, ground.storage, &mut handed)?;
    for (volume, parts) in disks {
        for (part, file) in parts.named() {
            handed.add(names::volume(volume, part), file);
        }
    }
    for nic in &machine.nics {
        for (name, descriptor) in (ground.open_tap)(nic)? {
            handed.add(name, descriptor);
        }
    }
    let disk = ground.storage.disk().map_err(failed("find the host's disk"))?;
    let group = ground
        .cgroups
        .make(&id.to_string(), &limits(machine, disk))
        .map_err(failed("make the control group"))?;
    let program = File::open(ground.program).map_err(failed("open the program for the process"))?;
    handed.add(names::CONSOLE_RING, ground.logs.new_console(id).map_err(failed("make the console's file"))?);
    let errors = ground.logs.monitor(id).map_err(failed("open the log"))?;
    // Used up from here on, and where the process should begin anew too.
    let saved = ground.storage.memories.take(id)?;
    if let Some(Saved { state, memory }) = saved.filter(|_| machine.resumes) {
        handed.add(names::SAVED_STATE, state);
        handed.add(names::SAVED_MEMORY, memory);
    }
    let launch = Launch { machine: machine.clone(), command_line };
    handed.add(names::SPEC, folder.write_spec(&launch).map_err(failed("write the spec"))?);
    let process = Detached {
        program: &program,
        name: &format!("cumulet-vmm {id}"),
        environment: &[(names::VARIABLE, &handed.names.join(":"))],
        input: None,
        descriptors: &handed.descriptors,
        errors: &errors,
        who: Who::User(user),
        group: &group,
        largest_file,
    };
    process
        .spawn()
        .map_err(|error| Error::passing(format!("Could not start the process of machine {id}"), error))
}

/// Opens and locks the disks.
fn open_disks(machine: &Machine, storage: &Storage) -> Result<Vec<(VolumeId, Parts)>, Error> {
    let open = |disk: &Disk| Ok((disk.volume, storage.open_volume(disk.volume, access(disk))?));
    machine.disks.iter().map(open).collect()
}

/// Adds kernel and initial RAM disk, read from the first disk, and returns the command line.
fn add_kernel(
    id: InstanceId,
    disks: &[(VolumeId, Parts)],
    storage: &Storage,
    handed: &mut Handed,
) -> Result<String, Error> {
    let Some((root, parts)) = disks.first() else {
        return Err(Error::new(ErrorKind::Lasting, format!("Machine {id} has no disk to boot from")));
    };
    let boot = storage.boot_files(*root, parts)?;
    handed.add(names::KERNEL, boot.kernel);
    if let Some(initrd) = boot.initrd {
        handed.add(names::INITRD, initrd);
    }
    Ok(boot.command_line)
}

/// What a disk's volume is opened for.
pub(super) fn access(disk: &Disk) -> Access {
    if disk.read_only { Access::Read } else { Access::Write }
}

/// The largest file that a process needs to write whose disks have these parts.
pub(super) fn largest<'a>(files: impl IntoIterator<Item = &'a File>) -> io::Result<u64> {
    files.into_iter().try_fold(LEAST_FILE, |largest, file| Ok(largest.max(file.metadata()?.len())))
}

/// The largest file that a machine writes that is saved, in bytes.
fn saved_bytes(machine: &Machine) -> u64 {
    if machine.hibernates { u64::from(machine.memory_mib) << 20 } else { 0 }
}

/// What a machine's process may use, `disk` being the one that holds its volumes.
fn limits(machine: &Machine, disk: Option<DiskNumber>) -> Limits {
    let rate = |rate: Option<Rate>| rate.map(|rate| rate.per_second.get());
    let (bytes, operations) = (rate(machine.storage.bytes), rate(machine.storage.operations));
    Limits {
        memory: (u64::from(machine.memory_mib) << 20) + MEMORY_BESIDES,
        tasks: u32::from(machine.vcpus) + TASKS_BESIDES,
        processors: u32::from(machine.vcpus) + PROCESSORS_BESIDES,
        weight: u32::from(machine.vcpus) * USUAL_WEIGHT,
        disk: disk.map(|disk| DiskLimits { disk, bytes, operations }),
    }
}

const _: () =
    assert!(command::FIRST == names::FIRST, "descriptors are handed over where the monitor looks for them");
