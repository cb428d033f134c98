//! The transport, as a driver and as an attacker would use it.

use std::time::{Duration, Instant};

use virtio_queue::mock::MockSplitQueue;
use vm_memory::{Address, Bytes, GuestAddress};

use super::*;
use crate::bus::BusDevice;
use crate::interrupts::Message;
use crate::pci::Function as _;
use crate::testing::{Random, poke};
use crate::virtio::queue::tests::{BUFFERS, WRITE, descriptor, memory};
use crate::virtio::rng::{Entropy, Rng};

const BASE: u32 = 0xc000_0000;

#[derive(Default)]
struct Monitor {
    sent: Mutex<Vec<Message>>,
    bells: Mutex<Vec<u64>>,
}

impl Messages for Monitor {
    fn send(&self, message: Message) {
        lock(&self.sent).push(message);
    }
}

impl Doorbells for Monitor {
    fn attach(&self, address: u64, _bell: &EventFd) -> io::Result<()> {
        lock(&self.bells).push(address);
        Ok(())
    }
    fn detach(&self, address: u64, _bell: &EventFd) -> io::Result<()> {
        let mut bells = lock(&self.bells);
        let at = bells.iter().position(|bell| *bell == address).expect("only what was attached is detached");
        bells.remove(at);
        Ok(())
    }
}

struct Sevens;

impl Entropy for Sevens {
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        buffer.fill(7);
        Ok(())
    }
}

fn function(memory: &Memory) -> (Function, Arc<Monitor>) {
    let monitor = Arc::new(Monitor::default());
    let device = Box::new(Rng(Sevens));
    (
        Function::new(device, Root::requester(1), BASE, memory.clone(), monitor.clone(), monitor.clone())
            .unwrap(),
        monitor,
    )
}

fn read<const N: usize>(function: &Function, offset: u64) -> [u8; N] {
    let mut data = [0; N];
    function.read_memory(offset, &mut data);
    data
}

fn status(function: &Function) -> u8 {
    read::<1>(function, 20)[0]
}

/// What a driver does to start a device with one queue (3.1.1), up to DRIVER_OK.
fn start(function: &Function, queue: &MockSplitQueue<'_, Memory>, features: u64) {
    function.write_config(4, &6_u16.to_le_bytes());
    function.write_memory(20, &[1]);
    function.write_memory(20, &[3]);
    let [low0, low1, low2, low3, high @ ..] = features.to_le_bytes();
    function.write_memory(12, &[low0, low1, low2, low3]);
    function.write_memory(8, &1_u32.to_le_bytes());
    function.write_memory(12, &high);
    function.write_memory(20, &[11]);
    function.write_memory(24, &16_u16.to_le_bytes());
    function.write_memory(26, &1_u16.to_le_bytes());
    let areas = [queue.desc_table_addr(), queue.avail_addr(), queue.used_addr()];
    for (at, area) in (32..).step_by(8).zip(areas) {
        function.write_memory(at, &u32::try_from(area.raw_value()).unwrap().to_le_bytes());
        function.write_memory(at + 4, &[0; 4]);
    }
    function.write_memory(28, &1_u16.to_le_bytes());
    function.write_memory(20, &[15]);
}

fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !happened() {
        assert!(begin.elapsed() < Duration::from_secs(10), "{what} never happened");
        std::thread::yield_now();
    }
}

/// What the driver is sent when it has been served.
const SERVED: Message = Message { address: 0xfee0_0000, data: 0x40, requester: 8 };

/// A driver begins, is served once, and hears of that by a message; the ring is left at position 1.
fn serve_one(function: &Function, mock: &MockSplitQueue<'_, Memory>, monitor: &Monitor) {
    let before = lock(&monitor.sent).len();
    start(function, mock, VERSION_1);
    assert_eq!(status(function), 15);
    // Vector 1, unmasked; MSI-X on.
    function.write_memory(0x1010, &SERVED.address.to_le_bytes());
    function.write_memory(0x1018, &u64::from(SERVED.data).to_le_bytes());
    function.write_config(function.msix_control, &0x8000_u16.to_le_bytes());
    mock.build_desc_chain(&[descriptor(BUFFERS, 64, WRITE, 0)]).unwrap();
    function.write_memory(0x2000, &[0, 0]);
    until("the interrupt", || lock(&monitor.sent).len() == before + 1);
    assert_eq!(lock(&monitor.sent).last(), Some(&SERVED));
}

/// A function whose driver was served once.
fn served(memory: &Memory, mock: &MockSplitQueue<'_, Memory>) -> (Function, Arc<Monitor>) {
    let (function, monitor) = function(memory);
    serve_one(&function, mock, &monitor);
    (function, monitor)
}

/// One that was served once, and rests.
fn resting(memory: &Memory, mock: &MockSplitQueue<'_, Memory>) -> Function {
    let (function, _) = served(memory, mock);
    rest(&function);
    function
}

fn rest(function: &Function) {
    function.pause();
    until("its rest", || function.is_still());
}

/// Makes the same buffer available again.
fn ask_again(memory: &Memory, mock: &MockSplitQueue<'_, Memory>) {
    memory.write_slice(&[0; 64], GuestAddress(BUFFERS)).unwrap();
    mock.avail().ring().ref_at(1).unwrap().store(0);
    mock.avail().idx().store(2);
}

#[test]
fn a_device_that_rests_goes_on_where_it_was() {
    let memory = memory();
    let mock = MockSplitQueue::new(&memory, 16);
    let (function, monitor) = served(&memory, &mock);
    for _ in 0..3 {
        rest(&function);
        function.resume();
    }
    rest(&function);
    ask_again(&memory, &mock);
    function.write_memory(0x2000, &[0, 0]);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!((mock.used().idx().load(), lock(&monitor.sent).len()), (1, 1), "it rests");
    function.resume();
    until("the interrupt", || lock(&monitor.sent).len() == 2);
    assert_eq!((mock.used().idx().load(), memory.read_obj::<u8>(GuestAddress(BUFFERS)).unwrap()), (2, 7));
}

#[test]
fn a_device_goes_on_in_another_process() {
    let memory = memory();
    let mock = MockSplitQueue::new(&memory, 16);
    let saved = resting(&memory, &mock).save();
    ask_again(&memory, &mock);
    let (second, monitor) = function(&memory);
    second.restore(&saved).unwrap();
    assert_eq!((status(&second), lock(&monitor.sent).len()), (15, 0));
    second.resume();
    until("the interrupt", || lock(&monitor.sent).len() == 1);
    assert_eq!(lock(&monitor.sent).last(), Some(&SERVED));
    assert_eq!(mock.used().idx().load(), 2);
    assert_eq!(second.claims(u64::from(BASE) + 8), Some(8));
    // Its driver can begin anew there, too.
    second.write_memory(20, &[0]);
    until("the reset", || status(&second) == 0);
}

#[test]
fn what_was_saved_of_another_device_does_not_fit() {
    let memory = memory();
    let mock = MockSplitQueue::new(&memory, 16);
    let saved = resting(&memory, &mock).save();
    let monitor = Arc::new(Monitor::default());
    let balloon = Box::new(crate::virtio::balloon::Balloon(Nobody));
    let other =
        Function::new(balloon, Root::requester(1), BASE, memory.clone(), monitor.clone(), monitor).unwrap();
    assert!(other.restore(&saved).is_err());
    // A driver that agreed to what is not offered here.
    let mut json = serde_json::to_value(saved).unwrap();
    json["common"]["agreed"] = (1_u64 << 60 | VERSION_1).into();
    let (second, _) = function(&memory);
    assert!(second.restore(&serde_json::from_value(json).unwrap()).is_err());
    assert_eq!(status(&second), 0);
}

struct Nobody;

impl crate::virtio::balloon::Reclaim for Nobody {
    fn reclaim(&mut self, _piece: &crate::memory::Piece<'_>) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_driver_starts_uses_resets_and_starts_again() {
    let memory = memory();
    let (function, monitor) = function(&memory);
    for life in 1..4 {
        memory.write_slice(&[0; 0x1000], GuestAddress(0)).unwrap();
        let mock = MockSplitQueue::new(&memory, 16);
        serve_one(&function, &mock, &monitor);
        assert_eq!(lock(&monitor.sent).len(), life);
        assert_eq!(memory.read_obj::<u8>(GuestAddress(BUFFERS + 63)).unwrap(), 7);
        function.write_memory(20, &[0]);
        until("the reset", || status(&function) == 0);
        assert_eq!(read::<2>(&function, 26), [0xff; 2]);
    }
}

const VERSION_1: u64 = 1 << 32;

#[test]
fn features_that_were_not_offered_are_refused() {
    let memory = memory();
    let mock = MockSplitQueue::new(&memory, 16);
    for features in [0, VERSION_1 | 1 << 5, VERSION_1 | 1 << 63, 1 << 29] {
        let (function, _monitor) = function(&memory);
        start(&function, &mock, features);
        assert_eq!(status(&function) & common::status::FEATURES_OK, 0, "{features:#x}");
    }
}

#[test]
fn a_queue_outside_of_memory_breaks_the_device() {
    let memory = memory();
    let mock = MockSplitQueue::create(&memory, GuestAddress(0x1000), 16);
    let smaller = Memory::from_ranges(&[(GuestAddress(0), 0x1000 + 16 * 16)]).unwrap();
    let (function, _monitor) = function(&smaller);
    start(&function, &mock, VERSION_1);
    assert_eq!(status(&function), 15 | common::status::NEEDS_RESET);
    function.write_memory(20, &[0]);
    assert_eq!(status(&function), 0);
}

#[test]
fn doorbells_follow_the_memory() {
    let (function, monitor) = function(&memory());
    assert!(lock(&monitor.bells).is_empty());
    function.write_config(4, &2_u16.to_le_bytes());
    assert_eq!(*lock(&monitor.bells), [u64::from(BASE) + 0x2000]);
    assert_eq!(function.claims(u64::from(BASE) + 0x3fff), Some(0x3fff));
    assert_eq!(function.claims(u64::from(BASE) + 0x4000), None);
    function.write_config(0x10, &0xd000_0000_u32.to_le_bytes());
    assert_eq!(*lock(&monitor.bells), [0xd000_2000]);
    function.write_config(4, &0_u16.to_le_bytes());
    assert!(lock(&monitor.bells).is_empty());
    assert_eq!(function.claims(0xd000_0000), None);
}

#[test]
fn what_is_retired_answers_nobody_and_gives_its_place_up() {
    let memory = memory();
    let mock = MockSplitQueue::new(&memory, 16);
    let (function, monitor) = function(&memory);
    start(&function, &mock, VERSION_1);
    function.write_memory(0x1010, &0xfee0_0000_u64.to_le_bytes());
    function.write_memory(0x1018, &0x40_u64.to_le_bytes());
    function.write_config(function.msix_control, &0x8000_u16.to_le_bytes());
    function.retire();
    assert_eq!(function.claims(u64::from(BASE)), None);
    assert!(lock(&monitor.bells).is_empty());
    until("the end of its work", || lock(&function.state).worker.is_idle());
    // A vCPU that still had it in its hands.
    function.write_config(4, &6_u16.to_le_bytes());
    function.write_config(function.msix_control, &0x8000_u16.to_le_bytes());
    start(&function, &mock, VERSION_1);
    function.notifier.queue_used(0);
    assert_eq!(function.claims(u64::from(BASE)), None);
    assert!(lock(&function.state).worker.is_idle() && lock(&monitor.sent).is_empty());
    drop(function);

    // The same without a word before.
    let (function, monitor) = self::function(&memory);
    function.write_config(4, &2_u16.to_le_bytes());
    assert_eq!(lock(&monitor.bells).len(), 1);
    drop(function);
    assert!(lock(&monitor.bells).is_empty());
}

#[test]
fn a_driver_is_told_when_the_configuration_changes() {
    use crate::limits::Limits;
    use crate::virtio::net::{Link, Net, Offloads, Traffic};
    struct Nothing;
    impl Link for Nothing {
        fn queues(&self) -> usize {
            1
        }
        fn event(&self, _: usize) -> std::os::fd::RawFd {
            -1
        }
        fn receive(&self, _: usize, _into: &[crate::memory::Piece<'_>]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }
        fn send(&self, _: usize, _from: &[crate::memory::Piece<'_>]) -> io::Result<()> {
            Ok(())
        }
        fn segments_udp(&self) -> bool {
            false
        }
        fn set_offloads(&self, _offloads: Offloads) -> io::Result<()> {
            Ok(())
        }
    }
    let (memory, monitor) = (memory(), Arc::new(Monitor::default()));
    let traffic = Arc::new(Traffic::new(Limits::default()).unwrap());
    let device = Box::new(Net::new(Arc::new(Nothing), traffic, [2; 6], 1500));
    let function = Function::new(device, 0x28, BASE, memory, monitor.clone(), monitor.clone()).unwrap();
    function.set_bus(3);
    function.write_memory(16, &0_u16.to_le_bytes()); // configuration: vector 0
    function.write_memory(0x1000, &0xfee0_0000_u64.to_le_bytes());
    function.write_memory(0x1008, &0x41_u64.to_le_bytes());
    function.write_config(function.msix_control, &0x8000_u16.to_le_bytes());
    let generation = read::<1>(&function, 21);
    function.change_config(10, &9001_u16.to_le_bytes());
    assert_eq!(read::<2>(&function, 0x80a), 9001_u16.to_le_bytes());
    assert_ne!(read::<1>(&function, 21), generation);
    assert_eq!(read::<1>(&function, 0x400), [2]); // ISR: configuration
    let message = Message { address: 0xfee0_0000, data: 0x41, requester: 0x300 };
    assert_eq!(*lock(&monitor.sent), [message]);
}

#[test]
fn memory_is_reached_through_configuration_space_too() {
    let (function, _monitor) = function(&memory());
    let at = function.window;
    function.write_config(at + 8, &20_u32.to_le_bytes());
    function.write_config(at + 12, &1_u32.to_le_bytes());
    function.write_config(at + 16, &[1]);
    assert_eq!(status(&function), 1);
    let mut data = [0; 4];
    function.read_config(at + 16, &mut data);
    assert_eq!(data, [1, 0, 0, 0]);
}

struct Everything(Function);

impl BusDevice for Everything {
    fn read(&self, offset: u64, data: &mut [u8]) {
        match offset.checked_sub(0x1000) {
            None => self.0.read_config(usize::try_from(offset).unwrap(), data),
            Some(at) => self.0.read_memory(at, data),
        }
    }
    fn write(&self, offset: u64, data: &[u8]) {
        match offset.checked_sub(0x1000) {
            None => self.0.write_config(usize::try_from(offset).unwrap(), data),
            Some(at) => self.0.write_memory(at, data),
        }
    }
}

#[test]
fn any_access_to_any_register() {
    let memory = memory();
    let (function, _monitor) = function(&memory);
    let everything = Everything(function);
    poke(&everything, 0x1000 + 64, 100_000); // configuration space, and mostly common registers
    poke(&everything, 0x1000 + u64::from(MEMORY_BYTES), 100_000);
    let mut random = Random::new(9);
    for _ in 0..2000 {
        // A driver that starts, with one register wrong each time.
        let mock = MockSplitQueue::new(&memory, 16);
        everything.0.write_memory(20, &[0]);
        start(&everything.0, &mock, VERSION_1);
        everything.0.write_memory(random.below(60), &random.bytes::<8>()[..1 << random.below(4)]);
        everything.0.write_memory(0x2000, &[0, 0]);
    }
}
