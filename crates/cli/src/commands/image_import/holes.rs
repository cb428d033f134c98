//! A raw disk without its nothing: the same disk as qcow2, made up while it is sent.
//!
//! Where a file has holes is known without reading it (`lseek(2)`, `SEEK_HOLE`), so the tables, which come first, can say
//! where each cluster will be that has something in it:
//!
//! ```text
//! header │ refcount table │ refcount blocks │ level-one table │ level-two tables │ clusters, in order
//! ```
//!
//! Format: QEMU, `docs/interop/qcow2.txt`, version 2, without compression. Whole clusters each, all referred to once.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use volume::sparse;

use super::body::shorter;

/// What a qcow2 file begins with.
pub(super) const MAGIC: [u8; 4] = *b"QFI\xfb";
const VERSION: u32 = 2;
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Entries of a table in one cluster, eight bytes each; and of a refcount block, two bytes each.
const ENTRIES: u64 = CLUSTER / 8;
const REFCOUNTS: u64 = CLUSTER / 2;
/// In an entry: referred to by nobody else.
const COPIED: u64 = 1 << 63;

/// A disk's clusters that have something in them.
pub(super) struct Clusters {
    /// Bytes of the disk.
    size: u64,
    /// By their numbers, in order.
    used: Vec<Range<u64>>,
}

impl Clusters {
    /// Those of a file of this size.
    pub(super) fn of(file: &File, size: u64) -> io::Result<Self> {
        let mut used: Vec<Range<u64>> = Vec::new();
        let mut at = 0;
        while let Some(data) = sparse::next_data(file, at..size)? {
            let clusters = data.start / CLUSTER..data.end.div_ceil(CLUSTER);
            match used.last_mut() {
                Some(last) if clusters.start <= last.end => last.end = clusters.end,
                _ => used.push(clusters),
            }
            at = data.end;
        }
        Ok(Self { size, used })
    }

    /// Bytes of the qcow2 file.
    pub(super) fn length(&self) -> u64 {
        self.layout().clusters() * CLUSTER
    }

    /// The qcow2 file.
    pub(super) fn read(self, file: File) -> impl Read {
        let head = Cursor::new(self.head());
        let numbers = self.used.into_iter().flatten();
        head.chain(Contents { file, size: self.size, numbers, cluster: Cursor::default() })
    }

    /// Entries of the level-one table.
    fn tables(&self) -> u64 {
        self.size.div_ceil(CLUSTER).div_ceil(ENTRIES)
    }

    fn count(&self) -> u64 {
        self.used.iter().map(|range| range.end - range.start).sum()
    }

    fn layout(&self) -> Layout {
        let tables_of = |used: &Range<u64>| used.start / ENTRIES..=(used.end - 1) / ENTRIES;
        let mut level_two: Vec<_> = self.used.iter().flat_map(tables_of).collect();
        level_two.dedup();
        let mut layout = Layout {
            refcount_table: 1,
            refcount_blocks: 0,
            level_one: self.tables().div_ceil(ENTRIES),
            level_two,
            data: self.count(),
        };
        // They count themselves, too.
        while layout.refcount_blocks * REFCOUNTS < layout.clusters() {
            layout.refcount_blocks += 1;
            layout.refcount_table = layout.refcount_blocks.div_ceil(ENTRIES);
        }
        layout
    }

    /// All that comes before the clusters.
    fn head(&self) -> Vec<u8> {
        let layout = self.layout();
        let mut head = self.header(&layout);
        let blocks = (0..layout.refcount_blocks).map(|block| (layout.refcount_blocks_at() + block) * CLUSTER);
        append(&mut head, blocks);
        (0..layout.clusters()).for_each(|_| head.extend(1_u16.to_be_bytes()));
        fill_up(&mut head);

        let mut tables = (layout.level_two_at()..).zip(&layout.level_two).peekable();
        let level_one = (0..self.tables())
            .map(|table| tables.next_if(|(_, used)| **used == table).map_or(0, |(at, _)| entry(at)));
        append(&mut head, level_one);
        let mut clusters = (layout.data_at()..).zip(self.used.iter().cloned().flatten()).peekable();
        for table in &layout.level_two {
            let entries = (table * ENTRIES..(table + 1) * ENTRIES)
                .map(|number| clusters.next_if(|(_, used)| *used == number).map_or(0, |(at, _)| entry(at)));
            append(&mut head, entries);
        }
        head
    }

    fn header(&self, layout: &Layout) -> Vec<u8> {
        let (no_backing, no_encryption, no_snapshots) = (0_u64, 0_u32, 0_u32);
        let mut header = MAGIC.to_vec();
        header.extend(VERSION.to_be_bytes());
        header.extend(no_backing.to_be_bytes());
        header.extend(0_u32.to_be_bytes());
        header.extend(CLUSTER_BITS.to_be_bytes());
        header.extend(self.size.to_be_bytes());
        header.extend(no_encryption.to_be_bytes());
        header.extend(u32::try_from(self.tables()).unwrap_or(u32::MAX).to_be_bytes());
        header.extend((layout.level_one_at() * CLUSTER).to_be_bytes());
        header.extend(CLUSTER.to_be_bytes());
        header.extend(u32::try_from(layout.refcount_table).unwrap_or(u32::MAX).to_be_bytes());
        header.extend(no_snapshots.to_be_bytes());
        header.extend(0_u64.to_be_bytes());
        fill_up(&mut header);
        header
    }
}

/// How many clusters each part has, and where it begins.
struct Layout {
    refcount_table: u64,
    refcount_blocks: u64,
    level_one: u64,
    /// By the numbers of their entries in the level-one table.
    level_two: Vec<u64>,
    data: u64,
}

impl Layout {
    fn refcount_blocks_at(&self) -> u64 {
        1 + self.refcount_table
    }

    fn level_one_at(&self) -> u64 {
        self.refcount_blocks_at() + self.refcount_blocks
    }

    fn level_two_at(&self) -> u64 {
        self.level_one_at() + self.level_one
    }

    fn data_at(&self) -> u64 {
        self.level_two_at() + self.level_two.len() as u64
    }

    fn clusters(&self) -> u64 {
        self.data_at() + self.data
    }
}

/// A table's entry for a cluster of the file.
fn entry(cluster: u64) -> u64 {
    (cluster * CLUSTER) | COPIED
}

/// A table, in whole clusters.
fn append(head: &mut Vec<u8>, entries: impl Iterator<Item = u64>) {
    entries.for_each(|entry| head.extend(entry.to_be_bytes()));
    fill_up(head);
}

/// Zeros up to the next cluster.
fn fill_up(head: &mut Vec<u8>) {
    head.resize(head.len().next_multiple_of(1 << CLUSTER_BITS), 0);
}

/// The clusters with something in them, one after the other.
struct Contents<I> {
    file: File,
    size: u64,
    numbers: I,
    cluster: Cursor<Vec<u8>>,
}

impl<I: Iterator<Item = u64>> Read for Contents<I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cluster.position() == self.cluster.get_ref().len() as u64
            && let Some(number) = self.numbers.next()
        {
            let at = number * CLUSTER;
            let mut cluster = vec![0; 1 << CLUSTER_BITS];
            let there = usize::try_from(self.size - at).unwrap_or(cluster.len()).min(cluster.len());
            self.file.read_exact_at(&mut cluster[..there], at).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => shorter(),
                _ => error,
            })?;
            self.cluster = Cursor::new(cluster);
        }
        self.cluster.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(qcow2: &[u8], at: u64) -> u64 {
        let at = usize::try_from(at).unwrap();
        u64::from_be_bytes(qcow2[at..at + 8].try_into().unwrap())
    }

    /// A byte of the disk, as a reader of the format finds it.
    fn byte(qcow2: &[u8], at: u64) -> u8 {
        let (cluster, within) = (at / CLUSTER, at % CLUSTER);
        let table = word(qcow2, word(qcow2, 40) + cluster / ENTRIES * 8) & !COPIED;
        let entry = if table == 0 { 0 } else { word(qcow2, table + cluster % ENTRIES * 8) & !COPIED };
        if entry == 0 { 0 } else { qcow2[usize::try_from(entry + within).unwrap()] }
    }

    /// The qcow2 of a disk of this size with these bytes in it; it has them where they belong, and zeros around.
    fn qcow2_of(size: u64, written: &[(u64, &[u8])]) -> Vec<u8> {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        for (at, bytes) in written {
            file.write_all_at(bytes, *at).unwrap();
        }
        let clusters = Clusters::of(&file, size).unwrap();
        let (length, mut qcow2) = (clusters.length(), Vec::new());
        clusters.read(file).read_to_end(&mut qcow2).unwrap();
        assert_eq!(qcow2.len() as u64, length);
        assert_eq!((&qcow2[..4], word(&qcow2, 4) >> 32, word(&qcow2, 20) >> 32), (&MAGIC[..], 2, 16));
        assert_eq!(word(&qcow2, 24), size);
        for (start, bytes) in written {
            let end = start + bytes.len() as u64;
            assert!((*start..end).zip(*bytes).all(|(at, there)| byte(&qcow2, at) == *there), "{start}");
            let around = [start.wrapping_sub(1), end].into_iter().filter(|at| *at < size);
            around.for_each(|at| assert_eq!(byte(&qcow2, at), 0, "{at}"));
        }
        qcow2
    }

    #[test]
    fn the_disk_is_the_same_and_its_nothing_is_not_sent() {
        // More than one level-two table, and one between them that nobody needs.
        let end = (1100 << 20) + 5000;
        let qcow2 = qcow2_of(end, &[(0, b"boot"), (300_000, &[7; 200_000]), (end - 4, b"last")]);
        assert!(qcow2.len() < 2 << 20, "{}", qcow2.len());
        assert_eq!(word(&qcow2, word(&qcow2, 40) + 8), 0);
    }

    #[test]
    fn disks_of_nothing_or_less_than_a_cluster_are_disks_too() {
        for size in [1, 511, CLUSTER, CLUSTER + 1, ENTRIES * CLUSTER] {
            let qcow2 = qcow2_of(size, &[]);
            assert!([0, size / 2, size - 1].iter().all(|at| byte(&qcow2, *at) == 0), "{size}");
        }
        qcow2_of(5, &[(0, b"12345")]);
    }

    #[test]
    fn every_cluster_is_counted_once() {
        let qcow2 = qcow2_of(1 << 30, &[(0, b"x"), (1 << 29, b"y")]);
        let counts = &qcow2[2 << CLUSTER_BITS..3 << CLUSTER_BITS];
        let counted = counts.chunks(2).take_while(|count| *count == [0, 1]).count();
        assert_eq!(counted, qcow2.len() >> CLUSTER_BITS);
        assert!(counts[counted * 2..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_file_that_shrinks_meanwhile_is_no_disk() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[1; 1 << 20], 0).unwrap();
        let clusters = Clusters::of(&file, 1 << 20).unwrap();
        file.set_len(1000).unwrap();
        let error = clusters.read(file).read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
