//! What the header of this crate promises, tried with random operations, power cuts, threads and broken files.
#![expect(clippy::cast_possible_truncation, reason = "these volumes are small enough for any usize")]

mod broken;
mod crash;
mod disk;
mod model;
mod real;

use std::ops::Range;

/// A small generator of random numbers (splitmix64), so that a failing seed can be run again.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        // One number again and again: what counts is that no two calls give the same.
        let mut bytes = self.next().to_le_bytes().repeat(length.div_ceil(8));
        bytes.truncate(length);
        bytes
    }

    /// A range within `size`, often aligned as guests do it, sometimes long.
    pub(crate) fn range(&mut self, size: u64) -> Range<u64> {
        let grain = [1, 512, 4096, 4096][self.below(4) as usize];
        let start = self.below(size) / grain * grain;
        let longest = [512, 4096, 5 * 4096, 40 * 4096][self.below(4) as usize].max(grain);
        let length = (1 + self.below(longest)).div_ceil(grain) * grain;
        start..size.min(start + length)
    }
}
