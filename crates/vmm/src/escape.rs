//! `--escape`: one attempt at what a monitor in a guest's hands would try, from behind the locked doors.
//!
//! For tests, and for whoever wants to see the walls: with the filter of system calls the process ends at the attempt;
//! without it (`,unfiltered`) the walls behind it answer, and what they answered is printed.
#![allow(unsafe_code, reason = "calls that no monitor makes")]

use std::fs::File;
use std::io;
use std::net::{TcpStream, UdpSocket};
use std::ptr;
use std::str::FromStr;
use std::sync::Barrier;
use std::thread;

use spec::control::EndReason;

use crate::exit::say;
use crate::sandbox;

/// What to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Read,
    Write,
    Proc,
    Trace,
    Signal,
    Tcp,
    Udp,
    Execute,
    Fork,
    Mount,
    /// No attempt at all, but what a monitor of many devices does: it must go well.
    Threads,
}

const WAYS: [(&str, Way); 11] = [
    ("read", Way::Read),
    ("write", Way::Write),
    ("proc", Way::Proc),
    ("trace", Way::Trace),
    ("signal", Way::Signal),
    ("tcp", Way::Tcp),
    ("udp", Way::Udp),
    ("execute", Way::Execute),
    ("fork", Way::Fork),
    ("mount", Way::Mount),
    ("threads", Way::Threads),
];

/// An attempt, and whether the filter is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Escape {
    way: Way,
    filtered: bool,
}

impl FromStr for Escape {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (name, filtered) = match text.strip_suffix(",unfiltered") {
            Some(name) => (name, false),
            None => (text, true),
        };
        let way = WAYS.iter().find(|(known, _)| *known == name).ok_or(())?.1;
        Ok(Self { way, filtered })
    }
}

impl Escape {
    /// Locks the doors and tries; the exit status: 0 where it was refused, 1 where it was not.
    pub(crate) fn run(self) -> Result<u8, sandbox::LockError> {
        // A neighbour's id, and not init's, that a process namespace gives to ourselves.
        let neighbour = std::os::unix::process::parent_id();
        sandbox::leave_the_host()?;
        sandbox::lock_the_doors(self.filtered)?;
        match attempt(self.way, libc::pid_t::try_from(neighbour).unwrap_or(1)) {
            Ok(()) => {
                say("the attempt succeeded");
                Ok(EndReason::Failed.exit_status())
            }
            Err(error) => {
                say(&format!("refused: {error}"));
                Ok(0)
            }
        }
    }
}

fn attempt(way: Way, neighbour: libc::pid_t) -> io::Result<()> {
    match way {
        Way::Read => File::open("/etc/passwd").map(drop),
        Way::Write => File::create("/tmp/cumulet-vmm-was-here").map(drop),
        Way::Proc => File::open(format!("/proc/{neighbour}/environ")).map(drop),
        Way::Tcp => TcpStream::connect("127.0.0.1:22").map(drop),
        Way::Udp => UdpSocket::bind("0.0.0.0:0")?.send_to(b"?", "127.0.0.1:53").map(drop),
        Way::Threads => {
            allocate_together();
            Ok(())
        }
        Way::Trace | Way::Signal | Way::Execute | Way::Fork | Way::Mount => check(call(way, neighbour)),
    }
}

/// Has as many threads allocate memory at once as a machine with everything in it has, much of it in small pieces, and
/// give it back.
fn allocate_together() {
    const THREADS: usize = 32;
    let together = Barrier::new(THREADS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let held = vec![vec![1_u8; 1000]; 1000];
                together.wait();
                drop(held);
            });
        }
    });
}

/// The attempts that the standard library has no words for; what the kernel answered.
fn call(way: Way, neighbour: libc::pid_t) -> libc::c_long {
    let none: *const libc::c_char = ptr::null();
    let list = [none];
    // SAFETY: strings are constants that end with a zero byte, lists end with a null pointer, and the other arguments are
    // numbers or pointers that these calls allow to be null. A child, if there is one, does nothing but end.
    unsafe {
        match way {
            Way::Trace => libc::ptrace(libc::PTRACE_ATTACH, neighbour, none, none),
            Way::Signal => libc::kill(neighbour, 0).into(), // asks only
            Way::Execute => libc::execve(c"/bin/true".as_ptr(), list.as_ptr(), list.as_ptr()).into(),
            Way::Mount => libc::mount(none, c"/".as_ptr(), none, libc::MS_REMOUNT, ptr::null()).into(),
            _ => match libc::fork() {
                0 => libc::_exit(0),
                child => child.into(),
            },
        }
    }
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
