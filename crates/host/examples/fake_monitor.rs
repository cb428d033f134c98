//! Stands in for the monitor in this crate's tests: it keeps the launcher's contract honestly and runs no guest.
//!
//! Launched, it opens its disks as the monitor does, writes to its console, answers its control socket, and ends as asked.
//! Devices that it is given it keeps when asked for them, until it is forced or told to. A
//! line on its console socket makes it do what a guest might: `report` says how it finds itself, `write` writes to its first
//! disk and flushes, `write last` to the end of each disk that it was given, `release` gives back what it was asked for,
//! `vanish` ends it without a word.
//!
//! `fake_monitor launch FOLDER` is the other side: it launches the machine of the tests in that folder, so that a test can
//! kill it while it does.
#![allow(unsafe_code, reason = "taking over inherited descriptors")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test that started it")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use host::linux::machines::{Machines, Places};
use host::linux::storage::Storage;
use host::linux::storage::reader::{self, Processes};
use host::linux::sys::cgroup::Cgroups;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use spec::console;
use spec::control::{
    Answer, DeviceState, DiskStatus, EndReason, Ending, MAX_DESCRIPTORS, NicStatus, Request, Status,
};
use spec::machine::{Device, DeviceId, Launch, Machine, Nic, descriptors as names};
use volume::{Access, Parts, Volume};

fn main() {
    if std::env::args().next().is_some_and(|name| name == reader::NAME) {
        reader::main();
        return;
    }
    match std::env::var(names::VARIABLE) {
        Ok(list) => monitor(&list),
        Err(_) => launcher(Path::new(&std::env::args().nth(2).unwrap())),
    }
}

/// What all threads of the monitor share.
struct Shared {
    status: Mutex<Status>,
    connections: Mutex<Vec<UnixStream>>,
    /// What was given while it ran.
    given: Mutex<BTreeMap<DeviceId, Given>>,
    ending: File,
}

/// What stands behind a device.
enum Given {
    Volume(Volume),
    Tap(#[expect(dead_code, reason = "it is only held")] Vec<OwnedFd>),
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
    let saved: Vec<File> = [names::SAVED_STATE, names::SAVED_MEMORY]
        .into_iter()
        .filter_map(|name| left.remove(name).map(File::from))
        .collect();
    let volumes: Vec<Volume> = machine.disks.iter().map(|disk| open(disk, &mut left)).collect();

    let mut kernel_bytes = Vec::new();
    { kernel }.read_to_end(&mut kernel_bytes).unwrap();
    let mut line = format!("{} {} {}", kernel_bytes.len(), machine.run, launch.command_line);
    for mut file in saved {
        line.push(' ');
        file.read_to_string(&mut line).unwrap();
    }
    print_line(&ring, &line);
    eprintln!("the fake monitor of {} runs", machine.instance);
    let status = Status { free_ports: machine.ports, ..Status::new(machine.run, machine.reboots) };
    let shared = Arc::new(Shared {
        status: Mutex::new(status),
        connections: Mutex::default(),
        given: Mutex::default(),
        ending,
    });
    let listing = Arc::clone(&shared);
    thread::spawn(move || serve_control(&control, &listing));
    for stream in console.incoming() {
        serve_console(stream.unwrap(), &volumes, &shared, &|| report(list, open_at_first).to_string());
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
        thread::spawn(move || while serve_requests(&stream, &shared).is_some() {});
    }
}

/// Reads what there is, up to the end of a line, and answers it; none at the end of the connection.
fn serve_requests(stream: &UnixStream, shared: &Shared) -> Option<()> {
    let (mut line, mut descriptors) = (Vec::new(), Vec::new());
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        let mut room = nix::cmsg_space!([RawFd; MAX_DESCRIPTORS]);
        let mut bytes = [IoSliceMut::new(&mut byte)];
        let (socket, flags) = (stream.as_raw_fd(), MsgFlags::empty());
        let message = recvmsg::<()>(socket, &mut bytes, Some(&mut room), flags).ok()?;
        for rights in message.cmsgs().unwrap() {
            if let ControlMessageOwned::ScmRights(numbers) = rights {
                // SAFETY: the kernel has just opened them for this process, and each is taken once.
                descriptors.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
            }
        }
        if message.bytes == 0 {
            return None;
        }
        line.extend(byte);
    }
    let answer = obey(serde_json::from_slice(&line).ok()?, descriptors, shared);
    let line = serde_json::to_string(&answer).unwrap() + "\n";
    let _ = { stream }.write_all(line.as_bytes());
    Some(())
}

/// Sends everybody the status, which nobody changes meanwhile: what is sent later is newer.
fn tell_all(shared: &Shared, status: &Status) {
    let line = serde_json::to_string(status).unwrap() + "\n";
    shared.connections.lock().unwrap().retain(|mut other| other.write_all(line.as_bytes()).is_ok());
}

/// The answer to a request. A power-off ends the process instead.
fn obey(request: Request, descriptors: Vec<OwnedFd>, shared: &Shared) -> Answer {
    let mut status = shared.status.lock().unwrap();
    let before = status.clone();
    match request {
        Request::Pause | Request::Resume => status.paused = request == Request::Pause,
        Request::Status | Request::Resize { .. } => {}
        Request::Limit { device, limits } => {
            let DeviceId::Disk(id) = device else { return Answer::Refused { refused: "Not a disk".into() } };
            match status.disks.get_mut(&id) {
                Some(disk) => disk.limits = limits,
                None => return Answer::Refused { refused: "There is no such disk".into() },
            }
        }
        Request::Reboot { count, .. } => {
            status.resets += u64::from(status.reboots < count);
            status.reboots = status.reboots.max(count);
        }
        Request::PowerOff => end(&status, EndReason::PoweredOff, shared),
        Request::Save { descriptors: names, .. } => {
            // Each file says its own name.
            for (name, file) in names.iter().zip(descriptors) {
                File::from(file).write_all_at(name.as_bytes(), 0).unwrap();
            }
            end(&status, EndReason::Saved, shared);
        }
        Request::Attach { .. } if status.free_ports == 0 => {
            return Answer::Refused { refused: "No root port is free".into() };
        }
        Request::Attach { device, descriptors: names } => {
            assert_eq!(names.len(), descriptors.len());
            let given = give(&device, &mut names.into_iter().zip(descriptors).collect(), &mut status);
            shared.given.lock().unwrap().insert(device.id(), given);
        }
        Request::Detach { device, force } => {
            if force {
                release(device, &mut status, shared);
            } else if let DeviceId::Disk(id) = device {
                status.disks.get_mut(&id).unwrap().state = DeviceState::Detaching;
            } else if let DeviceId::Nic(id) = device {
                status.nics.get_mut(&id).unwrap().state = DeviceState::Detaching;
            }
        }
    }
    if *status != before {
        tell_all(shared, &status);
    }
    Answer::Status(status.clone())
}

fn end(status: &Status, reason: EndReason, shared: &Shared) -> ! {
    let ending = Ending { run: status.run, reason, message: format!("{reason:?}, as asked") };
    shared.ending.write_all_at(&serde_json::to_vec(&ending).unwrap(), 0).unwrap();
    std::process::exit(0);
}

fn give(device: &Device, left: &mut BTreeMap<String, OwnedFd>, status: &mut Status) -> Given {
    status.free_ports -= 1;
    match device {
        Device::Disk(disk) => {
            let volume = open(disk, left);
            let bytes = volume.size();
            status.disks.insert(
                disk.volume,
                DiskStatus {
                    port: Some(0),
                    state: DeviceState::Attached,
                    bytes,
                    limits: disk.limits,
                    failure: None,
                },
            );
            Given::Volume(volume)
        }
        Device::Nic(nic) => {
            status.nics.insert(
                nic.interface,
                NicStatus { port: Some(0), state: DeviceState::Attached, limits: nic.limits },
            );
            let queues = (0..nic.queues).map(|queue| names::tap(nic.interface, queue));
            Given::Tap(queues.map(|name| left.remove(&name).unwrap()).collect())
        }
    }
}

fn release(device: DeviceId, status: &mut Status, shared: &Shared) {
    drop(shared.given.lock().unwrap().remove(&device).unwrap());
    status.free_ports += 1;
    match device {
        DeviceId::Disk(id) => drop(status.disks.remove(&id)),
        DeviceId::Nic(id) => drop(status.nics.remove(&id)),
    }
}

/// Gives everything back that was asked for.
fn release_all(shared: &Shared) {
    let mut status = shared.status.lock().unwrap();
    let given: Vec<DeviceId> = shared.given.lock().unwrap().keys().copied().collect();
    for device in given {
        if status.state_of(device) == Some(DeviceState::Detaching) {
            release(device, &mut status, shared);
        }
    }
    tell_all(shared, &status);
}

/// Writes the last sector of each disk that was given.
fn write_last(shared: &Shared) -> String {
    let given = shared.given.lock().unwrap();
    let volumes = given.values().filter_map(|given| match given {
        Given::Volume(volume) => Some(volume),
        Given::Tap(_) => None,
    });
    let written: Result<Vec<()>, _> =
        volumes.map(|volume| volume.write_at(&[7; 512], volume.size() - 512)).collect();
    written.map_or_else(|error| error.to_string(), |written| format!("written {}", written.len()))
}

fn serve_console(stream: UnixStream, volumes: &[Volume], shared: &Shared, report: &dyn Fn() -> String) {
    for line in BufReader::new(stream.try_clone().unwrap()).lines() {
        let answer = match line.unwrap().as_str() {
            "report" => report(),
            "write" => {
                volumes[0].write_at(b"written by a machine", 1 << 22).unwrap();
                volumes[0].flush().unwrap();
                "written".to_owned()
            }
            "write last" => write_last(shared),
            "release" => {
                release_all(shared);
                "released".to_owned()
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
    // One that it has closed since is another's, or nobody's.
    let names: BTreeMap<&str, Option<&String>> =
        (names::FIRST..).zip(list.split(':')).map(|(n, name)| (name, open.get(&n))).collect();
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
    let cgroups = Cgroups::find(&places.group).unwrap();
    let reader = Processes { program: places.program.clone(), user: machine.user + 1, cgroups };
    let storage = Storage::open(&folder.join("state"), Box::new(reader)).unwrap();
    let machines = Machines::open(places).unwrap();
    let no_tap = |_: &Nic| unreachable!("the machine of the tests has no network interface");
    machines.start(&machine, &storage, &no_tap).unwrap();
}
