//! The process that answers guests: found, started, ended; and how it begins.
//!
//! ```text
//! RUN/guests/BUILD-USER.socket    where it listens for the daemon; the name says which program it is, and whose
//! STATE/logs/guests.log           what it says
//! cumulet/guests                  its control group
//! ```
//!
//! It is this very program once more, under the name [`NAME`], detached like a machine: "started by me" and "found running"
//! are the same, and it outlives whoever started it. What it is to do it is told over its socket, which only root can
//! reach. One of another build, or of another user, is not talked to but ended and replaced.
//!
//! What must hold: its user sends nothing from the host but questions to resolvers, see
//! [`Networks::confine_services`], before it is that user's first moment.

use std::env;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::machines::control::connect_at_once;
use super::network::Networks;
use super::sys::cgroup::{Cgroups, Limits, USUAL_WEIGHT};
use super::sys::command::{Detached, Who};
use super::sys::confine::{Call, ConfineError, Confinement, USUAL, allow_only};
use super::sys::files;
use crate::Error;
use nix::libc;

/// What the process is called in lists of processes, and by which the program knows that it is it.
pub const NAME: &str = "cumulet-guests";
/// The environment's variable with the process's user.
const USER: &str = "CUMULET_USER";
/// The variable that says what to log, which is passed on.
const LOG: &str = "CUMULET_LOG";
/// The control group of the process among ours. No instance is called so.
const GROUP: &str = "guests";
/// What it may use: memory for what all guests may know, few threads, two processors.
const LIMITS: Limits =
    Limits { memory: 512 << 20, tasks: 8, processors: 2, weight: USUAL_WEIGHT, disk: None };
/// The most memory it may address, in bytes.
const MEMORY: u64 = 2 << 30;
/// Sockets: four for each subnet, and what guests together may hold open.
const DESCRIPTORS: u64 = 16 << 10;
/// The log is begun anew with a process where it is larger than this; nothing is added to one of twice the size.
const MOST_LOG: u64 = 256 << 10;

/// What it asks the kernel for besides the usual: its sockets, those to resolvers, and waiting for all of them.
const SOCKETS: &[Call] = &[
    Call::InternetSocket,
    Call::Any(libc::SYS_accept4),
    Call::Any(libc::SYS_connect),
    Call::Any(libc::SYS_epoll_ctl),
    Call::Any(libc::SYS_epoll_pwait),
    #[cfg(target_arch = "x86_64")]
    Call::Any(libc::SYS_epoll_wait),
    Call::Any(libc::SYS_getpeername),
    Call::Any(libc::SYS_getsockname),
    Call::Any(libc::SYS_getsockopt),
    Call::NonBlocking,
    Call::Any(libc::SYS_recvfrom),
    Call::Any(libc::SYS_shutdown),
];

/// The process's places.
pub struct Services {
    /// The folder of its socket.
    folder: PathBuf,
    log: PathBuf,
    program: PathBuf,
    user: u32,
    cgroups: Cgroups,
    /// One at a time.
    turn: Mutex<()>,
}

impl Services {
    /// The process that `program` is under its other name, with its socket in `run` and its log in `state`.
    pub fn new(run: PathBuf, state: PathBuf, program: PathBuf, user: u32, cgroups: Cgroups) -> Self {
        let (folder, log) = (run.join("guests"), state.join("logs/guests.log"));
        Self { folder, log, program, user, cgroups, turn: Mutex::default() }
    }

    /// A connection to the process: to the one that runs, if it is of this build, or to a new one.
    pub fn connect(&self, networks: &Networks) -> Result<UnixStream, Error> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |step: &str| {
            let what = format!("Could not {step} the process that answers guests");
            move |error: io::Error| Error::passing(what, error)
        };
        let program = File::open(&self.program).map_err(failed("open the program of"))?;
        let socket = self.folder.join(self.name(&program).map_err(failed("look at the program of"))?);
        if let Ok(stream) = connect_at_once(&socket) {
            return Ok(stream);
        }
        self.clear().map_err(failed("clear away the last of"))?;
        self.guard(networks)?;
        files::make_folder(&self.folder).map_err(failed("make the folder of"))?;
        let listener = UnixListener::bind(&socket).map_err(failed("make the socket of"))?;
        fs::set_permissions(&socket, Permissions::from_mode(0o600)).map_err(failed("close the socket of"))?;
        self.start(&program, listener.into())?;
        connect_at_once(&socket).map_err(failed("reach"))
    }

    /// Has the packet filter let the process's user send what it may, and no more.
    pub fn guard(&self, networks: &Networks) -> Result<(), Error> {
        networks.confine_services(self.user)
    }

    /// Ends the process, if there is one, and takes away what is left of it.
    pub fn end(&self) -> Result<(), Error> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.clear().map_err(|error| Error::passing("Could not end the process that answers guests", error))
    }

    /// Whether there is anything of a process.
    pub fn exists(&self) -> bool {
        self.folder.exists() || self.cgroups.exists(GROUP)
    }

    fn clear(&self) -> io::Result<()> {
        self.cgroups.kill(GROUP)?;
        self.cgroups.remove(GROUP)?;
        files::remove_folder(&self.folder)
    }

    fn start(&self, program: &File, listener: OwnedFd) -> Result<(), Error> {
        let what = "Could not start the process that answers guests";
        let failed = |error: io::Error| Error::passing(what, error);
        let group = self.cgroups.make(GROUP, &LIMITS).map_err(failed)?;
        let errors = self.open_log().map_err(failed)?;
        let (user, log) = (self.user.to_string(), env::var(LOG).unwrap_or_default());
        let process = Detached {
            program,
            name: NAME,
            environment: &[(USER, &user), (LOG, &log)],
            input: Some(&listener),
            descriptors: &[],
            errors: &errors,
            who: Who::RootAtFirst,
            group: &group,
            largest_file: 2 * MOST_LOG,
        };
        process.spawn().map_err(|error| Error::passing(what, error))
    }

    fn open_log(&self) -> io::Result<File> {
        let log = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.log)?;
        if log.metadata()?.len() > MOST_LOG {
            log.set_len(0)?;
        }
        Ok(log)
    }

    /// The socket's name: another file, or another user, makes another.
    fn name(&self, program: &File) -> io::Result<String> {
        let facts = program.metadata()?;
        let built =
            u128::from(facts.mtime().unsigned_abs()) << 32 | u128::from(facts.mtime_nsec().unsigned_abs());
        Ok(format!("{built:x}.{:x}-{}.socket", facts.len(), self.user))
    }
}

/// Begins as the process that answers guests: gives up what it has, and takes over the socket where it is told what to do.
/// For a process that has one thread.
pub fn begin() -> Result<UnixListener, ConfineError> {
    let confinement = Confinement {
        user: env::var(USER).ok().and_then(|user| user.parse().ok()).unwrap_or_default(),
        network: true,
        bound: false,
        memory: MEMORY,
        largest_file: 2 * MOST_LOG,
        descriptors: DESCRIPTORS,
        seconds: None,
    };
    confinement.enter()?;
    let listener = io::stdin().as_fd().try_clone_to_owned().map_err(ConfineError::descriptor)?;
    Ok(listener.into())
}

/// From here on the process, all of whose threads are there, asks the kernel for what it needs and nothing else.
pub fn lock() -> Result<(), ConfineError> {
    allow_only(&[USUAL, SOCKETS])
}
