//! A volume beside a plain list of bytes.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::Random;
use super::disk::SimDisk;
use crate::header::BLOCK_BYTES;
use crate::volume::{Place, Volume};

const SECTOR: usize = 512;

/// What a volume should read as, and what each sector may be after a power cut.
pub(super) struct Model {
    pub(super) now: Vec<u8>,
    /// Of each sector changed since the last flush: what it was then, and all it has been since.
    maybe: BTreeMap<usize, Vec<Vec<u8>>>,
}

impl Model {
    pub(super) fn new(size: u64, base: &[u8]) -> Self {
        let mut now = base.to_vec();
        now.resize(size as usize, 0);
        Self { now, maybe: BTreeMap::new() }
    }

    fn change(&mut self, range: Range<u64>, new: impl FnOnce(&mut [u8])) {
        let bytes = range.start as usize..range.end as usize;
        let sectors = bytes.start / SECTOR..bytes.end.div_ceil(SECTOR);
        for sector in sectors.clone() {
            let was = self.now[sector * SECTOR..(sector + 1) * SECTOR].to_vec();
            self.maybe.entry(sector).or_insert_with(|| vec![was]);
        }
        new(&mut self.now[bytes]);
        for sector in sectors {
            let is = self.now[sector * SECTOR..(sector + 1) * SECTOR].to_vec();
            self.maybe.entry(sector).or_default().push(is);
        }
    }

    /// Takes what was found after a power cut for the truth, if it may be.
    pub(super) fn accept(&mut self, found: Vec<u8>) {
        for (sector, (is, was)) in found.chunks(SECTOR).zip(self.now.chunks(SECTOR)).enumerate() {
            let allowed = self.maybe.get(&sector);
            let fits = allowed.map_or(is == was, |versions| versions.iter().any(|version| version == is));
            assert!(fits, "sector {sector} holds what it never was since the last flush");
        }
        (self.now, self.maybe) = (found, BTreeMap::new());
    }

    /// Does one random operation on both. An error comes only from the disk below.
    pub(super) fn step(&mut self, volume: &Volume, random: &mut Random) -> io::Result<()> {
        let size = volume.size();
        let range = random.range(size);
        match random.below(16) {
            0..8 => {
                let bytes = random.bytes((range.end - range.start) as usize);
                self.change(range.clone(), |now| now.copy_from_slice(&bytes));
                let (one, two) = bytes.split_at(random.below(bytes.len() as u64) as usize);
                volume.write_vectored_at(&mut [IoSlice::new(one), IoSlice::new(two)], range.start)
            }
            8..10 => {
                self.change(range.clone(), |now| now.fill(0));
                volume.write_zeroes(range)
            }
            10 => {
                let start = range.start.next_multiple_of(BLOCK_BYTES);
                let end = if range.end == size { size } else { range.end / BLOCK_BYTES * BLOCK_BYTES };
                if start < end {
                    self.change(start..end, |now| now.fill(0));
                }
                volume.discard(range)
            }
            11..13 => {
                volume.flush()?;
                self.maybe.clear();
                Ok(())
            }
            _ => {
                let mut found = vec![0; (range.end - range.start) as usize];
                let (one, two) = found.split_at_mut(random.below(range.end - range.start) as usize);
                volume.read_vectored_at(&mut [IoSliceMut::new(one), IoSliceMut::new(two)], range.start)?;
                assert_eq!(found, self.now[range.start as usize..range.end as usize], "{range:?}");
                Ok(())
            }
        }
    }
}

pub(super) fn read_whole(volume: &Volume) -> Vec<u8> {
    let mut all = vec![0; volume.size() as usize];
    volume.read_at(&mut all, 0).unwrap();
    all
}

/// A base that ends inside a block and a volume that does, none of either, and both the same.
pub(super) fn shapes(random: &mut Random) -> Vec<(u64, Option<Vec<u8>>)> {
    let odd = random.bytes(37 * 4096 + 700);
    let even = random.bytes(20 * 4096);
    vec![(60 * 4096 + 512, Some(odd)), (20 * 4096, Some(even)), (30 * 4096 + 1024, None)]
}

#[test]
fn a_volume_is_a_list_of_bytes_whatever_is_done_to_it() {
    for seed in 0..20 {
        let mut random = Random(seed);
        for (size, base) in shapes(&mut random) {
            let mut model = Model::new(size, base.as_deref().unwrap_or_default());
            let disk = SimDisk::new(size, base);
            for _ in 0..4 {
                let volume = disk.open();
                for _ in 0..40 {
                    model.step(&volume, &mut random).unwrap();
                }
                assert_eq!(read_whole(&volume), model.now, "seed {seed}");
                // Closed without a flush and opened again, an unpowered cut aside, nothing but the map's bits can be lost.
                volume.flush().unwrap();
            }
            assert_eq!(read_whole(&disk.open()), model.now, "seed {seed}");
        }
    }
}

#[test]
fn pieces_cover_a_range_in_order_and_say_whose_it_is() {
    let base = Random(1).bytes(10 * 4096 + 100);
    let volume = SimDisk::new(16 * 4096, Some(base)).open();
    volume.write_at(&[1; 4096], 2 * 4096).unwrap();
    volume.write_zeroes(3 * 4096..5 * 4096).unwrap();
    let places = |range| volume.locate(range).map(|piece| (piece.place, piece.range)).collect::<Vec<_>>();
    assert_eq!(
        places(100..16 * 4096),
        [
            (Place::Base, 100..2 * 4096),
            (Place::Data, 2 * 4096..5 * 4096),
            (Place::Base, 5 * 4096..10 * 4096 + 100),
            (Place::Nowhere, 10 * 4096 + 100..11 * 4096),
            (Place::Data, 11 * 4096..16 * 4096),
        ]
    );
    volume.write_at(&[1], 10 * 4096).unwrap();
    assert_eq!(places(10 * 4096 + 50..12 * 4096), [(Place::Data, 10 * 4096 + 50..12 * 4096)]);
    assert_eq!(places(5..5), []);
}

#[test]
fn what_reaches_past_the_end_is_refused_and_an_empty_write_makes_nothing_own() {
    let volume = SimDisk::new(4096, Some(vec![7; 4096])).open();
    let refused =
        |result: io::Result<()>| assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    refused(volume.read_at(&mut [0; 2], 4095));
    refused(volume.write_at(&[0; 2], 4095));
    refused(volume.write_at(&[0; 2], u64::MAX));
    refused(volume.write_zeroes(4096..4097));
    refused(volume.discard(0..u64::MAX));
    volume.write_at(&[], 100).unwrap();
    volume.write_zeroes(100..100).unwrap();
    volume.discard(1..4095).unwrap();
    assert!(volume.locate(0..4096).all(|piece| piece.place == Place::Base));
}

#[test]
fn a_write_beside_a_first_write_of_its_block_is_not_undone() {
    for (offset, length) in [(1024_usize, 512_usize), (0, 4096), (0, 8192)] {
        let disk = SimDisk::new(8192, Some(vec![7; 8192]));
        let volume = Arc::new(disk.open());
        let (other, (sender, second)) = (Arc::clone(&volume), std::sync::mpsc::channel());
        // The first write is about to bring up the rest of its block when the second begins.
        disk.meanwhile(move || {
            let write = move || other.write_at(&vec![2; length], offset as u64).unwrap();
            sender.send(thread::spawn(write)).unwrap();
            thread::sleep(Duration::from_millis(30));
        });
        volume.write_at(&[1; 512], 512).unwrap();
        second.recv().unwrap().join().unwrap();
        let mut expected = vec![7; 8192];
        expected[512..1024].fill(1);
        expected[offset..offset + length].fill(2);
        assert_eq!(read_whole(&volume), expected);
    }
}
