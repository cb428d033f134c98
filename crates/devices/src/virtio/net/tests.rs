//! A link in memory between the tests and the device.

use std::os::fd::AsRawFd;
use std::sync::Mutex;

use virtio_queue::mock::MockSplitQueue;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::receive::Receiver;
use super::session::EVERYBODY;
use super::*;
use crate::limits::Rate;
use crate::lock;
use crate::testing::Random;
use crate::virtio::queue::tests::{BUFFERS, NEXT, WRITE, descriptor, memory, ring, scramble};

/// Packets that wait in each queue, and those that came.
struct Wire {
    event: EventFd,
    queues: Vec<Mutex<Vec<Vec<u8>>>>,
    from_guest: Mutex<Vec<Vec<u8>>>,
}

impl Wire {
    fn new(to_guest: Vec<Vec<u8>>) -> Self {
        Self::with_queues(vec![to_guest])
    }

    fn with_queues(queues: Vec<Vec<Vec<u8>>>) -> Self {
        let event = EventFd::new(EFD_NONBLOCK).unwrap();
        Self { event, queues: queues.into_iter().map(Mutex::new).collect(), from_guest: Mutex::default() }
    }

    fn to_guest(&self) -> usize {
        self.queues.iter().map(|queue| lock(queue).len()).sum()
    }
}

impl Link for Wire {
    fn queues(&self) -> usize {
        self.queues.len()
    }
    fn event(&self, _: usize) -> RawFd {
        self.event.as_raw_fd()
    }
    fn receive(&self, queue: usize, into: &[Piece<'_>]) -> io::Result<usize> {
        assert!(into.len() <= MOST_PIECES);
        let packet = lock(&self.queues[queue]).pop().ok_or(io::ErrorKind::WouldBlock)?;
        let mut done = 0;
        for piece in into {
            let count = piece.len().min(packet.len() - done);
            piece.copy_from(&packet[done..done + count]);
            done += count;
        }
        Ok(done)
    }
    fn send(&self, _: usize, from: &[Piece<'_>]) -> io::Result<()> {
        let mut packet = Vec::new();
        for piece in from {
            let at = packet.len();
            packet.resize(at + piece.len(), 0);
            piece.copy_to(&mut packet[at..]);
        }
        lock(&self.from_guest).push(packet);
        Ok(())
    }
    fn segments_udp(&self) -> bool {
        true
    }
    fn set_offloads(&self, _offloads: Offloads) -> io::Result<()> {
        Ok(())
    }
}

/// No limit.
fn free() -> Limiter {
    Limiter::new(Limits::default()).unwrap()
}

fn net(wire: &Arc<Wire>) -> Net {
    Net::new(wire.clone(), Arc::new(Traffic::new(Limits::default()).unwrap()), [2, 0, 0x5e, 0x10, 0, 1], 9001)
}

#[test]
fn packets_leave_whole_and_monsters_are_dropped() {
    let (memory, wire) = (memory(), Arc::new(Wire::new(Vec::new())));
    let mock = MockSplitQueue::new(&memory, 16);
    memory.write_slice(b"header......payload", GuestAddress(BUFFERS)).unwrap();
    mock.build_desc_chain(&[descriptor(BUFFERS, 15, 0, 0), descriptor(BUFFERS + 15, 4, 0, 0)]).unwrap();
    mock.add_desc_chains(&[descriptor(BUFFERS, 11, 0, 0)], 2).unwrap();
    mock.add_desc_chains(&[descriptor(BUFFERS, u32::try_from(MOST).unwrap() + 1, 0, 0)], 3).unwrap();
    assert_eq!(net(&wire).transmit(0, &mut ring(&mock), &memory), Ok(false));
    assert_eq!(*lock(&wire.from_guest), [b"header......payload"]);
    assert_eq!(mock.used().idx().load(), 3);
}

#[test]
fn a_packet_fills_as_many_buffers_as_it_needs() {
    let memory = memory();
    let packet: Vec<u8> = (0..250_u8).collect();
    let wire = Wire::new(vec![packet.clone()]);
    let mock = MockSplitQueue::new(&memory, 16);
    for index in 0..8_u16 {
        let buffer = descriptor(BUFFERS + 0x1000 * u64::from(index), 100, WRITE, 0);
        mock.add_desc_chains(&[buffer], index).unwrap();
    }
    let free = free();
    let mut receiver = Receiver::new(&wire, &free, true, 800);
    assert_eq!(receiver.turn(0..1, &mut ring(&mock), &memory), Ok(false));
    assert_eq!(mock.used().idx().load(), 3);
    let used: Vec<_> =
        (0..3).map(|n| mock.used().ring().ref_at(n).unwrap().load()).map(|e| (e.id(), e.len())).collect();
    assert_eq!(used, [(0, 100), (1, 100), (2, 50)]);
    let mut seen = [0; 300];
    for buffer in 0..3 {
        memory
            .read_slice(&mut seen[buffer * 100..][..100], GuestAddress(BUFFERS + 0x1000 * buffer as u64))
            .unwrap();
    }
    assert_eq!(seen[..10], packet[..10]);
    assert_eq!(seen[10..12], [3, 0]); // num_buffers
    assert_eq!(seen[12..250], packet[12..]);
}

#[test]
fn without_merging_a_packet_has_one_buffer() {
    let memory = memory();
    let wire = Wire::new(vec![vec![9; 300], vec![7; 60]]);
    let mock = MockSplitQueue::new(&memory, 4);
    for index in 0..2_u16 {
        let buffer = descriptor(BUFFERS + 0x1000 * u64::from(index), 100, WRITE, 0);
        mock.add_desc_chains(&[buffer], index).unwrap();
    }
    let free = free();
    let mut receiver = Receiver::new(&wire, &free, false, 1530);
    assert_eq!(receiver.turn(0..1, &mut ring(&mock), &memory), Ok(false));
    let used = |n| mock.used().ring().ref_at(n).unwrap().load().len();
    assert_eq!((mock.used().idx().load(), used(0), used(1)), (2, 60, 100));
    assert_eq!(memory.read_obj::<u16>(GuestAddress(BUFFERS + 10)).unwrap(), 1);
}

#[test]
fn the_link_keeps_its_packets_while_there_is_no_room() {
    let memory = memory();
    let wire = Wire::new(vec![vec![1; 60]]);
    let mock = MockSplitQueue::new(&memory, 4);
    let mut ring = ring(&mock);
    let free = free();
    let mut receiver = Receiver::new(&wire, &free, true, 150);
    mock.add_desc_chains(&[descriptor(BUFFERS, 100, WRITE, 0)], 0).unwrap();
    assert_eq!(receiver.turn(0..1, &mut ring, &memory), Ok(false));
    assert_eq!(wire.to_guest(), 1);
    mock.add_desc_chains(&[descriptor(BUFFERS + 0x1000, 100, WRITE, 0)], 1).unwrap();
    assert_eq!(receiver.turn(0..1, &mut ring, &memory), Ok(false));
    assert_eq!(wire.to_guest(), 0);
}

#[test]
fn scrambled_rings_end() {
    for seed in 0..300 {
        let memory = memory();
        let mock = MockSplitQueue::new(&memory, 32);
        scramble(&memory, &mock, 32, &mut Random::new(seed));
        let wire = Arc::new(Wire::new(vec![vec![3; 2000]; 8]));
        let _ = net(&wire).transmit(0, &mut ring(&mock), &memory);
        for merge in [false, true] {
            let free = free();
            let mut receiver = Receiver::new(wire.as_ref(), &free, merge, 1500);
            let _ = receiver.turn(0..1, &mut ring(&mock), &memory);
        }
    }
}

#[test]
fn the_configuration_is_the_specifications() {
    let config = net(&Arc::new(Wire::new(Vec::new()))).config();
    assert_eq!(config, [2, 0, 0x5e, 0x10, 0, 1, 1, 0, 1, 0, 0x29, 0x23]);
}

#[test]
fn several_pairs_are_offered_where_the_link_has_several_queues() {
    let pairs = |queues| {
        let net = net(&Arc::new(Wire::with_queues(vec![Vec::new(); queues])));
        let has = |bit: u32| net.features() & 1 << bit != 0;
        assert_eq!((has(feature::MQ), has(feature::CTRL_VQ)), (queues > 1, queues > 1));
        (net.queue_sizes().len(), net.config()[8])
    };
    assert_eq!([1, 2, 8, 9].map(pairs), [(2, 1), (5, 2), (17, 8), (17, 8)]);
}

#[test]
fn packets_go_to_the_pairs_that_the_driver_uses() {
    let packets = |marks: &[u8]| marks.iter().map(|mark| vec![*mark; 60]).collect::<Vec<_>>();
    let wire = Arc::new(Wire::with_queues(vec![packets(&[1]), packets(&[2])]));
    let (memory, net) = (memory(), net(&wire));
    // Two pairs and the control queue, each ring with room for itself.
    let at = |place: u64| MockSplitQueue::create(&memory, GuestAddress(place * 0x1000), 16);
    let [receive, transmit, other, control] = [0, 1, 2, 3].map(at);
    let rings = [&receive, &transmit, &other, &transmit, &control].map(|mock| Some(ring(mock)));
    for (mock, first) in [(&receive, 0), (&other, 8)] {
        for index in 0..4_u16 {
            let buffer = BUFFERS + 0x1000 * (first + u64::from(index));
            mock.add_desc_chains(&[descriptor(buffer, 10_000, WRITE, 0)], index).unwrap();
        }
    }
    let features = 1 << feature::MQ | 1 << feature::CTRL_VQ | 1 << feature::MRG_RXBUF;
    let mut active = Active { memory: memory.clone(), features, rings: rings.into(), kept: 0 };
    let mut session = Session::new(&net, &mut active);
    let use_pairs = |pairs: u8, index| {
        memory.write_slice(&[4, 0, pairs, 0], GuestAddress(0xf_0000)).unwrap();
        let command = [descriptor(0xf_0000, 4, NEXT, index + 1), descriptor(0xf_0004, 1, WRITE, 0)];
        control.add_desc_chains(&command, index).unwrap();
    };
    let came = || (receive.used().idx().load(), other.used().idx().load());
    assert_eq!(session.turn(EVERYBODY), Ok(false));
    assert_eq!(came(), (2, 0));
    use_pairs(2, 0);
    *lock(&wire.queues[1]) = packets(&[3]);
    assert_eq!(session.turn(EVERYBODY), Ok(true));
    assert_eq!(came(), (2, 1));
    // Back to one: what waits for packets in the second pair is the driver's again.
    use_pairs(1, 2);
    *lock(&wire.queues[1]) = packets(&[4]);
    assert_eq!(session.turn(EVERYBODY), Ok(true));
    assert_eq!(session.turn(EVERYBODY), Ok(false));
    assert_eq!(came(), (3, 1));
    drop(session);
    let Some(ring) = &mut active.rings[2] else { panic!("the ring is gone") };
    let again: Vec<u16> =
        std::iter::from_fn(|| ring.next(&memory).unwrap()).map(|chain| chain.head).collect();
    assert_eq!(again, [1, 2, 3]);
}

#[test]
fn packets_wait_for_their_limit_each_way() {
    let memory = memory();
    let a_day = Rate { per_second: 1.try_into().unwrap(), burst: 86_400, peak: None };
    let limits = Limits { operations: Some(a_day), bytes: None };
    let wire = Arc::new(Wire::new(vec![vec![0; 60]; 3]));
    let traffic = Arc::new(Traffic::new(limits).unwrap());
    let net = Net::new(wire.clone(), traffic.clone(), [2; 6], 1500);
    let mock = MockSplitQueue::new(&memory, 16);
    for index in 0..3 {
        mock.add_desc_chains(&[descriptor(BUFFERS, 60, 0, 0)], index).unwrap();
    }
    let mut ring = ring(&mock);
    traffic.sent.count(86_399, 0);
    assert_eq!(net.transmit(0, &mut ring, &memory), Ok(false));
    assert_eq!((lock(&wire.from_guest).len(), mock.used().idx().load()), (2, 2));

    let mock = MockSplitQueue::create(&memory, GuestAddress(0x8000), 16);
    for index in 0..3 {
        mock.add_desc_chains(&[descriptor(BUFFERS, 2000, WRITE, 0)], index).unwrap();
    }
    let mut receiving = self::ring(&mock);
    traffic.received.count(86_399, 0);
    let mut receiver = Receiver::new(wire.as_ref(), &traffic.received, false, 1530);
    assert_eq!(receiver.turn(0..1, &mut receiving, &memory), Ok(false));
    assert_eq!(wire.to_guest(), 1);

    traffic.change(Limits::default());
    assert_eq!(net.transmit(0, &mut ring, &memory), Ok(false));
    assert_eq!(receiver.turn(0..1, &mut receiving, &memory), Ok(false));
    assert_eq!((lock(&wire.from_guest).len(), wire.to_guest()), (3, 0));
}

/// A wire whose host can carry packets itself, or says so.
struct Carrier {
    wire: Wire,
    refuses: bool,
    /// How often it began and ended; where it will say that it came.
    began: Mutex<usize>,
    ended: Mutex<usize>,
    next: [u16; 2],
}

impl Link for Carrier {
    fn queues(&self) -> usize {
        self.wire.queues()
    }
    fn event(&self, queue: usize) -> RawFd {
        self.wire.event(queue)
    }
    fn receive(&self, queue: usize, into: &[Piece<'_>]) -> io::Result<usize> {
        self.wire.receive(queue, into)
    }
    fn send(&self, queue: usize, from: &[Piece<'_>]) -> io::Result<()> {
        self.wire.send(queue, from)
    }
    fn segments_udp(&self) -> bool {
        self.wire.segments_udp()
    }
    fn set_offloads(&self, offloads: Offloads) -> io::Result<()> {
        self.wire.set_offloads(offloads)
    }
    fn carries(&self) -> bool {
        true
    }
    fn carry(&self, _: usize, _: &Memory, _: u64, rings: [&Ring; 2]) -> io::Result<()> {
        // What the device had taken off before is there again.
        assert_eq!(rings.map(|ring| ring.place().next), [0, 0]);
        *lock(&self.began) += 1;
        if self.refuses { Err(io::ErrorKind::Unsupported.into()) } else { Ok(()) }
    }
    fn carried(&self, _: usize, _: Way) -> RawFd {
        self.wire.event.as_raw_fd()
    }
    fn carry_no_more(&self, _: usize) -> io::Result<[u16; 2]> {
        *lock(&self.ended) += 1;
        Ok(self.next)
    }
}

#[test]
fn the_host_carries_packets_until_they_are_to_be_counted() {
    for refuses in [false, true] {
        let wire = Wire::new(Vec::new());
        let (began, ended) = (Mutex::default(), Mutex::default());
        let carrier = Arc::new(Carrier { wire, refuses, began, ended, next: [2, 0] });
        let traffic = Arc::new(Traffic::new(Limits::default()).unwrap());
        let net = Net::new(carrier.clone(), traffic.clone(), [2; 6], 1500);
        let memory = memory();
        let [receive, transmit] =
            [0, 1].map(|place| MockSplitQueue::create(&memory, GuestAddress(place * 0x1000), 16));
        for index in 0..3 {
            let buffer = BUFFERS + 0x1000 * u64::from(index);
            receive.add_desc_chains(&[descriptor(buffer, 2000, WRITE, 0)], index).unwrap();
        }
        let rings = [&receive, &transmit].map(|mock| Some(ring(mock))).into();
        let mut active = Active { memory: memory.clone(), features: 0, rings, kept: 0 };
        let mut session = Session::new(&net, &mut active);
        // It waits for packets with all three buffers.
        assert_eq!(session.turn(EVERYBODY), Ok(false));
        assert!(session.should_be_carried());
        session.begin_to_carry().unwrap();
        assert_eq!((session.is_carried(), session.should_be_carried()), (!refuses, !refuses));
        lock(&carrier.wire.queues[0]).push(vec![0; 60]);
        if !refuses {
            // The packet is the host's business.
            assert_eq!(session.turn(EVERYBODY), Ok(false));
            assert_eq!((carrier.wire.to_guest(), receive.used().idx().load()), (1, 0));
            receive.used().idx().store(2);
            let limit = Rate { per_second: 1000.try_into().unwrap(), burst: 1000, peak: None };
            traffic.change(Limits { operations: Some(limit), bytes: None });
            assert!(!session.should_be_carried());
            session.carry_no_more().unwrap();
            assert!(!session.is_carried());
        }
        assert_eq!(session.turn(EVERYBODY), Ok(false));
        let buffer = if refuses { 0 } else { 2 };
        assert_eq!(receive.used().ring().ref_at(buffer).unwrap().load().id(), u32::try_from(buffer).unwrap());
        assert_eq!(usize::from(receive.used().idx().load()), buffer + 1);
        session.carry_no_more().unwrap();
        assert_eq!((*lock(&carrier.began), *lock(&carrier.ended)), (1, usize::from(!refuses)));
    }
}
