//! Stands in for the monitor in this crate's tests: it keeps the launcher's contract honestly and runs no guest.
//!
//! Launched, it opens its disks as the monitor does, writes to its console, answers its control socket, and ends as asked. A
//! line on its console socket makes it do what a guest might: `report` says how it finds itself, `write` writes to its first
//! disk and flushes, `vanish` ends it without a word.
//!
//! `fake_monitor launch FOLDER` is the other side: it launches the machine of the tests in that folder, so that a test can
//! kill it while it does.
#![allow(unsafe_code, reason = "taking over inherited descriptors")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test that started it")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use host::linux::machines::{Machines, Places};
use host::linux::storage::Storage;
use spec::console;
use spec::control::{EndReason, Ending, Request, Status};
use spec::machine::{Launch, Machine, Nic, descriptors as names};
use volume::{Access, Parts, Volume};

fn main() {
    match std::env::var(names::VARIABLE) {
        Ok(list) => monitor(&list),
        Err(_) => launcher(Path::new(&std::env::args().nth(2).unwrap())),
    }
}

/// What all threads of the monitor share.
struct Shared {
    status: Mutex<Status>,
    connections: Mutex<Vec<UnixStream>>,
    ending: File,
}

fn monitor(list: &str) {
    // One is the folder being read.
    let open_at_first = fs::read_dir("/proc/self/fd").unwrap().count() - 1;
    let mut left: BTreeMap<String, OwnedFd> = (names::FIRST..)
        .zip(list.split(':'))
        // SAFETY: the launcher left these descriptors open for this process, and each is taken once.
        .map(|(number, name)| (name.to_owned(), unsafe { OwnedFd::from_raw_fd(number) }))
        .collect();
    let mut take = |name: &str| left.remove(name).unwrap();
    let launch: Launch = serde_json::from_reader(File::from(take(names::SPEC))).unwrap();
    let machine = launch.machine;
    let (control, console) =
        (UnixListener::from(take(names::CONTROL)), UnixListener::from(take(names::CONSOLE)));
    let (ring, ending) = (File::from(take(names::CONSOLE_RING)), File::from(take(names::ENDING)));
    let (_lock, _kvm, kernel) = (take(names::LOCK), take(names::KVM), File::from(take(names::KERNEL)));
    let volumes: Vec<Volume> = machine.disks.iter().map(|disk| open(disk, &mut left)).collect();

    let mut kernel_bytes = Vec::new();
    { kernel }.read_to_end(&mut kernel_bytes).unwrap();
    print_line(&ring, &format!("{} {} {}", kernel_bytes.len(), machine.run, launch.command_line));
    eprintln!("the fake monitor of {} runs", machine.instance);
    let status = Status::new(machine.run, machine.reboots);
    let shared = Arc::new(Shared { status: Mutex::new(status), connections: Mutex::default(), ending });
    let listing = Arc::clone(&shared);
    thread::spawn(move || serve_control(&control, &listing));
    for stream in console.incoming() {
        serve_console(stream.unwrap(), &volumes, &|| report(list, open_at_first).to_string());
    }
}

fn open(disk: &spec::machine::Disk, left: &mut BTreeMap<String, OwnedFd>) -> Volume {
    let parts = Parts::from_named(|part| left.remove(&names::volume(disk.volume, part)).map(File::from));
    Volume::open(parts.unwrap(), if disk.read_only { Access::Read } else { Access::Write }).unwrap()
}

fn print_line(ring: &File, line: &str) {
    for (at, part) in console::place(0, line.as_bytes()) {
        ring.write_all_at(part, at).unwrap();
    }
    ring.write_all_at(&(line.len() as u64).to_le_bytes(), 0).unwrap();
}

fn serve_control(control: &UnixListener, shared: &Arc<Shared>) {
    for stream in control.incoming() {
        let stream = stream.unwrap();
        shared.connections.lock().unwrap().push(stream.try_clone().unwrap());
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                let Ok(request) = serde_json::from_str(&line.unwrap()) else { return };
                let (status, changed) = obey(request, &shared);
                let line = serde_json::to_string(&status).unwrap() + "\n";
                let _ = (&stream).write_all(line.as_bytes());
                if changed {
                    shared
                        .connections
                        .lock()
                        .unwrap()
                        .retain(|mut other| other.write_all(line.as_bytes()).is_ok());
                }
            }
        });
    }
}

/// The status after a request, and whether it is another than before. A power-off ends the process instead.
fn obey(request: Request, shared: &Shared) -> (Status, bool) {
    let mut status = shared.status.lock().unwrap();
    let before = status.clone();
    match request {
        // It has no ports yet.
        Request::Status | Request::Attach { .. } | Request::Detach { .. } | Request::Resize { .. } => {}
        Request::Reboot { count, .. } => {
            status.resets += u64::from(status.reboots < count);
            status.reboots = status.reboots.max(count);
        }
        Request::PowerOff => {
            let (run, message) = (status.run, "The guest powered off".to_owned());
            let ending = Ending { run, reason: EndReason::PoweredOff, message };
            shared.ending.write_all_at(&serde_json::to_vec(&ending).unwrap(), 0).unwrap();
            std::process::exit(0);
        }
    }
    (status.clone(), *status != before)
}

fn serve_console(stream: UnixStream, volumes: &[Volume], report: &dyn Fn() -> String) {
    for line in BufReader::new(stream.try_clone().unwrap()).lines() {
        let answer = match line.unwrap().as_str() {
            "report" => report(),
            "write" => {
                volumes[0].write_at(b"written by a machine", 1 << 22).unwrap();
                volumes[0].flush().unwrap();
                "written".to_owned()
            }
            "vanish" => std::process::exit(9),
            other => format!("you said {other}"),
        };
        (&stream).write_all((answer + "\n").as_bytes()).unwrap();
    }
}

/// How the process finds itself.
fn report(list: &str, open_at_first: usize) -> serde_json::Value {
    let text = |path: &str| fs::read_to_string(path).unwrap();
    let link = |path: &Path| fs::read_link(path).map(|path| path.display().to_string()).unwrap_or_default();
    let open: BTreeMap<i32, String> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().parse().unwrap(), link(&path)))
        .collect();
    let names: BTreeMap<&str, &String> =
        (names::FIRST..).zip(list.split(':')).map(|(n, name)| (name, &open[&n])).collect();
    serde_json::json!({
        "status": text("/proc/self/status"),
        "stat": text("/proc/self/stat"),
        "cgroup": text("/proc/self/cgroup"),
        "limits": text("/proc/self/limits"),
        "arguments": text("/proc/self/cmdline"),
        "environment": std::env::vars().collect::<Vec<_>>(),
        "folder": link(Path::new("/proc/self/cwd")),
        "standard": [&open[&0], &open[&1], &open[&2]],
        "names": names,
        "open_at_first": open_at_first,
    })
}

/// Launches the machine described in `folder`, as the tests do it.
fn launcher(folder: &Path) {
    let machine: Machine = serde_json::from_slice(&fs::read(folder.join("machine.json")).unwrap()).unwrap();
    let group = fs::read_to_string(folder.join("group")).unwrap();
    let places = Places {
        machines: folder.join("run/machines"),
        logs: folder.join("state/logs"),
        program: std::env::current_exe().unwrap(),
        kvm: "/dev/null".into(),
        group,
    };
    let (storage, machines) =
        (Storage::open(&folder.join("state")).unwrap(), Machines::open(places).unwrap());
    let no_tap = |_: &Nic| unreachable!("the machine of the tests has no network interface");
    machines.start(&machine, &storage, &no_tap).unwrap();
}
