//! Taking an image in: a raw or qcow2 disk becomes a sparse raw file that is proven to boot.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use nix::sys::statvfs::fstatvfs;
use spec::storage::ImageFacts;
use volume::sparse;

use super::kernels::{Kernels, KernelsError};
use super::qcow2::{self, Qcow2, Qcow2Error};
use super::reader::{KernelFacts, ReadError, Reader};
use crate::linux::sys::files;

/// An image's disk in its folder.
pub(super) const DISK: &str = "disk.raw";
/// What was learned of an image, as JSON, in its folder.
pub(super) const FACTS: &str = "facts.json";

/// The largest disk of an image: 2 TiB, as EC2's largest boot volume with a partition table of the old kind.
const MOST_BYTES: u64 = 2 << 40;
/// Disks are a whole number of these.
const SECTOR: u64 = 512;
/// Bytes of the file system that stay free for others.
const KEEP_FREE: u64 = 256 << 20;

/// What other files begin with, and what they are; someone will try one.
const NO_DISKS: [(&[u8], &str); 8] = [
    (b"\x1f\x8b", "packed by gzip; unpack it first"),
    (b"\xfd7zXZ\0", "packed by xz; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd; unpack it first"),
    (b"BZh", "packed by bzip2; unpack it first"),
    (b"PK\x03\x04", "a zip archive; unpack it first"),
    (b"KDMV", "a VMDK image; \"qemu-img convert -O qcow2\" makes one that can be imported"),
    (b"vhdxfile", "a VHDX image; \"qemu-img convert -O qcow2\" makes one that can be imported"),
    (b"conectix", "a VHD image; \"qemu-img convert -O qcow2\" makes one that can be imported"),
];

/// Why a disk was not taken in as an image.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file is no disk.
    #[error("The file is {0}")]
    NoDisk(&'static str),
    /// Its size cannot be.
    #[error("A disk of {0} bytes cannot be imported; the most is 2 TiB, the least one sector")]
    Size(u64),
    /// There is not enough room for it.
    #[error("The disk holds {needed} bytes and the state folder's file system has {free} left for it")]
    NoRoom {
        /// Bytes it would take at most.
        needed: u64,
        /// Bytes there are.
        free: u64,
    },
    /// The qcow2 image is at fault.
    #[error(transparent)]
    Qcow2(#[from] Qcow2Error),
    /// Nothing can be booted from it.
    #[error("Nothing can be booted from the disk")]
    Boot(#[source] ReadError),
    /// Its kernel is none.
    #[error("The disk's kernel cannot be booted")]
    Kernel(#[source] ReadError),
    /// Its kernel could not be unpacked.
    #[error(transparent)]
    Kernels(#[from] KernelsError),
    /// The files of the image could not be made.
    #[error("Could not make the image's files")]
    Files(#[from] io::Error),
}

impl ImportError {
    /// Whether the same file will be refused again.
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            Self::NoDisk(_) | Self::Size(_) => true,
            Self::Qcow2(error) => !matches!(error, Qcow2Error::Copy(_)),
            Self::Boot(error) | Self::Kernel(error) | Self::Kernels(KernelsError::Read(error)) => {
                error.is_lasting()
            }
            Self::Kernels(KernelsError::Keep { .. }) | Self::NoRoom { .. } | Self::Files(_) => false,
        }
    }
}

/// What an image is made with.
pub(super) struct Bench<'a> {
    /// A folder for files without a name.
    pub(super) scratch: &'a Path,
    pub(super) kernels: &'a Kernels,
    pub(super) reader: &'a dyn Reader,
}

/// A disk to be taken in.
enum Source {
    Raw(File),
    Qcow2(Qcow2),
}

/// Makes an image's files in `folder`, which is empty, and says what was learned. The image's kernel is unpacked and kept, so that
/// the first start need not.
pub(super) fn import(
    disk: File,
    folder: &Path,
    bench: &Bench<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<ImageFacts, ImportError> {
    let source = Source::of(disk)?;
    let bytes = source.size()?.next_multiple_of(SECTOR);
    if bytes == 0 || bytes > MOST_BYTES {
        return Err(ImportError::Size(bytes));
    }
    let to = File::create_new(folder.join(DISK))?;
    to.set_len(bytes)?;
    source.copy(&to, progress)?;
    to.set_permissions(Permissions::from_mode(0o400))?;
    to.sync_all()?;

    let facts = prove(folder, bytes, bench)?;
    files::write_whole(&folder.join(FACTS), &serde_json::to_vec_pretty(&facts).map_err(io::Error::from)?)?;
    Ok(facts)
}

/// Has read out of the disk what an instance would boot.
fn prove(folder: &Path, bytes: u64, bench: &Bench<'_>) -> Result<ImageFacts, ImportError> {
    let disk = File::open(folder.join(DISK))?;
    let (kernel, initrd) = (files::unnamed(bench.scratch)?, files::unnamed(bench.scratch)?);
    let found = bench.reader.find_on_disk(&disk, bytes, [&kernel, &initrd]).map_err(ImportError::Boot)?;
    let KernelFacts { architecture, release, .. } =
        bench.reader.look_at_kernel(&kernel).map_err(ImportError::Kernel)?;
    bench.kernels.ready(kernel, bench.reader)?;
    Ok(ImageFacts { bytes, architecture, kernel: release.or(found.release) })
}

impl Source {
    fn of(disk: File) -> Result<Self, ImportError> {
        let mut begin = [0; 8];
        let length = disk.read_at(&mut begin, 0)?;
        if begin.starts_with(&qcow2::MAGIC) {
            return Ok(Self::Qcow2(Qcow2::open(disk)?));
        }
        match NO_DISKS.iter().find(|(magic, _)| begin[..length].starts_with(magic)) {
            Some((_, what)) => Err(ImportError::NoDisk(what)),
            None => Ok(Self::Raw(disk)),
        }
    }

    fn size(&self) -> io::Result<u64> {
        match self {
            Self::Raw(file) => Ok(file.metadata()?.len()),
            Self::Qcow2(image) => Ok(image.size()),
        }
    }

    /// Copies what is not zeros. What a qcow2 image unpacks to may be a thousand times the file, so there must be room for it first.
    fn copy(self, to: &File, progress: &mut dyn FnMut(u64, u64)) -> Result<(), ImportError> {
        match self {
            Self::Raw(file) => {
                let bytes = file.metadata()?.len();
                Ok(sparse::copy(&file, to, 0..bytes, &mut |done| progress(done, bytes))?)
            }
            Self::Qcow2(image) => {
                let needed = image.allocated()?;
                let room = fstatvfs(to).map_err(io::Error::from)?;
                let free = (room.blocks_available() * room.fragment_size()).saturating_sub(KEEP_FREE);
                if needed > free {
                    return Err(ImportError::NoRoom { needed, free });
                }
                Ok(image.copy(to, &mut |done| progress(done, needed))?)
            }
        }
    }
}

/// The facts of an image that is there whole.
pub(super) fn facts(folder: &Path) -> io::Result<ImageFacts> {
    Ok(serde_json::from_slice(&fs::read(folder.join(FACTS))?)?)
}
