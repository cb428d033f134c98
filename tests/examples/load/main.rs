//! The work that `scripts/bench` gives a guest, and who works with it on the host: a disk that is read and written, a
//! network that carries bytes and packets.
//!
//! ```text
//! load            the first process of a guest: does what `load=block`, `network` or `alive` on the kernel's command line says
//! load peer       on the host: answers a guest's network
//! ```
//!
//! One static program, the same in every guest. The guest's own clock may be anybody's, so it tells no times: it marks
//! on its console when something begins and when it is done, and whoever reads that (`stopwatch`) looks at his watch.
//!
//! ```text
//! {
//! }2000 operation random-read-1
//! ```
#![allow(unsafe_code, reason = "the system calls mount and tcdrain")]

mod block;
mod network;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// What is said when all is done; `scripts/bench` waits for it.
const DONE: &str = "cumulet-bench: done";
/// Turns of a loop between two words of a guest that is alive: fewer instructions than saying the word takes.
const PAUSE: u32 = 10_000;

fn main() -> ExitCode {
    let result = match std::env::args().nth(1).as_deref() {
        Some("peer") => network::peer(),
        _ => work(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // For a first process that is the end of its guest: the kernel panics, and the monitor ends.
        Err(error) => {
            println!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn work() -> io::Result<()> {
    // The kernel hands what it does not know of its command line to the first process.
    match std::env::var("load").as_deref() {
        Ok("block") => {
            mount_devices()?;
            block::work(Path::new("/dev/vda"))?;
        }
        Ok("network") => network::work("eth0")?,
        Ok("alive") => return alive(),
        other => return Err(io::Error::other(format!("no such work: {other:?}"))),
    }
    say(DONE)?;
    loop {
        std::thread::park();
    }
}

/// Says the word again and again, without ever sleeping: who saves the guest and goes on with it hears it at once.
fn alive() -> io::Result<()> {
    loop {
        say(DONE)?;
        (0..PAUSE).for_each(|_| std::hint::spin_loop());
    }
}

/// Does one thing, between its marks: `count` of `unit`.
fn measure(name: &str, unit: &str, count: u64, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    say("{")?;
    work()?;
    say(&format!("}}{count} {unit} {name}"))
}

/// Says a line, and waits until it has left.
fn say(line: &str) -> io::Result<()> {
    let mut output = io::stdout();
    writeln!(output, "{line}")?;
    output.flush()?;
    // SAFETY: only a number is passed.
    unsafe { libc::tcdrain(libc::STDOUT_FILENO) };
    Ok(())
}

fn mount_devices() -> io::Result<()> {
    let kind = c"devtmpfs".as_ptr();
    // SAFETY: all strings are constants that end with a zero byte; no data is passed.
    check(unsafe { libc::mount(kind, c"/dev".as_ptr(), kind, 0, std::ptr::null()) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
