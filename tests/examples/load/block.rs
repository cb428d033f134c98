//! A disk at work: requests of 4 KiB at random places, of 128 KiB one after the other, reading and writing, one at a time
//! and 32.
//!
//! By io_uring and past the page cache (O_DIRECT), as databases and `fio` do it: of all that a guest does for a request,
//! this is the least that can be done, so that what the monitor does shows.
#![allow(unsafe_code, reason = "buffers handed to a ring")]

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use io_uring::{IoUring, opcode, squeue, types};

const SMALL: u32 = 4 << 10;
const LARGE: u32 = 128 << 10;
const DEEP: usize = 32;

/// Where the kernel writes and reads: aligned as a disk wants it.
#[derive(Clone)]
#[repr(C, align(4096))]
struct Buffer([u8; LARGE as usize]);

struct Kind {
    name: &'static str,
    write: bool,
    bytes: u32,
    depth: usize,
    count: u64,
}

const fn kind(name: &'static str, write: bool, bytes: u32, depth: usize, count: u64) -> Kind {
    Kind { name, write, bytes, depth, count }
}

const KINDS: [Kind; 8] = [
    kind("random-read-1", false, SMALL, 1, 800),
    kind("random-read-32", false, SMALL, DEEP, 1600),
    kind("random-write-1", true, SMALL, 1, 800),
    kind("random-write-32", true, SMALL, DEEP, 1600),
    kind("sequential-read-1", false, LARGE, 1, 300),
    kind("sequential-read-32", false, LARGE, DEEP, 600),
    kind("sequential-write-1", true, LARGE, 1, 300),
    kind("sequential-write-32", true, LARGE, DEEP, 600),
];

pub(crate) fn work(disk: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(disk)?;
    let size = file.seek(SeekFrom::End(0))?;
    let mut ring = IoUring::new(64)?;
    let mut buffers = vec![Buffer([7; LARGE as usize]); DEEP];
    for kind in &KINDS {
        let (unit, count) = match kind.bytes {
            SMALL => ("operation", kind.count),
            bytes => ("KiB", kind.count * u64::from(bytes >> 10)),
        };
        // What is done for the first time only is done before.
        turn(&mut ring, &file, &mut buffers, size, &Kind { count: 64, ..*kind })?;
        super::measure(kind.name, unit, count, || turn(&mut ring, &file, &mut buffers, size, kind))?;
    }
    Ok(())
}

/// All requests of a kind.
fn turn(ring: &mut IoUring, file: &File, buffers: &mut [Buffer], size: u64, kind: &Kind) -> io::Result<()> {
    let mut places = Places { random: 0x9e37_79b9_7f4a_7c15, next: 0, slots: size / u64::from(kind.bytes) };
    let (mut begun, mut ended) = (0, 0);
    let mut free: Vec<usize> = (0..kind.depth).collect();
    while ended < kind.count {
        while begun < kind.count
            && let Some(tag) = free.pop()
        {
            let slot = if kind.bytes == SMALL { places.anywhere() } else { places.next() };
            let entry = request(file, &mut buffers[tag], slot * u64::from(kind.bytes), kind);
            // SAFETY: the buffer is used by no other request until this one has ended, and all of them have ended when
            // this function is left by its end; by an error the whole guest ends.
            unsafe { ring.submission().push(&entry.user_data(tag as u64)) }.map_err(io::Error::other)?;
            begun += 1;
        }
        ring.submit_and_wait(1)?;
        for entry in ring.completion() {
            if u32::try_from(entry.result()) != Ok(kind.bytes) {
                return Err(io::Error::other(format!("{}: {}", kind.name, entry.result())));
            }
            free.extend(usize::try_from(entry.user_data()));
            ended += 1;
        }
    }
    Ok(())
}

fn request(file: &File, buffer: &mut Buffer, offset: u64, kind: &Kind) -> squeue::Entry {
    let (descriptor, place) = (types::Fd(file.as_raw_fd()), buffer.0.as_mut_ptr());
    if kind.write {
        opcode::Write::new(descriptor, place, kind.bytes).offset(offset).build()
    } else {
        opcode::Read::new(descriptor, place, kind.bytes).offset(offset).build()
    }
}

/// Where the next request goes: the same places in every run.
struct Places {
    random: u64,
    next: u64,
    slots: u64,
}

impl Places {
    /// Xorshift (Marsaglia 2003).
    fn anywhere(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % self.slots
    }

    fn next(&mut self) -> u64 {
        self.next = (self.next + 1) % self.slots;
        self.next
    }
}
