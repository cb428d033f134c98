//! A machine's PCI side, and a guest that reads and writes anything in it in any width: configuration space both ways, MSI-X
//! tables, virtio registers, doorbells, and its own memory, in which the devices find their rings.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use devices::bus::{Bus, BusDevice};
use devices::interrupts::{Doorbells, Message, Messages};
use devices::limits::{Limiter, Limits};
use devices::memory::{Memory, Piece};
use devices::pci::{BUS_BYTES, ConfigPorts, HostBridge, Root, slots};
use devices::virtio::balloon::{Balloon, Reclaim};
use devices::virtio::block::{Backend, Block};
use devices::virtio::device::Device;
use devices::virtio::net::{Link, Net, Offloads, Traffic};
use devices::virtio::pci::{Function, MEMORY_BYTES};
use devices::virtio::rng::{Entropy, Rng};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::input::Input;

const MEMORY: usize = 0x1_0000;
const WINDOW: u32 = 0xc000_0000;
const ECAM: u32 = 0xe000_0000;
/// Accesses of one guest.
const MOST: usize = 512;

/// The host's side of everything: it takes and gives, and refuses nothing.
struct Host(EventFd);

impl Messages for Host {
    fn send(&self, _: Message) {}
}

impl Doorbells for Host {
    fn attach(&self, _: u64, _: &EventFd) -> io::Result<()> {
        Ok(())
    }
    fn detach(&self, _: u64, _: &EventFd) -> io::Result<()> {
        Ok(())
    }
}

impl Backend for Host {
    fn size(&self) -> u64 {
        1 << 20
    }
    fn read(&self, offset: u64, into: &[Piece<'_>]) -> io::Result<()> {
        self.check(offset, into)
    }
    fn write(&self, offset: u64, from: &[Piece<'_>]) -> io::Result<()> {
        self.check(offset, from)
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.size()));
        Ok(())
    }
    fn write_zeroes(&self, offset: u64, len: u64, _: bool) -> io::Result<()> {
        self.discard(offset, len)
    }
}

impl Host {
    /// What a device asks of a disk lies on it.
    fn check(&self, offset: u64, pieces: &[Piece<'_>]) -> io::Result<()> {
        let len: usize = pieces.iter().map(Piece::len).sum();
        let end = u64::try_from(len).ok().and_then(|len| offset.checked_add(len));
        assert!(end.is_some_and(|end| end <= self.size()), "{offset} + {len}");
        Ok(())
    }
}

impl Link for Host {
    fn queues(&self) -> usize {
        3
    }
    fn event(&self, _: usize) -> RawFd {
        self.0.as_raw_fd()
    }
    fn receive(&self, _: usize, _: &[Piece<'_>]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
    fn send(&self, _: usize, _: &[Piece<'_>]) -> io::Result<()> {
        Ok(())
    }
    fn segments_udp(&self) -> bool {
        true
    }
    fn set_offloads(&self, _: Offloads) -> io::Result<()> {
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

impl Reclaim for Sevens {
    fn reclaim(&mut self, piece: &Piece<'_>) -> io::Result<()> {
        // A page of the guest's, as the host may leave it.
        piece.copy_from(&[0_u8; 64]);
        Ok(())
    }
}

/// Memory, and everything that is on the buses.
fn build() -> Option<(Memory, Bus, Bus)> {
    let memory = Memory::from_ranges(&[(GuestAddress(0), MEMORY)]).ok()?;
    let host = Arc::new(Host(EventFd::new(EFD_NONBLOCK).ok()?));
    let mut root = Root::new(WINDOW, ECAM);
    root.insert(slots::HOST_BRIDGE, Arc::new(HostBridge::default())).ok()?;
    let limiter = Arc::new(Limiter::new(Limits::default()).ok()?);
    let traffic = Arc::new(Traffic::new(Limits::default()).ok()?);
    let devices: [(u8, Box<dyn Device>); 4] = [
        (slots::ENTROPY, Box::new(Rng(Sevens))),
        (slots::disk(0)?, Box::new(Block::new(host.clone(), limiter, "vol0123456789abcdef0", false, 2))),
        (slots::nic(0)?, Box::new(Net::new(host.clone(), traffic, [2, 0, 0, 0, 0, 1], 1500))),
        (slots::BALLOON, Box::new(Balloon(Sevens))),
    ];
    for (slot, device) in devices {
        let base = root.place(MEMORY_BYTES).ok()?;
        let requester = Root::requester(slot);
        let function =
            Function::new(device, requester, base, memory.clone(), host.clone(), host.clone()).ok()?;
        root.insert(slot, Arc::new(function)).ok()?;
    }
    let (ecam, window) = root.finish();
    let (mut ports, mut addresses) = (Bus::default(), Bus::default());
    ports.insert(ConfigPorts::FIRST, ConfigPorts::LEN, Arc::new(ConfigPorts::new(ecam.clone()))).ok()?;
    addresses.insert(u64::from(ECAM), BUS_BYTES, ecam as Arc<dyn BusDevice>).ok()?;
    addresses.insert(u64::from(WINDOW), u64::from(ECAM - WINDOW), window).ok()?;
    Some((memory, ports, addresses))
}

/// Accesses: which and how wide, where, what.
pub(crate) fn target(bytes: &[u8]) {
    let Some((memory, ports, addresses)) = build() else { return };
    let mut input = Input(bytes);
    for _ in 0..MOST {
        let Some(how) = input.next() else { return };
        let width = usize::from(how >> 5) + 1;
        let mut data = [0; 8];
        match how % 8 {
            0 => drop(memory.write_slice(input.piece(), GuestAddress(input.half().into()))),
            1 => ports.read(ConfigPorts::FIRST + u64::from(input.byte() % 8), &mut data[..width]),
            2 => ports.write(ConfigPorts::FIRST + u64::from(input.byte() % 8), &input.bytes::<8>()[..width]),
            3 => addresses.read(configuration(&mut input), &mut data[..width]),
            4 => addresses.write(configuration(&mut input), &input.bytes::<8>()[..width]),
            5 => addresses.read(registers(&mut input), &mut data[..width]),
            _ => addresses.write(registers(&mut input), &input.bytes::<8>()[..width]),
        }
    }
}

/// An address in the configuration space of bus 0, more often than not of a device.
fn configuration(input: &mut Input<'_>) -> u64 {
    let slot = match input.byte() % 6 {
        0 => 0,
        1 => 1,
        2 => 4,
        3 => 5,
        4 => slots::BALLOON,
        _ => input.byte() % 32,
    };
    u64::from(ECAM) + (u64::from(slot) << 15) + u64::from(input.half() % 0x1010)
}

/// An address in the functions' memory, which begins at the window's start.
fn registers(input: &mut Input<'_>) -> u64 {
    let function = u64::from(input.byte() % 4);
    u64::from(WINDOW) + function * u64::from(MEMORY_BYTES) + u64::from(input.half() % 0x4008)
}
