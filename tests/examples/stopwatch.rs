//! Measures a machine monitor from outside, whichever it is: how long until its guest says a word, and how much memory of
//! its own it has then. `scripts/bench` runs it in the lab.
//!
//! ```text
//! stopwatch WORD GUEST_MIB COMMAND…
//! {"nanoseconds":208000000,"own_kib":4036}
//! ```
//!
//! The time begins before the process is made and ends when the word has come out of its standard output. Its own memory
//! is what is resident of all its mappings but the guest's memory, which is known by its size.

use std::error::Error;
use std::fs;
use std::io::Read;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Instant;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match measure(&arguments) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("stopwatch: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &[String]) -> Result<String, Box<dyn Error>> {
    let [word, guest_mib, program, rest @ ..] = arguments else {
        return Err("usage: stopwatch WORD GUEST_MIB COMMAND…".into());
    };
    let guest_kib = guest_mib.parse::<u64>()? * 1024;
    let begin = Instant::now();
    let mut child = Command::new(program).args(rest).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let result = wait_for(&mut child, word).and_then(|()| {
        let elapsed = begin.elapsed();
        let own = own_kib(&fs::read_to_string(format!("/proc/{}/smaps", child.id()))?, guest_kib);
        Ok(format!(r#"{{"nanoseconds":{},"own_kib":{own}}}"#, elapsed.as_nanos()))
    });
    // What is measured has been; how it ends is of no interest.
    let _ = child.kill();
    let _ = child.wait();
    result
}

fn wait_for(child: &mut Child, word: &str) -> Result<(), Box<dyn Error>> {
    let mut output = child.stdout.take().ok_or("no standard output")?;
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match output.read(&mut buffer)? {
            0 => return Err(format!("ended without \"{word}\": {}", String::from_utf8_lossy(&seen)).into()),
            count => seen.extend_from_slice(&buffer[..count]),
        }
        if seen.windows(word.len()).any(|window| window == word.as_bytes()) {
            return Ok(());
        }
    }
}

/// A mapping of a process, sizes in KiB.
struct Mapping {
    start: u64,
    end: u64,
    resident: u64,
}

impl Mapping {
    fn kib(&self) -> u64 {
        (self.end - self.start) / 1024
    }
}

/// What is resident of all mappings but the guest's memory, in KiB (`proc_pid_smaps(5)`).
///
/// A monitor may map files into its guest's memory and so cut it into pieces: the largest piece and those that touch it count as
/// the guest's, as long as all together are no more than the guest has.
fn own_kib(smaps: &str, guest_kib: u64) -> u64 {
    let mappings = read(smaps);
    let largest = (0..mappings.len()).max_by_key(|at| mappings[*at].kib()).unwrap_or_default();
    let (mut first, mut last, mut guest) = (largest, largest, mappings.get(largest).map_or(0, Mapping::kib));
    while first > 0
        && mappings[first - 1].end == mappings[first].start
        && guest + mappings[first - 1].kib() <= guest_kib
    {
        first -= 1;
        guest += mappings[first].kib();
    }
    while last + 1 < mappings.len()
        && mappings[last + 1].start == mappings[last].end
        && guest + mappings[last + 1].kib() <= guest_kib
    {
        last += 1;
        guest += mappings[last].kib();
    }
    let is_guests = |at: usize| guest * 4 >= guest_kib * 3 && (first..=last).contains(&at);
    mappings.iter().enumerate().filter(|(at, _)| !is_guests(*at)).map(|(_, mapping)| mapping.resident).sum()
}

fn read(smaps: &str) -> Vec<Mapping> {
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let address = |text| u64::from_str_radix(text, 16).ok();
        let range = first.split_once('-').and_then(|(start, end)| Some((address(start)?, address(end)?)));
        if let Some((start, end)) = range {
            mappings.push(Mapping { start, end, resident: 0 });
        } else if let ("Rss:", Some(mapping)) = (first, mappings.last_mut()) {
            mapping.resident = second.parse().unwrap_or(0);
        }
    }
    mappings
}
