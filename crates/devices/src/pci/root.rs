//! The root of PCI: bus 0, the configuration space of it and of the buses below by ECAM, and the window in
//! which all functions' memory lies.
//!
//! [`Ecam`] and [`Window`] are the two bus devices that the monitor puts at their addresses;
//! [`ConfigPorts`] is a PC's older way to the same configuration space. The guest moves the functions'
//! memory inside the window as it likes; each function knows where it is and answers for itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::config_space::{ConfigSpace, Identity};
use super::slots;
use crate::bus::BusDevice;

/// Bytes of ECAM for one bus: 32 devices, 8 functions, 4096 bytes (PCI Express 5.0, 7.2.2).
pub const BUS_BYTES: u64 = 1 << 20;

/// One PCI function, function 0 of its device.
pub trait Function: Send + Sync {
    /// The guest reads configuration space at `offset`, below 4096.
    fn read_config(&self, offset: usize, data: &mut [u8]);
    /// The guest writes configuration space.
    fn write_config(&self, offset: usize, data: &[u8]);
    /// Where in the function's memory this address lies, as long as the guest lets it answer there.
    fn claims(&self, address: u64) -> Option<u64>;
    /// The guest reads the function's memory.
    fn read_memory(&self, offset: u64, data: &mut [u8]);
    /// The guest writes the function's memory.
    fn write_memory(&self, offset: u64, data: &[u8]);
    /// Of a bridge that leads to this bus: the function there, the only one.
    fn behind(&self, _bus: u8) -> Option<Arc<dyn Function>> {
        None
    }
    /// The function is on this bus now; its requester id changes with that.
    fn set_bus(&self, _bus: u8) {}
}

/// A slot has a device already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PCI slot {0:#x} of bus 0 is taken or does not exist")]
pub struct SlotTaken(u8);

/// The window has no room for another device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("The PCI memory window has no room for {0:#x} more bytes")]
pub struct NoRoom(u32);

/// Bus 0, while it is filled.
pub struct Root {
    functions: [Option<Arc<dyn Function>>; slots::COUNT as usize],
    start: u32,
    free: u32,
    end: u32,
}

impl Root {
    /// An empty bus, whose functions' memory is placed from `start` to below `end`.
    pub fn new(start: u32, end: u32) -> Self {
        Self { functions: Default::default(), start, free: start, end }
    }

    /// A place for memory of `size` bytes (a power of two) in the window, aligned to its size.
    pub fn place(&mut self, size: u32) -> Result<u32, NoRoom> {
        let no_room = NoRoom(size);
        let base = self.free.checked_next_multiple_of(size).ok_or(no_room)?;
        self.free = base.checked_add(size).filter(|end| *end <= self.end).ok_or(no_room)?;
        Ok(base)
    }

    /// Puts a function into a slot.
    pub fn insert(&mut self, slot: u8, function: Arc<dyn Function>) -> Result<(), SlotTaken> {
        let place =
            self.functions.get_mut(usize::from(slot)).filter(|p| p.is_none()).ok_or(SlotTaken(slot))?;
        *place = Some(function);
        Ok(())
    }

    /// The requester id of a slot's function 0 on bus 0.
    pub const fn requester(slot: u8) -> u16 {
        (slot as u16) << 3
    }

    /// The requester id of the one function on another bus.
    pub const fn requester_behind(bus: u8) -> u16 {
        (bus as u16) << 8
    }

    /// The bus is complete: its two faces.
    pub fn finish(self) -> (Arc<Ecam>, Arc<Window>) {
        let functions: Arc<[_]> = self.functions.into();
        let window = Window { start: u64::from(self.start), functions: functions.clone() };
        (Arc::new(Ecam { functions }), Arc::new(window))
    }
}

/// The configuration space of everything, as memory.
pub struct Ecam {
    functions: Arc<[Option<Arc<dyn Function>>]>,
}

impl Ecam {
    /// Accesses the register at this offset, where there is a function to have it.
    fn access(&self, offset: u64, access: impl FnOnce(&dyn Function, usize)) -> Option<()> {
        let bus = u8::try_from(offset >> 20).ok()?;
        let slot = usize::try_from(offset >> 15 & 0x1f).ok()?;
        let function = offset >> 12 & 0x7;
        let register = usize::try_from(offset & 0xfff).ok()?;
        match (bus, slot, function) {
            (0, _, 0) => access(self.functions.get(slot)?.as_deref()?, register),
            (_, 0, 0) => {
                let card = self.functions.iter().flatten().find_map(|bridge| bridge.behind(bus))?;
                access(card.as_ref(), register);
            }
            _ => return None,
        }
        Some(())
    }
}

impl BusDevice for Ecam {
    fn read(&self, offset: u64, data: &mut [u8]) {
        // All bits set is how a missing device answers.
        data.fill(0xff);
        self.access(offset, |function, register| function.read_config(register, data));
    }

    fn write(&self, offset: u64, data: &[u8]) {
        self.access(offset, |function, register| function.write_config(register, data));
    }
}

/// Configuration mechanism #1 (PCI 3.0, 3.2.2.3.2): an address port and, behind it, a data port.
///
/// Linux does without, but says "Fatal: No config space access function found" on its console before it
/// has read the tables that name the ECAM.
pub struct ConfigPorts {
    ecam: Arc<Ecam>,
    address: AtomicU32,
}

impl ConfigPorts {
    /// The first of the eight ports, and their number.
    pub const FIRST: u64 = 0xcf8;
    /// How many there are.
    pub const LEN: u64 = 8;
    /// Offset of the data port.
    const DATA: u64 = 4;
    /// Bit of the address by which the data port answers.
    const ENABLE: u32 = 1 << 31;

    /// Ports to the same configuration space.
    pub fn new(ecam: Arc<Ecam>) -> Self {
        Self { ecam, address: AtomicU32::new(0) }
    }

    /// The address port, to be saved.
    pub fn address(&self) -> u32 {
        self.address.load(Ordering::Relaxed)
    }

    /// The address port as it was when it was saved.
    pub fn set_address(&self, address: u32) {
        self.address.store(address, Ordering::Relaxed);
    }

    /// What an access to the data port means in the ECAM: bus, device and function move up four bits.
    fn target(&self, offset: u64, len: usize) -> Option<u64> {
        let address = self.address.load(Ordering::Relaxed);
        let within = offset.checked_sub(Self::DATA).filter(|within| within + len as u64 <= 4)?;
        let place = u64::from(address & 0xff_ff00) << 4 | u64::from(address & 0xfc);
        (address & Self::ENABLE != 0).then_some(place + within)
    }
}

impl BusDevice for ConfigPorts {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let Some(place) = self.target(offset, data.len()) {
            self.ecam.read(place, data);
        } else if let (0, 4) = (offset, data.len()) {
            data.copy_from_slice(&self.address.load(Ordering::Relaxed).to_le_bytes());
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let Some(place) = self.target(offset, data.len()) {
            self.ecam.write(place, data);
        } else if let (0, &[a, b, c, d]) = (offset, data) {
            // Only whole words are an address.
            self.address.store(u32::from_le_bytes([a, b, c, d]), Ordering::Relaxed);
        }
    }
}

/// The window in which functions' memory lies.
pub struct Window {
    start: u64,
    functions: Arc<[Option<Arc<dyn Function>>]>,
}

impl Window {
    fn find(&self, offset: u64) -> Option<(&dyn Function, u64)> {
        let address = self.start.checked_add(offset)?;
        self.functions.iter().flatten().find_map(|f| Some((f.as_ref(), f.claims(address)?)))
    }
}

impl BusDevice for Window {
    fn read(&self, offset: u64, data: &mut [u8]) {
        match self.find(offset) {
            Some((function, within)) => function.read_memory(within, data),
            None => data.fill(0xff),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let Some((function, within)) = self.find(offset) {
            function.write_memory(within, data);
        }
    }
}

/// Slot 0: says that this is a PCI Express host bridge, and nothing more. Red Hat's id for QEMU's generic
/// one, which Linux knows and needs no driver for.
pub struct HostBridge(ConfigSpace);

impl Default for HostBridge {
    fn default() -> Self {
        Self(ConfigSpace::new(Identity {
            vendor: 0x1b36,
            device: 0x0008,
            revision: 0,
            class: 0x06_00_00,
            subsystem: (0x1af4, 0x1100),
        }))
    }
}

impl Function for HostBridge {
    fn read_config(&self, offset: usize, data: &mut [u8]) {
        self.0.read(offset, data);
    }
    fn write_config(&self, _offset: usize, _data: &[u8]) {}
    fn claims(&self, _address: u64) -> Option<u64> {
        None
    }
    fn read_memory(&self, _offset: u64, _data: &mut [u8]) {}
    fn write_memory(&self, _offset: u64, _data: &[u8]) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interrupts::{Message, Messages};
    use crate::pci::Port;

    struct Nowhere;
    impl Messages for Nowhere {
        fn send(&self, _message: Message) {}
    }

    #[test]
    fn buses_lead_to_the_cards_behind_their_ports() {
        let mut root = Root::new(0xc000_0000, 0xd000_0000);
        let port = |slot, bus, window, card| {
            Arc::new(Port::new(slot, bus, window, card, Arc::new(Nowhere), Box::new(|| {})))
        };
        let (first, second) =
            (root.place(Port::WINDOW_BYTES).unwrap(), root.place(Port::WINDOW_BYTES).unwrap());
        let (empty, full) =
            (port(8, 1, first, None), port(9, 2, second, Some(Arc::new(HostBridge::default()))));
        root.insert(8, empty.clone()).unwrap();
        root.insert(9, full.clone()).unwrap();
        let (ecam, window) = root.finish();
        let id = |bus: u64, slot: u64| {
            let mut data = [0; 4];
            ecam.read(bus << 20 | slot << 15, &mut data);
            u32::from_le_bytes(data)
        };
        assert_eq!((id(0, 8), id(0, 9)), (0x000c_1b36, 0x000c_1b36));
        // Bus 2 has one card, bus 1 none, bus 3 does not exist.
        assert_eq!([id(1, 0), id(2, 0), id(2, 1), id(3, 0)], [u32::MAX, 0x0008_1b36, u32::MAX, u32::MAX]);
        empty.insert(full.pull().unwrap()).unwrap();
        assert_eq!([id(1, 0), id(2, 0)], [0x0008_1b36, u32::MAX]);
        // Both ports to one bus: one of the cards answers.
        ecam.write(9 << 15 | 0x19, &[1]);
        assert_eq!(id(1, 0), 0x0008_1b36);
        // Bus 0 is above, never below.
        ecam.write(8 << 15 | 0x18, &[0; 3]);
        assert_eq!((id(0, 0), id(1, 0)), (u32::MAX, u32::MAX));
        crate::testing::poke(ecam.as_ref(), 4 * BUS_BYTES, 20_000);
        crate::testing::poke(window.as_ref(), 0x40_0000, 20_000);
    }

    #[test]
    fn only_what_is_there_answers() {
        let mut root = Root::new(0xc000_0000, 0xc001_0000);
        root.insert(0, Arc::new(HostBridge::default())).unwrap();
        assert_eq!(root.insert(0, Arc::new(HostBridge::default())), Err(SlotTaken(0)));
        assert_eq!(root.insert(32, Arc::new(HostBridge::default())), Err(SlotTaken(32)));
        assert_eq!(root.place(0x1000), Ok(0xc000_0000));
        assert_eq!(root.place(0x4000), Ok(0xc000_4000));
        assert_eq!(root.place(0x1_0000), Err(NoRoom(0x1_0000)));
        let (ecam, window) = root.finish();
        let id = |offset| {
            let mut data = [0; 4];
            ecam.read(offset, &mut data);
            u32::from_le_bytes(data)
        };
        assert_eq!(id(0), 0x0008_1b36);
        for absent in [1 << 12, 1 << 15, 1 << 20, u64::MAX - 3] {
            assert_eq!(id(absent), u32::MAX, "at {absent:#x}");
        }
        let ports = ConfigPorts::new(ecam.clone());
        let mut data = [0; 4];
        ports.read(4, &mut data);
        assert_eq!(data, [0xff; 4]); // no address yet
        ports.write(3, &[0x80]);
        ports.write(0, &0x8000_0000_u32.to_le_bytes());
        ports.read(0, &mut data);
        assert_eq!(u32::from_le_bytes(data), 0x8000_0000);
        ports.read(4, &mut data);
        assert_eq!(u32::from_le_bytes(data), 0x0008_1b36);
        ports.read(6, &mut data[..2]);
        assert_eq!(data[..2], [8, 0]);
        crate::testing::poke(&ports, ConfigPorts::LEN, 10_000);
        crate::testing::poke(ecam.as_ref(), 2 * BUS_BYTES, 10_000);
        crate::testing::poke(window.as_ref(), 0x1_0000, 10_000);
    }
}
