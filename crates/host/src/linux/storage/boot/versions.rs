//! Which of two versions is the newer: the UAPI Group's Version Format Specification, "Version Comparison".

use std::cmp::Ordering;

/// Compares two versions; the greater is the newer.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let mut pair = Pair { a: a.as_bytes(), b: b.as_bytes() };
    loop {
        pair.take(|byte| !is_meant(byte)); // what no rule speaks of only separates
        let pre_release = pair.mark(b'~');
        if pre_release.is_ne() {
            return pre_release;
        }
        if pair.a.is_empty() || pair.b.is_empty() {
            return pair.a.len().cmp(&pair.b.len());
        }
        let part = pair
            .mark(b'-')
            .then_with(|| pair.mark(b'^'))
            .then_with(|| pair.mark(b'.'))
            .then_with(|| pair.number())
            .then_with(|| pair.word());
        if part.is_ne() {
            return part;
        }
    }
}

fn is_meant(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"~-^.".contains(&byte)
}

/// What is left of the two versions.
struct Pair<'t> {
    a: &'t [u8],
    b: &'t [u8],
}

impl<'t> Pair<'t> {
    /// Takes off both what they begin with, as long as `wanted` says.
    fn take(&mut self, wanted: impl Fn(u8) -> bool) -> (&'t [u8], &'t [u8]) {
        let split = |text: &mut &'t [u8]| {
            let (taken, rest) = text.split_at(text.iter().take_while(|byte| wanted(**byte)).count());
            *text = rest;
            taken
        };
        (split(&mut self.a), split(&mut self.b))
    }

    /// Takes a mark off both. Where only one has it, that one is the older.
    fn mark(&mut self, mark: u8) -> Ordering {
        match (self.a.split_first(), self.b.split_first()) {
            (Some((a, rest_of_a)), Some((b, rest_of_b))) if (*a, *b) == (mark, mark) => {
                (self.a, self.b) = (rest_of_a, rest_of_b);
                Ordering::Equal
            }
            (a, b) => {
                let has = |first: Option<(&u8, _)>| first.is_some_and(|(byte, _)| *byte == mark);
                has(b).cmp(&has(a))
            }
        }
    }

    fn number(&mut self) -> Ordering {
        let (a, b) = self.take(|byte| byte.is_ascii_digit());
        let value = |digits: &'t [u8]| &digits[digits.iter().take_while(|digit| **digit == b'0').count()..];
        let (a, b) = (value(a), value(b));
        a.len().cmp(&b.len()).then(a.cmp(b))
    }

    fn word(&mut self) -> Ordering {
        let (a, b) = self.take(|byte| byte.is_ascii_alphabetic());
        a.cmp(b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_the_specification_says() {
        // From old to new; each is compared with each.
        let ordered = [
            "~rc1",
            "",
            "6.1.0-9-cloud-amd64",
            "6.1.0-56-cloud-amd64",
            "6.12.9",
            "122.1",
            "123~rc1-1",
            "123",
            "123-a",
            "123-a.1",
            "123-1",
            "123-1.1",
            "123^post1",
            "123.a-1",
            "123.1-1",
            "123a-1",
            "124-1",
        ];
        for (i, a) in ordered.iter().enumerate() {
            for (j, b) in ordered.iter().enumerate() {
                assert_eq!(compare(a, b), i.cmp(&j), "{a} {b}");
            }
        }
        assert_eq!(compare("00123", "123"), Ordering::Equal);
        assert_eq!(compare("a_b+c", "abc"), Ordering::Less);
        assert_eq!(compare("12_3", "12 3"), Ordering::Equal);
    }
}
