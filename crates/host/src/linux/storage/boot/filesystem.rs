//! An ext4 file system on a part of a disk, read without mounting it.
//!
//! The file system is its guest's and may be made to hurt. So what the reading library would believe
//! is checked first, all that is read is counted, and every file and folder has a limit.

use std::error::Error as StdError;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use ext4_view::{Ext4, Ext4Error, Ext4Read};

use super::Disk;

/// The most bytes read from one file system altogether.
const BUDGET: u64 = 4 << 30;
/// The most names looked at in one folder.
const MOST_NAMES: usize = 4096;
/// The most block groups: those of 128 TiB in the usual layout. The library makes a list of them.
const MOST_GROUPS: u64 = 1 << 20;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system is damaged, or of a form that cannot be read.
    #[error("Could not read \"{path}\" in the file system")]
    Read {
        /// Which file or folder.
        path: String,
        /// What is wrong.
        source: Ext4Error,
    },
    /// The file has more bytes than such a file may have.
    #[error("\"{path}\" has {found} bytes, more than the {most} that such a file may have")]
    TooLarge {
        /// Which file.
        path: String,
        /// Bytes it has.
        found: u64,
        /// Bytes it may have.
        most: u64,
    },
    /// What was read could not be kept.
    #[error("Could not keep a copy of \"{path}\"")]
    Keep {
        /// Which file.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// An open file system.
pub(super) struct FileSystem(Ext4);

impl FileSystem {
    /// Opens the file system on a part of a disk; none where there is no ext4.
    pub(super) fn open(disk: Arc<dyn Disk>, range: Range<u64>) -> Result<Option<Self>, FileError> {
        if !is_ext4(&*disk, &range).map_err(|source| read_error("/", io_error(source)))? {
            return Ok(None);
        }
        let part = PartOfDisk { disk, range, budget: BUDGET };
        Ext4::load(Box::new(part)).map(|ext4| Some(Self(ext4))).map_err(|source| read_error("/", source))
    }

    /// Whether there is a file of this name, at the end of all symbolic links.
    pub(super) fn has_file(&self, path: &str) -> bool {
        self.0.metadata(path).is_ok_and(|metadata| metadata.file_type().is_regular_file())
    }

    /// The name of the file itself where the path is a symbolic link to it, without its folder.
    pub(super) fn real_name(&self, path: &str) -> Option<String> {
        let path = self.0.canonicalize(path).ok()?;
        let path = path.to_str().ok()?;
        path.rsplit('/').next().map(str::to_owned)
    }

    /// The names in a folder; none where there is no such folder. Names that are no text are left out.
    pub(super) fn names(&self, folder: &str) -> Result<Vec<String>, FileError> {
        let entries = match self.0.read_dir(folder) {
            Err(Ext4Error::NotFound | Ext4Error::NotADirectory) => return Ok(Vec::new()),
            entries => entries.map_err(|source| read_error(folder, source))?,
        };
        let mut names = Vec::new();
        for entry in entries.take(MOST_NAMES) {
            let entry = entry.map_err(|source| read_error(folder, source))?;
            names.extend(entry.file_name().as_str().ok().map(str::to_owned));
        }
        Ok(names)
    }

    /// A file's text, what is no UTF-8 in it replaced.
    pub(super) fn text(&self, path: &str, most: u64) -> Result<String, FileError> {
        let mut bytes = Vec::new();
        self.read(path, most, &mut |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Copies a file into `to` at `offset`, and says how many bytes it has.
    pub(super) fn copy(&self, path: &str, most: u64, to: &File, offset: u64) -> Result<u64, FileError> {
        let mut at = offset;
        self.read(path, most, &mut |part| {
            to.write_all_at(part, at)?;
            at += part.len() as u64;
            Ok(())
        })?;
        Ok(at - offset)
    }

    fn read(
        &self,
        path: &str,
        most: u64,
        each: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), FileError> {
        let wrong = |source| read_error(path, source);
        let mut file = self.0.open(path).map_err(wrong)?;
        let found = file.metadata().len();
        if found > most {
            return Err(FileError::TooLarge { path: path.to_owned(), found, most });
        }
        let mut buffer = vec![0; 1 << 18];
        loop {
            match file.read_bytes(&mut buffer).map_err(wrong)? {
                0 => return Ok(()),
                count => each(&buffer[..count])
                    .map_err(|source| FileError::Keep { path: path.to_owned(), source })?,
            }
        }
    }
}

fn read_error(path: &str, source: Ext4Error) -> FileError {
    FileError::Read { path: path.to_owned(), source }
}

fn io_error(error: io::Error) -> Ext4Error {
    Ext4Error::Io(Box::new(error))
}

/// Whether a superblock is there that claims no more than the partition has (Linux, Documentation/filesystems/ext4/super.rst).
pub(super) fn is_ext4(disk: &dyn Disk, range: &Range<u64>) -> io::Result<bool> {
    let mut block = [0; 1024];
    if range.end - range.start < 2048 {
        return Ok(false);
    }
    disk.read_at(&mut block, range.start + 1024)?;
    let word = |at: usize| block[at..].first_chunk().map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)));
    let (log_block, per_group) = (word(24), word(32));
    let wide = word(96) & 0x80 != 0;
    let blocks = word(4) | if wide { word(336) << 32 } else { 0 };
    let is_ext = block[56..58] == [0x53, 0xef];
    Ok(is_ext
        && log_block <= 6
        && per_group > 0
        && blocks.div_ceil(per_group) <= MOST_GROUPS
        && blocks <= (range.end - range.start) >> (10 + log_block))
}

/// A part of a disk as the library reads it.
struct PartOfDisk {
    disk: Arc<dyn Disk>,
    range: Range<u64>,
    budget: u64,
}

impl Ext4Read for PartOfDisk {
    fn read(
        &mut self,
        start: u64,
        buffer: &mut [u8],
    ) -> Result<(), Box<dyn StdError + Send + Sync + 'static>> {
        let length = buffer.len() as u64;
        self.budget = self.budget.checked_sub(length).ok_or("more was read than any kernel needs")?;
        let start = self.range.start.checked_add(start).ok_or("an offset is past all disks")?;
        if start.checked_add(length).is_none_or(|end| end > self.range.end) {
            return Err("an offset is past the partition's end".into());
        }
        Ok(self.disk.read_at(buffer, start)?)
    }
}
