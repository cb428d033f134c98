//! A Linux guest on the real monitor, started by hand: its console is a shell, its devices come and go by the
//! control socket.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use spec::control::{Answer, DiskStatus, Request, Status};
use spec::ids::{InterfaceId, VolumeId, VpcId};
use spec::machine::{Device, DeviceId, Disk, Limits, Mac, Nic, Rate, descriptors as names};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;
use vmm_sys_util::tempdir::TempDir;
use volume::{Access, OpenError, Parts};

/// How long anything may take: hosts that are emulated themselves are slow.
const PATIENCE: Duration = Duration::from_secs(300);

/// Names the folder with kernel, initial RAM disk and disk of the image `tiny`, as `images/extract` leaves them.
pub(crate) const IMAGE: &str = "CUMULET_TEST_GUEST";

/// A running guest.
pub(crate) struct Guest {
    folder: TempDir,
    monitor: Child,
    keyboard: ChildStdin,
    screen: Receiver<String>,
    control: UnixStream,
    answers: Receiver<String>,
}

/// The monitor with the image's kernel, to be told more.
pub(crate) fn monitor() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cumulet-vmm"));
    command.arg("--kernel").arg(image().join("kernel"));
    command
}

fn image() -> PathBuf {
    PathBuf::from(std::env::var_os(IMAGE).unwrap_or_else(|| panic!("{IMAGE} names no folder with a guest")))
}

impl Guest {
    /// Boots one with so many ports.
    pub(crate) fn boot(ports: u8) -> Self {
        let image = image();
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.as_path().join(name);
        fs::write(path("initrd"), initrd(&image.join("initrd"))).unwrap();
        let mut command = monitor();
        command.arg("--initrd").arg(path("initrd"));
        let console = if cfg!(target_arch = "aarch64") { "ttyAMA0" } else { "ttyS0" };
        command.args(["--cmdline", &format!("console={console} panic=1 loglevel=4")]);
        command.arg("--disk").arg(format!("{},ro", image.join("disk").display()));
        command.args(["--memory", "256", "--ports", &ports.to_string()]);
        command.arg("--control").arg(path("control"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut monitor = command.spawn().unwrap();
        let keyboard = monitor.stdin.take().unwrap();
        let screen = lines_of(monitor.stdout.take().unwrap());
        let control = connect(&path("control"));
        let answers = lines_of(control.try_clone().unwrap());
        let mut guest = Self { folder, monitor, keyboard, screen, control, answers };
        guest.until_ready();
        guest
    }

    /// Waits until the guest's shell is there.
    pub(crate) fn until_ready(&mut self) {
        while self.line() != "== ready" {}
    }

    fn line(&mut self) -> String {
        match self.screen.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("the guest says nothing"),
            Err(RecvTimeoutError::Disconnected) => panic!("the monitor ended: {:?}", self.monitor.wait()),
        }
    }

    /// Has the guest run a line of shell; what it printed, and its status.
    pub(crate) fn try_run(&mut self, command: &str) -> (String, i32) {
        writeln!(self.keyboard, "{command}").unwrap();
        let mut output = String::new();
        loop {
            let line = self.line();
            if let Some(status) = line.strip_prefix("== ") {
                println!("guest: {command}: {status}\n{output}");
                return (output, status.parse().unwrap());
            }
            output += &line;
            output.push('\n');
        }
    }

    /// The same where it must succeed.
    pub(crate) fn run(&mut self, command: &str) -> String {
        let (output, status) = self.try_run(command);
        assert_eq!(status, 0, "{command}: {output}");
        output
    }

    /// Starts a line of shell without waiting for it.
    pub(crate) fn type_line(&mut self, command: &str) {
        writeln!(self.keyboard, "{command}").unwrap();
    }

    /// Reboots the guest, and waits until its shell is back.
    pub(crate) fn reboot(&mut self) {
        let resets = self.until(|_| true).resets;
        self.type_line("reboot -f");
        self.until_ready();
        assert_eq!(self.until(|_| true).resets, resets + 1);
    }

    /// The guest's disk with this serial, `vdb`, if there is one.
    pub(crate) fn find_disk(&mut self, volume: VolumeId) -> Option<String> {
        let serial = Disk { volume, read_only: false, limits: Limits::default() }.serial();
        let (found, _) = self.try_run(&format!("grep -l {serial} /sys/block/vd*/serial"));
        Some(found.trim().strip_prefix("/sys/block/")?.strip_suffix("/serial")?.to_owned())
    }

    /// Waits until it has the disk.
    pub(crate) fn wait_for_disk(&mut self, volume: VolumeId) -> String {
        eventually("the guest finds no disk", || self.find_disk(volume))
    }

    /// Waits until it has it no longer.
    pub(crate) fn wait_for_no_disk(&mut self, volume: VolumeId) {
        eventually("the guest keeps the disk", || self.find_disk(volume).is_none().then_some(()));
    }

    /// Waits until the guest has as many network interfaces, the loopback one included.
    pub(crate) fn wait_for_interfaces(&mut self, count: usize) -> Vec<String> {
        eventually("the guest has other interfaces", || {
            let names: Vec<_> = self.run("ls -1 /sys/class/net").lines().map(str::to_owned).collect();
            (names.len() == count).then_some(names)
        })
    }

    /// Asks, with descriptors.
    pub(crate) fn ask_with(&mut self, request: &Request, descriptors: &[OwnedFd]) -> Answer {
        let line = serde_json::to_string(request).unwrap() + "\n";
        let numbers: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        // What it said before is no answer to this.
        self.answers.try_iter().count();
        assert_eq!(self.control.send_with_fds(&[line.as_bytes()], &numbers).unwrap(), line.len());
        let answer = self.next_answer(|answer| match answer {
            Answer::Refused { .. } => true,
            Answer::Status(status) => request.is_taken_on(status),
        });
        println!("{request:?}: {answer:?}");
        answer
    }

    /// Asks.
    pub(crate) fn ask(&mut self, request: &Request) -> Answer {
        self.ask_with(request, &[])
    }

    fn next_answer(&mut self, wanted: impl Fn(&Answer) -> bool) -> Answer {
        loop {
            let line = self.answers.recv_timeout(PATIENCE).expect("the monitor says nothing");
            let answer = serde_json::from_str(&line).unwrap_or_else(|_| panic!("the monitor said {line:?}"));
            if wanted(&answer) {
                return answer;
            }
        }
    }

    /// Waits for a status.
    pub(crate) fn until(&mut self, wanted: impl Fn(&Status) -> bool) -> Status {
        self.answers.try_iter().count();
        self.control.write_all(b"{\"request\":\"status\"}\n").unwrap();
        match self.next_answer(|answer| matches!(answer, Answer::Status(status) if wanted(status))) {
            Answer::Status(status) => status,
            Answer::Refused { refused } => panic!("{refused}"),
        }
    }

    /// Gives the guest a volume; the status of the new disk.
    pub(crate) fn attach(&mut self, volume: &TestVolume) -> DiskStatus {
        match self.ask_with(&volume.request(), &volume.open()) {
            Answer::Status(status) => status.disks[&volume.id].clone(),
            Answer::Refused { refused } => panic!("{refused}"),
        }
    }

    /// Asks for a device to go.
    pub(crate) fn detach(&mut self, device: DeviceId, force: bool) {
        let answer = self.ask(&Request::Detach { device, force });
        assert!(matches!(answer, Answer::Status(_)), "{answer:?}");
    }

    /// Waits until the monitor has closed a volume.
    pub(crate) fn until_detached(&mut self, volume: &TestVolume) -> Status {
        let status = self.until(|status| !status.disks.contains_key(&volume.id));
        assert!(!volume.is_locked(), "the monitor keeps the volume locked");
        status
    }

    /// Where the test may put its files.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.as_path()
    }

    /// How many descriptors the monitor has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.monitor.id())).unwrap().count()
    }

    /// The monitor's threads, without those that the kernel made for its rings and keeps for a while.
    pub(crate) fn threads(&self) -> usize {
        let threads = fs::read_dir(format!("/proc/{}/task", self.monitor.id())).unwrap();
        let names = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("comm")).ok());
        names.filter(|name| !name.starts_with("iou-")).count()
    }

    /// Says how many operations a second a device may do from now on.
    pub(crate) fn limit(&mut self, device: DeviceId, per_second: Option<u64>) {
        let rate = |rate: u64| Rate { per_second: rate.try_into().unwrap(), burst: 0, peak: None };
        let limits = Limits { operations: per_second.map(rate), bytes: None };
        let request = Request::Limit { device, limits };
        let answer = self.ask(&request);
        assert!(matches!(&answer, Answer::Status(status) if request.is_taken_on(status)), "{answer:?}");
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.monitor.kill().unwrap();
        self.monitor.wait().unwrap();
        if std::thread::panicking() {
            let rest: Vec<_> = self.screen.try_iter().collect();
            println!("the guest's last words:\n{}", rest.join("\n"));
        }
    }
}

/// A volume of this test's own.
pub(crate) struct TestVolume {
    pub(crate) id: VolumeId,
    folder: PathBuf,
}

impl TestVolume {
    /// An empty one of so many MiB.
    pub(crate) fn new(guest: &Guest, number: u64, mib: u64) -> Self {
        let id = VolumeId::from_random(number);
        let folder = guest.folder().join(id.to_string());
        fs::create_dir(&folder).unwrap();
        volume::create(&folder, mib << 20, None).unwrap();
        Self { id, folder }
    }

    /// Opens and locks it, as the host does.
    pub(crate) fn open(&self) -> Vec<OwnedFd> {
        Parts::open(&self.folder, Access::Write).unwrap().named().map(|(_, file)| file.into()).collect()
    }

    /// The request that goes with what [`Self::open`] gives.
    pub(crate) fn request(&self) -> Request {
        let descriptors = ["data", "map"].map(|part| names::volume(self.id, part)).to_vec();
        Request::Attach {
            device: Device::Disk(Disk { volume: self.id, read_only: false, limits: Limits::default() }),
            descriptors,
        }
    }

    pub(crate) fn is_locked(&self) -> bool {
        matches!(Parts::open(&self.folder, Access::Write), Err(OpenError::InUse))
    }

    pub(crate) fn id(&self) -> DeviceId {
        DeviceId::Disk(self.id)
    }
}

/// A network interface of the tests.
pub(crate) fn nic(index: u8) -> Nic {
    Nic {
        interface: InterfaceId::from_random(index.into()),
        index,
        vpc: VpcId::from_random(1),
        mac: Mac::from_random(index.into()),
        mtu: 1500,
        queues: 1,
        limits: Limits::default(),
    }
}

/// The request for it, with its TAP.
pub(crate) fn attach_nic(nic: &Nic) -> Request {
    Request::Attach { device: Device::Nic(nic.clone()), descriptors: vec![names::tap(nic.interface, 0)] }
}

/// Asks until there is an answer.
pub(crate) fn eventually<T>(complaint: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{complaint}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn connect(path: &Path) -> UnixStream {
    eventually("no control socket", || UnixStream::connect(path).ok())
}

fn lines_of(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if sender.send(text).is_err() {
                return;
            }
        }
    });
    lines
}

/// The image's initial RAM disk, with another first program: a second archive after the first (Linux,
/// Documentation/driver-api/early-userspace/buffer-format.rst).
fn initrd(image: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    File::open(image).unwrap().read_to_end(&mut bytes).unwrap();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    let mut add = |name: &str, mode: usize, contents: &[u8]| {
        let fields = [1, mode, 0, 0, 1, 0, contents.len(), 0, 0, 0, 0, name.len() + 1, 0];
        bytes.extend(b"070701");
        fields.iter().for_each(|field| bytes.extend(format!("{field:08x}").bytes()));
        bytes.extend(name.bytes().chain([0]));
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(contents);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    };
    add("init", 0o100_755, include_bytes!("init"));
    add("TRAILER!!!", 0, &[]);
    bytes
}
