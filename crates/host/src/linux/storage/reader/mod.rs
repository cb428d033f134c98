//! Reading what guests made, by a process that has no rights.
//!
//! ```text
//! the host ── the disk's files, to read; two empty ones, to write ──▶ reader ─┬─▶ kernel, initial RAM disk
//!          ◀── what was found, or what is wrong ──────────────────────────────┘
//! ```
//!
//! A disk is its guest's, and so is the kernel on it; partition tables, a file system and four ways of packing are a lot to
//! be lied to in. So the host, which is root, reads none of it: it starts this very program once more under the
//! name [`NAME`], which gives up all it has ([`Confinement`]), is sent open files and one [`Job`], answers, and is killed.
//! What it says is believed as far as it may be: a command line that a guest may say anyhow, and what is wrong with its own disk.
//!
//! What must hold:
//! - A reader sees files of one guest, or one kernel. What it wrote is looked at when it is dead.
//! - All readers together are bounded by a control group, each by limits of its own: a hundred guests that begin at once take
//!   no more of the host than one.
//! - A disk's kernel is unpacked by another reader than found it. The second has nothing but the kernel's bytes, by
//!   whose digest the outcome is kept for whoever has the same, so nobody can prepare for others what is not in these bytes.

mod child;

use std::error::Error as StdError;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::libc;
use serde::{Deserialize, Serialize};
use spec::storage::Architecture;
use volume::Parts;

pub use self::child::main;
#[cfg(test)]
pub(super) use self::child::work;
use super::boot::{self, Found};
use crate::Error;
use crate::linux::sys::cgroup::{Cgroups, Limits, USUAL_WEIGHT};
use crate::linux::sys::files;
use crate::linux::sys::frames::{self, Frames};

/// What a reader is called in lists of processes, and by which the program knows that it is one.
pub const NAME: &str = "cumulet-reader";
/// The environment's variable with the reader's user.
const USER: &str = "CUMULET_USER";
/// The longest that a reader may take, on a clock and of a processor.
const PATIENCE: Duration = Duration::from_secs(600);
const SECONDS: u64 = 300;
/// The most memory it may address: the 128 MiB that unpacking may take, several times.
const MEMORY: u64 = 1 << 30;
/// The largest file it may write: the largest initial RAM disk.
const LARGEST_FILE: u64 = 1 << 30;
/// The control group of all readers among ours. No instance is called so.
const GROUP: &str = "readers";
/// What they may use together: each has one thread.
const LIMITS: Limits = Limits { memory: 2 << 30, tasks: 64, processors: 2, weight: USUAL_WEIGHT, disk: None };
/// The longest job or answer, in bytes.
const MOST_WORDS: usize = 64 << 10;
/// The most files that go with a job.
const MOST_FILES: usize = 8;
/// How much of an error is believed: so many causes of so many characters.
const MOST_CAUSES: usize = 8;
const LONGEST_MESSAGE: usize = 500;
/// The longest release that is believed.
const LONGEST_RELEASE: usize = 128;

/// What a reader is to do. The files that go with it are in the order that is said.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Job {
    /// Find what a raw disk of so many bytes boots: the disk; files for kernel and initial RAM disk.
    RawDisk(u64),
    /// Find what a volume boots: its data, its map, its base if it has one; files for kernel and initial RAM disk.
    Volume,
    /// Look at a kernel: the kernel.
    Kernel,
    /// Look at a kernel and unpack it: the kernel; a file for what comes out.
    Unpack,
}

/// What a reader says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// What a disk boots; the files are written.
    Found(Found),
    /// What a kernel is.
    Kernel(KernelFacts),
    /// What went wrong.
    Failed(Told),
}

/// What was learned of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelFacts {
    /// The processor it is for.
    pub architecture: Architecture,
    /// Its release, where its header has it.
    pub release: Option<String>,
    /// Whether what it was unpacked to is there and can be booted.
    pub unpacked: bool,
}

/// An error in a reader's words.
#[derive(Debug, Serialize, Deserialize)]
pub struct Told {
    message: String,
    cause: Option<Box<Told>>,
    /// Whether it will be so again for the same files.
    lasting: bool,
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The reader said why.
    #[error(transparent)]
    Told(Told),
    /// It does not run.
    #[error("Could not {step} the process that reads it")]
    Process {
        /// Which step.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It ended before it said anything: what it read made it do what it may not.
    #[error("The process that read it was ended: {0}")]
    Ended(ExitStatus),
    /// It said something else than was asked.
    #[error("The process that read it answered nonsense")]
    Nonsense,
}

impl ReadError {
    /// Whether it will be so again for the same files.
    pub(super) fn is_lasting(&self) -> bool {
        matches!(self, Self::Told(told) if told.lasting)
    }
}

/// Who reads.
pub trait Reader: Send + Sync {
    /// Has a job done with these files, which are closed everywhere else when this returns.
    fn ask(&self, job: Job, files: Vec<OwnedFd>) -> Result<Answer, ReadError>;
}

impl dyn Reader + '_ {
    /// Finds what a raw disk of `bytes` bytes boots, and puts kernel and initial RAM disk into the two files, which are empty.
    pub(super) fn find_on_disk(
        &self,
        disk: &File,
        bytes: u64,
        found: [&File; 2],
    ) -> Result<Found, ReadError> {
        self.find(Job::RawDisk(bytes), [disk], found)
    }

    /// The same for a volume.
    pub(super) fn find_on_volume(&self, parts: &Parts, found: [&File; 2]) -> Result<Found, ReadError> {
        self.find(Job::Volume, [&parts.data, &parts.map].into_iter().chain(&parts.base), found)
    }

    fn find<'a>(
        &self,
        job: Job,
        read: impl IntoIterator<Item = &'a File>,
        written: [&'a File; 2],
    ) -> Result<Found, ReadError> {
        match self.ask(job, handed(read, written)?)? {
            Answer::Found(found) if boot::check_command_line(&found.command_line).is_ok() => {
                Ok(Found { release: found.release.filter(|text| is_release(text)), ..found })
            }
            Answer::Failed(told) => Err(ReadError::Told(told.bounded())),
            _ => Err(ReadError::Nonsense),
        }
    }

    /// Says what a kernel is.
    pub(super) fn look_at_kernel(&self, kernel: &File) -> Result<KernelFacts, ReadError> {
        self.kernel(Job::Kernel, kernel, None)
    }

    /// Says what a kernel is, and unpacks it into an empty file.
    pub(super) fn unpack(&self, kernel: &File, to: &File) -> Result<KernelFacts, ReadError> {
        self.kernel(Job::Unpack, kernel, Some(to))
    }

    fn kernel(&self, job: Job, kernel: &File, to: Option<&File>) -> Result<KernelFacts, ReadError> {
        match self.ask(job, handed([kernel], to)?)? {
            Answer::Kernel(facts) => {
                Ok(KernelFacts { release: facts.release.filter(|text| is_release(text)), ..facts })
            }
            Answer::Failed(told) => Err(ReadError::Told(told.bounded())),
            Answer::Found(_) => Err(ReadError::Nonsense),
        }
    }
}

fn is_release(text: &str) -> bool {
    text.len() <= LONGEST_RELEASE && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The files to be read, opened once more for reading alone, and those to be written.
fn handed<'a>(
    read: impl IntoIterator<Item = &'a File>,
    written: impl IntoIterator<Item = &'a File>,
) -> Result<Vec<OwnedFd>, ReadError> {
    let read = read.into_iter().map(files::read_only);
    let all: io::Result<Vec<File>> = read.chain(written.into_iter().map(File::try_clone)).collect();
    let all = all.map_err(|source| ReadError::Process { step: "open the files for", source })?;
    Ok(all.into_iter().map(OwnedFd::from).collect())
}

impl Told {
    fn new(error: &(dyn StdError + 'static), lasting: bool) -> Self {
        let cause = error.source().map(|cause| Box::new(Self::new(cause, lasting)));
        Self { message: error.to_string(), cause, lasting }
    }

    /// As much of it as anyone wants to read, in letters that do nothing to a terminal.
    fn bounded(mut self) -> Self {
        let mut one = Some(&mut self);
        for _ in 0..MOST_CAUSES {
            let Some(told) = one else { break };
            let text = told.message.chars().take(LONGEST_MESSAGE);
            told.message = text.map(|c| if c.is_control() { '?' } else { c }).collect();
            one = told.cause.as_deref_mut();
        }
        if let Some(told) = one {
            told.cause = None;
            told.message = "and so on".to_owned();
        }
        self
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Told {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_deref().map(|cause| cause as &dyn StdError)
    }
}

/// A process for each job.
#[derive(Clone, Debug)]
pub struct Processes {
    /// The program, which does [`main`] where it is called [`NAME`].
    pub program: PathBuf,
    /// The user that it becomes.
    pub user: u32,
    /// Where their control group is.
    pub cgroups: Cgroups,
}

impl Processes {
    /// Ends all of them, and takes their control group away.
    pub fn end(&self) -> Result<(), Error> {
        let ended = self.cgroups.kill(GROUP).and_then(|()| self.cgroups.remove(GROUP));
        ended.map_err(|error| Error::passing("Could not end the processes that read disks", error))
    }

    /// Puts one into the control group. One that has ended meanwhile is nobody else's number yet: it was not waited for.
    fn bound(&self, child: &Child) -> io::Result<()> {
        let mut group = self.cgroups.make(GROUP, &LIMITS)?;
        match group.write_all(child.id().to_string().as_bytes()) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            result => result,
        }
    }
}

impl Reader for Processes {
    fn ask(&self, job: Job, files: Vec<OwnedFd>) -> Result<Answer, ReadError> {
        let failed = |step| move |source| ReadError::Process { step, source };
        let deadline = Instant::now() + PATIENCE;
        let (ours, theirs) = UnixStream::pair().map_err(failed("make a socket for"))?;
        let child = Command::new(&self.program)
            .arg0(NAME)
            .env_clear()
            .env(USER, self.user.to_string())
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut child = KilledAtEnd(child.map_err(failed("start"))?);
        // Before it has anything to do.
        self.bound(&child.0).map_err(failed("bound"))?;
        let words = serde_json::to_vec(&job).map_err(|error| failed("ask")(error.into()))?;
        // One that has ended says more by its answer, or by its end, than by not listening.
        let asked = frames::send(&ours, &words, &files);
        drop(files);
        match Frames::new(ours, MOST_WORDS, 0).next(Some(deadline)) {
            Ok(Some((answer, _))) => serde_json::from_slice(&answer).map_err(|_| ReadError::Nonsense),
            Err(source) if source.kind() == ErrorKind::TimedOut => Err(failed("wait for")(source)),
            Err(source) if source.kind() == ErrorKind::InvalidData => Err(failed("understand")(source)),
            Ok(None) | Err(_) => {
                asked.map_err(failed("ask"))?;
                Err(child.0.wait().map_or_else(failed("wait for"), ReadError::Ended))
            }
        }
    }
}

/// A process that does not outlive this: what it wrote can be believed to stay as it is.
struct KilledAtEnd(Child);

impl Drop for KilledAtEnd {
    fn drop(&mut self) {
        // Neither fails for a child that was not waited for, and one that was needs neither.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reader_says_is_bounded() {
        let mut told = Told { message: "x".repeat(1000) + "\u{1b}", cause: None, lasting: true };
        for _ in 0..100 {
            told = Told { message: "\u{1b}[2J".to_owned(), cause: Some(Box::new(told)), lasting: true };
        }
        let told = told.bounded();
        let (mut chain, mut next) = (Vec::new(), Some(&told as &dyn StdError));
        while let Some(error) = next {
            chain.push(error.to_string());
            next = error.source();
        }
        assert_eq!(chain.len(), MOST_CAUSES + 1);
        assert!(chain.iter().all(|text| text == "?[2J" || text == "and so on"), "{chain:?}");
        assert!(is_release("6.1.0-56-cloud-amd64") && !is_release("6.1 x") && !is_release(&"6".repeat(200)));
    }
}
