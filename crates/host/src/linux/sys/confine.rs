//! Giving up everything but what is in hand.
//!
//! For programs of ours that read what guests made: this very program, started once more under another name. It begins as
//! root, since a program has to be loaded before the files it is loaded from can be out of reach, and does first of all
//! [`Confinement::enter`]: then it has a user of its own, no capabilities and an empty root folder. When its threads are
//! there and before it reads a byte of others, it does [`allow_only`]: then the kernel ends it at the first system call that it has no use for.
#![allow(unsafe_code, reason = "prctl and signal")]

use std::collections::BTreeMap;
use std::io;

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, chdir, chroot, geteuid, setgroups, setresgid, setresuid};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// A folder that is on every Linux, to have the empty one in its place.
const ANY_FOLDER: &str = "/proc";
/// `PROT_EXEC` as a system call's argument.
const EXECUTABLE: u64 = 4;
/// The request of `ioctl` by that name (asm-generic/ioctls.h).
const FIONBIO: u64 = 0x5421;
/// The bits of a socket's type that are its type.
const SOCKET_TYPE: u64 = 0xf;

/// What a process is left with.
#[derive(Clone, Copy, Debug)]
pub struct Confinement {
    /// Its user and group id, which is not root's.
    pub user: u32,
    /// Whether it keeps the host's network; else it has one of its own that leads nowhere.
    pub network: bool,
    /// Whether it ends with the thread that started it.
    pub bound: bool,
    /// The most memory it may address, in bytes.
    pub memory: u64,
    /// The largest file it may write, in bytes. Beyond that a write fails.
    pub largest_file: u64,
    /// The most descriptors it may have.
    pub descriptors: u64,
    /// The most time it may have a processor for, in seconds.
    pub seconds: Option<u64>,
}

/// Why a process is not confined.
#[derive(Debug, thiserror::Error)]
#[error("Could not {step}")]
pub struct ConfineError {
    step: &'static str,
    source: io::Error,
}

impl ConfineError {
    /// A descriptor that should be there is not.
    pub(crate) fn descriptor(source: io::Error) -> Self {
        Self { step: "take over what it was handed", source }
    }
}

impl Confinement {
    /// Gives up the rest. Called as root by a process that has one thread and has opened nothing it should not have.
    pub fn enter(&self) -> Result<(), ConfineError> {
        let step = |step, result: nix::Result<()>| {
            result.map_err(|errno| ConfineError { step, source: errno.into() })
        };
        if self.user == 0 || !geteuid().is_root() {
            return step("become another user", Err(Errno::EPERM));
        }
        step("have namespaces of its own", self.leave_namespaces())?;
        step("have an empty root folder", leave_files())?;
        step("limit what it uses", self.limit())?;
        step("give up capabilities for good", drop_bounding_set())?;
        step("become another user", self.become_user())?;
        step("give up new privileges", prctl::set_no_new_privs())?;
        step("keep from being traced", prctl::set_dumpable(false))?;
        let death = Some(Signal::SIGKILL).filter(|_| self.bound);
        step("end with whoever started it", prctl::set_pdeathsig(death))
    }

    fn leave_namespaces(&self) -> nix::Result<()> {
        let kinds = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
        unshare(if self.network { kinds } else { kinds | CloneFlags::CLONE_NEWNET })
    }

    fn limit(&self) -> nix::Result<()> {
        let both = |resource, most| setrlimit(resource, most, most);
        both(Resource::RLIMIT_AS, self.memory)?;
        both(Resource::RLIMIT_FSIZE, self.largest_file)?;
        both(Resource::RLIMIT_NOFILE, self.descriptors)?;
        both(Resource::RLIMIT_CORE, 0)?;
        if let Some(seconds) = self.seconds {
            both(Resource::RLIMIT_CPU, seconds)?;
        }
        // SAFETY: no handler is installed. A write beyond the limit is to fail, not to kill.
        match unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) } {
            libc::SIG_ERR => Err(Errno::last()),
            _ => Ok(()),
        }
    }

    /// With root's user go all capabilities (capabilities(7)).
    fn become_user(&self) -> nix::Result<()> {
        let (user, group) = (Uid::from_raw(self.user), Gid::from_raw(self.user));
        setgroups(&[])?;
        setresgid(group, group, group)?;
        setresuid(user, user, user)
    }
}

/// A file system with nothing in it, where nothing can be made, becomes the root folder.
fn leave_files() -> nix::Result<()> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("none"), ANY_FOLDER, Some("tmpfs"), flags, Some("size=4k,nr_inodes=1,mode=555"))?;
    chdir(ANY_FOLDER)?;
    chroot(".")?;
    chdir("/")
}

fn drop_bounding_set() -> nix::Result<()> {
    const MOST: libc::c_ulong = 63;
    for capability in 0..=MOST {
        // SAFETY: only numbers are passed.
        match Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }) {
            Err(Errno::EINVAL) => return Ok(()), // the kernel's last one was before
            result => result?,
        };
    }
    Ok(())
}

/// A system call that is allowed.
#[derive(Clone, Copy, Debug)]
pub enum Call {
    /// Whatever its arguments.
    Any(libc::c_long),
    /// `mmap` and `mprotect`, but not for memory that could be executed.
    NoCode(libc::c_long),
    /// `ioctl`, to have a socket wait or not (`FIONBIO`).
    NonBlocking,
    /// `socket`, for UDP and TCP over IPv4 and IPv6.
    InternetSocket,
}

/// What every program of Rust's does: memory, time, waiting for threads, ending, and giving back.
pub const USUAL: &[Call] = &[
    Call::NoCode(libc::SYS_mmap),
    Call::NoCode(libc::SYS_mprotect),
    Call::Any(libc::SYS_brk),
    Call::Any(libc::SYS_clock_gettime),
    Call::Any(libc::SYS_clock_nanosleep),
    Call::Any(libc::SYS_close),
    Call::Any(libc::SYS_exit),
    Call::Any(libc::SYS_exit_group),
    Call::Any(libc::SYS_fcntl),
    Call::Any(libc::SYS_futex),
    Call::Any(libc::SYS_getpid),
    Call::Any(libc::SYS_getrandom),
    Call::Any(libc::SYS_gettid),
    Call::Any(libc::SYS_madvise),
    Call::Any(libc::SYS_mremap),
    Call::Any(libc::SYS_munmap),
    Call::Any(libc::SYS_read),
    Call::Any(libc::SYS_recvmsg),
    Call::Any(libc::SYS_restart_syscall),
    Call::Any(libc::SYS_rt_sigaction),
    Call::Any(libc::SYS_rt_sigprocmask),
    Call::Any(libc::SYS_rt_sigreturn),
    Call::Any(libc::SYS_sched_yield),
    Call::Any(libc::SYS_sendmsg),
    Call::Any(libc::SYS_sendto),
    Call::Any(libc::SYS_setsockopt),
    Call::Any(libc::SYS_sigaltstack),
    Call::Any(libc::SYS_write),
    Call::Any(libc::SYS_writev),
];

/// Lets all threads of this process make these system calls, and ends the process at any other. For good. A thread that is just
/// being made would be caught at its beginning, so whoever made one waits for it first.
pub fn allow_only(calls: &[&[Call]]) -> Result<(), ConfineError> {
    let failed =
        |error| ConfineError { step: "have its system calls filtered", source: io::Error::other(error) };
    let program = filter(calls).map_err(|error| failed(error.to_string()))?;
    seccompiler::apply_filter_all_threads(&program).map_err(|error| failed(error.to_string()))
}

fn filter(calls: &[&[Call]]) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in calls.iter().flat_map(|calls| *calls) {
        let (number, conditions) = call.terms()?;
        rules.insert(number, conditions);
    }
    let architecture = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, architecture)?.try_into()
}

impl Call {
    fn terms(self) -> Result<(i64, Vec<SeccompRule>), seccompiler::BackendError> {
        let term = |argument, operator, value| {
            SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
        };
        Ok(match self {
            Self::Any(number) => (number, Vec::new()),
            Self::NoCode(number) => {
                let no_code = term(2, SeccompCmpOp::MaskedEq(EXECUTABLE), 0)?;
                (number, vec![SeccompRule::new(vec![no_code])?])
            }
            Self::NonBlocking => {
                let request = term(1, SeccompCmpOp::Eq, FIONBIO)?;
                (libc::SYS_ioctl, vec![SeccompRule::new(vec![request])?])
            }
            Self::InternetSocket => {
                let mut rules = Vec::new();
                for family in [libc::AF_INET, libc::AF_INET6] {
                    for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
                        let family = term(0, SeccompCmpOp::Eq, u64::from(family.unsigned_abs()))?;
                        let kind =
                            term(1, SeccompCmpOp::MaskedEq(SOCKET_TYPE), u64::from(kind.unsigned_abs()))?;
                        rules.push(SeccompRule::new(vec![family, kind])?);
                    }
                }
                (libc::SYS_socket, rules)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_can_be_made_of_all_kinds_of_calls() {
        let program = filter(&[USUAL, &[Call::InternetSocket, Call::NonBlocking]]).unwrap();
        assert!(program.len() > USUAL.len());
    }
}
