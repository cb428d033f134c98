//! For tests: a small random source, and pokes at every register.

use crate::bus::BusDevice;

/// Marsaglia's xorshift64*: repeatable, and good enough to find what nobody thought of.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Below `bound`, in 16 bits.
    pub(crate) fn small(&mut self, bound: u64) -> u16 {
        u16::try_from(self.below(bound)).unwrap_or(u16::MAX)
    }

    /// Like [`Self::edge`], in 32 bits.
    pub(crate) fn edge32(&mut self) -> u32 {
        let [a, b, c, d, ..] = self.edge().to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// A number that is often near one where things change: small, a power of two, or all bits.
    pub(crate) fn edge(&mut self) -> u64 {
        let near = (self.below(5)).wrapping_sub(2);
        match self.below(4) {
            0 => self.below(64),
            1 => (1_u64 << self.below(64)).wrapping_add(near),
            2 => u64::MAX.wrapping_add(near),
            _ => self.next(),
        }
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.edge().to_le_bytes()[0])
    }
}

/// Reads and writes of random widths at random offsets below `len` (and somewhat past it).
pub(crate) fn poke(device: &dyn BusDevice, len: u64, times: u32) {
    let mut random = Random::new(u64::from(times));
    for _ in 0..times {
        let offset = random.below(len + 8);
        let width = 1 + usize::try_from(random.below(8)).unwrap();
        let mut data = random.bytes::<8>();
        if random.below(2) == 0 {
            device.read(offset, &mut data[..width]);
        } else {
            device.write(offset, &data[..width]);
        }
    }
}
