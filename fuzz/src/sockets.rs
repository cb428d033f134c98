//! Packets of a guest to its sockets, and callers who come, talk and go.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use devices::interrupts::{Message, Messages};
use devices::memory::Memory;
use devices::virtio::pci::Notifier;
use devices::virtio::queue::Ring;
use devices::virtio::vsock::packet::HEADER;
use devices::virtio::vsock::{Caller, Callers, FIRST_GUEST, MOST_CONNECTIONS, Session};
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::mock::MockSplitQueue;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::input::Input;

/// Bytes of the guest's memory: two rings, then room for packets.
const MEMORY: usize = 0x4_0000;
const PACKETS: u64 = 0x8000;
/// Descriptors of a ring; as many chains are made at most.
const SIZE: u16 = 128;
const WRITE: u16 = 2;

struct Nowhere;

impl Messages for Nowhere {
    fn send(&self, _: Message) {}
}

struct Office {
    event: EventFd,
    waiting: Mutex<Vec<UnixStream>>,
}

impl Callers for Office {
    fn event(&self) -> RawFd {
        self.event.as_raw_fd()
    }
    fn next(&self) -> io::Result<Box<dyn Caller>> {
        let caller = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Ok(Box::new(caller.ok_or(io::ErrorKind::WouldBlock)?))
    }
}

/// What happens, one thing after the other.
pub(crate) fn target(bytes: &[u8]) {
    let Ok(memory) = Memory::from_ranges(&[(GuestAddress(0), MEMORY)]) else { return };
    let Ok(event) = EventFd::new(EFD_NONBLOCK) else { return };
    let office = Office { event, waiting: Mutex::default() };
    let Ok(mut session) = Session::new(&office, FIRST_GUEST) else { return };
    let mocks = [0, 0x4000].map(|at| MockSplitQueue::create(&memory, GuestAddress(at), SIZE));
    let [Some(mut to_guest), Some(mut from_guest)] = mocks.each_ref().map(ring) else { return };
    let [receives, sends] = &mocks;
    let (mut input, mut outside) = (Input(bytes), Vec::new());
    let (mut offered, mut said) = (0, 0);
    while let Some(how) = input.next() {
        match how % 6 {
            0 => outside.extend(call(&office, &mut input)),
            1 => talk(&mut outside, &mut input),
            2 if offered < SIZE => {
                let len = u32::try_from(HEADER).unwrap_or(0) + u32::from(input.half() % 3000);
                let buffer = Descriptor::new(PACKETS + u64::from(input.half()), len, WRITE, 0);
                let _ = receives.add_desc_chains(&[RawDescriptor::from(buffer)], offered);
                offered += 1;
            }
            3.. if said < SIZE => {
                let len = say(&memory, &mut input);
                let packet = Descriptor::new(PACKETS, len, 0, 0);
                let _ = sends.add_desc_chains(&[RawDescriptor::from(packet)], said);
                said += 1;
            }
            _ => {}
        }
        for _ in 0..8 {
            match session.turn(&mut to_guest, &mut from_guest, &memory) {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => return,
            }
        }
        let (connections, refusals) = session.counts();
        assert!(
            connections <= MOST_CONNECTIONS && refusals <= 64 + MOST_CONNECTIONS,
            "{connections}, {refusals}"
        );
    }
}

fn ring(mock: &MockSplitQueue<'_, Memory>) -> Option<Ring> {
    let bell = Arc::new(EventFd::new(EFD_NONBLOCK).ok()?);
    Some(Ring::new(mock.create_queue().ok()?, 0, bell, Arc::new(Notifier::new(1, Arc::new(Nowhere), 8))))
}

/// Somebody calls; his end.
fn call(office: &Office, input: &mut Input<'_>) -> Option<UnixStream> {
    let (mut ours, theirs) = UnixStream::pair().ok()?;
    ours.set_nonblocking(true).ok()?;
    theirs.set_nonblocking(true).ok()?;
    let words = if input.byte().is_multiple_of(4) { input.piece() } else { b"CONNECT 1\n" };
    ours.write_all(words).ok()?;
    office.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(theirs);
    Some(ours)
}

/// One of them writes, reads, is done or hangs up.
fn talk(outside: &mut Vec<UnixStream>, input: &mut Input<'_>) {
    let at = usize::from(input.byte()) % outside.len().max(1);
    let Some(one) = outside.get_mut(at) else { return };
    // Whether it succeeds is all the same.
    match input.byte() % 4 {
        0 => drop(one.write(&[7; 3000])),
        1 => drop(one.read(&mut [0; 3000])),
        2 => drop(one.shutdown(Shutdown::Write)),
        _ => drop(outside.swap_remove(at)),
    }
}

/// Puts a packet of the guest's into memory, more often than not of a connection that there is; its length.
fn say(memory: &Memory, input: &mut Input<'_>) -> u32 {
    let mut header = [0; HEADER];
    header[0] = 3; // from the guest
    header[8] = 2; // to the host
    header[16] = 1; // by its port 1
    header[20..24].copy_from_slice(&(u32::from(input.byte() % 4) + (1 << 30)).to_le_bytes());
    let len = input.half() % 2048;
    header[24..26].copy_from_slice(&len.to_le_bytes());
    header[28] = 1; // a stream
    header[30] = input.byte() % 9;
    header[32] = input.byte() % 4;
    header[36..].copy_from_slice(&input.bytes::<8>());
    if input.byte().is_multiple_of(8) {
        header[usize::from(input.byte()) % HEADER] = input.byte();
    }
    // What does not fit is not written.
    let _ = memory.write_slice(&header, GuestAddress(PACKETS));
    u32::try_from(HEADER).unwrap_or(0)
        + u32::from(if input.byte().is_multiple_of(8) { input.half() % 4096 } else { len })
}
