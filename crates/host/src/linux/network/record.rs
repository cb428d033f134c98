//! The note of what was changed on the host, so that it can be undone later, by another process.

use std::io;
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::Error;
use crate::linux::sys::files;

/// The note's name in the state folder.
const NAME: &str = "host-network.json";
/// Bytes of a note that is ours.
const MOST: u64 = 1 << 16;

/// A JSON object in a file; a key is written down before the change that it tells of is made.
pub(super) struct Record(PathBuf);

impl Record {
    /// The note in this folder.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self(folder.join(NAME))
    }

    /// Notes something, unless there is a note of it: the first one tells how things were before us.
    pub(super) fn note(&self, key: &str, value: impl Into<Value>) -> Result<(), Error> {
        let mut notes = self.read()?;
        if !notes.contains_key(key) {
            notes.insert(key.to_owned(), value.into());
            let text = Value::Object(notes).to_string();
            files::write_whole(&self.0, text.as_bytes()).map_err(|error| self.failed("write", error))?;
        }
        Ok(())
    }

    /// What was noted under a key.
    pub(super) fn get(&self, key: &str) -> Result<Option<Value>, Error> {
        Ok(self.read()?.remove(key))
    }

    /// Throws the note away.
    pub(super) fn forget(&self) -> Result<(), Error> {
        files::remove_file(&self.0).map_err(|error| self.failed("remove", error))
    }

    fn read(&self) -> Result<Map<String, Value>, Error> {
        let text = files::read_if_there(&self.0, MOST).map_err(|error| self.failed("read", error))?;
        let notes = text.map_or(Ok(Map::new()), |text| serde_json::from_slice(&text));
        notes.map_err(|error| self.failed("understand", error.into()))
    }

    fn failed(&self, verb: &str, error: io::Error) -> Error {
        Error::passing(
            format!("Could not {verb} the note {} of what was changed on the host", self.0.display()),
            error,
        )
    }
}
