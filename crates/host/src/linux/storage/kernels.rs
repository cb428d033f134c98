//! Unpacked kernels, kept by the digest of the file they came out of.
//!
//! A stock kernel is shared by many volumes and boots often; unpacking it takes a second. The
//! digest is a cryptographic one, so a guest cannot prepare a kernel that takes another's place. An empty file says
//! that this one is a kernel which is to be booted as it is: it is not packed, or unpacking it leads to nothing.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::reader::{ReadError, Reader};
use crate::linux::sys::files;

/// How many unpacked kernels are kept; the one not used for longest goes first.
const MOST_KEPT: usize = 16;

/// Why a kernel could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum KernelsError {
    /// The kernel itself is at fault, or could not be looked at.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The kept kernels could not be used.
    #[error("Could not keep an unpacked kernel in {}", .folder.display())]
    Keep {
        /// The folder.
        folder: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// The folder of unpacked kernels.
pub(super) struct Kernels {
    folder: PathBuf,
}

impl Kernels {
    /// The kernels kept in an existing folder.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The kernel to boot instead of `packed`, which nobody writes any more: unpacked where that is possible, else the same.
    pub(super) fn ready(&self, packed: File, reader: &dyn Reader) -> Result<File, KernelsError> {
        let keep = |source| KernelsError::Keep { folder: self.folder.clone(), source };
        let path = self.folder.join(digest(&packed).map_err(keep)?);
        if let Some(kept) = files::open_if_there(&path).map_err(keep)? {
            kept.set_modified(SystemTime::now()).map_err(keep)?;
            return which(kept, packed).map_err(keep);
        }
        let draft = files::unnamed(&self.folder).map_err(keep)?;
        if !reader.unpack(&packed, &draft)?.unpacked {
            draft.set_len(0).map_err(keep)?;
        }
        files::name(&draft, &path).map_err(keep)?;
        self.forget_oldest().map_err(keep)?;
        which(File::open(&path).map_err(keep)?, packed).map_err(keep)
    }

    fn forget_oldest(&self) -> io::Result<()> {
        let mut kept: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            kept.push((entry.metadata()?.modified()?, entry.path()));
        }
        kept.sort();
        let superfluous = kept.len().saturating_sub(MOST_KEPT);
        kept.iter().take(superfluous).try_for_each(|(_, path)| files::remove_file(path))
    }
}

fn which(kept: File, packed: File) -> io::Result<File> {
    Ok(if kept.metadata()?.len() == 0 { packed } else { kept })
}

/// SHA-256 in hexadecimal digits. Reads from the beginning wherever the file's offset is.
fn digest(file: &File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut file = files::read_only(file)?;
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    let mut text = String::new();
    for byte in hash.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}
