//! A world for one test: a state folder with a bootable volume, a run folder, a control group.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use host::Error;
use host::linux::machines::{Machines, Places};
use host::linux::storage::Storage;
use host::linux::storage::reader::Processes;
use host::linux::sys::cgroup::Cgroups;
use spec::ids::{ImageId, InstanceId, VolumeId};
use spec::machine::{Disk, Limits, Machine, Nic, Rate, Run};
use spec::observed::{MachineState, Observed, Scope};
use spec::storage::Volume;

pub(crate) const IMAGE: ImageId = ImageId::from_random(1);
pub(crate) const VOLUME: VolumeId = VolumeId::from_random(2);
pub(crate) const INSTANCE: InstanceId = InstanceId::from_random(3);
/// A user id that nobody has.
pub(crate) const USER: u32 = 2_000_000_123;

pub(crate) struct World {
    pub(crate) folder: PathBuf,
    pub(crate) places: Places,
    pub(crate) storage: Storage,
    pub(crate) machines: Machines,
}

impl World {
    /// A world with a volume to boot from; none without root.
    pub(crate) fn new() -> Option<Self> {
        if !is_root() {
            eprintln!("not tried: starting processes as other users needs root");
            return None;
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("cumulet-machines-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(&name);
        fs::create_dir_all(&folder).unwrap();
        let places = Places {
            machines: folder.join("run/machines"),
            logs: folder.join("state/logs"),
            program: fake_monitor(),
            kvm: "/dev/null".into(),
            group: name.clone(),
        };
        let storage = Storage::open(&folder.join("state"), Box::new(reader(&name))).unwrap();
        storage.import_image(IMAGE, bootable_disk(&folder), &mut |_, _| {}).unwrap();
        storage.create_volume(&Volume { id: VOLUME, bytes: 1 << 30, base: Some(IMAGE) }).unwrap();
        fs::write(folder.join("group"), name).unwrap();
        let machines = Machines::open(places.clone()).unwrap();
        Some(Self { folder, places, storage, machines })
    }

    /// The same host for another process that begins anew.
    pub(crate) fn restart(&mut self) {
        self.machines = Machines::open(self.places.clone()).unwrap();
    }

    pub(crate) fn start(&self, machine: &Machine) -> Result<(), Error> {
        let no_tap = |_: &Nic| -> Result<Vec<(String, OwnedFd)>, Error> {
            unreachable!("no network interface is wanted")
        };
        self.machines.start(machine, &self.storage, &no_tap)
    }

    /// Everything that is found.
    pub(crate) fn found(&self) -> Observed {
        let mut observed = Observed::default();
        self.storage.observe(&Scope::Everything, &mut observed).unwrap();
        self.machines.observe(&Scope::Everything, &mut observed).unwrap();
        observed
    }

    /// How the machine of this world is.
    pub(crate) fn state(&self) -> Option<MachineState> {
        self.found().machines.remove(&INSTANCE)
    }

    /// Whether the machine runs in this attempt, once it answers.
    pub(crate) fn answers_in(&self, attempt: u32) -> bool {
        eventually(|| match self.state() {
            Some(MachineState::Running { run: Some(run), status: Some(status) }) => {
                assert_eq!(run, status.run);
                Some(run.attempt == attempt)
            }
            Some(MachineState::Running { .. }) => None,
            _ => Some(false),
        })
    }

    /// Says a line on the machine's console and returns the answer.
    pub(crate) fn say(&self, line: &str) -> String {
        let console = self.machines.attach_console(INSTANCE).unwrap();
        (&console).write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        BufReader::new(console).read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }

    /// Takes everything away but what the machines said.
    pub(crate) fn teardown(&self) -> (Vec<String>, Result<(), Error>) {
        let ended = reader(&self.places.group).end();
        let (done, result) = self.machines.teardown();
        (done, ended.and(result))
    }

    /// The folder of the world's control group.
    pub(crate) fn group(&self) -> PathBuf {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).unwrap();
        Path::new(mount.split(' ').nth(1).unwrap()).join(&self.places.group)
    }

    /// What is left of machines: run directories and control groups.
    pub(crate) fn remains(&self) -> Vec<String> {
        let names =
            |folder: &Path| fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
        let groups = names(&self.group()).filter(|path| path.is_dir() && !path.ends_with("readers"));
        names(&self.places.machines).chain(groups).map(|path| path.display().to_string()).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let (_, result) = self.teardown();
        let _ = fs::remove_dir_all(&self.folder);
        if !std::thread::panicking() {
            result.unwrap();
        }
    }
}

/// The machine of these tests, in its first incarnation.
pub(crate) fn machine(attempt: u32) -> Machine {
    Machine {
        instance: INSTANCE,
        instance_type: "t3.nano".to_owned(),
        run: Run { incarnation: 1, attempt },
        user: USER,
        vcpus: 1,
        memory_mib: 64,
        disks: vec![Disk { volume: VOLUME, read_only: false, limits: Limits::default() }],
        nics: Vec::new(),
        ports: 2,
        reboots: 0,
        hibernates: false,
        resumes: false,
        storage: Limits { operations: rate(11_800), bytes: rate(260_625_000) },
    }
}

fn rate(per_second: u64) -> Option<Rate> {
    NonZeroU64::new(per_second).map(|per_second| Rate { per_second, burst: 0, peak: None })
}

/// Waits until there is an answer.
pub(crate) fn eventually<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Who reads disks: a process of its own, as on a real host.
fn reader(group: &str) -> Processes {
    Processes { program: fake_monitor(), user: USER + 1, cgroups: Cgroups::find(group).unwrap() }
}

/// The example, which cargo builds with the tests.
pub(crate) fn fake_monitor() -> PathBuf {
    example("fake_monitor")
}

pub(crate) fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().with_file_name("examples").join(name);
    assert!(program.exists(), "cargo test -p host builds it; beside --test, name it: --example {name}");
    program
}

/// Root of the whole machine, not of a user namespace, which may not become other users.
pub(crate) fn is_root() -> bool {
    let all = fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_ascii_whitespace().eq(["0", "0", "4294967295"]));
    nix::unistd::geteuid().is_root() && all
}

/// An ext4 file system with what looks like a kernel, as a disk without partitions.
fn bootable_disk(folder: &Path) -> File {
    let root = folder.join("root");
    fs::create_dir_all(root.join("boot/loader/entries")).unwrap();
    let mut kernel = vec![0; 4096];
    kernel[56..60].copy_from_slice(b"ARM\x64");
    fs::write(root.join("vmlinuz"), kernel).unwrap();
    fs::write(root.join("initrd.img"), b"initrd").unwrap();
    let entry = "linux /vmlinuz\ninitrd /initrd.img\noptions root=/dev/vda one=two\n";
    fs::write(root.join("boot/loader/entries/a.conf"), entry).unwrap();
    let disk = folder.join("disk");
    File::create(&disk).unwrap().set_len(8 << 20).unwrap();
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("mke2fs");
    let made = command.args(["-q", "-t", "ext4", "-d"]).arg(&root).arg(&disk).env("PATH", path).status();
    assert!(made.expect("mke2fs, of e2fsprogs").success());
    File::open(disk).unwrap()
}
