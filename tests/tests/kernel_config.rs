//! The fragments of the microVM kernel's configuration: every symbol with its reason beside it, none asked for twice. That the
//! kernel really has what they ask for, `scripts/build-kernel` verifies.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tests::source;

const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];

/// Name and text of each fragment.
fn fragments() -> Vec<(String, String)> {
    let read = |path: &PathBuf| {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        (name, std::fs::read_to_string(path).expect("a fragment is readable"))
    };
    source::files(&["kernel-config"], "config").iter().map(read).collect()
}

/// The lines of a fragment that ask for something.
fn asking(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[test]
fn every_symbol_has_its_reason_beside_it() {
    let mut wrong = Vec::new();
    for (name, text) in fragments() {
        if !text.starts_with("# ") {
            wrong.push(format!("{name}: does not say what it is for"));
        }
        for line in asking(&text) {
            let reason = line.split_once(" # ").map_or("", |(_, reason)| reason.trim());
            let asked = line.strip_prefix("CONFIG_").and_then(|rest| rest.split_once('='));
            if asked.is_none_or(|(symbol, _)| symbol.is_empty()) || !reason.contains(char::is_alphabetic) {
                wrong.push(format!("{name}: {line}"));
            }
        }
    }
    assert!(wrong.is_empty(), "not of the form `CONFIG_SYMBOL=value  # reason`:\n{}", wrong.join("\n"));
}

#[test]
fn no_symbol_is_asked_for_twice() {
    let fragments = fragments();
    for architecture in ARCHITECTURES {
        assert!(fragments.iter().any(|(name, _)| name == architecture), "no fragment {architecture}");
        let other = |name: &str| ARCHITECTURES.contains(&name) && name != architecture;
        let mut seen = BTreeMap::new();
        for (name, text) in fragments.iter().filter(|(name, _)| !other(name)) {
            for line in asking(text) {
                let symbol = line.split('=').next().unwrap_or(line);
                if let Some(before) = seen.insert(symbol.to_owned(), name) {
                    panic!("{architecture}: {symbol} is asked for in {before} and in {name}");
                }
            }
        }
    }
}
