//! Saved machines: the memory and the state of an instance that is hibernated.
//!
//! ```text
//! STATE/memories/i-…/memory      the guest's memory, sparse
//!                    state.new   what else there is of it, while it is written
//!                    state       the same, once its monitor said that everything is written: then it is whole
//! ```
//!
//! What must hold: a saved machine is gone on from at most once, since its volumes go on too. So whoever takes it has
//! the only copy: its name is gone before its files are handed to anybody. Where that fails half way the instance begins
//! anew, as after a power cut, and never goes on from a memory that its disks no longer fit.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::PathBuf;

use spec::ids::InstanceId;

use crate::Error;
use crate::linux::sys::files;

const MEMORY: &str = "memory";
const STATE: &str = "state";
const UNFINISHED: &str = "state.new";

/// The saved machines in one folder.
pub struct Memories(PathBuf);

/// The files of one.
pub struct Saved {
    /// What there is of it besides its memory.
    pub state: File,
    /// Its memory.
    pub memory: File,
}

impl Memories {
    /// Those in this folder.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Those that are whole.
    pub(super) fn whole(&self) -> Result<Vec<InstanceId>, Error> {
        let failed = |error| Error::passing(format!("Could not look into {}", self.0.display()), error);
        let ids = files::names(&self.0).map_err(failed)?.into_iter().filter_map(|name| name.parse().ok());
        Ok(ids.filter(|id| self.is_whole(*id)).collect())
    }

    /// Whether this one is.
    pub(super) fn is_whole(&self, id: InstanceId) -> bool {
        self.folder(id).join(STATE).exists()
    }

    /// Empty files for a machine to write itself down in. What was there is gone.
    pub fn make(&self, id: InstanceId) -> Result<Saved, Error> {
        let folder = self.folder(id);
        let make = || {
            files::remove_folder(&folder)?;
            files::make_folder(&folder)?;
            let make = |name| OpenOptions::new().write(true).create_new(true).open(folder.join(name));
            Ok(Saved { state: make(UNFINISHED)?, memory: make(MEMORY)? })
        };
        make().map_err(|error: io::Error| Error::passing(format!("Could not make room to save {id}"), error))
    }

    /// The machine said that everything is written: it is whole from now on. Said again, nothing.
    pub fn keep(&self, id: InstanceId) -> Result<(), Error> {
        let folder = self.folder(id);
        let keep = || {
            match fs::rename(folder.join(UNFINISHED), folder.join(STATE)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                renamed => renamed?,
            }
            files::sync_folder(&folder)
        };
        keep().map_err(|error| Error::passing(format!("Could not keep what was saved of {id}"), error))
    }

    /// Takes a whole one, which is used up by that; none where there is none.
    pub fn take(&self, id: InstanceId) -> Result<Option<Saved>, Error> {
        let folder = self.folder(id);
        let take = || {
            let state = files::open_if_there(&folder.join(STATE))?;
            let memory = files::open_if_there(&folder.join(MEMORY))?;
            files::remove_folder(&folder)?;
            Ok(state.zip(memory).map(|(state, memory)| Saved { state, memory }))
        };
        take().map_err(|error: io::Error| {
            Error::passing(format!("Could not take what was saved of {id}"), error)
        })
    }

    /// Takes away what there is, whole or not.
    pub fn remove(&self, id: InstanceId) -> Result<(), Error> {
        files::remove_folder(&self.folder(id))
            .map_err(|error| Error::passing(format!("Could not remove what was saved of {id}"), error))
    }

    fn folder(&self, id: InstanceId) -> PathBuf {
        self.0.join(id.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::linux::storage::testing::Folder;

    #[test]
    fn one_is_whole_when_that_was_said_and_is_taken_once() {
        let (folder, id) = (Folder::new(), InstanceId::from_random(1));
        let memories = Memories::new(folder.to_owned());
        assert!(memories.take(id).unwrap().is_none());
        memories.keep(id).unwrap();
        let Saved { mut state, memory } = memories.make(id).unwrap();
        state.write_all(b"it").unwrap();
        drop((state, memory));
        assert_eq!(memories.whole().unwrap(), []);
        memories.keep(id).unwrap();
        memories.keep(id).unwrap();
        assert_eq!(memories.whole().unwrap(), [id]);
        let mut said = String::new();
        memories.take(id).unwrap().unwrap().state.read_to_string(&mut said).unwrap();
        assert_eq!((said.as_str(), memories.whole().unwrap()), ("it", vec![]));
        assert!(memories.take(id).unwrap().is_none());
    }

    #[test]
    fn what_was_not_finished_is_nothing() {
        let (folder, id) = (Folder::new(), InstanceId::from_random(1));
        let memories = Memories::new(folder.to_owned());
        drop(memories.make(id).unwrap());
        assert!(memories.take(id).unwrap().is_none());
        drop(memories.make(id).unwrap());
        memories.keep(id).unwrap();
        drop(memories.make(id).unwrap());
        assert_eq!(memories.whole().unwrap(), []);
        memories.remove(id).unwrap();
        memories.remove(id).unwrap();
        assert_eq!(files::names(&folder).unwrap(), Vec::<String>::new());
    }
}
