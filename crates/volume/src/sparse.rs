//! Copying from file to file without writing zeros.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

/// How much is read at once.
const CHUNK: usize = 1 << 20;
/// What is looked at for zeros: the block of most file systems.
const BLOCK: usize = 4096;

/// Copies `range` of `from` to the same place in `to`, which must hold zeros there: holes and blocks of zeros are left out.
/// `progress` is told how far in the file the copy has come.
pub fn copy(from: &File, to: &File, range: Range<u64>, progress: &mut dyn FnMut(u64)) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut at = range.start;
    while let Some(run) = next_data(from, at..range.end)? {
        at = run.start;
        while at < run.end {
            let length = usize::try_from(run.end - at).unwrap_or(CHUNK).min(CHUNK);
            from.read_exact_at(&mut chunk[..length], at)?;
            write_nonzero(to, &chunk[..length], at)?;
            at += length as u64;
            progress(at);
        }
    }
    progress(range.end);
    Ok(())
}

/// Writes `bytes` at `offset` of a file that holds zeros there, without the blocks that are zeros.
pub fn write_nonzero(to: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    // The run of blocks that are not zeros and have not been written yet.
    let (mut start, mut end) = (0, 0);
    for block in bytes.chunks(BLOCK) {
        end += block.len();
        if is_zero(block) {
            to.write_all_at(&bytes[start..end - block.len()], offset + start as u64)?;
            start = end;
        }
    }
    to.write_all_at(&bytes[start..end], offset + start as u64)
}

fn is_zero(block: &[u8]) -> bool {
    let (words, rest) = block.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

/// The first run of data within `range` that is not a hole (lseek(2), `SEEK_DATA`). Looking moves the file's offset.
pub fn next_data(file: &File, range: Range<u64>) -> io::Result<Option<Range<u64>>> {
    if range.is_empty() {
        return Ok(None);
    }
    let seek = |from: u64, whence| {
        let from = i64::try_from(from).map_err(|_| Errno::EOVERFLOW)?;
        lseek(file, from, whence).map(i64::cast_unsigned)
    };
    let start = match seek(range.start, Whence::SeekData) {
        Err(Errno::ENXIO) => return Ok(None),
        start => start?,
    };
    let end = seek(start, Whence::SeekHole)?.min(range.end);
    Ok((start < range.end).then_some(start..end))
}
