//! Control groups, version 2 (Linux, Documentation/admin-guide/cgroup-v2.rst): one for each machine, below one of ours.
//!
//! A group is what a machine's processes cannot leave, so it is the way to end them all; never
//! a process id read from a file. All of it is safe code.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::files::{if_there, names, read_if_there};

/// How long ended processes may take to leave their group.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often is looked whether they have.
const PAUSE: Duration = Duration::from_millis(5);
/// The most that one of a group's files is read.
const MOST: u64 = 1 << 20;

/// The group that holds ours.
#[derive(Clone, Debug)]
pub struct Cgroups {
    folder: PathBuf,
}

/// What a group's processes may use together. A limit whose controller the host has elsewhere (version 1) is not set.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Memory in bytes.
    pub memory: u64,
    /// Processes and threads.
    pub tasks: u32,
    /// Processors.
    pub processors: u32,
    /// Its share of processors and disks while all together want more than there is; [`USUAL_WEIGHT`] is everybody's.
    pub weight: u32,
    /// What it may do on a disk of the host.
    pub disk: Option<DiskLimits>,
}

/// What may be done on a disk each second, reading and writing each.
#[derive(Clone, Debug)]
pub struct DiskLimits {
    /// Which disk.
    pub disk: DiskNumber,
    /// Bytes, if they are bounded.
    pub bytes: Option<u64>,
    /// Operations, if they are.
    pub operations: Option<u64>,
}

/// The kernel's number of a whole disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskNumber(String);

/// The weight of a group that says nothing.
pub const USUAL_WEIGHT: u32 = 100;
/// The largest weight that there is.
const MOST_WEIGHT: u32 = 10_000;

impl Cgroups {
    /// The group called `name` directly below the mounted hierarchy; it is made with the first group in it. An error of
    /// [`ErrorKind::Unsupported`] where no hierarchy of version 2 is mounted.
    pub fn find(name: &str) -> io::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let root = mounted(&mounts).ok_or_else(|| {
            io::Error::new(ErrorKind::Unsupported, "No control groups of version 2 are mounted")
        })?;
        Ok(Self { folder: root.join(name) })
    }

    /// Makes a group, if it is not there, and sets its limits. A process that writes "0" into the answer is in the group.
    pub fn make(&self, name: &str, limits: &Limits) -> io::Result<File> {
        let group = self.folder.join(name);
        for parent in [self.folder.parent().unwrap_or(&self.folder), &self.folder] {
            if_exists(fs::create_dir(parent))?;
            delegate(parent)?;
        }
        if_exists(fs::create_dir(&group))?;
        let quota = u64::from(limits.processors) * 100_000;
        let weight = limits.weight.clamp(1, MOST_WEIGHT);
        for (file, value) in [
            ("memory.max", limits.memory.to_string()),
            ("pids.max", limits.tasks.to_string()),
            ("cpu.max", format!("{quota} 100000")),
            ("cpu.weight", weight.to_string()),
            ("io.weight", format!("default {weight}")),
        ] {
            write_if_there(&group.join(file), &value)?;
        }
        if let Some(limits) = &limits.disk {
            limits.write(&group)?;
        }
        OpenOptions::new().write(true).open(group.join("cgroup.procs"))
    }

    /// The groups that there are.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let names = names(&self.folder)?;
        Ok(names.into_iter().filter(|name| self.folder.join(name).is_dir()).collect())
    }

    /// Whether there is a group of this name.
    pub fn exists(&self, name: &str) -> bool {
        self.folder.join(name).is_dir()
    }

    /// The ids of a group's processes just now. Each may be another process's by the time it is used: good for what does
    /// no harm to a stranger.
    pub fn processes(&self, name: &str) -> io::Result<Vec<Pid>> {
        processes(&self.folder.join(name))
    }

    /// Ends all processes of a group, if it is there, and waits until they have.
    pub fn kill(&self, name: &str) -> io::Result<()> {
        let group = self.folder.join(name);
        match write_if_there(&group.join("cgroup.kill"), "1")? {
            true => wait_until(|| Ok(!is_populated(&group)?)),
            false => wait_until(|| kill_each(&group)), // Linux before 5.14, or no such group
        }
    }

    /// Takes a group away that has no processes any more.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        remove(&self.folder.join(name))
    }

    /// Takes the group away that holds the others, none of which may be left.
    pub fn remove_all(&self) -> io::Result<()> {
        remove(&self.folder)
    }
}

impl DiskLimits {
    /// Sets them, where there is the controller and it can hold this disk to anything.
    fn write(&self, group: &Path) -> io::Result<()> {
        let number =
            |number: Option<u64>| number.map_or_else(|| "max".to_owned(), |number| number.to_string());
        let (DiskNumber(disk), bytes, operations) = (&self.disk, number(self.bytes), number(self.operations));
        let words = format!("{disk} rbps={bytes} wbps={bytes} riops={operations} wiops={operations}");
        match write_if_there(&group.join("io.max"), &words) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            result => result.map(|_| ()),
        }
    }
}

impl DiskNumber {
    /// Of the disk that a folder is on; none where that is no single one: a file system of several, in memory, or of another
    /// machine.
    pub fn of(folder: &Path) -> io::Result<Option<Self>> {
        let device = fs::metadata(folder)?.dev();
        let name = format!("/sys/dev/block/{}:{}", libc::major(device), libc::minor(device));
        let Some(place) = if_there(fs::canonicalize(name))? else { return Ok(None) };
        // Limits are of whole disks; a partition's folder is in its disk's.
        let disk = if place.join("partition").exists() { place.parent().unwrap_or(&place) } else { &place };
        let number = if_there(fs::read_to_string(disk.join("dev")))?;
        Ok(number.map(|number| Self(number.trim_end().to_owned())))
    }
}

/// Where the hierarchy of version 2 is mounted, out of the table of mounts (proc_pid_mounts(5)).
fn mounted(mounts: &str) -> Option<PathBuf> {
    let mut lines = mounts.lines().map(|line| line.split(' '));
    lines.find_map(|mut words| {
        let (_, place, kind) = (words.next()?, words.next()?, words.next()?);
        (kind == "cgroup2").then(|| place.into())
    })
}

/// Lets a group's children have what controllers there are. That one cannot be had (it belongs to a hierarchy of version 1, or
/// processes live in the group itself) leaves its limit unset.
fn delegate(group: &Path) -> io::Result<()> {
    let available = read_if_there(&group.join("cgroup.controllers"), MOST)?.unwrap_or_default();
    let available = String::from_utf8_lossy(&available).into_owned();
    for controller in ["memory", "pids", "cpu", "io"] {
        if available.split_ascii_whitespace().any(|word| word == controller) {
            let _ = write_if_there(&group.join("cgroup.subtree_control"), &format!("+{controller}"));
        }
    }
    Ok(())
}

/// Writes into one of a group's files; false where the group has no such file. It is never made: that is refused in other words.
fn write_if_there(file: &Path, value: &str) -> io::Result<bool> {
    match if_there(OpenOptions::new().write(true).open(file))? {
        Some(mut file) => file.write_all(value.as_bytes()).map(|()| true),
        None => Ok(false),
    }
}

fn is_populated(group: &Path) -> io::Result<bool> {
    let events = read_if_there(&group.join("cgroup.events"), MOST)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&events).lines().any(|line| line == "populated 1"))
}

/// Sends each process of the group the signal that ends it; whether there was none.
fn kill_each(group: &Path) -> io::Result<bool> {
    let processes = processes(group)?;
    for process in &processes {
        match kill(*process, Signal::SIGKILL) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(processes.is_empty())
}

fn processes(group: &Path) -> io::Result<Vec<Pid>> {
    let processes = read_if_there(&group.join("cgroup.procs"), MOST)?.unwrap_or_default();
    let processes = String::from_utf8_lossy(&processes).into_owned();
    Ok(processes.lines().filter_map(|line| line.parse().ok()).map(Pid::from_raw).collect())
}

/// Removes a group. Processes that ended a moment ago may still be leaving it.
fn remove(group: &Path) -> io::Result<()> {
    wait_until(|| match fs::remove_dir(group) {
        Err(error) if error.kind() == ErrorKind::ResourceBusy => Ok(false),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        result => result.map(|()| true),
    })
}

fn wait_until(mut done: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !done()? {
        if Instant::now() > deadline {
            return Err(io::Error::new(ErrorKind::TimedOut, "Its processes do not end"));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn if_exists(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_is_found_among_others() {
        let hybrid =
            "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(mounted(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(mounted("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"), Some("/sys/fs/cgroup".into()));
        assert_eq!(mounted("proc /proc proc rw 0 0\n\n"), None);
    }
}
