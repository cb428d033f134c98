//! A volume's files: making them, opening them by path, locking them, handing them on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::header::{BadMap, Header};
use crate::lock;

/// The part with the volume's own bytes.
pub const DATA: &str = "data";
/// The part that says which blocks are the volume's own.
pub const MAP: &str = "map";
/// The part that the other blocks read as.
pub const BASE: &str = "base";

/// How much of a map is written out when it is made, in bytes; the bits of a base of 128 GiB. The rest is a hole.
const MOST_ZEROS: usize = 4 << 20;

/// What a volume is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading; others may read too.
    Read,
    /// Reading and writing; nobody else may have it open.
    Write,
}

/// A volume's open files.
#[derive(Debug)]
pub struct Parts {
    /// Its own bytes.
    pub data: File,
    /// Whose a block is.
    pub map: File,
    /// What the other blocks read as.
    pub base: Option<File>,
}

/// Why a volume could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// One of the files could not be opened or locked.
    #[error("Could not open the volume's part \"{name}\"")]
    Open {
        /// Which part.
        name: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Someone else has it open for writing, or this was to write and someone else reads.
    #[error("The volume is in use by another process")]
    InUse,
    /// One of the files could not be read.
    #[error("Could not read the volume's part \"{name}\"")]
    Read {
        /// Which part.
        name: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file is not as long as the map says.
    #[error("The volume's part \"{name}\" has {found} bytes and should have {expected}")]
    Length {
        /// Which part.
        name: &'static str,
        /// Bytes it has.
        found: u64,
        /// Bytes it should have.
        expected: u64,
    },
    /// The map speaks of a base and there is none, or the reverse.
    #[error("The volume's map {}", if *said { "needs a base and there is none" } else { "knows no base and there is one" })]
    Base {
        /// Whether the map says that there is a base.
        said: bool,
    },
    /// The map cannot be understood.
    #[error("Could not understand the volume's map")]
    Map(#[from] BadMap),
}

impl Parts {
    /// Opens the parts in a volume's folder and locks the volume: alone for writing, with others for reading. The lock lasts
    /// until the last copy of the descriptor of `data` is closed, in whatever process.
    pub fn open(folder: &Path, access: Access) -> Result<Self, OpenError> {
        let open = |name, access| {
            let file = OpenOptions::new().read(true).write(access == Access::Write).open(folder.join(name));
            file.map_err(|source| OpenError::Open { name, source })
        };
        let data = open(DATA, access)?;
        let kind = if access == Access::Write { lock::Kind::Exclusive } else { lock::Kind::Shared };
        let free = lock::try_lock(&data, kind).map_err(|source| OpenError::Open { name: DATA, source })?;
        if !free {
            return Err(OpenError::InUse);
        }
        let map = open(MAP, access)?;
        let base = match open(BASE, Access::Read) {
            Err(OpenError::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
            base => Some(base?),
        };
        Ok(Self { data, map, base })
    }

    /// Each part with its name, to be handed on as descriptors.
    pub fn named(self) -> impl Iterator<Item = (&'static str, File)> {
        [(DATA, Some(self.data)), (MAP, Some(self.map)), (BASE, self.base)]
            .into_iter()
            .filter_map(|(name, file)| Some((name, file?)))
    }

    /// The parts out of what was handed on: `take` gives up the file of a name.
    pub fn from_named(mut take: impl FnMut(&'static str) -> Option<File>) -> Result<Self, OpenError> {
        let mut need = |name| {
            let missing = || OpenError::Open { name, source: io::ErrorKind::NotFound.into() };
            take(name).ok_or_else(missing)
        };
        Ok(Self { data: need(DATA)?, map: need(MAP)?, base: take(BASE) })
    }

    /// The same open files once more. They share the lock.
    pub fn try_clone(&self) -> io::Result<Self> {
        let base = self.base.as_ref().map(File::try_clone).transpose()?;
        Ok(Self { data: self.data.try_clone()?, map: self.map.try_clone()?, base })
    }
}

/// Why a volume could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// Such a volume cannot be.
    #[error("Such a volume cannot be")]
    Impossible(#[source] BadMap),
    /// One of its files could not be made.
    #[error("Could not make the volume's part \"{name}\"")]
    Make {
        /// Which part.
        name: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Makes a volume's parts in an empty folder, durable when this returns, though the folder's own name in its parent is
/// not. The time it takes depends neither on `bytes` nor on the size of `base`.
///
/// `base` becomes another name of the same file (a hard link), so that the volume outlives the image it began as.
pub fn create(folder: &Path, bytes: u64, base: Option<&Path>) -> Result<(), CreateError> {
    let make = |name| move |source| CreateError::Make { name, source };
    let base_bytes = base.map(fs::metadata).transpose().map_err(make(BASE))?.map(|metadata| metadata.len());
    let header = Header::new(bytes, base_bytes).map_err(CreateError::Impossible)?;
    let file = |name| OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.join(name));

    let data = file(DATA).map_err(make(DATA))?;
    data.set_len(bytes).and_then(|()| data.sync_all()).map_err(make(DATA))?;
    let mut map = file(MAP).map_err(make(MAP))?;
    // Zeros that are really there: a flush then overwrites them, which costs the file system no journal entry.
    let zeros = vec![0; usize::try_from(header.map_bytes()).unwrap_or(MOST_ZEROS).min(MOST_ZEROS)];
    map.write_all(&header.page())
        .and_then(|()| map.write_all(&zeros))
        .and_then(|()| map.set_len(header.map_bytes()))
        .and_then(|()| map.sync_all())
        .map_err(make(MAP))?;
    if let Some(base) = base {
        fs::hard_link(base, folder.join(BASE)).map_err(make(BASE))?;
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(make(DATA))
}
