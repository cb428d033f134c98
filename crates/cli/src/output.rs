//! What the user sees: data on stdout, as a table for people or as JSON for programs; all else on stderr.
//!
//! A thing is described once, as a [`Row`] of named cells; table and JSON follow from it. Text of a guest or a tag is
//! shown without control characters, so that no name can steer the terminal.

use std::io::{self, Write};

use comfy_table::{Table, presets};
use ec2::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::client::now;
use crate::failure::Remedy;

/// How data is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns for people
    #[default]
    Table,
    /// JSON for programs
    Json,
}

/// Named cells, in the order of their columns. Names are those of JSON: `public_ip`.
pub(crate) type Row = Vec<(&'static str, Cell)>;

/// One fact about one thing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Text(String),
    Number(u64),
    /// For people, how long ago that was.
    Time(Timestamp),
    Missing,
}

impl From<&str> for Cell {
    /// EC2 says many things by an empty text: here that is no fact.
    fn from(text: &str) -> Self {
        if text.is_empty() { Self::Missing } else { Self::Text(text.to_owned()) }
    }
}

impl From<Option<&str>> for Cell {
    fn from(text: Option<&str>) -> Self {
        text.map_or(Self::Missing, Self::from)
    }
}

/// EC2's own word for a state or another choice.
pub(crate) fn word<T: Serialize>(choice: &T) -> String {
    match serde_json::to_value(choice) {
        Ok(Value::String(word)) => word,
        other => unreachable!("a choice is written as a word, not as {other:?}"),
    }
}

impl Cell {
    /// How many there are.
    pub(crate) fn count(number: usize) -> Self {
        Self::Number(u64::try_from(number).unwrap_or(u64::MAX))
    }

    /// A state or another choice, by EC2's word for it.
    pub(crate) fn word<T: Serialize>(choice: &T) -> Self {
        Self::Text(word(choice))
    }

    fn shown(&self, now: Timestamp) -> String {
        match self {
            Self::Text(text) => visible(text),
            Self::Number(number) => number.to_string(),
            Self::Time(time) => ago(now.unix().saturating_sub(time.unix())),
            Self::Missing => "-".to_owned(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Number(number) => (*number).into(),
            Self::Time(time) => time.to_string().into(),
            Self::Missing => Value::Null,
        }
    }
}

/// `text` with every control character replaced.
fn visible(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

/// A span of time in its largest whole unit.
fn ago(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        7200..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// Why data could not be written.
#[derive(Debug, thiserror::Error)]
#[error("Could not write to stdout")]
pub(crate) struct OutputError(#[source] io::Error);

impl OutputError {
    /// For a write to stdout that failed.
    pub(crate) fn new(error: io::Error) -> Self {
        Self(error)
    }

    /// Whether the reader has closed its end.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

impl Remedy for OutputError {}

impl Format {
    /// Many things of one kind: a table, or an array of objects.
    pub(crate) fn list(self, rows: &[Row]) -> Result<(), OutputError> {
        match self {
            Self::Table if rows.is_empty() => Ok(()),
            Self::Table => data(&table(rows, now())),
            Self::Json => json(&Value::Array(rows.iter().map(object).collect())),
        }
    }

    /// One thing: a line for each cell, or an object.
    pub(crate) fn record(self, row: &Row) -> Result<(), OutputError> {
        match self {
            Self::Table => {
                let now = now();
                let mut lines = plain_table();
                lines.add_rows(row.iter().map(|(name, cell)| [title(name), cell.shown(now)]));
                data(&columns(lines))
            }
            Self::Json => json(&object(row)),
        }
    }

    /// One thing that was just made: its id alone, for `id=$(cumulet …)`, or an object that says all.
    pub(crate) fn made(self, id: &str, row: &Row) -> Result<(), OutputError> {
        match self {
            Self::Table => data(id),
            Self::Json => json(&object(row)),
        }
    }
}

fn json(value: &Value) -> Result<(), OutputError> {
    data(&format!("{value:#}"))
}

fn object(row: &Row) -> Value {
    Value::Object(row.iter().map(|(name, cell)| ((*name).to_owned(), cell.json())).collect::<Map<_, _>>())
}

fn table(rows: &[Row], now: Timestamp) -> String {
    let mut table = plain_table();
    if let Some(first) = rows.first() {
        table.set_header(first.iter().map(|(name, _)| title(name)));
    }
    for row in rows {
        table.add_row(row.iter().map(|(_, cell)| cell.shown(now)));
    }
    columns(table)
}

/// A table without lines.
fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

/// The table as text, its columns two spaces apart.
fn columns(mut table: Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// `public_ip` as a heading: `PUBLIC IP`.
fn title(name: &str) -> String {
    name.replace('_', " ").to_uppercase()
}

/// Writes text and the end of its line to stdout.
pub(crate) fn data(text: &str) -> Result<(), OutputError> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(OutputError)
}

/// Writes bytes to stdout as they are.
pub(crate) fn raw(bytes: &[u8]) -> Result<(), OutputError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(OutputError)
}

/// Says something to the user, on stderr. Whether anybody listens does not matter.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Says what to do next.
pub(crate) fn next(command: &str) {
    note(&format!("next: {command}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        let launched = Timestamp::from_unix(1_000_000);
        let row = |id: &str, name: &str, ip: &str| {
            vec![
                ("id", Cell::from(id)),
                ("name", Cell::from(name)),
                ("public_ip", Cell::from(ip)),
                ("vcpus", Cell::Number(2)),
                ("launched", Cell::Time(launched)),
            ]
        };
        vec![row("i-1", "web", ""), row("i-22", "two words\u{1b}[2J", "198.18.0.5")]
    }

    #[test]
    fn a_table_is_columns_without_lines() {
        let expected = [
            "ID    NAME           PUBLIC IP   VCPUS  LAUNCHED",
            "i-1   web            -           2      5 min ago",
            "i-22  two words\u{fffd}[2J  198.18.0.5  2      5 min ago",
        ];
        assert_eq!(table(&rows(), Timestamp::from_unix(1_000_300)), expected.join("\n"));
    }

    #[test]
    fn json_says_the_same_and_leaves_text_alone() {
        let expected = serde_json::json!({
            "id": "i-22", "name": "two words\u{1b}[2J", "public_ip": "198.18.0.5", "vcpus": 2,
            "launched": "1970-01-12T13:46:40.000Z",
        });
        assert_eq!(object(&rows()[1]), expected);
        assert_eq!(object(&rows()[0])["public_ip"], Value::Null);
    }

    #[test]
    fn spans_are_told_in_their_largest_unit() {
        for (seconds, text) in [
            (0, "0 s ago"),
            (119, "119 s ago"),
            (120, "2 min ago"),
            (7200, "2 h ago"),
            (172_800, "2 days ago"),
        ] {
            assert_eq!(ago(seconds), text);
        }
    }
}
