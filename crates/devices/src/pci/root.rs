//! The root of PCI: bus 0, its configuration space by ECAM, and the window in which its functions' memory lies.
//!
//! [`Ecam`] and [`Window`] are the two bus devices that the monitor puts at their addresses. The guest moves the
//! functions' memory inside the window as it likes; each function knows where it is and answers for itself.

use std::sync::Arc;

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
    fn find(&self, offset: u64) -> Option<(&dyn Function, usize)> {
        let bus = offset >> 20;
        let slot = usize::try_from(offset >> 15 & 0x1f).ok()?;
        let function = offset >> 12 & 0x7;
        let register = usize::try_from(offset & 0xfff).ok()?;
        let found = self.functions.get(slot)?.as_deref().filter(|_| bus == 0 && function == 0)?;
        Some((found, register))
    }
}

impl BusDevice for Ecam {
    fn read(&self, offset: u64, data: &mut [u8]) {
        match self.find(offset) {
            Some((function, register)) => function.read_config(register, data),
            // All bits set is how a missing device answers.
            None => data.fill(0xff),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let Some((function, register)) = self.find(offset) {
            function.write_config(register, data);
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

/// Slot 0: says that this is a PCI Express host bridge, and nothing more. Red Hat's id for QEMU's generic one, which
/// Linux knows and needs no driver for.
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
        crate::testing::poke(ecam.as_ref(), 2 * BUS_BYTES, 10_000);
        crate::testing::poke(window.as_ref(), 0x1_0000, 10_000);
    }
}
