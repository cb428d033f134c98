//! Inputs made of other inputs, for runs without libFuzzer: repeatable, and blind to what they reach.

/// Makes inputs.
pub struct Mutator {
    state: u64,
    corpus: Vec<Vec<u8>>,
}

/// The longest input, in bytes.
const LONGEST: usize = 1 << 16;

impl Mutator {
    /// One that begins with these inputs.
    pub fn new(seed: u64, corpus: Vec<Vec<u8>>) -> Self {
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, corpus }
    }

    /// Marsaglia's xorshift64*.
    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(1);
        usize::try_from(self.next() % bound).unwrap_or_default()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// One of the inputs, or nothing, changed in one to sixteen places.
    pub fn make(&mut self) -> Vec<u8> {
        let chosen = self.below(self.corpus.len() + 1);
        let mut made = self.corpus.get(chosen).cloned().unwrap_or_default();
        for _ in 0..=self.below(16) {
            self.change(&mut made);
        }
        made.truncate(LONGEST);
        made
    }

    fn change(&mut self, made: &mut Vec<u8>) {
        let at = self.below(made.len());
        match self.below(7) {
            0 if at < made.len() => made[at] ^= 1 << self.below(8),
            1 if at < made.len() => made[at] = self.byte(),
            // Numbers near which things change.
            2 if at < made.len() => {
                let edge = [0_u64, 1, u64::MAX, 0x7fff_ffff, 0xffff, 0x1000, 512, 255][self.below(8)];
                let width = [1, 2, 4, 8][self.below(4)].min(made.len() - at);
                made[at..at + width].copy_from_slice(&edge.to_le_bytes()[..width]);
            }
            3 => made.truncate(at),
            4 => {
                let more: Vec<u8> = (0..=self.below(32)).map(|_| self.byte()).collect();
                made.splice(at..at, more);
            }
            5 => {
                let end = at + self.below(made.len() - at);
                let copy = made[at..end].to_vec();
                let to = self.below(made.len());
                made.splice(to..to, copy);
            }
            _ => {
                let other = self.below(self.corpus.len());
                let rest = self.corpus.get(other).cloned().unwrap_or_default();
                let from = self.below(rest.len());
                made.truncate(at);
                made.extend(&rest[from..]);
            }
        }
    }
}
