//! A function's configuration space: a register file in which each bit is either the guest's to write or not.
//!
//! 256 bytes, declared while the function is built (identity, base address register, capabilities);
//! afterwards the guest reads and writes it at any width and offset, and every question ("is memory
//! decoding on? where?") is answered from the bytes themselves, so there is no second copy that could
//! disagree. The extended space above reads as zeros: no extended capability. Layout: PCI Local Bus 3.0,
//! chapter 6; of bridges: PCI-to-PCI Bridge Architecture 1.2, chapter 3.

use std::ops::Range;

/// Bytes of configuration space that every function has.
const LEN: usize = 256;

/// Offset of the command register.
pub const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const HEADER_TYPE: usize = 0x0e;
const BAR0: usize = 0x10;
const SUBSYSTEM: usize = 0x2c;
const CAPABILITIES: usize = 0x34;
const INTERRUPT_LINE: usize = 0x3c;
const FIRST_CAPABILITY: usize = 0x40;

/// Of a bridge: the numbers of the bus above, of the one below, and of the last below that.
const BUSES: usize = 0x18;
const SECONDARY_BUS: usize = 0x19;
/// Of a bridge: bits 31 to 20 of the first and the last address of its window, in bits 15 to 4.
const MEMORY_BASE: usize = 0x20;
const MEMORY_LIMIT: usize = 0x22;
const HEADER_TYPE_BRIDGE: u8 = 1;

const STATUS_HAS_CAPABILITIES: u8 = 1 << 4;

/// Bits of the command register.
pub mod command {
    /// The function answers in memory space.
    pub const MEMORY: u16 = 1 << 1;
    /// The function may write to memory by itself.
    pub const BUS_MASTER: u16 = 1 << 2;
    /// The function does not use its interrupt pin.
    pub const NO_PIN: u16 = 1 << 10;
}

/// What a function says that it is.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Revision.
    pub revision: u8,
    /// Class, subclass and programming interface, in 24 bits.
    pub class: u32,
    /// Subsystem vendor and subsystem id.
    pub subsystem: (u16, u16),
}

/// The registers.
#[derive(Clone)]
pub struct ConfigSpace {
    bytes: [u8; LEN],
    /// The bits that the guest can write.
    writable: [u8; LEN],
    /// Where the next capability goes.
    end: usize,
    /// The byte that links to the next capability.
    link: usize,
}

impl ConfigSpace {
    /// Bytes to which a bridge's window is aligned.
    pub const WINDOW_ALIGNMENT: u32 = 1 << 20;

    /// The space of a function without memory and capabilities.
    pub fn new(identity: Identity) -> Self {
        let mut space = Self::of_any(identity);
        space.put(SUBSYSTEM, &identity.subsystem.0.to_le_bytes());
        space.put(SUBSYSTEM + 2, &identity.subsystem.1.to_le_bytes());
        space
    }

    /// The space of a bridge to another bus, numbered and with its window placed as firmware would (whole
    /// MiB); the guest may move both. There is no window for I/O ports and none for prefetchable memory,
    /// and bridges have no place for a subsystem here.
    pub fn bridge(identity: Identity, bus: u8, window: &Range<u32>) -> Self {
        let mut space = Self::of_any(identity);
        space.put(HEADER_TYPE, &[HEADER_TYPE_BRIDGE]);
        space.put(BUSES, &[0, bus, bus]);
        space.allow(BUSES, &[0xff; 3]);
        let alignment = Self::WINDOW_ALIGNMENT;
        debug_assert!(window.start < window.end && (window.start | window.end).is_multiple_of(alignment));
        for (register, address) in [(MEMORY_BASE, window.start), (MEMORY_LIMIT, window.end - 1)] {
            let [_, _, low, high] = address.to_le_bytes();
            space.put(register, &[low & 0xf0, high]);
            space.allow(register, &[0xf0, 0xff]);
        }
        space
    }

    fn of_any(identity: Identity) -> Self {
        let mut space =
            Self { bytes: [0; LEN], writable: [0; LEN], end: FIRST_CAPABILITY, link: CAPABILITIES };
        let [class0, class1, class2, _] = identity.class.to_le_bytes();
        space.put(0, &identity.vendor.to_le_bytes());
        space.put(2, &identity.device.to_le_bytes());
        space.put(8, &[identity.revision, class0, class1, class2]);
        let command = command::MEMORY | command::BUS_MASTER | command::NO_PIN;
        space.allow(COMMAND, &command.to_le_bytes());
        space.allow(INTERRUPT_LINE, &[0xff]);
        space
    }

    /// Gives the function 32-bit memory: base address register 0, of `size` bytes (a power of two from 16
    /// on), and places it, as firmware would; at 0 where that is left to the guest. Decoding stays off
    /// until the guest turns it on.
    pub fn set_memory(&mut self, size: u32, base: u32) {
        debug_assert!(size.is_power_of_two() && size >= 16 && base.is_multiple_of(size));
        self.allow(BAR0, &(!(size - 1)).to_le_bytes());
        self.put(BAR0, &base.to_le_bytes());
    }

    /// Appends a capability: its id, and what follows the two bytes of id and link. `writable` says which
    /// bits of that the guest may write (missing bytes: none). The offset of the id; where there is no
    /// room left, a function too large for its configuration space was designed, which its first test
    /// shows.
    ///
    /// # Panics
    /// Panics when the capability does not fit.
    pub fn add_capability(&mut self, id: u8, body: &[u8], writable: &[u8]) -> usize {
        let at = self.end;
        let end = (at + 2 + body.len()).next_multiple_of(4);
        assert!(end <= LEN && writable.len() <= body.len(), "capability {id:#x} does not fit");
        // Below LEN, which is 256, except when the space is full to the brim: then nothing can be linked
        // there anyway.
        self.bytes[self.link] = u8::try_from(at).unwrap_or(0);
        self.put(at, &[id, 0]);
        self.put(at + 2, body);
        self.allow(at + 2, writable);
        self.bytes[STATUS] |= STATUS_HAS_CAPABILITIES;
        self.link = at + 1;
        self.end = end;
        at
    }

    /// The guest reads: any width, any offset.
    pub fn read(&self, offset: usize, data: &mut [u8]) {
        for (at, byte) in (offset..).zip(data) {
            *byte = self.bytes.get(at).copied().unwrap_or(0);
        }
    }

    /// The guest writes: only the bits that are its to write change.
    pub fn write(&mut self, offset: usize, data: &[u8]) {
        for (at, &new) in (offset..).zip(data) {
            if let (Some(byte), Some(&mask)) = (self.bytes.get_mut(at), self.writable.get(at)) {
                *byte = (*byte & !mask) | (new & mask);
            }
        }
    }

    /// All of it, to be saved.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Changes bytes that the guest cannot.
    pub fn put(&mut self, offset: usize, data: &[u8]) {
        self.bytes[offset..offset + data.len()].copy_from_slice(data);
    }

    /// Two bytes at `offset`, which must be inside.
    pub fn u16_at(&self, offset: usize) -> u16 {
        u16::from_le_bytes([self.bytes[offset], self.bytes[offset + 1]])
    }

    /// Four bytes at `offset`, which must be inside.
    pub fn u32_at(&self, offset: usize) -> u32 {
        u32::from(self.u16_at(offset)) | u32::from(self.u16_at(offset + 2)) << 16
    }

    /// Where the function's memory begins, as long as the guest lets it answer there. At address 0
    /// nothing answers: the guest is sizing, or has not placed it.
    pub fn memory_base(&self) -> Option<u64> {
        Some(u64::from(self.u32_at(BAR0))).filter(|base| self.decodes_memory() && *base != 0)
    }

    /// A bridge's: the bus right below it.
    pub fn secondary_bus(&self) -> u8 {
        self.bytes[SECONDARY_BUS]
    }

    /// A bridge's: whether it passes accesses to this address on to the bus below.
    pub fn passes(&self, address: u64) -> bool {
        let part = |register| u64::from(self.u16_at(register) & 0xfff0) << 16;
        let last = part(MEMORY_LIMIT) | u64::from(Self::WINDOW_ALIGNMENT - 1);
        self.decodes_memory() && (part(MEMORY_BASE)..=last).contains(&address)
    }

    fn decodes_memory(&self) -> bool {
        self.u16_at(COMMAND) & command::MEMORY != 0
    }

    fn allow(&mut self, offset: usize, mask: &[u8]) {
        self.writable[offset..offset + mask.len()].copy_from_slice(mask);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    fn space() -> ConfigSpace {
        let mut space = ConfigSpace::new(Identity {
            vendor: 0x1af4,
            device: 0x1042,
            revision: 1,
            class: 0x01_00_00,
            subsystem: (0x1af4, 0x1100),
        });
        space.set_memory(0x4000, 0xc000_4000);
        space
    }

    #[test]
    fn a_guest_sizes_and_moves_the_memory() {
        let mut space = space();
        assert_eq!(space.memory_base(), None);
        space.write(COMMAND, &command::MEMORY.to_le_bytes());
        assert_eq!(space.memory_base(), Some(0xc000_4000));
        space.write(BAR0, &[0xff; 4]);
        assert_eq!(space.u32_at(BAR0), 0xffff_c000);
        space.write(BAR0, &0xd000_1234_u32.to_le_bytes());
        assert_eq!(space.memory_base(), Some(0xd000_0000));
        space.write(COMMAND, &[0]);
        assert_eq!(space.memory_base(), None);
        // The other five registers are not there.
        space.write(BAR0 + 4, &[0xff; 20]);
        for bar in 1..6 {
            assert_eq!(space.u32_at(BAR0 + 4 * bar), 0);
        }
    }

    #[test]
    fn a_guest_numbers_a_bridges_bus_and_moves_its_window() {
        let identity =
            Identity { vendor: 1, device: 2, revision: 0, class: 0x06_04_00, subsystem: (0xaaaa, 0xbbbb) };
        let mut bridge = ConfigSpace::bridge(identity, 3, &(0xc010_0000..0xc030_0000));
        assert_eq!((bridge.secondary_bus(), bridge.u32_at(BUSES)), (3, 0x03_03_00));
        assert_eq!((bridge.u32_at(MEMORY_BASE), bridge.u32_at(SUBSYSTEM)), (0xc020_c010, 0));
        assert!(!bridge.passes(0xc010_0000)); // decoding is off
        bridge.write(COMMAND, &command::MEMORY.to_le_bytes());
        let edges = [0xc00f_ffff, 0xc010_0000, 0xc02f_ffff, 0xc030_0000];
        assert_eq!(edges.map(|at| bridge.passes(at)), [false, true, true, false]);
        bridge.write(MEMORY_BASE, &[0xff; 8]);
        // A window that ends before it begins is none; neither ports nor prefetchable memory appear.
        bridge.write(MEMORY_LIMIT, &[0; 2]);
        assert!(![0, 0xf_ffff, 0xfff0_0000, 0xffff_ffff, u64::MAX].into_iter().any(|at| bridge.passes(at)));
        assert_eq!(bridge.u32_at(MEMORY_BASE + 4), 0);
        bridge.write(0x1c, &[0xff; 2]);
        assert_eq!(bridge.u16_at(0x1c), 0);
        bridge.write(BUSES, &[0, 9, 11, 0xff]);
        assert_eq!((bridge.secondary_bus(), bridge.u32_at(BUSES)), (9, 0x0b_09_00));
    }

    #[test]
    fn capabilities_are_linked_and_masked() {
        let mut space = space();
        assert_eq!(space.u16_at(STATUS), 0);
        let first = space.add_capability(0x11, &[1, 2, 3, 4, 5], &[0xf0]);
        let second = space.add_capability(0x09, &[9; 14], &[]);
        let mut at = [0];
        space.read(CAPABILITIES, &mut at);
        assert_eq!(usize::from(at[0]), first);
        space.read(first + 1, &mut at);
        assert_eq!(usize::from(at[0]), second);
        space.read(second + 1, &mut at);
        assert_eq!(at, [0]);
        assert_eq!(space.u16_at(STATUS), 0x10);
        space.write(first, &[0xff; 7]);
        let mut body = [0; 7];
        space.read(first, &mut body);
        assert_eq!(body, [0x11, u8::try_from(second).unwrap(), 0xf1, 2, 3, 4, 5]);
    }

    #[test]
    fn what_is_not_writable_never_changes() {
        let mut space = space();
        space.add_capability(0x11, &[0; 10], &[0x00, 0xc0]);
        let before = space.clone();
        let mut random = Random::new(1);
        for _ in 0..50_000 {
            let offset = usize::try_from(random.below(5000)).unwrap();
            let data = random.bytes::<8>();
            space.write(offset, &data[..1 + usize::try_from(random.below(8)).unwrap()]);
        }
        for at in 0..LEN {
            assert_eq!(
                space.bytes[at] & !space.writable[at],
                before.bytes[at] & !before.writable[at],
                "byte {at:#x}"
            );
        }
    }
}
