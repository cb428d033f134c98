//! Real files, real locks, several threads.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::Random;
use super::model::{Model, read_whole};
use crate::export::export;
use crate::parts::{Access, DATA, OpenError, Parts, create};
use crate::volume::Volume;

/// A folder of its own for one test, gone when dropped.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("cumulet-volume-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl std::ops::Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(folder: &Path) -> Volume {
    Volume::open(Parts::open(folder, Access::Write).unwrap(), Access::Write).unwrap()
}

fn with_base(size: u64, base: &[u8]) -> Folder {
    let folder = Folder::new();
    fs::write(folder.join("image"), base).unwrap();
    create(&folder, size, Some(&folder.join("image"))).unwrap();
    fs::remove_file(folder.join("image")).unwrap();
    folder
}

#[test]
fn real_files_do_as_the_simulated_ones_and_the_export_is_the_volume() {
    let mut random = Random(7);
    let base = random.bytes(150 * 4096 + 77);
    let folder = with_base(300 * 4096, &base);
    let mut model = Model::new(300 * 4096, &base);
    for _ in 0..5 {
        let volume = open(&folder);
        for _ in 0..100 {
            model.step(&volume, &mut random).unwrap();
        }
        volume.flush().unwrap();
    }
    assert_eq!(read_whole(&open(&folder)), model.now);

    let raw = File::create(folder.join("export.raw")).unwrap();
    let mut progress = 0;
    export(&Parts::open(&folder, Access::Read).unwrap(), &raw, &mut |bytes| progress = bytes).unwrap();
    assert_eq!(fs::read(folder.join("export.raw")).unwrap(), model.now);
    assert_eq!(progress, 300 * 4096);
}

#[test]
fn a_new_volume_takes_no_space_and_a_discard_gives_space_back() {
    let folder = with_base(1 << 40, &[7; 1 << 20]);
    let blocks = || fs::metadata(folder.join(DATA)).unwrap().blocks();
    assert_eq!(blocks(), 0);
    let volume = open(&folder);
    volume.write_at(&[1; 1 << 20], 1 << 30).unwrap();
    volume.flush().unwrap();
    assert!(blocks() >= 2048);
    volume.discard(1 << 30..(1 << 30) + (1 << 20)).unwrap();
    assert_eq!(blocks(), 0);
}

#[test]
fn a_volume_grows_while_it_is_used() {
    let folder = with_base(1 << 20, &[7; 5000]);
    let volume = open(&folder);
    volume.write_at(&[1; 512], (1 << 20) - 512).unwrap();
    volume.grow(1 << 30).unwrap();
    volume.grow(1 << 21).unwrap(); // smaller again: nothing
    volume.write_at(&[2; 512], (1 << 30) - 512).unwrap();
    volume.flush().unwrap();
    assert_eq!(volume.grow(u64::MAX).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    drop(volume);
    let volume = open(&folder);
    assert_eq!(volume.size(), 1 << 30);
    let at = |offset| {
        let mut byte = [0xee];
        volume.read_at(&mut byte, offset).unwrap();
        byte[0]
    };
    let found = [4999, 5000, (1 << 20) - 1, 1 << 20, (1 << 30) - 513, (1 << 30) - 1].map(at);
    assert_eq!(found, [7, 0, 1, 0, 0, 2]);
    let reader =
        Volume::open(Parts::open(&with_base(512, &[]), Access::Read).unwrap(), Access::Read).unwrap();
    assert_eq!(reader.grow(1024).unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn who_writes_is_alone_until_the_last_copy_is_closed() {
    let folder = with_base(1 << 20, &[7; 4096]);
    let in_use = |access| matches!(Parts::open(&folder, access), Err(OpenError::InUse));
    let parts = Parts::open(&folder, Access::Write).unwrap();
    let copy = parts.try_clone().unwrap();
    drop(parts);
    assert!(in_use(Access::Write) && in_use(Access::Read));
    let handed_on: Vec<_> = copy.named().collect();
    assert!(in_use(Access::Write));
    drop(handed_on);
    let reader = Parts::open(&folder, Access::Read).unwrap();
    assert!(!in_use(Access::Read) && in_use(Access::Write));
    let volume = Volume::open(reader, Access::Read).unwrap();
    assert_eq!(volume.write_at(&[1], 0).unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn threads_that_share_blocks_lose_nothing_of_each_other() {
    const THREADS: u64 = 4;
    const SECTORS: u64 = 8 * 64;
    let base = vec![0xee; 48 * 4096];
    let folder = with_base(64 * 4096, &base);
    let volume = open(&folder);
    // Each thread has the sectors whose number leaves its own remainder, so nearly every block is shared by all.
    let written = |thread: u64| {
        let mut random = Random(thread);
        let mut mine = std::collections::BTreeMap::new();
        for round in 0..400_u32 {
            let sector = random.below(SECTORS / THREADS) * THREADS + thread;
            let bytes = vec![random.next().to_le_bytes()[0]; 512];
            volume.write_at(&bytes, sector * 512).unwrap();
            mine.insert(sector, bytes[0]);
            let (sector, byte) = mine.iter().nth(random.below(mine.len() as u64) as usize).unwrap();
            let mut found = [0; 512];
            volume.read_at(&mut found, sector * 512).unwrap();
            assert_eq!(found, [*byte; 512]);
            if round % 50 == 0 {
                volume.flush().unwrap();
            }
        }
        mine
    };
    let mut expected: Vec<u8> = base;
    expected.resize(64 * 4096, 0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || written(thread))).collect();
        for thread in threads {
            for (sector, byte) in thread.join().unwrap() {
                expected[sector as usize * 512..][..512].fill(byte);
            }
        }
    });
    volume.flush().unwrap();
    drop(volume);
    assert_eq!(read_whole(&open(&folder)), expected);
}

#[test]
fn zeros_are_not_copied() {
    let folder = Folder::new();
    let mut bytes = Random(3).bytes(3 << 20);
    bytes[4096..2 << 20].fill(0);
    fs::write(folder.join("from"), &bytes).unwrap();
    let open =
        |name| OpenOptions::new().read(true).write(true).create(true).truncate(false).open(folder.join(name));
    let (from, to) = (open("from").unwrap(), open("to").unwrap());
    to.set_len(bytes.len() as u64).unwrap();
    crate::sparse::copy(&from, &to, 0..bytes.len() as u64, &mut |_| {}).unwrap();
    assert!(fs::read(folder.join("to")).unwrap() == bytes);
    assert!(to.metadata().unwrap().blocks() < 2 * 1100);
}

#[test]
fn whoever_reads_by_himself_is_told_the_file() {
    use std::os::unix::fs::FileExt;
    // Three blocks of a base, the third in part, in a volume of five.
    let folder = with_base(5 * 4096, &[7; 2 * 4096 + 100]);
    let volume = open(&folder);
    let first = |range: std::ops::Range<u64>| {
        let file = File::from(volume.file_of(range.clone())?.try_clone_to_owned().unwrap());
        let mut byte = [0];
        file.read_exact_at(&mut byte, range.start).unwrap();
        Some(byte[0])
    };
    assert_eq!((first(0..8192), first(8192..8292)), (Some(7), Some(7)));
    assert_eq!((first(0..3 * 4096), first(8292..12288)), (None, None)); // zeros that are in no file
    assert_eq!(
        (first(3 * 4096..5 * 4096), first(4 * 4096..5 * 4096 + 1), first(5..5)),
        (Some(0), None, None)
    );
    // Made own, also where the base does not reach: one file for both.
    volume.write_at(&[9; 512], 4096).unwrap();
    volume.write_at(&[8; 512], 2 * 4096).unwrap();
    assert_eq!((first(4096..12288), first(8192..20480)), (Some(9), Some(8)));
    assert_eq!((first(0..4096), first(0..8192)), (Some(7), None));
}
