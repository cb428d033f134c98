//! Boot entries: the Boot Loader Specification's type 1, `loader/entries/*.conf`.

use std::cmp::Ordering;

use super::versions;

/// What an entry says, as far as it concerns us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// The file's name without `.conf` and counters.
    name: String,
    /// Its counter says that no attempt is left.
    used_up: bool,
    sort_key: Option<String>,
    machine: String,
    /// What it boots, for people.
    pub(super) version: String,
    /// The kernel's path.
    pub(super) linux: String,
    /// The initial RAM disks' paths, to be laid one after the other.
    pub(super) initrds: Vec<String>,
    /// The command line.
    pub(super) options: String,
}

impl Entry {
    /// Reads an entry out of a file called `file`; none where it names no kernel.
    pub(super) fn parse(file: &str, text: &str) -> Option<Self> {
        let (name, used_up) = name(file.strip_suffix(".conf")?);
        let mut entry = Self { name, used_up, ..Self::default() };
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            let Some((key, value)) = line.split_once([' ', '\t']) else { continue };
            let value = value.trim();
            match key {
                "version" => entry.version = value.to_owned(),
                "sort-key" => entry.sort_key = Some(value.to_owned()),
                "machine-id" => entry.machine = value.to_owned(),
                "linux" => entry.linux = value.to_owned(),
                "initrd" => entry.initrds.push(value.to_owned()),
                "options" if entry.options.is_empty() => entry.options = value.to_owned(),
                "options" => entry.options = format!("{} {value}", entry.options),
                _ => {}
            }
        }
        (!entry.linux.is_empty()).then_some(entry)
    }

    /// The specification's order, "Sorting": what is to be booted comes first.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        let by_keys = match (&self.sort_key, &other.sort_key) {
            (Some(a), Some(b)) => a
                .cmp(b)
                .then_with(|| self.machine.cmp(&other.machine))
                .then_with(|| versions::compare(&other.version, &self.version)),
            (a, b) => b.is_some().cmp(&a.is_some()),
        };
        let by_name = || versions::compare(&other.name, &self.name);
        self.used_up.cmp(&other.used_up).then(by_keys).then_with(by_name)
    }
}

/// A file's name without the counters of "Boot counting" (`+LEFT` or `+LEFT-DONE` at its end), and whether none is left.
fn name(stem: &str) -> (String, bool) {
    let counted = stem.rsplit_once('+').and_then(|(name, counters)| {
        let left = counters.split('-').next()?;
        let plain = counters.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        plain.then_some(())?;
        Some((name.to_owned(), left.parse::<u64>().ok()? == 0))
    });
    counted.unwrap_or_else(|| (stem.to_owned(), false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read() {
        let text = "# a comment\ntitle  Debian\nversion\t6.1.0\nlinux /vmlinuz \ninitrd /a\ninitrd /b\noptions root=x ro\n\
                    options quiet\nnothing\n";
        let entry = Entry::parse("debian.conf", text).unwrap();
        assert_eq!((entry.linux.as_str(), entry.options.as_str()), ("/vmlinuz", "root=x ro quiet"));
        assert_eq!(entry.initrds, ["/a", "/b"]);
        assert_eq!(Entry::parse("debian.conf", "title only\n"), None);
        assert_eq!(Entry::parse("debian.txt", text), None);
    }

    #[test]
    fn entries_come_in_the_specifications_order() {
        let entry = |file: &str, text: &str| Entry::parse(file, &format!("linux /k\n{text}")).unwrap();
        let mut entries = [
            entry("z-9.conf", ""),
            entry("z-10+3.conf", ""),
            entry("z-11+0-3.conf", "sort-key a"),
            entry("a.conf", "sort-key debian\nversion 6.1.0-9"),
            entry("b.conf", "sort-key debian\nversion 6.1.0-56"),
            entry("c.conf", "sort-key arch\nversion 1"),
        ];
        entries.sort_by(Entry::order);
        let names: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["c", "b", "a", "z-10", "z-9", "z-11"]);
        assert_eq!(name("a+b"), ("a+b".to_owned(), false));
    }
}
