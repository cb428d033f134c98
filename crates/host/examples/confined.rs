//! A process for this crate's tests that gives up what it has, and then tries what it should not be able to.
//!
//! `confined files`, `signals` and `network` say how it went: only the filter of system calls is not there yet. With
//! `call NAME` it is, and the process should not live to say anything.
#![allow(unsafe_code, reason = "mapping memory that could be executed")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test that started it")]

use std::fs::File;
use std::io;
use std::net::{TcpStream, UdpSocket};
use std::num::NonZeroUsize;
use std::process::Command;

use host::linux::sys::confine::{Confinement, USUAL, allow_only};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::{Pid, Uid, setuid};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let confinement = Confinement {
        user: 2_000_000_200,
        network: false,
        bound: true,
        memory: 1 << 30,
        largest_file: 0,
        descriptors: 16,
        seconds: Some(10),
    };
    confinement.enter().unwrap();
    match &words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["files"] => {
            print(File::open("/etc/hostname"));
            print(File::open("/proc/self/status"));
            print(File::create("/new"));
            print(
                mount(None::<&str>, "/", Some("tmpfs"), MsFlags::empty(), None::<&str>)
                    .map_err(io::Error::from),
            );
        }
        ["signals"] => {
            print(kill(Pid::from_raw(1), None).map_err(io::Error::from));
            print(kill(Pid::parent(), Signal::SIGKILL).map_err(io::Error::from));
            print(setuid(Uid::from_raw(0)).map_err(io::Error::from));
            print(unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from));
        }
        ["network"] => {
            print(TcpStream::connect("127.0.0.1:22"));
            print(UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.send_to(b"x", "192.0.2.1:53")));
        }
        ["call", name] => {
            allow_only(&[USUAL]).unwrap();
            call(name);
        }
        other => panic!("{other:?}"),
    }
}

fn print<T>(result: io::Result<T>) {
    println!("{:?}", result.map(drop).map_err(|error| error.raw_os_error().unwrap_or_default()));
}

fn call(name: &str) {
    match name {
        "none" => {}
        "open" => drop(File::open("/etc/hostname")),
        "socket" => drop(socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None)),
        "kill" => drop(kill(Pid::from_raw(1), None)),
        "exec" => drop(Command::new("/bin/true").status()),
        "thread" => drop(std::thread::Builder::new().spawn(|| {})),
        "code" => {
            let length = NonZeroUsize::new(4096).unwrap();
            let rights = ProtFlags::PROT_READ | ProtFlags::PROT_EXEC;
            // SAFETY: nothing is at a place that the kernel chooses, and nobody uses what comes there.
            let _ = unsafe { mmap_anonymous(None, length, rights, MapFlags::MAP_PRIVATE) };
        }
        other => panic!("{other}"),
    }
    println!("done");
}
