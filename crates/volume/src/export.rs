//! A volume as one plain file that any tool reads.

use std::fs::File;
use std::io;

use crate::parts::{Access, OpenError, Parts};
use crate::sparse;
use crate::volume::{Place, Volume};

/// Why a volume could not be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It could not be opened.
    #[error("Could not open the volume to export")]
    Open(#[from] OpenError),
    /// It could not be read, or the file not be written.
    #[error("Could not copy the volume")]
    Copy(#[from] io::Error),
}

/// Writes all of a volume into `to`, an empty file, which becomes a sparse raw disk image: `qemu-img`,
/// `losetup` and `dd` read it as it is. `progress` is told bytes done. Nobody should be writing the volume meanwhile.
pub fn export(parts: &Parts, to: &File, progress: &mut dyn FnMut(u64)) -> Result<(), ExportError> {
    let volume = Volume::open(parts.try_clone()?, Access::Read)?;
    to.set_len(volume.size())?;
    for piece in volume.locate(0..volume.size()) {
        match (piece.place, &parts.base) {
            (Place::Data, _) => sparse::copy(&parts.data, to, piece.range, progress)?,
            (Place::Base, Some(base)) => sparse::copy(base, to, piece.range, progress)?,
            _ => progress(piece.range.end),
        }
    }
    Ok(to.sync_all()?)
}
