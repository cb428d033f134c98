//! Images and volumes as files in the state folder.
//!
//! ```text
//! STATE/
//!   images/ami-…/disk.raw     the disk, sparse, never written again
//!   images/ami-…/facts.json   what was learned of it at import (spec::storage::ImageFacts)
//!   volumes/vol-…/            data, map and base; see the volume crate. base is another name (hard link) of an image's disk.raw
//!   memories/i-…/             a machine that is hibernated; see memories.rs
//!   kernels/DIGEST            an unpacked kernel, by the SHA-256 of the file it came out of
//!   scratch/                  where files without a name are made; always empty to the eye
//!   …/*.partial               being made or taken away; cleared at the next start
//! ```
//!
//! What must hold:
//! - A folder with its final name is whole: everything in it was durable before the rename that gave it the name.
//! - Making a volume takes the same time whatever its size, and whatever its image's.
//! - No image's disk is ever written, so any number of volumes share its pages in memory.
//! - What guests made is read by processes without rights, see [`reader`].

pub mod boot;
mod image;
mod kernel;
mod kernels;
mod memories;
mod qcow2;
pub mod reader;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use spec::ids::{ImageId, VolumeId};
use spec::observed::{Observed, Scope};
use spec::steps::Resource;
use spec::storage::{ImageFacts, Volume as Wanted};
use volume::{Access, OpenError, Parts};

pub use self::boot::{BootError, FileError};
pub use self::image::ImportError;
pub use self::kernel::KernelError;
pub use self::kernels::KernelsError;
pub use self::memories::{Memories, Saved};
pub use self::qcow2::Qcow2Error;

use self::image::Bench;
use self::kernels::Kernels;
use self::reader::{ReadError, Reader};
use super::sys::cgroup::DiskNumber;
use super::sys::files;
use crate::{Error, ErrorKind};

/// The images and volumes of this machine.
pub struct Storage {
    images: PathBuf,
    volumes: PathBuf,
    scratch: PathBuf,
    kernels: Kernels,
    /// What was saved of machines.
    pub memories: Memories,
    reader: Box<dyn Reader>,
}

/// What a machine boots, as descriptors to hand on.
#[derive(Debug)]
pub struct BootFiles {
    /// The kernel, unpacked where that is possible, to read.
    pub kernel: File,
    /// The initial RAM disk, to read.
    pub initrd: Option<File>,
    /// The kernel's command line.
    pub command_line: String,
}

impl Storage {
    /// The storage in a state folder, which is made where it is not there. What an earlier process left half made is cleared, so
    /// only one process may do this at a time. `reader` is who looks at what guests made.
    pub fn open(state: &Path, reader: Box<dyn Reader>) -> Result<Self, Error> {
        let folder = |name: &str| state.join(name);
        let storage = Self {
            images: folder("images"),
            volumes: folder("volumes"),
            scratch: folder("scratch"),
            kernels: Kernels::new(folder("kernels")),
            memories: Memories::new(folder("memories")),
            reader,
        };
        for name in ["images", "volumes", "scratch", "kernels", "memories"] {
            let folder = folder(name);
            files::prepare_folder(&folder)
                .map_err(|error| Error::passing(format!("Could not prepare {}", folder.display()), error))?;
        }
        Ok(storage)
    }

    /// The host's disk that volumes are on, where that is one.
    pub fn disk(&self) -> io::Result<Option<DiskNumber>> {
        DiskNumber::of(&self.volumes)
    }

    /// Adds the images, volumes and saved machines within `scope` that are whole to `observed`.
    pub fn observe(&self, scope: &Scope, observed: &mut Observed) -> Result<(), Error> {
        let volumes = whole(&self.volumes)?.filter(|id| scope.covers(Resource::Volume(*id)));
        observed.volumes.extend(volumes);
        observed.images.extend(whole(&self.images)?.filter(|id| scope.covers(Resource::Image(*id))));
        observed.memories.extend(match scope {
            Scope::Everything => self.memories.whole()?,
            Scope::Resources(resources) => {
                let named = resources.iter().filter_map(|resource| match resource {
                    Resource::Memory(id) => Some(*id),
                    _ => None,
                });
                named.filter(|id| self.memories.is_whole(*id)).collect()
            }
        });
        Ok(())
    }

    /// Makes a volume, if it is not there.
    pub fn create_volume(&self, wanted: &Wanted) -> Result<(), Error> {
        let folder = self.volume(wanted.id);
        if folder.exists() {
            return Ok(());
        }
        let what = || format!("Could not make volume {}", wanted.id);
        let base = wanted.base.map(|image| self.image(image).join(image::DISK));
        if let Some((image, base)) = wanted.base.zip(base.as_ref())
            && !base.exists()
        {
            return Err(Error::new(ErrorKind::NotFound, format!("{}: image {image} is not here", what())));
        }
        let made = files::partial(&folder);
        files::remove_half_made(&made)
            .and_then(|()| files::make_folder(&made))
            .map_err(|error| Error::passing(what(), error))?;
        volume::create(&made, wanted.bytes, base.as_deref()).map_err(|error| match error {
            volume::CreateError::Impossible(_) => Error::lasting(what(), error),
            volume::CreateError::Make { .. } => Error::passing(what(), error),
        })?;
        files::commit_folder(&made, &folder).map_err(|error| Error::passing(what(), error))
    }

    /// Takes a volume away, unless someone has it open.
    pub fn remove_volume(&self, id: VolumeId) -> Result<(), Error> {
        let folder = self.volume(id);
        let what = || format!("Could not remove volume {id}");
        // One that is damaged goes too.
        let _parts = match Parts::open(&folder, Access::Write) {
            Err(error @ OpenError::InUse) => return Err(Error::passing(what(), error)),
            parts => parts.ok(),
        };
        files::remove_folder(&folder).map_err(|error| Error::passing(what(), error))
    }

    /// Takes an image away. Volumes that began as it keep its disk under their own name.
    pub fn remove_image(&self, id: ImageId) -> Result<(), Error> {
        files::remove_folder(&self.image(id))
            .map_err(|error| Error::passing(format!("Could not remove image {id}"), error))
    }

    /// See [`crate::Host::staging_file`].
    pub fn staging_file(&self) -> Result<File, Error> {
        files::unnamed(&self.scratch).map_err(|error| {
            let what = format!("Could not make a file without a name in {}", self.scratch.display());
            Error::passing(what, error)
        })
    }

    /// See [`crate::Host::import_image`]. An image that is there already is not looked at again.
    pub fn import_image(
        &self,
        id: ImageId,
        disk: File,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<ImageFacts, Error> {
        let folder = self.image(id);
        let passing = |error| Error::passing(format!("Could not import image {id}"), error);
        if folder.exists() {
            return image::facts(&folder).map_err(passing);
        }
        let made = files::partial(&folder);
        files::remove_half_made(&made).and_then(|()| files::make_folder(&made)).map_err(passing)?;
        let bench = Bench { scratch: &self.scratch, kernels: &self.kernels, reader: &*self.reader };
        let imported = image::import(disk, &made, &bench, progress).map_err(|error| {
            let what = format!("Could not import image {id}");
            if error.is_lasting() { Error::lasting(what, error) } else { Error::passing(what, error) }
        });
        match imported {
            Ok(facts) => {
                files::commit_folder(&made, &folder).map_err(passing)?;
                Ok(facts)
            }
            Err(error) => {
                // Whether this works or not, the next start clears it; the first error is the one to tell.
                let _ = files::remove_half_made(&made);
                Err(error)
            }
        }
    }

    /// Opens a volume's files and locks the volume, for as long as any copy of the descriptors is open.
    pub fn open_volume(&self, id: VolumeId, access: Access) -> Result<Parts, Error> {
        Parts::open(&self.volume(id), access)
            .map_err(|error| Error::passing(format!("Could not open volume {id}"), error))
    }

    /// What a machine boots whose root disk is this volume.
    pub fn boot_files(&self, id: VolumeId, parts: &Parts) -> Result<BootFiles, Error> {
        let passing = |error| Error::passing(format!("Could not read what volume {id} boots"), error);
        let unread = |error: ReadError| match error.is_lasting() {
            true => Error::lasting(format!("Volume {id} cannot be booted"), error),
            false => Error::passing(format!("Could not read what volume {id} boots"), error),
        };
        let (kernel, initrd) = (self.staging_file()?, self.staging_file()?);
        let found = self.reader.find_on_volume(parts, [&kernel, &initrd]).map_err(unread)?;
        let kernel = files::read_only(&kernel).map_err(passing)?;
        let kernel = self.kernels.ready(kernel, &*self.reader).map_err(|error| match error {
            KernelsError::Read(error) => unread(error),
            KernelsError::Keep { .. } => {
                Error::passing(format!("Could not unpack the kernel of volume {id}"), error)
            }
        })?;
        let initrd = found.has_initrd.then(|| files::read_only(&initrd)).transpose().map_err(passing)?;
        Ok(BootFiles { kernel, initrd, command_line: found.command_line })
    }

    fn image(&self, id: ImageId) -> PathBuf {
        self.images.join(id.to_string())
    }

    fn volume(&self, id: VolumeId) -> PathBuf {
        self.volumes.join(id.to_string())
    }
}

/// The ids that are names in a folder.
fn whole<Id: FromStr>(folder: &Path) -> Result<impl Iterator<Item = Id>, Error> {
    let names = files::names(folder)
        .map_err(|error| Error::passing(format!("Could not look into {}", folder.display()), error))?;
    Ok(names.into_iter().filter_map(|name| name.parse().ok()))
}
