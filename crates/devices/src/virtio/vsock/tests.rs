//! A driver in memory and callers at socket pairs, with the sessions between them.

use std::collections::VecDeque;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::connection::BUFFER;
use super::packet::{Credit, HEADER, Header, Operation, Packet, Ports, Refusal};
use super::*;
use crate::lock;
use crate::memory::{Memory, Span};
use crate::testing::Random;
use crate::virtio::pci::Notifier;
use crate::virtio::queue::Ring;
use crate::virtio::queue::tests::{WRITE, memory};

const GUEST: u32 = 3;
/// Packets that lie in one ring; each has two descriptors.
const PLACES: u16 = 64;

struct Waiting {
    event: EventFd,
    callers: Mutex<VecDeque<UnixStream>>,
}

impl Waiting {
    fn new() -> Self {
        Self { event: EventFd::new(EFD_NONBLOCK).unwrap(), callers: Mutex::default() }
    }

    /// Somebody calls and says this; his end.
    fn call(&self, words: &[u8]) -> UnixStream {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(words).unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        lock(&self.callers).push_back(theirs);
        ours
    }
}

impl Callers for Waiting {
    fn event(&self) -> RawFd {
        self.event.as_raw_fd()
    }
    fn next(&self) -> io::Result<Box<dyn Caller>> {
        let caller = lock(&self.callers).pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        Ok(Box::new(caller))
    }
}

/// The driver's side of one ring: table, available ring, used ring, and room for packets.
struct Side<'m> {
    memory: &'m Memory,
    base: u64,
    offered: u16,
    taken: u16,
}

impl<'m> Side<'m> {
    const TABLE: u64 = 0;
    const AVAILABLE: u64 = 0x1000;
    const USED: u64 = 0x2000;
    const PACKETS: u64 = 0x3000;
    const PACKET: u64 = 0x1000;
    const BYTES: u64 = Self::PACKETS + Self::PACKET * PLACES as u64;

    fn new(memory: &'m Memory, index: u64) -> (Self, Ring) {
        let base = index * Self::BYTES;
        let mut queue = Queue::new(2 * PLACES).unwrap();
        let low = |at: u64| Some(u32::try_from(base + at).unwrap());
        queue.set_desc_table_address(low(Self::TABLE), None);
        queue.set_avail_ring_address(low(Self::AVAILABLE), None);
        queue.set_used_ring_address(low(Self::USED), None);
        queue.set_ready(true);
        let bell = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
        let ring = Ring::new(queue, 0, bell, Arc::new(Notifier::silent(1)));
        let side = Self { memory, base, offered: 0, taken: 0 };
        side.put(Self::AVAILABLE, &[0; 4]);
        side.put(Self::USED, &[0; 4]);
        (side, ring)
    }

    fn put(&self, at: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(self.base + at)).unwrap();
    }

    /// Makes one chain of one or two pieces available, if there is a place.
    fn offer(&mut self, bytes: &[u8], len: usize, cut: usize, flags: u16) -> bool {
        if self.offered.wrapping_sub(self.used()) >= PLACES {
            return false;
        }
        let place = self.offered % PLACES;
        let at = Self::PACKETS + Self::PACKET * u64::from(place);
        self.put(at, bytes);
        let head = 2 * place;
        let parts = [(0, cut, flags | 1, head + 1), (cut, len - cut, flags, 0)];
        for (index, (from, len, flags, next)) in (u64::from(head)..).zip(parts) {
            let address = self.base + at + from as u64;
            let descriptor =
                [&address.to_le_bytes()[..], &u32::try_from(len).unwrap().to_le_bytes()].concat();
            self.put(Self::TABLE + 16 * index, &descriptor);
            self.put(Self::TABLE + 16 * index + 12, [flags, next].map(u16::to_le_bytes).as_flattened());
        }
        self.put(Self::AVAILABLE + 4 + 2 * u64::from(self.offered % (2 * PLACES)), &head.to_le_bytes());
        self.offered = self.offered.wrapping_add(1);
        self.put(Self::AVAILABLE + 2, &self.offered.to_le_bytes());
        true
    }

    fn used(&self) -> u16 {
        self.memory.read_obj(GuestAddress(self.base + Self::USED + 2)).unwrap()
    }

    /// The next used chain's bytes.
    fn take(&mut self) -> Option<Vec<u8>> {
        if self.taken == self.used() {
            return None;
        }
        let at = self.base + Self::USED + 4 + 8 * u64::from(self.taken % (2 * PLACES));
        let [head, len]: [u32; 2] = self.memory.read_obj(GuestAddress(at)).unwrap();
        self.taken = self.taken.wrapping_add(1);
        let mut bytes = vec![0; usize::try_from(len).unwrap()];
        let at = self.base + Self::PACKETS + Self::PACKET * u64::from(head / 2);
        self.memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        Some(bytes)
    }
}

/// A guest and a session.
struct World<'m> {
    memory: &'m Memory,
    session: Session<'m>,
    receives: (Side<'m>, Ring),
    sends: (Side<'m>, Ring),
}

impl<'m> World<'m> {
    fn new(memory: &'m Memory, waiting: &'m Waiting) -> Self {
        let session = Session::new(waiting, GUEST).unwrap();
        Self { memory, session, receives: Side::new(memory, 0), sends: Side::new(memory, 1) }
    }

    /// Gives the session its turns until it has nothing more to do.
    fn settle(&mut self) {
        while self.session.turn(&mut self.receives.1, &mut self.sends.1, self.memory).unwrap() {}
    }

    /// The guest has room for packets of so many bytes.
    fn offer(&mut self, packets: usize, bytes: usize) {
        for _ in 0..packets {
            // Where there is no place for more, there is no more.
            let _ = self.receives.0.offer(&[], HEADER + bytes, 20, WRITE);
        }
    }

    fn say(&mut self, header: Header, payload: &[u8]) -> bool {
        self.say_raw(&guests(header, payload.len()), payload)
    }

    fn say_raw(&mut self, header: &[u8], payload: &[u8]) -> bool {
        let bytes = [header, payload].concat();
        self.sends.0.offer(&bytes, bytes.len(), bytes.len() / 2, 0)
    }

    /// What the guest was sent: headers as the guest would read them, payloads.
    fn heard(&mut self) -> Vec<(Header, Vec<u8>)> {
        let mut heard = Vec::new();
        while let Some(bytes) = self.receives.0.take() {
            let (header, payload) = bytes.split_at(HEADER);
            assert_eq!(
                payload.len(),
                usize::try_from(u32::from_le_bytes(header[24..28].try_into().unwrap())).unwrap()
            );
            heard.push((mirrored(header), payload.to_vec()));
        }
        heard
    }

    /// The next packet's operation, which is for these ports.
    fn hear(&mut self, operation: Operation) -> Header {
        self.settle();
        let heard = self.heard();
        let [(header, payload)] = &heard[..] else { panic!("{heard:?} instead of {operation:?}") };
        assert_eq!((header.operation, payload.len()), (operation, 0));
        *header
    }

    /// A caller who is through to port 7, and his connection.
    fn connected(&mut self, waiting: &Waiting, credit: Credit) -> (UnixStream, Ports) {
        let mut caller = waiting.call(b"CONNECT 7\n");
        self.offer(8, 1000);
        let Header { ports, credit: ours, .. } = self.hear(Operation::Request);
        assert_eq!((ports.guest, ours), (7, Credit { buffer: BUFFER, forwarded: 0 }));
        self.say(Header { ports, operation: Operation::Response, credit }, b"");
        self.settle();
        assert_eq!(words(&mut caller), format!("OK {}\n", ports.host).into_bytes());
        (caller, ports)
    }
}

/// A header as the guest sends it: as to the guest, with the sides exchanged.
fn guests(header: Header, payload: usize) -> [u8; HEADER] {
    let mut bytes = header.to_guest(GUEST.into(), u32::try_from(payload).unwrap());
    let (sources, others) = bytes.split_at_mut(8);
    sources.swap_with_slice(&mut others[..8]);
    let (sources, others) = bytes[16..].split_at_mut(4);
    sources.swap_with_slice(&mut others[..4]);
    bytes
}

/// What a header to the guest says.
fn mirrored(header: &[u8]) -> Header {
    let header: [u8; HEADER] = header.try_into().unwrap();
    assert_eq!(header[..16], [2_u64, GUEST.into()].map(u64::to_le_bytes).concat());
    let memory = memory();
    let mut bytes = header;
    bytes[..16].copy_from_slice(&[u64::from(GUEST), 2].map(u64::to_le_bytes).concat());
    bytes[16..20].copy_from_slice(&header[20..24]);
    bytes[20..24].copy_from_slice(&header[16..20]);
    bytes[24..28].fill(0);
    memory.write_slice(&bytes, GuestAddress(0)).unwrap();
    let mut span = Span::default();
    span.push(&memory, GuestAddress(0), HEADER).unwrap();
    Packet::parse(span, GUEST.into()).unwrap().header
}

/// All that there is to read.
fn words(caller: &mut UnixStream) -> Vec<u8> {
    let mut words = Vec::new();
    // It ends where nothing more is there yet, or ever.
    let _ = caller.read_to_end(&mut words);
    words
}

/// Whether nothing will come any more. Who leaves words unread leaves with an error.
fn is_hung_up_on(caller: &mut UnixStream) -> bool {
    match caller.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

const ROOM: Credit = Credit { buffer: 1 << 20, forwarded: 0 };

#[test]
fn a_caller_gets_through_and_talks() {
    let (memory, waiting) = (memory(), Waiting::new());
    let mut world = World::new(&memory, &waiting);
    let (mut caller, ports) = world.connected(&waiting, ROOM);
    caller.write_all(b"hello").unwrap();
    world.settle();
    let heard = world.heard();
    assert_eq!((heard[0].0.operation, &heard[0].1[..]), (Operation::Data, &b"hello"[..]));
    world.say(Header { ports, operation: Operation::Data, credit: ROOM }, b"good day");
    world.settle();
    assert_eq!(words(&mut caller), b"good day");
    // The caller is done, and the guest still speaks; then it is done too.
    caller.shutdown(Shutdown::Write).unwrap();
    world.hear(Operation::Shutdown { receive: false, send: true });
    world.say(Header { ports, operation: Operation::Data, credit: ROOM }, b"bye");
    world.say(
        Header { ports, operation: Operation::Shutdown { receive: true, send: true }, credit: ROOM },
        b"",
    );
    world.hear(Operation::Reset);
    assert_eq!(words(&mut caller), b"bye");
    assert!(is_hung_up_on(&mut caller));
    assert_eq!(world.session.counts(), (0, 0));
}

#[test]
fn who_calls_nobody_is_hung_up_on() {
    let (memory, waiting) = (memory(), Waiting::new());
    let mut world = World::new(&memory, &waiting);
    for nonsense in [&b"HELLO\n"[..], b"CONNECT x\n", b"CONNECT 99999999999999999999", b"\n"] {
        let mut caller = waiting.call(nonsense);
        world.settle();
        assert!(is_hung_up_on(&mut caller), "{}", nonsense.escape_ascii());
    }
    let mut caller = waiting.call(b"CONNECT 9\n");
    world.offer(4, 0);
    world.offer(4, 1);
    // A buffer without room for a byte is no driver's.
    assert!(world.session.turn(&mut world.receives.1, &mut world.sends.1, &memory).is_err());
    drop(world);
    assert!(is_hung_up_on(&mut caller));
    let mut world = World::new(&memory, &waiting);
    let mut caller = waiting.call(b"CONNECT 9\n");
    world.offer(4, 1);
    let Header { ports, .. } = world.hear(Operation::Request);
    world.say(Header { ports, operation: Operation::Reset, credit: ROOM }, b"");
    world.settle();
    assert!(is_hung_up_on(&mut caller) && world.heard().is_empty());
}

#[test]
fn what_a_guest_begins_is_refused_and_nonsense_too() {
    let (memory, waiting) = (memory(), Waiting::new());
    let mut world = World::new(&memory, &waiting);
    world.offer(40, 100);
    let ports = Ports { guest: 1000, host: 22 };
    for operation in [
        Operation::Request,
        Operation::Response,
        Operation::Shutdown { receive: true, send: true },
        Operation::Data,
        Operation::CreditRequest,
    ] {
        world.say(Header { ports, operation, credit: ROOM }, b"");
        assert_eq!(world.hear(Operation::Reset).ports, ports);
    }
    let good = guests(Header { ports, operation: Operation::Request, credit: ROOM }, 5);
    let changed = |at: usize, byte: u8| {
        let mut bytes = good;
        bytes[at] = byte;
        bytes
    };
    // Too long for its chain, another type, an operation that is none.
    for bytes in [changed(24, 6), changed(27, 0xff), changed(28, 2), changed(30, 0), changed(30, 8)] {
        world.say_raw(&bytes, b"12345");
        assert_eq!(world.hear(Operation::Reset).ports, ports);
    }
    // Of another guest's, to another host, too short, a refusal.
    let mut refusal = changed(30, 3);
    for bytes in [&changed(0, 9)[..], &changed(8, 3), &good[..HEADER - 1], &refusal] {
        world.say_raw(bytes, b"");
    }
    refusal[28] = 9;
    world.say_raw(&refusal, b"");
    world.settle();
    assert_eq!((world.heard().len(), world.sends.0.used()), (0, world.sends.0.offered));
}

#[test]
fn the_guest_is_sent_no_more_than_it_has_room_for() {
    let (memory, waiting) = (memory(), Waiting::new());
    let mut world = World::new(&memory, &waiting);
    let (mut caller, ports) = world.connected(&waiting, Credit { buffer: 10, forwarded: 0 });
    caller.write_all(&[b'x'; 25]).unwrap();
    world.settle();
    let said = |world: &mut World<'_>| {
        world.heard().into_iter().map(|(header, bytes)| (header.operation, bytes.len())).collect::<Vec<_>>()
    };
    assert_eq!(said(&mut world), [(Operation::Data, 10), (Operation::CreditRequest, 0)]);
    world.say(
        Header { ports, operation: Operation::CreditUpdate, credit: Credit { buffer: 10, forwarded: 8 } },
        b"",
    );
    world.settle();
    assert_eq!(said(&mut world), [(Operation::Data, 8), (Operation::CreditRequest, 0)]);
    // One that has taken what it was never sent stalls itself.
    world.say(
        Header { ports, operation: Operation::CreditUpdate, credit: Credit { buffer: 10, forwarded: 19 } },
        b"",
    );
    world.settle();
    assert_eq!(said(&mut world), []);
    world.say(
        Header { ports, operation: Operation::CreditUpdate, credit: Credit { buffer: 1000, forwarded: 18 } },
        b"",
    );
    world.settle();
    assert_eq!(said(&mut world), [(Operation::Data, 7)]);
}

#[test]
fn what_nobody_takes_is_bounded_by_what_the_guest_was_told() {
    let (memory, waiting) = (memory(), Waiting::new());
    let mut world = World::new(&memory, &waiting);
    let (mut caller, ports) = world.connected(&waiting, ROOM);
    let data = Header { ports, operation: Operation::Data, credit: ROOM };
    let payload = [7; 2048];
    // The socket takes some, the connection the rest.
    let (mut sent, mut told) = (0, 0);
    for _ in 0..1000 {
        if sent + payload.len() > told + BUFFER as usize {
            break;
        }
        world.say(data, &payload);
        sent += payload.len();
        world.settle();
        for (header, _) in world.heard() {
            assert_eq!(header.operation, Operation::CreditUpdate);
            told = header.credit.forwarded as usize;
        }
        world.offer(1, 100);
    }
    assert!(told > 0 && world.session.counts().0 == 1);
    // Beyond that it is a lie, or soon will be: the guest is told late how much was taken.
    let lies = (0..BUFFER as usize / payload.len()).find(|_| {
        world.say(data, &payload);
        world.settle();
        sent += payload.len();
        world.heard().iter().any(|(header, _)| header.operation == Operation::Reset)
    });
    assert_eq!((lies.is_some(), world.session.counts()), (true, (0, 0)));
    assert!(words(&mut caller).len() <= sent);

    // Where it is taken, it goes on and on.
    let (mut caller, ports) = world.connected(&waiting, ROOM);
    let data = Header { ports, operation: Operation::Data, credit: ROOM };
    let mut taken = 0;
    for _ in 0..200 {
        world.say(data, &payload);
        world.settle();
        taken += words(&mut caller).len();
        world.heard();
        world.offer(1, 100);
    }
    assert_eq!(taken, 200 * payload.len());
}

#[test]
fn refusals_wait_for_the_guest_and_it_for_them() {
    let (memory, waiting) = (memory(), Waiting::new());
    let mut world = World::new(&memory, &waiting);
    let mut said = 0;
    for port in 0..300 {
        let ports = Ports { guest: port, host: 1 };
        said += u16::from(world.say(Header { ports, operation: Operation::Request, credit: ROOM }, b""));
        world.settle();
        assert!(world.session.counts().1 <= 64);
    }
    assert_eq!((world.session.counts().1, said), (64, 64 + PLACES));
    let mut refused = 0;
    for _ in 0..20 {
        world.offer(10, 1);
        world.settle();
        refused += world.heard().len();
    }
    assert_eq!((refused, world.session.counts()), (usize::from(said), (0, 0)));
}

#[test]
fn callers_are_bounded_and_who_waits_comes_in_later() {
    let (memory, waiting) = (memory(), Waiting::new());
    let mut world = World::new(&memory, &waiting);
    let mut callers: Vec<_> = (0..MOST_CONNECTIONS + 3).map(|_| waiting.call(b"CONNECT 5\n")).collect();
    world.settle();
    assert_eq!((world.session.counts().0, lock(&waiting.callers).len()), (MOST_CONNECTIONS, 3));
    callers.drain(..MOST_CONNECTIONS);
    world.settle();
    // The guest never heard of those who are gone.
    assert_eq!((world.session.counts(), lock(&waiting.callers).len()), ((3, 0), 0));
    world.offer(8, 100);
    world.settle();
    let mut ports: Vec<_> = world.heard().into_iter().map(|(header, _)| header.ports.host).collect();
    ports.dedup();
    assert_eq!(ports.len(), 3);
}

#[test]
fn whatever_a_guest_sends_and_callers_do_all_stays_bounded() {
    for seed in 0..60 {
        let (memory, waiting) = (memory(), Waiting::new());
        let mut world = World::new(&memory, &waiting);
        let mut random = Random::new(seed);
        let mut callers: Vec<UnixStream> = Vec::new();
        for _ in 0..400 {
            match random.below(8) {
                0 => callers.push(waiting.call(b"CONNECT 1\n")),
                1 if !callers.is_empty() => {
                    let index = usize::try_from(random.below(callers.len() as u64)).unwrap();
                    let mut caller = callers.swap_remove(index);
                    let _ = caller.write(&[1; 3000]);
                    if random.below(3) > 0 {
                        callers.push(caller);
                    }
                }
                2 => callers.iter_mut().for_each(|caller| drop(words(caller))),
                3 => world.offer(usize::from(random.small(6)), 1 + usize::from(random.small(2000))),
                4 => drop(world.heard()),
                _ => {
                    let ports = Ports { guest: 1, host: (1 << 30) + u32::from(random.small(6)) };
                    let credit = Credit { buffer: random.edge32(), forwarded: random.edge32() };
                    let header = Header { ports, operation: Operation::Data, credit };
                    let payload = vec![9; usize::from(random.small(3000))];
                    let mut bytes = guests(header, payload.len());
                    bytes[30] = u8::try_from(random.below(9)).unwrap();
                    bytes[32] = u8::try_from(random.below(4)).unwrap();
                    if random.below(16) == 0 {
                        bytes[usize::from(random.small(44))] = random.bytes::<1>()[0];
                    }
                    world.say_raw(&bytes, &payload);
                }
            }
            world.settle();
            let (lines, refusals) = world.session.counts();
            assert!(lines <= MOST_CONNECTIONS && refusals <= 64 + MOST_CONNECTIONS, "seed {seed}");
        }
    }
}

#[test]
fn a_packet_is_what_the_specification_says() {
    let header = Header {
        ports: Ports { guest: 0x0102, host: 0x0304 },
        operation: Operation::Shutdown { receive: false, send: true },
        credit: Credit { buffer: 5, forwarded: 6 },
    };
    let expected = [
        &2_u64.to_le_bytes()[..],
        &3_u64.to_le_bytes(),
        &[0x0304_u32, 0x0102, 9].map(u32::to_le_bytes).concat(),
        &[1_u16, 4].map(u16::to_le_bytes).concat(),
        &[2_u32, 5, 6].map(u32::to_le_bytes).concat(),
    ];
    assert_eq!(header.to_guest(3, 9)[..], expected.concat());
    let memory = memory();
    memory.write_slice(&guests(header, 0), GuestAddress(0)).unwrap();
    let span = |len| {
        let mut span = Span::default();
        span.push(&memory, GuestAddress(0), len).unwrap();
        span
    };
    assert_eq!(Packet::parse(span(HEADER), 3).unwrap().header, header);
    assert_eq!(Packet::parse(span(HEADER), 4).unwrap_err(), Refusal::Ignored);
    assert_eq!(Packet::parse(span(HEADER - 1), 3).unwrap_err(), Refusal::Ignored);
}
