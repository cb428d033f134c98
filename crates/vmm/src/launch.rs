//! What a machine is made from: its spec, and everything it needs as open files.
//!
//! Two ways to come by it: a launcher leaves descriptors ([`inherit`]), or somebody starts the monitor by
//! hand ([`crate::by_hand`]). From here on there is no difference, and no path is opened any more. All of
//! it is kept as long as the process lives: a reset builds the machine anew from the same.

use std::fs::File;
use std::io::Read;
use std::iter;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use kvm_ioctls::Kvm;
use spec::control::EndReason;
use spec::ids::{InterfaceId, VolumeId};
use spec::machine::{Device, Launch, Machine, Nic, descriptors as names};
use volume::{Access, Parts, Volume};

use crate::arch;
use crate::attachments::{Attached, Attachments, PlaceError};
use crate::backend::{CallersAt, Tap, TapError, VolumeDisk};
use crate::descriptors::{Descriptors, InheritError, take_kvm};
use crate::sandbox::LockError;

/// The version of KVM's interface, the only one there ever was.
const KVM_API: i32 = 12;
/// A spec is smaller than this, in bytes.
const MOST_SPEC: u64 = 1 << 20;
/// Memory that a kernel needs at least, in MiB.
const LEAST_MEMORY_MIB: u32 = 16;

/// Everything that a machine is built from.
pub(crate) struct Held {
    pub(crate) machine: Machine,
    pub(crate) command_line: String,
    pub(crate) kvm: Kvm,
    pub(crate) kernel: File,
    pub(crate) initrd: Option<File>,
    /// Disks and network interfaces, those of the spec and those that came later.
    pub(crate) attachments: Attachments,
    /// Whether it has a source of randomness.
    pub(crate) entropy: bool,
    /// Whether it can give memory back that it does not use.
    pub(crate) balloon: bool,
    /// Who may call programs in the guest, if it has sockets for that.
    pub(crate) callers: Option<Arc<CallersAt>>,
    /// The machine that it goes on from, the first time it is built.
    pub(crate) saved: Option<SavedFiles>,
    /// Locked by the launcher; whoever finds it locked knows that we live. Only held, until the process ends.
    pub(crate) _lock: Option<OwnedFd>,
}

/// A machine that was saved, or is to be.
#[derive(Debug)]
pub(crate) struct SavedFiles {
    pub(crate) state: File,
    pub(crate) memory: File,
}

impl SavedFiles {
    /// Those that came under their names; none where none did.
    pub(crate) fn take(given: &mut Descriptors) -> Result<Option<Self>, InheritError> {
        let Some(state) = given.find(names::SAVED_STATE) else { return Ok(None) };
        Ok(Some(Self { state, memory: given.take(names::SAVED_MEMORY)? }))
    }
}

/// The ways to and from the world outside.
#[derive(Default)]
pub(crate) struct Outside {
    pub(crate) control: Option<UnixListener>,
    pub(crate) console: Option<UnixListener>,
    pub(crate) ring: Option<File>,
    pub(crate) ending: Option<File>,
    /// Standard input and output are the serial console.
    pub(crate) standard_console: bool,
}

/// Why there is nothing to build from.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error("Cannot take over what the launcher left")]
    Inherit(#[from] InheritError),
    #[error("Cannot read the machine's spec")]
    ReadSpec(#[source] std::io::Error),
    #[error("The machine's spec is none")]
    Spec(#[source] serde_json::Error),
    #[error("The machine has {0} vCPUs, and may have 1 to {1} on this host")]
    Vcpus(u8, usize),
    #[error("The machine has {0} MiB of memory, and needs at least {LEAST_MEMORY_MIB}")]
    Memory(u32),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("Cannot open the disk {0}")]
    Volume(VolumeId, #[source] volume::OpenError),
    #[error("Cannot use the TAP of the network interface {0}")]
    Tap(InterfaceId, #[source] TapError),
    #[error("Cannot make a device's timers")]
    Limits(#[source] std::io::Error),
    #[error("Cannot use the socket of callers")]
    Callers(#[source] std::io::Error),
    #[error("Cannot open KVM, the kernel's virtualization")]
    Kvm(#[source] kvm_ioctls::Error),
    #[error("What was given as KVM is something else, or speaks version {0} instead of {KVM_API}")]
    KvmVersion(i32),
    #[error(transparent)]
    Lock(#[from] LockError),
}

impl LaunchError {
    /// Whose fault it is: what was given, or the host's.
    pub(crate) fn reason(&self) -> EndReason {
        match self {
            Self::Lock(_) => EndReason::Failed,
            _ => EndReason::Unbuildable,
        }
    }
}

/// Takes over what a launcher left: `names` is the variable's value. What it says of the ways outside is
/// given to `learned` as soon as it is known, so that even a spec that lies can be answered where the
/// launcher looks; nothing that a guest may have written is read before.
pub(crate) fn inherit(
    names: &str,
    learned: impl FnOnce(&Machine, &mut Outside) -> Result<(), LockError>,
) -> Result<(Held, Outside), LaunchError> {
    let mut left = Descriptors::inherit(names)?;
    let mut outside = Outside { ending: Some(left.take(names::ENDING)?), ..Outside::default() };
    let lock = left.take(names::LOCK)?;
    let launch = read_spec(&left.take::<File>(names::SPEC)?)?;
    learned(&launch.machine, &mut outside)?;
    outside.control = Some(left.take(names::CONTROL)?);
    outside.console = Some(left.take(names::CONSOLE)?);
    outside.ring = Some(left.take(names::CONSOLE_RING)?);
    let kvm = take_kvm(left.take(names::KVM)?);
    check(&kvm, &launch.machine)?;
    let attachments = Attachments::new(&launch.machine, |device| open_device(&mut left, device))?;
    let (kernel, initrd) = (left.take(names::KERNEL)?, left.find(names::INITRD));
    let callers = left.find(names::SOCKETS).map(callers_at).transpose()?;
    let saved = SavedFiles::take(&mut left)?;
    let Launch { machine, command_line } = launch;
    Ok((
        Held {
            machine,
            command_line,
            kvm,
            kernel,
            initrd,
            attachments,
            entropy: true,
            balloon: true,
            callers,
            saved,
            _lock: Some(lock),
        },
        outside,
    ))
}

/// Opens what stands behind a device from the descriptors that were given for it.
pub(crate) fn open_device(given: &mut Descriptors, device: &Device) -> Result<Attached, LaunchError> {
    match device {
        Device::Disk(disk) => {
            let store = Box::new(open_volume(given, disk)?);
            Attached::disk(disk.clone(), store).map_err(LaunchError::Limits)
        }
        Device::Nic(nic) => {
            let first = given.take(&names::tap(nic.interface, 0))?;
            let others =
                (1..Nic::MOST_QUEUES).map_while(|queue| given.find(&names::tap(nic.interface, queue)));
            let queues = iter::once(first).chain(others).collect();
            let vhosts =
                (0..Nic::MOST_QUEUES).map_while(|queue| given.find(&names::vhost(nic.interface, queue)));
            let tap = Tap::new(queues).and_then(|tap| tap.carried_by(vhosts.collect()));
            let tap = tap.map_err(|error| LaunchError::Tap(nic.interface, error))?;
            Attached::nic(nic.clone(), tap).map_err(LaunchError::Limits)
        }
    }
}

/// Takes the socket over at which programs in the guest are called.
pub(crate) fn callers_at(listener: UnixListener) -> Result<Arc<CallersAt>, LaunchError> {
    CallersAt::new(listener).map(Arc::new).map_err(LaunchError::Callers)
}

fn read_spec(file: &File) -> Result<Launch, LaunchError> {
    let mut json = Vec::new();
    file.take(MOST_SPEC).read_to_end(&mut json).map_err(LaunchError::ReadSpec)?;
    serde_json::from_slice(&json).map_err(LaunchError::Spec)
}

fn open_volume(given: &mut Descriptors, disk: &spec::machine::Disk) -> Result<VolumeDisk, LaunchError> {
    let id = disk.volume;
    let access = if disk.read_only { Access::Read } else { Access::Write };
    let parts = Parts::from_named(|part| given.find(&names::volume(id, part)));
    let volume = parts
        .and_then(|parts| Volume::open(parts, access))
        .map_err(|error| LaunchError::Volume(id, error))?;
    Ok(VolumeDisk(volume))
}

/// Refuses a machine that cannot be, before anything is built.
pub(crate) fn check(kvm: &Kvm, machine: &Machine) -> Result<(), LaunchError> {
    let version = kvm.get_api_version();
    if version != KVM_API {
        return Err(LaunchError::KvmVersion(version));
    }
    let most = arch::most_processors(kvm);
    if machine.vcpus == 0 || usize::from(machine.vcpus) > most {
        return Err(LaunchError::Vcpus(machine.vcpus, most));
    }
    if machine.memory_mib < LEAST_MEMORY_MIB {
        return Err(LaunchError::Memory(machine.memory_mib));
    }
    Ok(())
}
