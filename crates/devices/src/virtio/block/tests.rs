//! A disk in memory, asked by a driver that is well-behaved, and by one that is not.

use std::sync::Mutex;

use virtio_queue::desc::RawDescriptor;
use virtio_queue::mock::MockSplitQueue;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::lock;
use crate::testing::Random;
use crate::virtio::queue::tests::{BUFFERS, WRITE, descriptor, memory, ring, scramble};

const DISK: usize = 64 * 1024;
const STATUS: u64 = BUFFERS + 0xf000;
const DATA: u64 = BUFFERS + 0x1000;

/// Every call, checked against the promises of [`Backend`].
struct Disk {
    bytes: Mutex<Vec<u8>>,
    flushes: Mutex<u32>,
    fails: bool,
}

impl Disk {
    fn new() -> Arc<Self> {
        let bytes = (0..DISK / 512).flat_map(|n| [u8::try_from(n).unwrap(); 512]).collect();
        Arc::new(Self { bytes: Mutex::new(bytes), flushes: Mutex::new(0), fails: false })
    }

    fn check(&self, offset: u64, len: u64) -> io::Result<std::ops::Range<usize>> {
        assert_eq!((offset % SECTOR, len % SECTOR), (0, 0));
        let (offset, len) = (usize::try_from(offset).unwrap(), usize::try_from(len).unwrap());
        assert!(offset.checked_add(len).unwrap() <= DISK);
        if self.fails { Err(io::Error::other("as asked")) } else { Ok(offset..offset + len) }
    }
}

fn total(pieces: &[Piece<'_>]) -> u64 {
    pieces.iter().map(|piece| piece.len() as u64).sum()
}

impl Backend for Disk {
    fn size(&self) -> u64 {
        DISK as u64
    }
    fn read(&self, offset: u64, into: &[Piece<'_>]) -> io::Result<()> {
        let mut range = self.check(offset, total(into))?;
        for piece in into {
            piece.copy_from(&lock(&self.bytes)[range.start..range.start + piece.len()]);
            range.start += piece.len();
        }
        Ok(())
    }
    fn write(&self, offset: u64, from: &[Piece<'_>]) -> io::Result<()> {
        let mut range = self.check(offset, total(from))?;
        for piece in from {
            piece.copy_to(&mut lock(&self.bytes)[range.start..range.start + piece.len()]);
            range.start += piece.len();
        }
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        *lock(&self.flushes) += 1;
        Ok(())
    }
    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.write_zeroes(offset, len, true)
    }
    fn write_zeroes(&self, offset: u64, len: u64, _release: bool) -> io::Result<()> {
        let range = self.check(offset, len)?;
        lock(&self.bytes)[range].fill(0);
        Ok(())
    }
}

/// Asks one request: header, what follows it for the device to read, and for it to write. Status and
/// bytes written.
fn ask(
    block: &Block,
    memory: &Memory,
    kind: u32,
    sector: u64,
    data: &[RawDescriptor],
) -> Result<(u8, u32), Broken> {
    let header = [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat();
    memory.write_slice(&header, GuestAddress(BUFFERS)).unwrap();
    memory.write_obj(0xee_u8, GuestAddress(STATUS)).unwrap();
    let mut chain = vec![descriptor(BUFFERS, 16, 0, 0)];
    chain.extend(data);
    chain.push(descriptor(STATUS, 1, WRITE, 0));
    let mock = MockSplitQueue::new(memory, 16);
    mock.avail().idx().store(0);
    mock.used().idx().store(0);
    mock.build_desc_chain(&chain).unwrap();
    block.serve(&mut ring(&mock), memory, false, &Stop::new().unwrap())?;
    assert_eq!(mock.used().idx().load(), 1);
    Ok((memory.read_obj(GuestAddress(STATUS)).unwrap(), mock.used().ring().ref_at(0).unwrap().load().len()))
}

#[test]
fn reads_and_writes_go_where_they_should() {
    let (memory, disk) = (memory(), Disk::new());
    let block = Block::new(disk.clone(), "vol0123456789abcdef0", false);
    let two = [descriptor(DATA, 100, WRITE, 0), descriptor(DATA + 0x1000, 924, WRITE, 0)];
    assert_eq!(ask(&block, &memory, 0, 3, &two), Ok((STATUS_OK, 1025)));
    let mut data = [0; 924];
    memory.read_slice(&mut data, GuestAddress(DATA + 0x1000)).unwrap();
    assert_eq!((data[0], data[411], data[412], data[923]), (3, 3, 4, 4));
    memory.write_slice(&[0xab; 512], GuestAddress(DATA)).unwrap();
    assert_eq!(ask(&block, &memory, 1, 127, &[descriptor(DATA, 512, 0, 0)]), Ok((STATUS_OK, 1)));
    assert_eq!(lock(&disk.bytes)[127 * 512..], [0xab; 512]);
    assert_eq!(ask(&block, &memory, 4, 0, &[]), Ok((STATUS_OK, 1)));
    assert_eq!(*lock(&disk.flushes), 1);
    assert_eq!(ask(&block, &memory, 8, 0, &[descriptor(DATA, 20, WRITE, 0)]), Ok((STATUS_OK, 21)));
    let mut serial = [0; 20];
    memory.read_slice(&mut serial, GuestAddress(DATA)).unwrap();
    assert_eq!(&serial, b"vol0123456789abcdef0");
}

#[test]
fn what_is_outside_or_unknown_gets_a_status() {
    let memory = memory();
    let block = Block::new(Disk::new(), "", false);
    let sector = [descriptor(DATA, 512, WRITE, 0)];
    for (kind, first, data, status) in [
        (0, 128, &sector[..], STATUS_IO_ERROR),
        (0, u64::MAX, &sector, STATUS_IO_ERROR),
        (0, u64::MAX / 512, &sector, STATUS_IO_ERROR),
        (0, 0, &[descriptor(DATA, 511, WRITE, 0)], STATUS_IO_ERROR),
        (1, 127, &[descriptor(DATA, 1024, 0, 0)], STATUS_IO_ERROR),
        (2, 0, &[], STATUS_UNSUPPORTED),
        (u32::MAX, 0, &[], STATUS_UNSUPPORTED),
        (11, 0, &[descriptor(DATA, 15, 0, 0)], STATUS_IO_ERROR),
        (11, 0, &[], STATUS_IO_ERROR),
        (11, 0, &[descriptor(DATA, 33 * 16, 0, 0)], STATUS_IO_ERROR),
    ] {
        assert_eq!(ask(&block, &memory, kind, first, data), Ok((status, 1)), "kind {kind} at {first}");
    }
    let mut failing = Disk::new();
    Arc::get_mut(&mut failing).unwrap().fails = true;
    assert_eq!(ask(&Block::new(failing, "", false), &memory, 0, 0, &sector), Ok((STATUS_IO_ERROR, 1)));
}

#[test]
fn ranges_are_discarded_and_zeroed() {
    let (memory, disk) = (memory(), Disk::new());
    let block = Block::new(disk.clone(), "", false);
    let range = |sector: u64, count: u32, flags: u32| {
        let bytes = [&sector.to_le_bytes()[..], &count.to_le_bytes(), &flags.to_le_bytes()].concat();
        memory.write_slice(&bytes, GuestAddress(DATA)).unwrap();
        [descriptor(DATA, 16, 0, 0)]
    };
    assert_eq!(ask(&block, &memory, 11, 0, &range(8, 8, 0)), Ok((STATUS_OK, 1)));
    assert_eq!(ask(&block, &memory, 13, 0, &range(24, 1, 1)), Ok((STATUS_OK, 1)));
    let zeroed = |sector: usize| lock(&disk.bytes)[sector * 512..][..512] == [0; 512];
    assert_eq!([7, 8, 15, 16, 24, 25].map(zeroed), [false, true, true, false, true, false]);
    assert_eq!(ask(&block, &memory, 13, 0, &range(0, 1, 2)), Ok((STATUS_UNSUPPORTED, 1)));
    assert_eq!(ask(&block, &memory, 13, 0, &range(0, MOST_ZEROES + 1, 0)), Ok((STATUS_IO_ERROR, 1)));
    assert_eq!(ask(&block, &memory, 11, 0, &range(127, 2, 0)), Ok((STATUS_IO_ERROR, 1)));
    assert_eq!(ask(&block, &memory, 11, 0, &range(u64::MAX, 1, 0)), Ok((STATUS_IO_ERROR, 1)));
}

#[test]
fn a_read_only_disk_does_not_change() {
    let (memory, disk) = (memory(), Disk::new());
    let block = Block::new(disk.clone(), "", true);
    let before = lock(&disk.bytes).clone();
    assert_ne!(block.features() & 1 << feature::RO, 0);
    for kind in [1, 11, 13] {
        memory.write_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], GuestAddress(DATA)).unwrap();
        let len = if kind == 1 { 512 } else { 16 };
        assert_eq!(ask(&block, &memory, kind, 0, &[descriptor(DATA, len, 0, 0)]), Ok((STATUS_IO_ERROR, 1)));
    }
    assert_eq!(*lock(&disk.bytes), before);
}

#[test]
fn a_chain_that_cannot_be_answered_breaks_the_device() {
    let memory = memory();
    let block = Block::new(Disk::new(), "", false);
    for chain in
        [&[descriptor(DATA, 16, 0, 0)][..], &[descriptor(DATA, 15, 0, 0), descriptor(STATUS, 1, WRITE, 0)]]
    {
        let mock = MockSplitQueue::new(&memory, 16);
        mock.avail().idx().store(0);
        mock.build_desc_chain(chain).unwrap();
        assert!(block.serve(&mut ring(&mock), &memory, false, &Stop::new().unwrap()).is_err());
    }
}

#[test]
fn the_configuration_is_the_specifications() {
    let config = Block::new(Disk::new(), "", false).config();
    assert_eq!(config.len(), 60);
    assert_eq!(config[..8], 128_u64.to_le_bytes());
    assert_eq!(config[20..24], 512_u32.to_le_bytes());
    assert_eq!(config[34..36], 1_u16.to_le_bytes());
    assert_eq!(config[56], 1);
}

#[test]
fn scrambled_rings_end() {
    for seed in 0..300 {
        let memory = memory();
        let mut random = Random::new(seed);
        let mock = MockSplitQueue::new(&memory, 32);
        scramble(&memory, &mock, 32, &mut random);
        // Headers that are nearly right, everywhere.
        for at in (BUFFERS + 0x1000..0x10_0000).step_by(512) {
            let kind = [0_u32, 1, 4, 8, 11, 13, 99][usize::from(random.small(7))];
            memory.write_obj(u64::from(kind), GuestAddress(at)).unwrap();
            memory.write_obj(random.below(140), GuestAddress(at + 8)).unwrap();
        }
        let _ =
            Block::new(Disk::new(), "", false).serve(&mut ring(&mock), &memory, true, &Stop::new().unwrap());
    }
}
