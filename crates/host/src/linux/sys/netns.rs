//! Named network namespaces, the way `ip netns` keeps them: a namespace lives as long as it is
//! mounted on its name's file in `/run/netns`.
//!
//! A thread is in one namespace at a time, and what it opens stays there: a socket, a TAP, a child process.
//! So that no thread of the daemon is ever caught in the wrong one, work inside a namespace is done on a
//! thread made for it, see [`Namespace::run`].
//!
//! What must hold:
//! - Making and removing may be cut short anywhere and repeated. A name whose file exists but carries
//!   no namespace is half made.
//! - `/run/netns` is a shared mount, as `ip netns` makes it, so that each process sees what another mounts.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{FsType, fstatfs};

use super::files;

/// Where `ip netns` mounts namespaces.
const DIRECTORY: &str = "/run/netns";
/// The file that stands for the calling thread's own namespace.
const OWN: &str = "/proc/thread-self/ns/net";
/// `NSFS_MAGIC` of linux/magic.h.
const NSFS: FsType = FsType(0x6e73_6673);

/// An open network namespace; it lives at least as long as this.
#[derive(Debug)]
pub struct Namespace(File);

impl Namespace {
    /// The namespace of the calling thread.
    pub fn own() -> io::Result<Self> {
        File::open(OWN).map(Self)
    }

    /// The namespace of this name; nothing where there is none, or only the beginning of one.
    pub fn open(name: &str) -> io::Result<Option<Self>> {
        let Some(file) = files::open_if_there(&path(name))? else { return Ok(None) };
        Ok((fstatfs(&file)?.filesystem_type() == NSFS).then_some(Self(file)))
    }

    /// The namespace of this name, made where it is missing.
    pub fn ensure(name: &str) -> io::Result<Self> {
        if let Some(found) = Self::open(name)? {
            return Ok(found);
        }
        share_directory()?;
        let path = path(name);
        File::create(&path)?;
        on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            mount(Some(OWN), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        })??;
        Self::open(name)?.ok_or_else(|| io::Error::other("the namespace was removed while it was made"))
    }

    /// A new namespace without a name, which ends with this value and the threads in it.
    pub fn unnamed() -> io::Result<Self> {
        on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Self::own()
        })?
    }

    /// Takes a name away, and with it the namespace, unless a process, a socket or a mount elsewhere
    /// still holds it.
    pub fn remove(name: &str) -> io::Result<()> {
        let path = path(name);
        loop {
            match umount2(&path, MntFlags::MNT_DETACH) {
                Ok(()) => {}                 // one of several mounts above each other, perhaps
                Err(Errno::EINVAL) => break, // not, or no longer, a mount
                Err(Errno::ENOENT) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
        files::remove_file(&path)
    }

    /// All names, those of half-made namespaces included.
    pub fn names() -> io::Result<Vec<String>> {
        files::names(Path::new(DIRECTORY))
    }

    /// Does `work` on a thread of its own inside the namespace, and waits for it.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        on_own_thread(|| {
            setns(&self.0, CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        })?
    }

    /// The namespace's number; another may get the same only after this one has ended.
    pub fn identity(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.ino())
    }

    /// The open file, to name the namespace to the kernel.
    pub fn file(&self) -> &File {
        &self.0
    }
}

fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Makes `/run/netns` as `ip netns` does: a mount of its own that is shared.
fn share_directory() -> io::Result<()> {
    let none = None::<&str>;
    fs::create_dir_all(DIRECTORY)?;
    let share = || mount(none, DIRECTORY, none, MsFlags::MS_SHARED | MsFlags::MS_REC, none);
    if share() == Err(Errno::EINVAL) {
        mount(Some(DIRECTORY), DIRECTORY, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
        share()?;
    }
    Ok(())
}

/// Does `work` on a new thread and waits for it; what the thread did to itself ends with it.
fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, work)?;
        Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}
