//! A function's configuration space: a register file in which each bit is either the guest's to write or not.
//!
//! 256 bytes, declared while the function is built (identity, base address register, capabilities);
//! afterwards the guest reads and writes it at any width and offset, and every question ("is memory
//! decoding on? where?") is answered from the bytes themselves, so there is no second copy that could
//! disagree. The extended space above reads as zeros: no extended capability. Layout: PCI Local Bus 3.0,
//! chapter 6.

/// Bytes of configuration space that every function has.
const LEN: usize = 256;

const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const BAR0: usize = 0x10;
const SUBSYSTEM: usize = 0x2c;
const CAPABILITIES: usize = 0x34;
const INTERRUPT_LINE: usize = 0x3c;
const FIRST_CAPABILITY: usize = 0x40;

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
    /// The space of a function without memory and capabilities.
    pub fn new(identity: Identity) -> Self {
        let mut space =
            Self { bytes: [0; LEN], writable: [0; LEN], end: FIRST_CAPABILITY, link: CAPABILITIES };
        let [class0, class1, class2, _] = identity.class.to_le_bytes();
        space.put(0, &identity.vendor.to_le_bytes());
        space.put(2, &identity.device.to_le_bytes());
        space.put(8, &[identity.revision, class0, class1, class2]);
        space.put(SUBSYSTEM, &identity.subsystem.0.to_le_bytes());
        space.put(SUBSYSTEM + 2, &identity.subsystem.1.to_le_bytes());
        let command = command::MEMORY | command::BUS_MASTER | command::NO_PIN;
        space.allow(COMMAND, &command.to_le_bytes());
        space.allow(INTERRUPT_LINE, &[0xff]);
        space
    }

    /// Gives the function 32-bit memory: base address register 0, of `size` bytes (a power of two from 16
    /// on), and places it, as firmware would. Decoding stays off until the guest turns it on.
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
        let on = self.u16_at(COMMAND) & command::MEMORY != 0;
        Some(u64::from(self.u32_at(BAR0))).filter(|base| on && *base != 0)
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
