//! Seals: what is left on the objects made from a wish, to tell later whether they are still that.
//!
//! A seal is the wish's mark and a digest of what was made. Whoever looks computes the digest from
//! what is found: if it is another one, somebody changed something, and the seal is worth nothing. Seals are
//! written last, as the alias of a link or as comments on rules.

use std::fmt;
use std::hash::Hash;
use std::str::FromStr;

use spec::Fingerprint;

/// Written `0123456789abcdef:0123456789abcdef`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seal {
    /// The mark of the wish.
    pub mark: Fingerprint,
    /// The mark of the facts.
    pub digest: Fingerprint,
}

impl Seal {
    /// The seal of a wish and of what it became.
    pub(super) fn of(wish: &impl Hash, facts: &impl Hash) -> Self {
        Self { mark: Fingerprint::of(wish), digest: Fingerprint::of(facts) }
    }

    /// The wish's mark, if `found` bears a seal and is as it was when it was sealed.
    pub(super) fn holds(text: Option<&str>, found: &impl Hash) -> Option<Fingerprint> {
        let seal: Self = text?.parse().ok()?;
        (seal.digest == Fingerprint::of(found)).then_some(seal.mark)
    }
}

impl fmt::Display for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.mark, self.digest)
    }
}

/// A text that is not a seal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotASeal;

impl FromStr for Seal {
    type Err = NotASeal;

    fn from_str(text: &str) -> Result<Self, NotASeal> {
        let (mark, digest) = text.split_once(':').ok_or(NotASeal)?;
        let read = |text: &str| text.parse().map_err(|_| NotASeal);
        Ok(Self { mark: read(mark)?, digest: read(digest)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_holds_for_what_it_was_put_on_and_nothing_else() {
        let seal = Seal::of(&"wish", &["a", "b"]).to_string();
        assert_eq!(Seal::holds(Some(&seal), &["a", "b"]), Some(Fingerprint::of(&"wish")));
        assert_eq!(Seal::holds(Some(&seal), &["a"]), None);
        assert_eq!(Seal::holds(None, &["a", "b"]), None);
        for text in ["", ":", "1", "x:y", "0123456789abcdef"] {
            assert_eq!(text.parse::<Seal>(), Err(NotASeal), "{text}");
        }
    }
}
