//! The rules of the house that a machine can check, against what docs/ARCHITECTURE.md says: which crate may use which, how
//! long a chain of them may be, where `unsafe` may stand, that each file says what it is, and how long files and functions
//! may grow without a stated reason.
//!
//! Each test names everything that breaks its rule, not just the first.

use std::collections::{BTreeMap, BTreeSet};

use tests::source;

/// What each crate uses of ours.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// The longest chain of crates, counted in crates.
const LONGEST_CHAIN: usize = 3;
/// Lines of a file, inline tests included.
const FILE_BOUND: usize = 800;
/// Lines of a function.
const FUNCTION_BOUND: usize = 100;
/// How a bound is passed: a comment `// long: why` in the file's first lines, or just above or inside the function's head.
const REASON: &str = "// long: ";

fn architecture() -> String {
    std::fs::read_to_string(source::repository().join("docs/ARCHITECTURE.md"))
        .expect("docs/ARCHITECTURE.md is readable")
}

/// What stands between backticks in a line.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The table `| crate | duty | may use |`.
fn promised_graph() -> Graph {
    let page = architecture();
    let rows = page
        .lines()
        .skip_while(|line| !line.replace(' ', "").eq_ignore_ascii_case("|crate|duty|mayuse|"))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').collect();
        let name = quoted(cells[1]).pop().unwrap_or_else(|| panic!("no crate in backticks in the row {row}"));
        (name, quoted(cells[3]).into_iter().collect())
    })
    .collect()
}

/// The same from the manifests; what tests alone need does not count.
fn real_graph() -> Graph {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(source::repository())
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let text = |value: &serde_json::Value| value.as_str().expect("a string").to_owned();
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .filter(|package| package["name"] != "tests" && package["name"] != "fuzz")
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("dependencies");
            let ours = dependencies.iter().filter(|one| one["path"].is_string() && one["kind"] != "dev");
            (text(&package["name"]), ours.map(|one| text(&one["name"])).collect())
        })
        .collect()
}

/// The longest chain that begins at this crate.
fn longest_chain<'a>(graph: &'a Graph, name: &'a str) -> Vec<&'a str> {
    let below = graph.get(name).into_iter().flatten();
    let mut chain = below.map(|one| longest_chain(graph, one)).max_by_key(Vec::len).unwrap_or_default();
    chain.insert(0, name);
    chain
}

/// The list under the heading "Files with unsafe code": one path in backticks an item.
fn files_allowed_unsafe() -> BTreeSet<String> {
    let page = architecture();
    let section = page.lines().skip_while(|line| !line.ends_with("Files with unsafe code")).skip(1);
    let items = section.take_while(|line| !line.starts_with('#')).filter(|line| line.starts_with("- "));
    items.filter_map(|line| quoted(line).into_iter().next()).collect()
}

/// Every Rust source of ours: its path from the root of the repository, and its text.
fn sources() -> Vec<(String, String)> {
    let read = |path: &std::path::PathBuf| std::fs::read_to_string(path).expect("a source is readable text");
    source::files(&["crates", "fuzz", "tests"], "rs")
        .iter()
        .map(|path| (source::short(path), read(path)))
        .collect()
}

#[track_caller]
fn assert_none(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn the_crate_graph_is_the_table_of_the_architecture_page() {
    let (promised, real) = (promised_graph(), real_graph());
    let mut broken = Vec::new();
    for name in promised.keys().chain(real.keys()).collect::<BTreeSet<_>>() {
        match (promised.get(name), real.get(name)) {
            (Some(_), None) => broken.push(format!("`{name}` is in the table, but there is no such crate")),
            (None, Some(_)) => broken.push(format!("`{name}` is not in the table")),
            (Some(may), Some(does)) => {
                broken.extend(
                    does.difference(may)
                        .map(|one| format!("`{name}` uses `{one}`, which the table does not allow")),
                );
                broken.extend(
                    may.difference(does).map(|one| format!("`{name}` may use `{one}`, but does not")),
                );
            }
            (None, None) => unreachable!("a name comes from one of the two"),
        }
    }
    assert_none("the table in docs/ARCHITECTURE.md and the manifests differ", &broken);
}

#[test]
fn no_chain_of_crates_is_long() {
    let graph = real_graph();
    let chains =
        graph.keys().map(|name| longest_chain(&graph, name)).filter(|chain| chain.len() > LONGEST_CHAIN);
    let broken: Vec<String> = chains.map(|chain| chain.join(" → ")).collect();
    assert_none("chains of crates that are too long", &broken);
}

#[test]
fn unsafe_stands_only_in_the_files_named_for_it() {
    let allowed = files_allowed_unsafe();
    let found: BTreeSet<String> = sources()
        .into_iter()
        .filter(|(_, text)| source::has_word(&source::code(text), "unsafe"))
        .map(|(path, _)| path)
        .collect();
    let mut broken: Vec<String> =
        found.difference(&allowed).map(|path| format!("{path} has unsafe code and is not listed")).collect();
    broken.extend(allowed.difference(&found).map(|path| format!("{path} is listed and has no unsafe code")));
    assert_none("unsafe code and its list in docs/ARCHITECTURE.md differ", &broken);
}

#[test]
fn every_file_begins_by_saying_what_it_is() {
    let says_it = |text: &str| {
        let first = text.lines().find(|line| !line.starts_with("#![allow("));
        first.is_some_and(|line| line.starts_with("//! ") || line.starts_with("#![doc = include_str!"))
    };
    let broken: Vec<String> =
        sources().into_iter().filter(|(_, text)| !says_it(text)).map(|(path, _)| path).collect();
    assert_none("files that do not begin with a //! line", &broken);
}

#[test]
fn long_files_state_their_reason() {
    let too_long = sources().into_iter().filter(|(_, text)| text.lines().count() > FILE_BOUND);
    let broken: Vec<String> = too_long
        .filter(|(_, text)| !text.lines().take(40).any(|line| line.starts_with(REASON)))
        .map(|(path, text)| format!("{path} has {} lines", text.lines().count()))
        .collect();
    assert_none("files past their bound", &broken);
}

#[test]
fn long_functions_state_their_reason() {
    let mut broken = Vec::new();
    for (path, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for function in source::functions(&source::code(&text)) {
            let head = &lines[function.line.saturating_sub(4)..(function.line + 3).min(lines.len())];
            if function.lines > FUNCTION_BOUND
                && !head.iter().any(|line| line.trim_start().starts_with(REASON))
            {
                broken
                    .push(format!("{path}:{} {} has {} lines", function.line, function.name, function.lines));
            }
        }
    }
    assert_none("functions past their bound", &broken);
}
