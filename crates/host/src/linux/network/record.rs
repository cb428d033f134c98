//! The note of what was changed on the host, so that it can be undone later, by another process.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::Error;

/// The note's name in the state folder.
const NAME: &str = "host-network.json";

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
            self.write(notes).map_err(|error| self.failed("write", error))?;
        }
        Ok(())
    }

    /// What was noted under a key.
    pub(super) fn get(&self, key: &str) -> Result<Option<Value>, Error> {
        Ok(self.read()?.remove(key))
    }

    /// Throws the note away.
    pub(super) fn forget(&self) -> Result<(), Error> {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed("remove", error)),
            _ => Ok(()),
        }
    }

    fn read(&self) -> Result<Map<String, Value>, Error> {
        match fs::read(&self.0) {
            Ok(text) => {
                serde_json::from_slice(&text).map_err(|error| self.failed("understand", error.into()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Map::new()),
            Err(error) => Err(self.failed("read", error)),
        }
    }

    fn write(&self, notes: Map<String, Value>) -> io::Result<()> {
        let new = self.0.with_extension("json.new");
        let mut file = fs::File::create(&new)?;
        file.write_all(Value::Object(notes).to_string().as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.0)
    }

    fn failed(&self, verb: &str, error: io::Error) -> Error {
        Error::passing(
            format!("Could not {verb} the note {} of what was changed on the host", self.0.display()),
            error,
        )
    }
}
