//! What a disk boots: kernel, initial RAM disk and command line, read out of the disk itself.
//!
//! Read at each start, from the volume as it is then, so that a guest that upgraded its kernel boots the new one.
//! Looked for, in this order, on the root partition (by its type), then on a boot partition, then on any other:
//!
//! 1. a boot entry (Boot Loader Specification, type 1), the first in the specification's order whose kernel is there;
//! 2. `/vmlinuz` and `/initrd.img`, Debian's symbolic links to the newest;
//! 3. the newest `/boot/vmlinuz-VERSION` with its `initrd.img-VERSION`.
//!
//! The disk is its guest's, and hostile: it is read through what was opened by others, nothing is mounted, every size has a
//! limit. [`read`] takes open descriptors alone and gives plain data: it is done in a process without rights, see
//! [`super::reader`].

mod entries;
mod filesystem;
mod gpt;
mod versions;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use spec::storage::Architecture;
use volume::Volume;

use self::entries::Entry;
pub use self::filesystem::FileError;
use self::filesystem::FileSystem;
use self::gpt::{Partition, Purpose};

/// The largest kernel, packed as it is, in bytes.
const MOST_KERNEL: u64 = 256 << 20;
/// The largest initial RAM disk, all parts together, in bytes.
const MOST_INITRD: u64 = 1 << 30;
/// The largest boot entry in bytes, and how many are looked at.
const MOST_ENTRY: u64 = 64 << 10;
const MOST_ENTRIES: usize = 256;
/// The longest command line: the kernel's own limit, less its final zero (`COMMAND_LINE_SIZE` of x86 and arm64).
const MOST_COMMAND_LINE: usize = 2047;

/// A disk to be read.
pub trait Disk: Send + Sync {
    /// Bytes of the disk.
    fn size(&self) -> u64;
    /// Fills `buffer` from `offset` on.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Disk for Volume {
    fn size(&self) -> u64 {
        self.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_at(buffer, offset)
    }
}

/// A raw file as a disk.
pub(super) struct RawDisk {
    pub(super) file: File,
    pub(super) bytes: u64,
}

impl Disk for RawDisk {
    fn size(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

#[cfg(test)]
impl Disk for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(&self[start..start + buffer.len()]);
        Ok(())
    }
}

/// What was found on a disk, besides the files themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The kernel's command line.
    pub command_line: String,
    /// Whether there is an initial RAM disk.
    pub has_initrd: bool,
    /// The kernel's release as its file's name says it.
    pub release: Option<String>,
}

/// Why a disk cannot be booted.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The disk could not be read.
    #[error("Could not read the disk")]
    Disk(#[source] io::Error),
    /// There is nothing on it that we can read.
    #[error("The disk has neither a GUID partition table nor an ext4 file system")]
    NoPartitions,
    /// There are partitions, but none with a kernel.
    #[error("No ext4 file system on the disk has a kernel as boot entry, as /vmlinuz or in /boot")]
    NoKernel,
    /// A file system on it could not be read.
    #[error("Could not read the file system {on}")]
    FileSystem {
        /// Which partition.
        on: String,
        /// What is wrong.
        source: FileError,
    },
    /// The command line cannot be given to a kernel.
    #[error("The command line {0}")]
    CommandLine(&'static str),
}

impl BootError {
    /// Whether the same disk will be refused again.
    pub(super) fn is_lasting(&self) -> bool {
        !matches!(self, Self::Disk(_) | Self::FileSystem { source: FileError::Keep { .. }, .. })
    }
}

/// Where a file system is, by the words that Linux's `root=` takes.
struct Candidate {
    root: String,
    bytes: std::ops::Range<u64>,
    purpose: Purpose,
}

/// A kernel found in a file system.
struct Choice {
    linux: String,
    initrds: Vec<String>,
    options: String,
}

/// Finds what `disk` boots, and copies kernel and initial RAM disk into the two files, which are empty.
pub fn read(disk: &Arc<dyn Disk>, kernel: &File, initrd: &File) -> Result<Found, BootError> {
    let candidates = candidates(&**disk)?;
    let mut trouble = None;
    for candidate in &candidates {
        match look(disk, candidate) {
            Ok(None) => {}
            Ok(Some((files, choice))) => {
                let root =
                    candidates.iter().find(|other| other.purpose == Purpose::Root).unwrap_or(candidate);
                let on = |source| BootError::FileSystem { on: candidate.root.clone(), source };
                let command_line = command_line(&choice.options, &root.root)?;
                let has_initrd = copy(&files, &choice, kernel, initrd).map_err(on)?;
                let release = files.real_name(&choice.linux);
                let release = release.and_then(|name| Some(name.strip_prefix("vmlinuz-")?.to_owned()));
                return Ok(Found { command_line, has_initrd, release });
            }
            Err(source) => {
                trouble.get_or_insert(BootError::FileSystem { on: candidate.root.clone(), source });
            }
        }
    }
    Err(trouble.unwrap_or(BootError::NoKernel))
}

/// The places to look at, in order: partitions, or the whole disk where it has no table.
fn candidates(disk: &dyn Disk) -> Result<Vec<Candidate>, BootError> {
    let Some(mut partitions) = gpt::partitions(disk).map_err(BootError::Disk)? else {
        let whole = Candidate { root: "/dev/vda".to_owned(), bytes: 0..disk.size(), purpose: Purpose::Root };
        let is_ext4 = filesystem::is_ext4(disk, &whole.bytes).map_err(BootError::Disk)?;
        return if is_ext4 { Ok(vec![whole]) } else { Err(BootError::NoPartitions) };
    };
    partitions.sort_by_key(|partition| partition.purpose);
    let candidate = |partition: Partition| Candidate {
        root: format!("PARTUUID={}", partition.uuid),
        bytes: partition.range,
        purpose: partition.purpose,
    };
    Ok(partitions.into_iter().map(candidate).collect())
}

/// The kernel in one place, if there is one.
fn look(disk: &Arc<dyn Disk>, place: &Candidate) -> Result<Option<(FileSystem, Choice)>, FileError> {
    let Some(files) = FileSystem::open(Arc::clone(disk), place.bytes.clone())? else { return Ok(None) };
    let choice = match by_entry(&files)? {
        Some(choice) => Some(choice),
        None => by_link(&files).map_or_else(|| newest(&files), |choice| Ok(Some(choice)))?,
    };
    Ok(choice.map(|choice| (files, choice)))
}

fn by_entry(files: &FileSystem) -> Result<Option<Choice>, FileError> {
    for folder in ["/boot/loader/entries", "/loader/entries"] {
        let mut entries = Vec::new();
        let names = files.names(folder)?;
        for name in names.iter().filter(|name| name.ends_with(".conf")).take(MOST_ENTRIES) {
            let text = files.text(&format!("{folder}/{name}"), MOST_ENTRY)?;
            entries.extend(Entry::parse(name, &text));
        }
        entries.sort_by(Entry::order);
        // Paths count from the root of the partition, or, where others wrote them, from /boot.
        let place = |path: &String| {
            [path.clone(), format!("/boot{path}")].into_iter().find(|path| files.has_file(path))
        };
        for entry in entries {
            let Some(linux) = place(&entry.linux) else { continue };
            let Some(initrds) = entry.initrds.iter().map(place).collect() else { continue };
            return Ok(Some(Choice { linux, initrds, options: entry.options }));
        }
    }
    Ok(None)
}

fn by_link(files: &FileSystem) -> Option<Choice> {
    let (linux, initrd) = [("/vmlinuz", "/initrd.img"), ("/boot/vmlinuz", "/boot/initrd.img")]
        .into_iter()
        .find(|(linux, _)| files.has_file(linux))?;
    Some(choice(files, linux.to_owned(), [initrd.to_owned()]))
}

fn newest(files: &FileSystem) -> Result<Option<Choice>, FileError> {
    for folder in ["/boot", ""] {
        let names = files.names(if folder.is_empty() { "/" } else { folder })?;
        let versions = names.iter().filter_map(|name| name.strip_prefix("vmlinuz-"));
        let plain = versions.filter(|version| !version.contains("rescue"));
        if let Some(version) = plain.max_by(|a, b| versions::compare(a, b)) {
            let initrds = ["initrd.img-VERSION", "initramfs-VERSION.img", "initrd-VERSION"];
            let initrds = initrds.map(|name| format!("{folder}/{}", name.replace("VERSION", version)));
            return Ok(Some(choice(files, format!("{folder}/vmlinuz-{version}"), initrds)));
        }
    }
    Ok(None)
}

/// A kernel with the first of the initial RAM disks that is there.
fn choice<const N: usize>(files: &FileSystem, linux: String, initrds: [String; N]) -> Choice {
    let initrds = initrds.into_iter().find(|path| files.has_file(path)).into_iter().collect();
    Choice { linux, initrds, options: String::new() }
}

/// Copies the files of a choice, and says whether there is an initial RAM disk.
fn copy(files: &FileSystem, choice: &Choice, kernel: &File, initrd: &File) -> Result<bool, FileError> {
    files.copy(&choice.linux, MOST_KERNEL, kernel, 0)?;
    let mut end = 0_u64;
    for path in &choice.initrds {
        // Each part begins at a multiple of four (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
        let at = end.next_multiple_of(4);
        end = at + files.copy(path, MOST_INITRD.saturating_sub(at), initrd, at)?;
    }
    Ok(end > 0)
}

/// The command line: what the entry says, else a usual one. Words that only a boot loader understands (`$kernelopts`) are left out.
fn command_line(options: &str, root: &str) -> Result<String, BootError> {
    let console = match Architecture::HERE {
        Architecture::X86_64 => "ttyS0",
        Architecture::Arm64 => "ttyAMA0",
    };
    let mut words: Vec<&str> =
        options.split_ascii_whitespace().filter(|word| !word.starts_with('$')).collect();
    let (usual_root, usual_console) = (format!("root={root}"), format!("console={console}"));
    if !words.iter().any(|word| word.starts_with("root=")) {
        words.extend([usual_root.as_str(), "ro"]);
    }
    if options.is_empty() {
        words.push(&usual_console);
    }
    let line = words.join(" ");
    check_command_line(&line).map(|()| line)
}

/// Whether a command line can be given to a kernel.
pub(super) fn check_command_line(line: &str) -> Result<(), BootError> {
    if line.len() > MOST_COMMAND_LINE {
        return Err(BootError::CommandLine("is longer than a kernel takes"));
    }
    if !line.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(BootError::CommandLine("has characters that are not ASCII text"));
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod testing {
    pub(in crate::linux::storage) use super::gpt::Purpose;
    pub(in crate::linux::storage) use super::gpt::tests::write_table;
}

#[cfg(test)]
mod tests;
