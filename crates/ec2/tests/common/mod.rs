//! Chance that repeats itself, for tests over many inputs.

// Each test file is a crate of its own and uses its part of this.
#![allow(dead_code, reason = "not every test file needs all of it")]

use ec2::specimen::Choices;

/// SplitMix64: small, fast, and the same on every machine.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    pub(crate) fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    pub(crate) fn word(&mut self, letters: &[char], longest: usize) -> String {
        (0..self.below(longest + 1)).map(|_| *self.pick(letters)).collect()
    }

    /// Changes a few bytes of a text: flips, cuts, doubles.
    pub(crate) fn mutate(&mut self, text: &[u8]) -> Vec<u8> {
        let mut bytes = text.to_vec();
        for _ in 0..=self.below(4) {
            let place = self.below(bytes.len() + 1);
            match self.below(4) {
                0 if place < bytes.len() => bytes[place] = self.next().to_le_bytes()[0],
                1 => bytes.truncate(place),
                2 => bytes.insert(place, *self.pick(b"&=.%+<>/;\"\0\xff")),
                _ => {
                    let tail = bytes[place..].to_vec();
                    bytes.extend(tail);
                }
            }
        }
        bytes
    }
}

/// Letters that mean something to one of the formats, or are odd.
pub(crate) const LETTERS: &[char] = &[
    'a',
    'Z',
    '0',
    '9',
    ' ',
    '+',
    '&',
    '=',
    '.',
    '%',
    ';',
    '/',
    '?',
    '<',
    '>',
    '"',
    '\'',
    ']',
    '-',
    '_',
    '~',
    '\t',
    '\n',
    '\r',
    '\u{85}',
    '\u{a0}',
    'é',
    '\u{2028}',
    '\u{fffd}',
    '\u{1f600}',
];

/// Random values for a shape. With `always`, every option is there and no list is empty.
pub(crate) struct Chance {
    pub(crate) random: Random,
    pub(crate) always: bool,
}

impl Choices for Chance {
    fn number(&mut self, most: u64) -> u64 {
        match (self.random.below(4), most.checked_add(1)) {
            (0, _) => most,
            (1, _) | (_, None) => 0,
            (_, Some(end)) => self.random.next() % end,
        }
    }

    fn text(&mut self, _path: &str) -> String {
        self.random.word(LETTERS, 12)
    }

    fn present(&mut self) -> bool {
        self.always || self.random.below(2) == 1
    }

    fn members(&mut self) -> usize {
        usize::from(self.always) + self.random.below(3)
    }
}
