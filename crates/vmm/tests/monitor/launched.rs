//! A machine launched as the host launches it: everything by descriptor, the end in a file.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};

use crate::code::{Code, kernel};
use crate::support::{give, kvm_works, limit_files, monitor};
use spec::control::{EndReason, Ending};
use spec::ids::VolumeId;
use spec::machine::{Disk, Launch, Limits, Machine, Run, descriptors as names};
use vmm_sys_util::tempdir::TempDir;
use volume::{Access, Parts};

fn volume() -> VolumeId {
    "vol-0123456789abcdef0".parse().unwrap()
}

/// A run directory, and what the launcher puts into it.
struct Launcher {
    folder: TempDir,
    launch: Launch,
    /// Descriptors that are forgotten.
    without: Vec<&'static str>,
    /// What the launcher lets the process write to one file, in bytes.
    largest_file: Option<u64>,
}

impl Launcher {
    fn new(code: &[u8]) -> Self {
        let folder = TempDir::new().unwrap();
        fs::write(folder.as_path().join("kernel"), kernel(code)).unwrap();
        fs::create_dir(folder.as_path().join("volume")).unwrap();
        volume::create(&folder.as_path().join("volume"), 1 << 30, None).unwrap();
        let machine = Machine {
            instance: "i-0123456789abcdef0".parse().unwrap(),
            instance_type: "t3.nano".to_owned(),
            run: Run { incarnation: 3, attempt: 2 },
            user: 0,
            vcpus: 2,
            memory_mib: 64,
            disks: vec![Disk { volume: volume(), read_only: false, limits: Limits::default() }],
            nics: Vec::new(),
            ports: 2,
            reboots: 0,
            hibernates: false,
            resumes: false,
            storage: Limits::default(),
        };
        let launch = Launch { machine, command_line: "console=ttyS0".to_owned() };
        Self { folder, launch, without: Vec::new(), largest_file: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.as_path().join(name)
    }

    fn start(&self) -> Child {
        fs::write(self.path("spec"), serde_json::to_vec(&self.launch).unwrap()).unwrap();
        let create = |name: &str| OwnedFd::from(File::create_new(self.path(name)).unwrap());
        let open = |path: &Path| OwnedFd::from(File::open(path).unwrap());
        let listen = |name: &str| OwnedFd::from(UnixListener::bind(self.path(name)).unwrap());
        let kvm = File::options().read(true).write(true).open("/dev/kvm").unwrap();
        let mut given: Vec<(String, OwnedFd)> = vec![
            (names::SPEC.into(), open(&self.path("spec"))),
            (names::LOCK.into(), create("lock")),
            (names::CONTROL.into(), listen("control")),
            (names::CONSOLE.into(), listen("console")),
            (names::CONSOLE_RING.into(), create("ring")),
            (names::ENDING.into(), create("ending")),
            (names::KVM.into(), kvm.into()),
            (names::KERNEL.into(), open(&self.path("kernel"))),
        ];
        for (part, file) in Parts::open(&self.path("volume"), Access::Write).unwrap().named() {
            given.push((names::volume(volume(), part), file.into()));
        }
        given.retain(|(name, _)| !self.without.contains(&name.as_str()));
        let mut command = monitor();
        give(&mut command, given);
        if let Some(bytes) = self.largest_file {
            limit_files(&mut command, bytes);
        }
        command.spawn().unwrap()
    }

    fn end(&self, mut child: Child) -> (ExitStatus, Option<Ending>) {
        let status = child.wait().unwrap();
        (status, serde_json::from_slice(&fs::read(self.path("ending")).unwrap()).ok())
    }
}

#[test]
fn the_end_and_the_console_are_where_the_launcher_looks() {
    if !kvm_works() {
        return;
    }
    let launcher = Launcher::new(&Code::default().print("up\r\n").power_off());
    let (status, ending) = launcher.end(launcher.start());
    let ending = ending.unwrap();
    assert_eq!((ending.reason, ending.run), (EndReason::PoweredOff, launcher.launch.machine.run));
    assert_eq!(status.code(), Some(0));
    assert_eq!(spec::console::unroll(&fs::read(launcher.path("ring")).unwrap()), b"up\r\n");
}

#[test]
fn the_console_is_attached_while_the_guest_runs() {
    if !kvm_works() {
        return;
    }
    let launcher = Launcher::new(&Code::default().wait_for_input().print("heard\n").power_off());
    let child = launcher.start();
    let mut console = UnixStream::connect(launcher.path("console")).unwrap();
    std::io::Write::write_all(&mut console, b"x").unwrap();
    let mut heard = String::new();
    console.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "heard\n");
    assert_eq!(launcher.end(child).1.unwrap().reason, EndReason::PoweredOff);
}

#[test]
fn what_is_missing_is_named() {
    if !kvm_works() {
        return;
    }
    for name in [names::CONTROL, names::KVM, names::KERNEL, names::CONSOLE_RING] {
        let mut launcher = Launcher::new(&Code::default().power_off());
        launcher.without = vec![name];
        let (status, ending) = launcher.end(launcher.start());
        let ending = ending.unwrap();
        assert_eq!((ending.reason, status.code()), (EndReason::Unbuildable, Some(78)), "without {name}");
        assert!(ending.message.contains(&format!("no descriptor \"{name}\"")), "{}", ending.message);
    }
}

#[test]
fn a_file_that_may_not_grow_ends_no_machine() {
    if !kvm_works() {
        return;
    }
    let mut launcher = Launcher::new(&Code::default().print("up\r\n").power_off());
    launcher.largest_file = Some(0);
    let (status, ending) = launcher.end(launcher.start());
    assert_eq!(ending, None, "the ending's file may not grow either");
    assert_eq!(status.code(), Some(0), "ended by itself, not by SIGXFSZ: {status}");
}

type Lie = fn(&mut Launch);

#[test]
fn a_spec_that_lies_is_refused() {
    if !kvm_works() {
        return;
    }
    let lies: [(Lie, &str); 5] = [
        (|launch| launch.machine.disks.push(launch.machine.disks[0].clone()), "is named twice"),
        (
            |launch| launch.machine.disks[0].volume = "vol-00000000000000009".parse().unwrap(),
            "vol-00000000000000009",
        ),
        (|launch| launch.machine.vcpus = 0, "0 vCPUs"),
        (|launch| launch.command_line = "x".repeat(5000), "command line has 5000 bytes"),
        (|launch| launch.machine.memory_mib = u32::MAX, "memory"),
    ];
    for (lie, reason) in lies {
        let mut launcher = Launcher::new(&Code::default().power_off());
        lie(&mut launcher.launch);
        let (_, ending) = launcher.end(launcher.start());
        let ending = ending.unwrap();
        assert_ne!(ending.reason, EndReason::PoweredOff, "{reason}");
        assert!(ending.message.contains(reason), "{}", ending.message);
    }
}
