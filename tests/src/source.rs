//! Rust sources as a reader of rules needs them: found, with comments and literals blanked, cut into functions.
//!
//! Not a parser: enough of Rust's lexical structure that a word in a comment, a brace in a string or a lifetime that looks
//! like a character is never taken for code. Blanking keeps every line where it was.

use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_path_buf()
}

/// Every file under the given folders of the repository whose name ends so, sorted; build results are passed over.
pub fn files(folders: &[&str], extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in folders {
        walk(&repository().join(folder), extension, &mut found);
    }
    found.sort();
    found
}

fn walk(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() && entry.file_name() != "target" && entry.file_name() != "__pycache__" {
            walk(&path, extension, found);
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
}

/// A path as it is written in the documents: from the root of the repository.
pub fn short(path: &Path) -> String {
    path.strip_prefix(repository()).unwrap_or(path).display().to_string()
}

/// The source with every comment and every literal replaced by spaces, its lines kept.
pub fn code(source: &str) -> String {
    let bytes: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while at < bytes.len() {
        let length = literal_or_comment(&bytes, at);
        if length == 0 {
            out.push(bytes[at]);
            at += 1;
        } else {
            out.extend(bytes[at..at + length].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at += length;
        }
    }
    out
}

/// How many characters from `at` on are one comment or literal; 0 when none begins there.
fn literal_or_comment(text: &[char], at: usize) -> usize {
    let rest = &text[at..];
    let next = rest.get(1).copied();
    let after_word = at > 0 && (text[at - 1].is_alphanumeric() || text[at - 1] == '_');
    match rest[0] {
        '/' if next == Some('/') => rest.iter().position(|&c| c == '\n').unwrap_or(rest.len()),
        '/' if next == Some('*') => block_comment(rest),
        '"' => quoted(rest, '"'),
        'r' | 'b' | 'c' if !after_word => prefixed(rest),
        '\'' => character(rest),
        _ => 0,
    }
}

/// A block comment; they nest.
fn block_comment(text: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match (text[at], text.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// From a quote to its partner, backslashes heeded.
fn quoted(text: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < text.len() && text[at] != quote {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

/// Literals with a prefix: raw strings, byte strings and characters, C strings.
fn prefixed(text: &[char]) -> usize {
    let letters = text.iter().take(2).take_while(|c| matches!(c, 'r' | 'b' | 'c')).count();
    let hashes = text[letters..].iter().take_while(|&&c| c == '#').count();
    let raw = text[..letters].contains(&'r');
    match text.get(letters + hashes) {
        Some('"') if raw => raw_string(text, letters + hashes, hashes),
        Some('"') if hashes == 0 => letters + quoted(&text[letters..], '"'),
        Some('\'') if hashes == 0 && letters == 1 && text[0] == 'b' => {
            letters + quoted(&text[letters..], '\'')
        }
        _ => 0,
    }
}

fn raw_string(text: &[char], quote: usize, hashes: usize) -> usize {
    let mut at = quote + 1;
    while at < text.len() {
        if text[at] == '"' && text[at + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes {
            return at + 1 + hashes;
        }
        at += 1;
    }
    text.len()
}

/// A character literal, not a lifetime: closed by a quote after one character or one escape.
fn character(text: &[char]) -> usize {
    match (text.get(1), text.get(2)) {
        (Some('\\'), _) => quoted(text, '\''),
        (Some(_), Some('\'')) => 3,
        _ => 0,
    }
}

/// Whether the word stands by itself somewhere in blanked code.
pub fn has_word(code: &str, word: &str) -> bool {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

/// One function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line of its `fn`, from 1.
    pub line: usize,
    /// How many lines it has, from its `fn` to its closing brace.
    pub lines: usize,
}

/// The functions in blanked code, nested ones too.
pub fn functions(code: &str) -> Vec<Function> {
    let text: Vec<char> = code.chars().collect();
    let mut found = Vec::new();
    for at in 0..text.len() {
        let begins = text[at..].starts_with(&['f', 'n', ' '])
            && (at == 0 || !(text[at - 1].is_alphanumeric() || text[at - 1] == '_'));
        if let Some(end) = begins.then(|| end_of_body(&text, at)).flatten() {
            found.push(Function {
                name: text[at + 3..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').collect(),
                line: 1 + newlines(&text[..at]),
                lines: 1 + newlines(&text[at..end]),
            });
        }
    }
    found
}

fn newlines(text: &[char]) -> usize {
    text.iter().filter(|&&c| c == '\n').count()
}

/// Where the body of the function that begins here ends; none for a declaration. A brace inside its parameters or its
/// return type (a const argument) is passed over with its brackets.
fn end_of_body(text: &[char], start: usize) -> Option<usize> {
    let (mut brackets, mut braces) = (0_i32, 0_i32);
    for (at, &c) in text.iter().enumerate().skip(start) {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            ';' if brackets == 0 && braces == 0 => return None,
            '{' if brackets == 0 || braces > 0 => braces += 1,
            '}' if braces == 1 => return Some(at),
            '}' if braces > 0 => braces -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_lines_kept() {
        let source = "let a = \"unsafe { // \\\" \"; // unsafe\n/* unsafe /* nested */\n unsafe */ let b = r#\"un\"safe\"#;\nlet c = b'\\''; let d: &'static str = \"\"; let e = '\"'; unsafe {}";
        let blanked = code(source);
        assert_eq!(blanked.lines().count(), source.lines().count());
        assert_eq!(blanked.matches("unsafe").count(), 1, "{blanked}");
        assert!(blanked.contains("&'static str"), "{blanked}");
    }

    #[test]
    fn a_word_is_found_only_by_itself() {
        assert!(has_word("unsafe { x }", "unsafe"));
        assert!(!has_word("#![allow(unsafe_code)]", "unsafe"));
    }

    #[test]
    fn functions_are_measured_to_their_closing_brace() {
        let found = functions(
            "trait T {\n    fn a(&self);\n}\nfn b(x: [u8; 3]) -> u8 {\n    if x[0] == 1 {\n        2\n    } else {\n        3\n    }\n}\n",
        );
        assert_eq!(found, [Function { name: "b".into(), line: 4, lines: 7 }]);
    }
}
