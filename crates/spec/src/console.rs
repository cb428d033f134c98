//! The console's ring file: the last 64 KiB that a guest wrote to its serial port.
//!
//! The VMM writes it, the host reads it, at any moment and without a lock. The file is a header
//! of eight bytes, the little-endian count of all bytes ever written, and then
//! [`CAPACITY`] bytes; byte *n* of the output lies at place *n* mod [`CAPACITY`]. The writer puts
//! the bytes first and the count after them, so a reader sees at worst a few bytes newer than the
//! count says. 64 KiB is what EC2's GetConsoleOutput keeps.

/// Bytes of output kept.
pub const CAPACITY: usize = 64 * 1024;
/// Bytes before the output: the count.
pub const HEADER: usize = 8;

/// Where the bytes of one write go: up to two pieces, each an offset in the file and a part of
/// `bytes`. Of a write larger than the ring only the end is kept. `written` is the count before it.
pub fn place(written: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let skipped = bytes.len().saturating_sub(CAPACITY);
    let kept = &bytes[skipped..];
    let start = offset(written.wrapping_add(skipped as u64));
    let (first, second) = kept.split_at(kept.len().min(CAPACITY - start));
    [((HEADER + start) as u64, first), (HEADER as u64, second)]
        .into_iter()
        .filter(|(_, part)| !part.is_empty())
}

/// The output in order, oldest byte first, out of a ring file's contents. A file that is too
/// short (never written) gives nothing.
pub fn unroll(file: &[u8]) -> Vec<u8> {
    let Some((header, ring)) = file.split_first_chunk::<HEADER>() else { return Vec::new() };
    let written = u64::from_le_bytes(*header);
    if written < CAPACITY as u64 {
        return ring[..offset(written).min(ring.len())].to_vec();
    }
    let (newer, older) = ring.split_at(offset(written).min(ring.len()));
    [older, newer].concat()
}

fn offset(count: u64) -> usize {
    // The remainder is below CAPACITY, which fits every usize.
    usize::try_from(count % CAPACITY as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_all(pieces: &[&[u8]]) -> Vec<u8> {
        let mut file = vec![0; HEADER];
        let mut written = 0_u64;
        for bytes in pieces {
            for (at, part) in place(written, bytes) {
                let at = usize::try_from(at).unwrap();
                file.resize(file.len().max(at + part.len()), 0);
                file[at..at + part.len()].copy_from_slice(part);
            }
            written += bytes.len() as u64;
            file[..HEADER].copy_from_slice(&written.to_le_bytes());
        }
        file
    }

    #[test]
    fn short_output_comes_back_whole() {
        assert_eq!(unroll(&write_all(&[b"hello ", b"world"])), b"hello world");
        assert_eq!(unroll(&[]), b"");
        assert_eq!(unroll(&write_all(&[])), b"");
    }

    #[test]
    fn long_output_keeps_its_end_in_order() {
        let all: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        for size in [1, 7, 4096, CAPACITY - 1, CAPACITY, CAPACITY + 1, 200_000] {
            let pieces: Vec<&[u8]> = all.chunks(size).collect();
            assert_eq!(unroll(&write_all(&pieces)), all[all.len() - CAPACITY..], "in pieces of {size}");
        }
    }

    #[test]
    fn a_lying_header_does_no_harm() {
        let mut file = write_all(&[b"abc"]);
        file[..HEADER].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(unroll(&file).len() <= CAPACITY);
        file[..HEADER].copy_from_slice(&60_000_u64.to_le_bytes());
        assert_eq!(unroll(&file), b"abc");
    }
}
