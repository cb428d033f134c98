//! Starting a machine by hand: for trying, measuring, and learning how it works.
//!
//! It opens the files itself and then goes the same way as a launched machine. Disks are plain files, the
//! serial console is standard input and output, and the process ends with the machine.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use devices::virtio::net::Link as _;
use kvm_ioctls::Kvm;
use spec::ids::{InstanceId, InterfaceId, VolumeId, VpcId};
use spec::machine::{Device, Disk, Limits, Mac, Machine, Nic, Run};

use crate::arch;
use crate::attachments::{Attached, Attachments, PlaceError};
use crate::backend::{DiskFile, DiskFileError, Tap, TapError};
use crate::escape::Escape;
use crate::launch::{Held, LaunchError, Outside, SavedFiles, callers_at, check};

/// By which the host's kernel carries packets.
const VHOST_NET: &str = "/dev/vhost-net";

/// How it is used.
pub(crate) const USAGE: &str = "\
cumulet-vmm: one process, one machine, on KVM

It is launched by cumuletd. By hand, with the serial console on standard input and output:

  cumulet-vmm --kernel FILE [OPTION…]

  --kernel FILE     ELF (entered by PVH, where it can be) or bzImage; on Arm an Image
  --initrd FILE     initial RAM disk
  --cmdline TEXT    the kernel's command line (default: the serial console)
  --cpus N          vCPUs (default: 1)
  --memory MIB      memory (default: 512)
  --disk FILE[,ro]  a raw disk, read-only with `,ro`; the first is the root disk (repeatable)
  --tap NAME:MAC    a network interface on this TAP (repeatable), a queue for each vCPU if it is one with several
  --vhost           network interfaces by vhost-net: packets are carried by the host's kernel itself
  --ports N         PCIe root ports, for devices that come and go (default: 0)
  --entropy         a source of randomness, as every launched machine has
  --balloon         a way to give unused memory back, likewise
  --vsock PATH      sockets to the guest: listen there; who connects says \"CONNECT PORT\" and a newline
  --instance ID     whose machine it says that it is
  --control PATH    listen there for control connections
  --restore FOLDER  go on from the files `state` and `memory` there, which such a machine wrote (see docs/hibernate.md)
  --escape WAY[,unfiltered]
                    no machine: lock the doors as for one, and try to get out: read, write, proc, trace, signal, tcp,
                    udp, execute, fork or mount; `,unfiltered` tries the walls behind the filter of system calls;
                    or do what must go well: threads

CUMULET_LOG=debug prints how long each phase of the start took.

Exit status, with one sentence on standard error where it is not 0:
  0   the guest powered itself off, or was saved
  70  the guest did what the processor cannot go on from
  71  this program or the host under it failed
  76  it cannot go on from what was saved
  78  it cannot be built: a kernel that is none, a file that is missing, a TAP that is taken, memory that does not fit
";

/// All of them.
const OPTIONS: [&str; 16] = [
    "kernel", "initrd", "cmdline", "cpus", "memory", "disk", "tap", "ports", "vhost", "entropy", "balloon",
    "vsock", "instance", "control", "restore", "escape",
];

/// What was typed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    kernel: PathBuf,
    initrd: Option<PathBuf>,
    command_line: Option<String>,
    cpus: Option<u8>,
    memory_mib: Option<u32>,
    disks: Vec<(PathBuf, bool)>,
    taps: Vec<(String, Mac)>,
    ports: u8,
    entropy: bool,
    vhost: bool,
    balloon: bool,
    vsock: Option<PathBuf>,
    instance: Option<InstanceId>,
    control: Option<PathBuf>,
    restore: Option<PathBuf>,
    pub(crate) escape: Option<Escape>,
}

/// Why a machine cannot be started by hand.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ByHandError {
    #[error("Unknown option {0}; --help lists them")]
    Option(String),
    #[error("{0} needs a value")]
    Value(String),
    #[error("{0} cannot be \"{1}\"")]
    BadValue(String, String),
    #[error("--kernel is needed; --help shows how")]
    NoKernel,
    #[error("Cannot open {}", .0.display())]
    Open(PathBuf, #[source] std::io::Error),
    #[error("{} is no disk", .0.display())]
    Disk(PathBuf, #[source] DiskFileError),
    #[error("Cannot use the TAP {0}")]
    Tap(String, #[source] TapError),
    #[error("Cannot listen at {}", .0.display())]
    Listen(PathBuf, #[source] std::io::Error),
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error(transparent)]
    Place(#[from] PlaceError),
}

/// Reads what was typed.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Arguments, ByHandError> {
    let mut parsed = Arguments::default();
    let mut arguments = arguments.into_iter();
    while let Some(option) = arguments.next() {
        let option = option.to_string_lossy().into_owned();
        let Some(name) = option.strip_prefix("--").filter(|name| OPTIONS.contains(name)) else {
            return Err(ByHandError::Option(option));
        };
        let flag = match name {
            "entropy" => Some(&mut parsed.entropy),
            "balloon" => Some(&mut parsed.balloon),
            "vhost" => Some(&mut parsed.vhost),
            _ => None,
        };
        if let Some(flag) = flag {
            *flag = true;
            continue;
        }
        let value = arguments.next().ok_or_else(|| ByHandError::Value(option.clone()))?;
        let text = value.to_string_lossy().into_owned();
        let bad = || ByHandError::BadValue(option.clone(), text.clone());
        match name {
            "kernel" => parsed.kernel = value.into(),
            "initrd" => parsed.initrd = Some(value.into()),
            "cmdline" => parsed.command_line = Some(text),
            "cpus" => parsed.cpus = Some(text.parse().map_err(|_| bad())?),
            "memory" => parsed.memory_mib = Some(text.parse().map_err(|_| bad())?),
            "disk" => match text.strip_suffix(",ro") {
                Some(path) => parsed.disks.push((path.into(), true)),
                None => parsed.disks.push((value.into(), false)),
            },
            "tap" => {
                let (tap, mac) = text.split_once(':').ok_or_else(bad)?;
                parsed.taps.push((tap.to_owned(), mac.parse().map_err(|_| bad())?));
            }
            "ports" => parsed.ports = text.parse().map_err(|_| bad())?,
            "vsock" => parsed.vsock = Some(value.into()),
            "instance" => parsed.instance = Some(text.parse().map_err(|_| bad())?),
            "restore" => parsed.restore = Some(value.into()),
            "escape" => parsed.escape = Some(text.parse().map_err(|()| bad())?),
            _ => parsed.control = Some(value.into()),
        }
    }
    let lacks_kernel = parsed.kernel.as_os_str().is_empty() && parsed.escape.is_none();
    if lacks_kernel { Err(ByHandError::NoKernel) } else { Ok(parsed) }
}

/// Opens everything.
pub(crate) fn open(arguments: Arguments) -> Result<(Held, Outside), ByHandError> {
    let machine = describe(&arguments);
    let kvm = Kvm::new().map_err(LaunchError::Kvm)?;
    check(&kvm, &machine)?;
    let (mut paths, mut taps) = (arguments.disks.iter(), arguments.taps.iter());
    let listen = |path: PathBuf| UnixListener::bind(&path).map_err(|error| ByHandError::Listen(path, error));
    let callers = arguments.vsock.clone().map(listen).transpose()?;
    // Devices and what was typed for them are in the same order, each kind by itself.
    let attachments = Attachments::new(&machine, |device| match device {
        Device::Disk(disk) => open_disk(disk, paths.next()),
        Device::Nic(nic) => open_tap(nic, taps.next(), arguments.vhost),
    })?;
    let held = Held {
        machine,
        kvm,
        kernel: open_file(&arguments.kernel)?,
        initrd: arguments.initrd.as_deref().map(open_file).transpose()?,
        attachments,
        entropy: arguments.entropy,
        balloon: arguments.balloon,
        callers: callers.map(callers_at).transpose()?,
        saved: arguments.restore.as_deref().map(open_saved).transpose()?,
        _lock: None,
        command_line: arguments.command_line.unwrap_or_else(|| format!("console={}", arch::CONSOLE)),
    };
    let control = arguments.control.map(listen).transpose()?;
    Ok((held, Outside { control, standard_console: true, ..Outside::default() }))
}

fn open_disk(disk: &Disk, typed: Option<&(PathBuf, bool)>) -> Result<Attached, ByHandError> {
    let path = typed.map(|(path, _)| path.clone()).unwrap_or_default();
    let file = File::options().read(true).write(!disk.read_only).open(&path);
    let file = file.map_err(|error| ByHandError::Open(path.clone(), error))?;
    let store = DiskFile::new(file).map_err(|error| ByHandError::Disk(path, error))?;
    Ok(Attached::disk(disk.clone(), Box::new(store)).map_err(LaunchError::Limits)?)
}

fn open_tap(nic: &Nic, typed: Option<&(String, Mac)>, vhost: bool) -> Result<Attached, ByHandError> {
    let name = typed.map(|(name, _)| name.clone()).unwrap_or_default();
    let tap = Tap::open(&name, nic.queues.into()).map_err(|error| ByHandError::Tap(name.clone(), error))?;
    let refused = |error| ByHandError::Tap(name.clone(), error);
    let queues = if vhost { tap.queues() } else { 0 };
    let open = |_| File::options().read(true).write(true).open(VHOST_NET);
    let vhosts = (0..queues).map(open).collect::<Result<_, _>>().map_err(TapError::Vhost);
    let tap = vhosts.and_then(|vhosts| tap.carried_by(vhosts)).map_err(refused)?;
    Ok(Attached::nic(nic.clone(), tap).map_err(LaunchError::Limits)?)
}

fn open_saved(folder: &Path) -> Result<SavedFiles, ByHandError> {
    Ok(SavedFiles { state: open_file(&folder.join("state"))?, memory: open_file(&folder.join("memory"))? })
}

fn open_file(path: &Path) -> Result<File, ByHandError> {
    File::open(path).map_err(|error| ByHandError::Open(path.to_owned(), error))
}

/// The machine, with ids that count from 1.
fn describe(arguments: &Arguments) -> Machine {
    let disk = |(number, (_, read_only)): (u64, &(PathBuf, bool))| Disk {
        volume: VolumeId::from_random(number),
        read_only: *read_only,
        limits: Limits::default(),
    };
    let nic = |(number, (_, mac)): (u64, &(String, Mac))| Nic {
        interface: InterfaceId::from_random(number),
        // More than there are places for is refused, however many.
        index: u8::try_from(number - 1).unwrap_or(u8::MAX),
        vpc: VpcId::from_random(1),
        mac: *mac,
        mtu: 1500,
        queues: Nic::queues_for(arguments.cpus.unwrap_or(1)),
        limits: Limits::default(),
    };
    Machine {
        instance: arguments.instance.unwrap_or_else(|| InstanceId::from_random(1)),
        instance_type: String::new(),
        run: Run { incarnation: 1, attempt: 1 },
        user: 0,
        vcpus: arguments.cpus.unwrap_or(1),
        memory_mib: arguments.memory_mib.unwrap_or(512),
        disks: (1..).zip(&arguments.disks).map(disk).collect(),
        nics: (1..).zip(&arguments.taps).map(nic).collect(),
        ports: arguments.ports,
        reboots: 0,
        hibernates: false,
        resumes: false,
        storage: Limits::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Arguments, ByHandError> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn what_is_typed_is_what_is_meant() {
        let arguments = parse_line(
            "--kernel k --initrd i --cpus 2 --memory 64 --disk a --disk b,ro --tap tap0:02:00:00:00:00:01",
        )
        .unwrap();
        let machine = describe(&arguments);
        assert_eq!((machine.vcpus, machine.memory_mib), (2, 64));
        assert_eq!(machine.disks.iter().map(|disk| disk.read_only).collect::<Vec<_>>(), [false, true]);
        assert_ne!(machine.disks[0].volume, machine.disks[1].volume);
        assert_eq!(machine.nics[0].mac.to_string(), "02:00:00:00:00:01");
    }

    #[test]
    fn help_tells_every_exit_status() {
        use spec::control::EndReason::{Crashed, Failed, PoweredOff, Saved, Unbuildable, Unrestorable};
        for reason in [PoweredOff, Crashed, Unbuildable, Failed, Saved, Unrestorable] {
            assert!(USAGE.contains(&format!("\n  {:<3} ", reason.exit_status())), "{reason:?}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for (line, message) in [
            ("", "--kernel is needed"),
            ("--kernel", "--kernel needs a value"),
            ("--kernel k --fast yes", "Unknown option --fast"),
            ("--kernel k --cpus 1000", "--cpus cannot be \"1000\""),
            ("--kernel k --tap tap0", "--tap cannot be \"tap0\""),
            ("k", "Unknown option k"),
        ] {
            let error = parse_line(line).unwrap_err().to_string();
            assert!(error.starts_with(message), "{line}: {error}");
        }
    }
}
