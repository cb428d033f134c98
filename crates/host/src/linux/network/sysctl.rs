//! Kernel settings below `/proc/sys/net`, of the calling thread's namespace.

use std::fs;
use std::io;

use crate::Error;

/// A setting, by its path below `/proc/sys/net`, and the value it should have.
pub(super) struct Setting {
    pub path: String,
    pub value: &'static str,
}

impl Setting {
    pub(super) fn new(path: impl Into<String>, value: &'static str) -> Self {
        Self { path: path.into(), value }
    }

    /// What it is now; nothing where this kernel does not have it.
    pub(super) fn now(&self) -> Option<String> {
        read(&self.path)
    }

    /// Gives it its value. A setting that this kernel does not have needs none: what it would regulate is not
    /// there.
    pub(super) fn put(&self) -> Result<(), Error> {
        match self.now() {
            Some(now) if now != self.value => write(&self.path, self.value).map_err(|error| {
                Error::passing(format!("Could not set net/{} to {}", self.path, self.value), error)
            }),
            _ => Ok(()),
        }
    }
}

/// The value of a setting; nothing where this kernel does not have it.
pub(super) fn read(path: &str) -> Option<String> {
    fs::read_to_string(file(path)).ok().map(|text| text.trim().to_owned())
}

pub(super) fn write(path: &str, value: &str) -> io::Result<()> {
    fs::write(file(path), value)
}

fn file(path: &str) -> String {
    format!("/proc/sys/net/{path}")
}
