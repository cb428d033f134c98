//! Measures a machine monitor from outside, whichever it is: how long until its guest says a word, and how much memory of
//! its own it has then. `scripts/bench` runs it in the lab.
//!
//! ```text
//! stopwatch COUNT WORD GUEST_MIB COMMAND…
//! {"nanoseconds":208000000,"own_kib":4036,"host_kib":60000}
//! ```
//!
//! Before that, a line for each thing that the guest marks on its console, as `load` does: `{` when it begins, and `}`,
//! a count, a unit and a name when it is done.
//!
//! ```text
//! {"case":"random-read-1","of":"operation","count":2000,"nanoseconds":150000000}
//! ```
//!
//! With a count above one so many are started one after the other and run on side by side; the answer is that of the last, but
//! `host_kib`: what the host has less for each of them.
//!
//! A guest that was saved is gone on with likewise, by whom the command line alone does not tell to do so with `load`:
//!
//! ```text
//! stopwatch save KIND SOCKET FOLDER WORD COMMAND…
//! stopwatch load SOCKET FOLDER COUNT WORD GUEST_MIB COMMAND…
//! ```
//!
//! The time begins before the process is made and ends when the word has come out of its standard output. Its own memory
//! is what is resident of all its mappings but the guest's memory, which is known by its size.

mod snapshots;

use std::error::Error;
use std::fs;
use std::io::Read;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::Instant;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match work(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stopwatch: {error}");
            ExitCode::FAILURE
        }
    }
}

fn work(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    match arguments {
        [verb, rest @ ..] if verb == "save" => snapshots::save(rest),
        [verb, socket, folder, rest @ ..] if verb == "load" => {
            measure(rest, &|| snapshots::load(socket, folder))
        }
        rest => measure(rest, &|| Ok(())),
    }
}

/// What else there is to do when a process was started.
type Then<'a> = &'a dyn Fn() -> Result<(), Box<dyn Error>>;

fn measure(arguments: &[String], then: Then<'_>) -> Result<(), Box<dyn Error>> {
    let [count, word, guest_mib, program, rest @ ..] = arguments else {
        return Err("usage: stopwatch COUNT WORD GUEST_MIB COMMAND…".into());
    };
    let (count, guest_kib) = (count.parse::<u64>()?.max(1), guest_mib.parse::<u64>()? * 1024);
    let before = available_kib()?;
    let mut running = Running(Vec::new());
    let mut answer = (0, 0);
    for _ in 0..count {
        answer = start(&mut running, word, guest_kib, Command::new(program).args(rest), then)?;
    }
    let (nanoseconds, own) = answer;
    let host = before.saturating_sub(available_kib()?) / count;
    println!(r#"{{"nanoseconds":{nanoseconds},"own_kib":{own},"host_kib":{host}}}"#);
    Ok(())
}

/// Monitors that run; what is measured has been measured when they are let go, and how they end is of no interest.
struct Running(Vec<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts one: how long it took, and what it has of its own.
fn start(
    running: &mut Running,
    word: &str,
    guest_kib: u64,
    command: &mut Command,
    then: Then<'_>,
) -> Result<(u128, u64), Box<dyn Error>> {
    let time = Instant::now();
    let mut output = begin(running, command)?;
    then()?;
    wait_for(&mut output, word)?;
    let elapsed = time.elapsed();
    let id = running.0.last().ok_or("nothing was started")?.id();
    Ok((elapsed.as_nanos(), own_kib(&fs::read_to_string(format!("/proc/{id}/smaps"))?, guest_kib)))
}

/// Starts a process; its standard output.
fn begin(running: &mut Running, command: &mut Command) -> Result<ChildStdout, Box<dyn Error>> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take();
    running.0.push(child);
    output.ok_or_else(|| "no standard output".into())
}

/// What the host could give to somebody, in KiB (`proc_meminfo(5)`).
fn available_kib() -> Result<u64, Box<dyn Error>> {
    let information = fs::read_to_string("/proc/meminfo")?;
    let line = information.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let number = line.and_then(|line| line.split_ascii_whitespace().next());
    Ok(number.ok_or("the host does not say what memory is available")?.parse()?)
}

fn wait_for(output: &mut ChildStdout, word: &str) -> Result<(), Box<dyn Error>> {
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    let mut marks = Marks::default();
    loop {
        match output.read(&mut buffer)? {
            0 => return Err(format!("ended without \"{word}\": {}", String::from_utf8_lossy(&seen)).into()),
            count => {
                marks.read(&buffer[..count], Instant::now());
                seen.extend_from_slice(&buffer[..count]);
            }
        }
        if seen.windows(word.len()).any(|window| window == word.as_bytes()) {
            return Ok(());
        }
    }
}

/// What a guest marks: a line that begins with `{`, later one that begins with `}`.
#[derive(Default)]
struct Marks {
    line: Vec<u8>,
    begin: Option<Instant>,
    end: Option<Instant>,
}

impl Marks {
    /// Takes what came in at this moment, and prints what is done.
    fn read(&mut self, bytes: &[u8], now: Instant) {
        for byte in bytes {
            match (byte, self.line.is_empty()) {
                (b'{', true) => self.begin = Some(now),
                (b'}', true) => self.end = Some(now),
                _ => {}
            }
            if *byte == b'\n' {
                if let Some(line) = self.done() {
                    println!("{line}");
                }
                self.line.clear();
            } else if *byte != b'\r' {
                self.line.push(*byte);
            }
        }
    }

    /// What the line that has just ended says was done.
    fn done(&self) -> Option<String> {
        let line = std::str::from_utf8(self.line.strip_prefix(b"}")?).ok()?;
        let mut words = line.split(' ');
        let (count, unit, name) = (words.next()?.parse::<u64>().ok()?, words.next()?, words.next()?);
        let time = self.end?.duration_since(self.begin?).as_nanos();
        Some(format!(r#"{{"case":"{name}","of":"{unit}","count":{count},"nanoseconds":{time}}}"#))
    }
}

/// What is resident of all mappings but the guest's memory, in KiB (`proc_pid_smaps(5)`): those smaller than three quarters of
/// what the guest has. No monitor maps a small guest's memory in smaller pieces, or as much of anything else.
fn own_kib(smaps: &str, guest_kib: u64) -> u64 {
    let (mut own, mut is_guests) = (0, false);
    for line in smaps.lines() {
        let value = || line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok();
        match line.split(':').next() {
            Some("Size") => is_guests = value().is_some_and(|size| size >= guest_kib / 4 * 3),
            Some("Rss") if !is_guests => own += value().unwrap_or(0),
            _ => {}
        }
    }
    own
}
