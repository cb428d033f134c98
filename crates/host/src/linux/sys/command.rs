//! Starting a program that is nobody's child.
//!
//! ```text
//! caller ── fork ── child: new session, ── fork ── grandchild: group, descriptors, user ── exec ── the program
//!    │              new process namespace              └ what fails is told through a pipe that exec closes
//!    └ waits for the child, which ends at once
//! ```
//!
//! The program begins as the first process of its own namespace, and so sees no other. A monitor is left one capability,
//! `CAP_SYS_ADMIN`, to leave the host's other namespaces by, and has to give it back: what a program needs of the host's files to
//! begin at all (its loader, its libraries) it would not find in a root directory with nothing in it.
//!
//! The grandchild is adopted by init, so that "started by me" and "found running" are the same. Between fork and exec only calls are
//! made that are safe in a copy of a process with many threads (signal-safety(7)), and nothing is allocated.
#![allow(unsafe_code, reason = "fork, exec and what lies between them")]

use std::ffi::{CString, c_char, c_int, c_long, c_uint};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::unistd::pipe2;

/// The number of the first descriptor that is handed over; the ones before are standard input, output and error.
pub const FIRST: RawFd = 3;

/// A program to be started.
pub struct Detached<'a> {
    /// The program's open file. That it is open is enough: the new user need not reach its path.
    pub program: &'a File,
    /// What the process is called in lists of processes.
    pub name: &'a str,
    /// The whole environment.
    pub environment: &'a [(&'a str, &'a str)],
    /// Standard input; `/dev/null` where there is none.
    pub input: Option<&'a OwnedFd>,
    /// Descriptors that the program finds from [`FIRST`] on, in this order.
    pub descriptors: &'a [OwnedFd],
    /// Standard error; output is `/dev/null`.
    pub errors: &'a File,
    /// As whom it runs.
    pub who: Who,
    /// The `cgroup.procs` of the group that the process is in before the program begins.
    pub group: &'a File,
    /// The largest file that the process may write, in bytes.
    pub largest_file: u64,
}

/// As whom a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// This user and group id; the process has no other groups, and of all capabilities the one said above.
    User(u32),
    /// Root, until the program gives up what it has by itself ([`super::confine`]): for programs of ours only.
    RootAtFirst,
}

/// Why the program does not run.
#[derive(Debug, thiserror::Error)]
#[error("Could not {step}")]
pub struct SpawnError {
    step: &'static str,
    source: io::Error,
}

/// What the child and the grandchild do.
#[derive(Clone, Copy)]
enum Step {
    Leave,
    Fork,
    EnterGroup,
    Move,
    Place,
    Close,
    Limit,
    Capabilities,
    User,
    Privileges,
    Execute,
}

/// The steps in words, in the same order.
const WORDS: [&str; 11] = [
    "leave the host's processes",
    "fork a second time",
    "enter the control group",
    "move descriptors out of the way",
    "put descriptors in place",
    "keep other descriptors from the program",
    "limit what the process may write",
    "give up capabilities",
    "become another user",
    "give up new privileges",
    "execute the program",
];

impl Detached<'_> {
    /// Starts the program and returns once it runs.
    pub fn spawn(&self) -> Result<(), SpawnError> {
        let failed = |step| move |source: io::Error| SpawnError { step, source };
        let text = |text: &str| {
            CString::new(text).map_err(|error| failed("form the program's arguments")(error.into()))
        };
        let name = text(self.name)?;
        let environment: Vec<CString> = self
            .environment
            .iter()
            .map(|(key, value)| text(&format!("{key}={value}")))
            .collect::<Result<_, _>>()?;
        let null =
            File::options().read(true).write(true).open("/dev/null").map_err(failed("open /dev/null"))?;
        let (mut answer, report) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)
            .map(|(read, write)| (File::from(read), write))
            .map_err(|errno| failed("make a pipe")(errno.into()))?;

        // Standard ones first, then the others: the place in this list is the number in the program.
        let input = self.input.map_or(null.as_raw_fd(), AsRawFd::as_raw_fd);
        let ours = [input, null.as_raw_fd(), self.errors.as_raw_fd()];
        let mut placed: Vec<RawFd> =
            ours.into_iter().chain(self.descriptors.iter().map(AsRawFd::as_raw_fd)).collect();
        let mut plan = Plan {
            arguments: [name.as_ptr(), ptr::null()],
            environment: environment.iter().map(|entry| entry.as_ptr()).chain([ptr::null()]).collect(),
            placed: &mut placed,
            program: self.program.as_raw_fd(),
            group: self.group.as_raw_fd(),
            report: report.as_raw_fd(),
            who: self.who,
            largest_file: self.largest_file,
        };
        // SAFETY: the child calls only what is safe after a fork of a process with threads: `Plan::child` allocates nothing and
        // takes no lock. What the plan points to lives in this frame, of which the child has its copy.
        match unsafe { libc::fork() } {
            -1 => return Err(failed("fork")(io::Error::last_os_error())),
            0 => plan.child(),
            child => wait_for(child).map_err(failed("wait for the first fork"))?,
        }
        drop(report);
        let mut failure = Vec::new();
        answer.read_to_end(&mut failure).map_err(failed("learn whether the program runs"))?;
        match failure[..] {
            [] => Ok(()),
            [step, a, b, c, d] => {
                let step = WORDS.get(usize::from(step)).copied().unwrap_or("start the program");
                Err(failed(step)(io::Error::from_raw_os_error(i32::from_le_bytes([a, b, c, d]))))
            }
            _ => Err(failed("learn whether the program runs")(io::ErrorKind::InvalidData.into())),
        }
    }
}

fn wait_for(child: libc::pid_t) -> io::Result<()> {
    loop {
        // SAFETY: a null pointer says that the status is not wanted.
        match unsafe { libc::waitpid(child, ptr::null_mut(), 0) } {
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            -1 => return Err(io::Error::last_os_error()),
            _ => return Ok(()),
        }
    }
}

/// linux/capability.h and linux/prctl.h.
const CAP_SYS_ADMIN: libc::c_ulong = 21;
const AMBIENT_RAISE: libc::c_ulong = 2;
/// The capabilities that the program begins with, in the first word of a set.
const KEPT: u32 = 1 << CAP_SYS_ADMIN;
/// Which word is the first of the inheritable set; the effective and the permitted one come before.
const INHERITABLE: usize = 2;

/// A thread's sets, as capget(2) and capset(2) take them (`_LINUX_CAPABILITY_VERSION_3`).
struct Capabilities {
    header: [u32; 2],
    sets: [u32; 6],
}

impl Default for Capabilities {
    fn default() -> Self {
        Self { header: [0x2008_0522, 0], sets: [0; 6] }
    }
}

impl Capabilities {
    fn call(&mut self, number: c_long) -> bool {
        // SAFETY: by the header's version the kernel reads two words there, and reads or writes six words of sets.
        unsafe { libc::syscall(number, self.header.as_mut_ptr(), self.sets.as_mut_ptr()) == 0 }
    }
}

/// What the forked processes need, made before they are.
struct Plan<'a> {
    arguments: [*const c_char; 2],
    environment: Vec<*const c_char>,
    placed: &'a mut [RawFd],
    program: RawFd,
    group: RawFd,
    report: RawFd,
    who: Who,
    largest_file: u64,
}

impl Plan<'_> {
    /// The first child: a new session, a namespace for those to come, another fork, and gone.
    fn child(&mut self) -> ! {
        // SAFETY: neither call has an argument that could be wrong, and both are safe after a fork.
        let left = unsafe {
            libc::setsid();
            libc::unshare(libc::CLONE_NEWPID)
        };
        self.check(Step::Leave, left == 0);
        // SAFETY: the same.
        let second = unsafe { libc::fork() };
        match second {
            -1 => self.fail(Step::Fork),
            0 => self.grandchild(),
            // SAFETY: ends the process without running anything of the caller's.
            _ => unsafe { libc::_exit(0) },
        }
    }

    fn grandchild(&mut self) -> ! {
        self.enter_group();
        self.place_descriptors();
        self.limit();
        if let Who::User(user) = self.who {
            self.give_up_capabilities();
            self.become_user(user);
        }
        // SAFETY: both lists end with a null pointer and what they point to is the caller's frame, copied by fork.
        unsafe {
            libc::syscall(
                libc::SYS_execveat,
                self.program,
                c"".as_ptr(),
                self.arguments.as_ptr(),
                self.environment.as_ptr(),
                libc::AT_EMPTY_PATH,
            );
        }
        self.fail(Step::Execute)
    }

    fn enter_group(&self) {
        // SAFETY: the buffer has the one byte that is said.
        let written = unsafe { libc::write(self.group, b"0".as_ptr().cast(), 1) };
        self.check(Step::EnterGroup, written == 1);
    }

    /// First everything out of the range that will be filled, then each to its number there.
    fn place_descriptors(&mut self) {
        let end = FIRST.max(c_int::try_from(self.placed.len()).unwrap_or(c_int::MAX));
        self.report = self.moved(self.report, end);
        self.program = self.moved(self.program, end);
        for index in 0..self.placed.len() {
            self.placed[index] = self.moved(self.placed[index], end);
        }
        for (number, descriptor) in (0..end).zip(self.placed.iter()) {
            // SAFETY: only numbers are passed; what `number` was before has been moved.
            self.check(Step::Place, unsafe { libc::dup2(*descriptor, number) } == number);
        }
        // All that is open beyond is closed by exec; the report's pipe is, too, and that is how the caller learns of success.
        // SAFETY: only numbers are passed.
        let closed =
            unsafe { libc::syscall(libc::SYS_close_range, end, c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        self.check(Step::Close, closed == 0);
    }

    /// A copy of a descriptor with a number of at least `least`.
    fn moved(&self, descriptor: RawFd, least: RawFd) -> RawFd {
        // SAFETY: only numbers are passed.
        let copy = unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, least) };
        self.check(Step::Move, copy >= least);
        copy
    }

    fn limit(&self) {
        let limit = libc::rlimit { rlim_cur: self.largest_file, rlim_max: self.largest_file };
        // SAFETY: the structures are valid during the calls; the signal set is filled before it is used.
        let set = unsafe {
            libc::umask(0o077);
            let mut none = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) == 0
                && libc::chdir(c"/".as_ptr()) == 0
                && libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) == 0
        };
        self.check(Step::Limit, set);
    }

    /// Empties the bounding set, while there is the right to; before, because of that, the one capability that is to be kept
    /// becomes one that is passed on (capset(2)). The other sets go with the user.
    fn give_up_capabilities(&self) {
        const MOST: libc::c_ulong = 63;
        let mut sets = Capabilities::default();
        let read = sets.call(libc::SYS_capget);
        sets.sets[INHERITABLE] = KEPT;
        self.check(Step::Capabilities, read && sets.call(libc::SYS_capset));
        for capability in 0..=MOST {
            // SAFETY: only numbers are passed.
            let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } == 0;
            if !dropped && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL) {
                return; // the kernel's last one was before
            }
            self.check(Step::Capabilities, dropped);
        }
    }

    /// By the system calls themselves: the C library's functions would look for threads to change along.
    fn become_user(&self, user: u32) {
        let user = c_long::from(user);
        let no_groups = ptr::null::<libc::gid_t>();
        // SAFETY: the list of groups has the length that is said, none; the rest are numbers.
        let become_it = unsafe {
            libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0
                && libc::syscall(libc::SYS_setgroups, 0, no_groups) == 0
                && libc::syscall(libc::SYS_setresgid, user, user, user) == 0
                && libc::syscall(libc::SYS_setresuid, user, user, user) == 0
        };
        self.check(Step::User, become_it);
        let mut kept = Capabilities::default();
        kept.sets[..=INHERITABLE].fill(KEPT);
        // SAFETY: only numbers are passed.
        let passed_on = kept.call(libc::SYS_capset)
            && unsafe { libc::prctl(libc::PR_CAP_AMBIENT, AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0) } == 0;
        self.check(Step::Capabilities, passed_on);
        // SAFETY: only numbers are passed.
        self.check(Step::Privileges, unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } == 0);
    }

    fn check(&self, step: Step, success: bool) {
        if !success {
            self.fail(step);
        }
    }

    /// Tells the caller which step failed and why, and ends.
    fn fail(&self, step: Step) -> ! {
        let [a, b, c, d] = io::Error::last_os_error().raw_os_error().unwrap_or_default().to_le_bytes();
        let failure = [step as u8, a, b, c, d];
        // SAFETY: the buffer has as many bytes as is said; then the process ends without running anything of the caller's.
        unsafe {
            libc::write(self.report, failure.as_ptr().cast(), failure.len());
            libc::_exit(127)
        }
    }
}
