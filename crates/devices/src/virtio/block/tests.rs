//! A disk in memory, asked by a driver that is well-behaved, and by one that is not.

use std::sync::Mutex;

use virtio_queue::desc::RawDescriptor;
use virtio_queue::mock::MockSplitQueue;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::limits::{Limits, Rate};
use crate::lock;
use crate::memory::Memory;
use crate::testing::Random;
use crate::virtio::queue::Ring;
use crate::virtio::queue::tests::{BUFFERS, NEXT, WRITE, descriptor, memory, ring, scramble};

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

fn block(disk: Arc<Disk>, serial: &str, read_only: bool) -> Block {
    Block::new(disk, Arc::new(Limiter::new(Limits::default()).unwrap()), serial, read_only, 1)
}

/// One turn of one ring, without an engine.
fn serve(block: &Block, ring: &mut Ring, memory: &Memory, write_through: bool) -> Result<bool, Broken> {
    Session::new(&block.face, None, memory, write_through).serve(0, ring, &Stop::new().unwrap())
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
    serve(block, &mut ring(&mock), memory, false)?;
    assert_eq!(mock.used().idx().load(), 1);
    Ok((memory.read_obj(GuestAddress(STATUS)).unwrap(), mock.used().ring().ref_at(0).unwrap().load().len()))
}

#[test]
fn reads_and_writes_go_where_they_should() {
    let (memory, disk) = (memory(), Disk::new());
    let block = self::block(disk.clone(), "vol0123456789abcdef0", false);
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
    let block = self::block(Disk::new(), "", false);
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
    assert_eq!(ask(&self::block(failing, "", false), &memory, 0, 0, &sector), Ok((STATUS_IO_ERROR, 1)));
}

#[test]
fn ranges_are_discarded_and_zeroed() {
    let (memory, disk) = (memory(), Disk::new());
    let block = self::block(disk.clone(), "", false);
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
    let block = self::block(disk.clone(), "", true);
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
    let block = self::block(Disk::new(), "", false);
    for chain in
        [&[descriptor(DATA, 16, 0, 0)][..], &[descriptor(DATA, 15, 0, 0), descriptor(STATUS, 1, WRITE, 0)]]
    {
        let mock = MockSplitQueue::new(&memory, 16);
        mock.avail().idx().store(0);
        mock.build_desc_chain(chain).unwrap();
        assert!(serve(&block, &mut ring(&mock), &memory, false).is_err());
    }
}

#[test]
fn the_configuration_is_the_specifications() {
    let config = block(Disk::new(), "", false).config();
    assert_eq!(config.len(), 60);
    assert_eq!(config[..8], 128_u64.to_le_bytes());
    assert_eq!(config[20..24], 512_u32.to_le_bytes());
    assert_eq!(config[34..36], 1_u16.to_le_bytes());
    assert_eq!(config[56], 1);
}

#[test]
fn each_queue_is_announced_and_none_too_many() {
    let limiter = Arc::new(Limiter::new(Limits::default()).unwrap());
    for (asked, queues) in [(0, 1), (1, 1), (4, 4), (99, MOST_QUEUES)] {
        let block = Block::new(Disk::new(), limiter.clone(), "", false, asked);
        assert_eq!(block.queue_sizes().len(), usize::from(queues));
        assert_eq!(block.config()[34..36], queues.to_le_bytes());
        assert_eq!(block.features() & 1 << feature::MQ != 0, queues > 1);
    }
}

#[test]
fn requests_wait_for_their_limit() {
    let (memory, disk) = (memory(), Disk::new());
    let mock = MockSplitQueue::new(&memory, 16);
    memory.write_slice(&[0; 16], GuestAddress(BUFFERS)).unwrap(); // reads of sector 0
    for request in 0..4_u16 {
        let first = 3 * request;
        let chain = [
            descriptor(BUFFERS, 16, NEXT, first + 1),
            descriptor(DATA, 512, NEXT | WRITE, first + 2),
            descriptor(STATUS + u64::from(request), 1, WRITE, 0),
        ];
        mock.add_desc_chains(&chain, first).unwrap();
    }
    let a_day = Rate { per_second: 1.try_into().unwrap(), burst: 86_400, peak: None };
    let limiter = Arc::new(Limiter::new(Limits { operations: None, bytes: Some(a_day) }).unwrap());
    limiter.count(0, 86_400 - 1000);
    let (block, mut ring) = (Block::new(disk, limiter.clone(), "", false, 1), ring(&mock));
    assert_eq!(serve(&block, &mut ring, &memory, false), Ok(false));
    assert_eq!(mock.used().idx().load(), 2);
    limiter.change(Limits::default());
    assert_eq!(serve(&block, &mut ring, &memory, false), Ok(false));
    assert_eq!(mock.used().idx().load(), 4);
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
        let (block, engine) = (block(Disk::new(), "", false), Later::default());
        let _ = serve(&block, &mut ring(&mock), &memory, true);
        // The same with an engine, which ends some of it when the ring is broken already.
        mock.used().idx().store(0);
        let mut engine: Option<Box<dyn Engine>> = Some(Box::new(engine));
        let mut session = Session::new(&block.face, engine.as_mut(), &memory, false);
        let (mut rings, stop) = ([Some(ring(&mock))], Stop::new().unwrap());
        while session.turn(&mut rings, &stop) == Ok(true) {}
    }
}

/// Ends what it was given when it is told to, in another order; what `short` is it only nearly does.
#[derive(Default)]
struct Later {
    disk: Option<Arc<Disk>>,
    memory: Option<Memory>,
    begun: Vec<u16>,
    ended: Arc<Mutex<Vec<(u16, bool)>>>,
    short: bool,
    refuses: bool,
    fails: bool,
}

impl Engine for Later {
    fn event(&self) -> std::os::fd::RawFd {
        -1
    }
    fn enter(&mut self, memory: &Memory) {
        self.memory = Some(memory.clone());
    }
    fn begin(&mut self, tag: u16, read: Read<'_, '_>) -> bool {
        assert!(self.memory.is_some() && !self.begun.contains(&tag));
        assert_eq!(read.len, total(read.pieces));
        if self.refuses {
            return false;
        }
        if let Some(disk) = self.disk.as_ref().filter(|_| !self.short) {
            disk.read(read.offset, read.pieces).unwrap();
        }
        self.begun.push(tag);
        true
    }
    fn submit(&mut self) -> io::Result<()> {
        if self.fails {
            return Err(io::Error::other("as asked"));
        }
        let whole = !self.short;
        lock(&self.ended).extend(self.begun.drain(..).map(|tag| (tag, whole)));
        Ok(())
    }
    fn ended(&mut self) -> Option<(u16, bool)> {
        lock(&self.ended).pop()
    }
    fn wait(&mut self) {}
    fn leave(&mut self) {
        self.memory = None;
    }
}

/// Reads of the first sectors, and a flush at the end; each with a place of its own.
fn ask_for_sectors(memory: &Memory, mock: &MockSplitQueue<'_, Memory>, count: u16) {
    for request in 0..=count {
        let (first, at) = (3 * request, u64::from(request) * 16);
        let kind = if request == count { 4_u64 } else { 0 };
        memory.write_obj(kind, GuestAddress(BUFFERS + at)).unwrap();
        memory.write_obj(u64::from(request), GuestAddress(BUFFERS + at + 8)).unwrap();
        let data = descriptor(DATA + 0x200 * u64::from(request), 512, NEXT | WRITE, first + 2);
        let chain = [
            descriptor(BUFFERS + at, 16, NEXT, first + 1),
            data,
            descriptor(STATUS + u64::from(request), 1, WRITE, 0),
        ];
        mock.add_desc_chains(&chain, first).unwrap();
    }
}

#[test]
fn an_engine_ends_in_any_order_and_what_it_does_not_do_is_done_without_it() {
    for (short, refuses) in [(false, false), (true, false), (false, true)] {
        let (memory, disk) = (memory(), Disk::new());
        let mock = MockSplitQueue::new(&memory, 256);
        ask_for_sectors(&memory, &mock, 70); // more than may be under way
        let engine: Box<dyn Engine> =
            Box::new(Later { disk: Some(disk.clone()), short, refuses, ..Later::default() });
        let block = self::block(disk.clone(), "", false);
        let mut engine = Some(engine);
        let mut rings = [None, Some(ring(&mock))];
        let mut session = Session::new(&block.face, engine.as_mut(), &memory, false);
        let mut turns = 0;
        while session.turn(&mut rings, &Stop::new().unwrap()).unwrap() {
            turns += 1;
        }
        assert!((2..20).contains(&turns));
        drop(session);
        assert_eq!(mock.used().idx().load(), 71);
        for request in 0..70_u64 {
            let byte: u8 = memory.read_obj(GuestAddress(DATA + 0x200 * request + 511)).unwrap();
            let status: u8 = memory.read_obj(GuestAddress(STATUS + request)).unwrap();
            assert_eq!((u64::from(byte), status), (request, STATUS_OK), "short {short}, refuses {refuses}");
        }
        assert_eq!(*lock(&disk.flushes), 1);
        let heads: Vec<u32> = (0..71).map(|n| mock.used().ring().ref_at(n).unwrap().load().id()).collect();
        let mut sorted = heads.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..71).map(|request| 3 * request).collect::<Vec<_>>());
        assert_eq!(heads == sorted, refuses);
    }
}

#[test]
fn an_engine_that_fails_breaks_the_device() {
    let (memory, disk) = (memory(), Disk::new());
    let mock = MockSplitQueue::new(&memory, 256);
    ask_for_sectors(&memory, &mock, 3);
    let block = self::block(disk, "", false);
    let mut engine: Option<Box<dyn Engine>> = Some(Box::new(Later { fails: true, ..Later::default() }));
    let mut session = Session::new(&block.face, engine.as_mut(), &memory, false);
    assert!(session.turn(&mut [Some(ring(&mock))], &Stop::new().unwrap()).is_err());
}
