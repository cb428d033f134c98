//! Guests of a few instructions on the real monitor: serial port, power, reset, PCI, crashes, and what is
//! no guest at all.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use crate::code::{Code, kernel};
use crate::support::{kvm_works, monitor};
use spec::control::Status;
use vmm_sys_util::tempdir::TempDir;

/// A kernel of a few instructions, in a folder.
pub(crate) struct Guest {
    folder: TempDir,
}

impl Guest {
    pub(crate) fn new(code: &[u8]) -> Self {
        let guest = Self { folder: TempDir::new().unwrap() };
        fs::write(guest.path("kernel"), kernel(code)).unwrap();
        guest
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.as_path().join(name)
    }

    fn run(&self, options: &[&str]) -> Output {
        monitor()
            .arg("--kernel")
            .arg(self.path("kernel"))
            .args(["--memory", "32"])
            .args(options)
            .output()
            .unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_guest_prints_and_powers_off() {
    if !kvm_works() {
        return;
    }
    let output = Guest::new(&Code::default().print("hello\n").power_off()).run(&[]);
    assert_eq!(text(&output.stdout), "hello\n", "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "cumulet-vmm: The guest powered itself off\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn the_devices_are_in_their_slots() {
    if !kvm_works() {
        return;
    }
    let guest = Guest::new(
        &Code::default()
            .print_config_word(0) // host bridge
            .print_config_word(0x8000) // entropy
            .print_config_word(0x1_0000) // balloon
            .print_config_word(0x2_0000) // root disk
            .print_config_word(0x2_8000) // no NIC
            .print_config_word(0x8_0000) // second disk
            .power_off(),
    );
    fs::write(guest.path("disk"), [0; 4096]).unwrap();
    let disk = guest.path("disk").display().to_string();
    let output = guest.run(&[
        "--entropy",
        "--balloon",
        "--disk",
        &disk,
        "--disk",
        &format!("{disk},ro"),
        "--cpus",
        "2",
    ]);
    let ids: Vec<_> = output.stdout.chunks(4).map(<[u8]>::to_vec).collect();
    let virtio = |id: u8| [0xf4, 0x1a, 0x40 + id, 0x10];
    let expected = [*b"\x36\x1b\x08\x00", virtio(4), virtio(5), virtio(2), [0xff; 4], virtio(2)];
    assert_eq!(ids, expected, "{}", text(&output.stderr));
}

#[test]
fn what_the_processor_cannot_go_on_from_is_a_crash_with_a_sentence() {
    if !kvm_works() {
        return;
    }
    let output = Guest::new(&Code::default().print("!").crash()).run(&[]);
    assert_eq!(text(&output.stdout), "!");
    assert_eq!(output.status.code(), Some(70), "{}", text(&output.stderr));
    assert!(text(&output.stderr).starts_with("cumulet-vmm: On vCPU 0 "), "{}", text(&output.stderr));
}

/// A machine with its control socket.
pub(crate) struct Running {
    pub(crate) child: std::process::Child,
    pub(crate) control: BufReader<UnixStream>,
}

impl Running {
    pub(crate) fn start(guest: &Guest, options: &[&str]) -> Self {
        let path = guest.path("control");
        let mut command = monitor();
        command.arg("--kernel").arg(guest.path("kernel")).args(["--memory", "32", "--control"]).arg(&path);
        Self::of(command.args(options).spawn().unwrap(), &path)
    }

    /// One that was started to listen there.
    pub(crate) fn of(child: std::process::Child, path: &Path) -> Self {
        let begin = Instant::now();
        let control = loop {
            match UnixStream::connect(path) {
                Ok(control) => break control,
                Err(_) if begin.elapsed() < Duration::from_secs(20) => {
                    std::thread::sleep(Duration::from_millis(5))
                }
                Err(error) => panic!("no control socket: {error}"),
            }
        };
        control.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { child, control: BufReader::new(control) }
    }

    pub(crate) fn ask(&mut self, request: &str) {
        writeln!(self.control.get_mut(), "{{\"request\":{request}}}").unwrap();
    }

    pub(crate) fn until(&mut self, wanted: impl Fn(&Status) -> bool) -> Status {
        loop {
            let mut line = String::new();
            self.control.read_line(&mut line).unwrap();
            let status = serde_json::from_str(&line).unwrap_or_else(|_| panic!("the status is {line:?}"));
            if wanted(&status) {
                return status;
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended is only to be waited for.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

#[test]
fn a_reset_builds_the_machine_anew_as_often_as_it_likes() {
    if !kvm_works() {
        return;
    }
    let guest = Guest::new(&Code::default().print("R").reset());
    let mut machine = Running::start(&guest, &[]);
    machine.ask("\"status\"");
    let begin = machine.until(|_| true).resets;
    let status = machine.until(|status| status.resets >= begin + 20);
    assert_eq!((status.reboots, status.panicked), (0, false));
    // Its console goes on from life to life.
    let mut printed = [0; 10];
    machine.child.stdout.as_mut().unwrap().read_exact(&mut printed).unwrap();
    assert_eq!(&printed, b"RRRRRRRRRR");
}

#[test]
fn a_deaf_guest_is_rebooted_when_patience_ends_and_reports_its_panic() {
    if !kvm_works() {
        return;
    }
    let guest = Guest::new(&Code::default().panic().idle());
    let mut machine = Running::start(&guest, &[]);
    machine.ask("\"status\"");
    machine.until(|status| status.panicked);
    machine.ask("\"reboot\",\"count\":1,\"patience_ms\":50");
    let status = machine.until(|status| status.reboots == 1);
    assert_eq!(status.resets, 1);
    machine.until(|status| status.panicked); // the new one panics too
    machine.ask("\"power-off\"");
    assert!(machine.until(|status| status.powering_off).panicked);
}

#[test]
fn what_cannot_be_built_is_refused_with_its_own_status() {
    if !kvm_works() {
        return;
    }
    let guest = Guest::new(&[]);
    fs::write(guest.path("kernel"), [7; 10_000]).unwrap();
    let nothing = guest.path("nothing").display().to_string();
    fs::write(guest.path("torn"), [0; 1000]).unwrap();
    let torn = guest.path("torn").display().to_string();
    for (options, reason) in [
        (&[][..], "The kernel is neither an ELF file nor a bzImage"),
        (&["--disk", &nothing], "Cannot open /"),
        (&["--disk", &torn], "is no disk: A disk has whole sectors"),
        (&["--cpus", "0"], "The machine has 0 vCPUs, and may have 1 to"),
        (&["--memory", "1"], "The machine has 1 MiB of memory, and needs at least"),
        (&["--initrd", &nothing], "Cannot open /"),
        (&["--tap", "no/such/name:02:00:00:00:00:01"], "Cannot use the TAP no/such/name"),
    ] {
        let output = guest.run(options);
        assert_eq!(output.status.code(), Some(78), "{options:?}: {}", text(&output.stderr));
        let message = text(&output.stderr);
        assert!(message.contains(reason) && message.lines().count() == 1, "{options:?}: {message}");
    }
}
