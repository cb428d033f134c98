//! A short mark of a wanted thing, left on the host object made from it.
//!
//! The planner compares the mark of what it wants with the mark it finds, so it need not
//! understand every detail of a namespace or a rule set to see that one is out of date.

use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

/// 64 bits that change when the thing they mark changes. Not a defence against forgery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// The mark of `thing`. The same on every build and every run, unlike the standard library's
    /// hasher, so a new daemon finds what an older one left.
    pub fn of(thing: &impl Hash) -> Self {
        let mut hasher = Fnv1a(0xcbf2_9ce4_8422_2325);
        thing.hash(&mut hasher);
        Self(hasher.finish())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl std::str::FromStr for Fingerprint {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// FNV-1a, 64 bits (RFC 9923).
struct Fnv1a(u64);

impl Hasher for Fnv1a {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_published_vector_and_tells_things_apart() {
        let mut hasher = Fnv1a(0xcbf2_9ce4_8422_2325);
        hasher.write(b"foobar");
        assert_eq!(hasher.finish(), 0x8594_4171_f739_67e8);
        assert_ne!(Fingerprint::of(&(1, 2)), Fingerprint::of(&(2, 1)));
        assert_eq!(Fingerprint(0xab).to_string().parse(), Ok(Fingerprint(0xab)));
    }
}
