//! Files and folders that are there whole or not at all.
//!
//! A rename or a new name is the commit; before it what is named is made durable, after it the folder that
//! holds the name. All of it is safe code.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::libc;
use nix::unistd::linkat;

/// What a file or folder is called while it is being made or taken away.
const PARTIAL: &str = "partial";

/// The name of `path` while it is being made or taken away.
pub fn partial(path: &Path) -> PathBuf {
    path.with_extension(PARTIAL)
}

/// Whether `path` is the name of something half made.
fn is_partial(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == PARTIAL)
}

/// Makes a folder for root alone, and those above it, unless it is there.
pub fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes a folder if need be, and clears what is half made in it.
pub fn prepare_folder(path: &Path) -> io::Result<()> {
    make_folder(path)?;
    for name in names(path)? {
        let inside = path.join(name);
        if is_partial(&inside) {
            remove_half_made(&inside)?;
        }
    }
    Ok(())
}

/// Makes what was created, renamed or removed in a folder durable.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Gives a folder that is whole its name: durable when this returns.
pub fn commit_folder(made: &Path, name: &Path) -> io::Result<()> {
    sync_folder(made)?;
    fs::rename(made, name)?;
    sync_parent(name)
}

/// Takes a folder away with all in it, if it is there. Cut short, it is called half made.
pub fn remove_folder(path: &Path) -> io::Result<()> {
    let partial = partial(path);
    remove_half_made(&partial)?;
    match fs::rename(path, &partial) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        result => result?,
    }
    sync_parent(path)?;
    fs::remove_dir_all(&partial)
}

/// Takes a folder away that nobody sees as whole, if it is there.
pub fn remove_half_made(partial: &Path) -> io::Result<()> {
    if_there(fs::remove_dir_all(partial)).map(|_| ())
}

/// Takes a file away, if it is there.
pub fn remove_file(path: &Path) -> io::Result<()> {
    if_there(fs::remove_file(path)).map(|_| ())
}

/// Opens a file for reading, if it is there.
pub fn open_if_there(path: &Path) -> io::Result<Option<File>> {
    if_there(File::open(path))
}

/// Reads a file of at most `most` bytes, if it is there.
pub fn read_if_there(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = open_if_there(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, most), &mut bytes)?;
    Ok(Some(bytes))
}

/// Turns "there is no such file" into none.
pub fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// The names in a folder that are text; none where the folder is not there.
pub fn names(folder: &Path) -> io::Result<Vec<String>> {
    let Some(entries) = if_there(fs::read_dir(folder))? else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string());
    }
    Ok(names)
}

/// Writes a file for root alone that others see whole or not at all, durable when this returns.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let partial = partial(path);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    sync_parent(path)
}

/// A file without a name on the file system of `folder`, to be read and written (open(2), `O_TMPFILE`).
pub fn unnamed(folder: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(libc::O_TMPFILE).open(folder)
}

/// Gives an unnamed file a name, durable when this returns. A file that has the name already keeps it.
pub fn name(file: &File, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    match linkat(AT_FDCWD, &own_descriptor(file)[..], AT_FDCWD, path, AtFlags::AT_SYMLINK_FOLLOW) {
        Ok(()) | Err(Errno::EEXIST) => sync_parent(path),
        Err(errno) => Err(errno.into()),
    }
}

/// The same file opened once more, for reading alone and from its beginning; it needs no name for that.
pub fn read_only(file: &File) -> io::Result<File> {
    File::open(own_descriptor(file))
}

fn own_descriptor(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), sync_folder)
}
