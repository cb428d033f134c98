//! A machine's run directory: what its process and its host have in common.
//!
//! ```text
//! RUN/machines/i-…/
//!   lock       locked by whoever launches the machine, then held by its process until death
//!   control    Unix socket of spec::control
//!   console    Unix socket of the serial console
//!   ending     empty until the process says why it ends
//!   spec       spec::machine::Launch as JSON; written last, so a folder without it was never launched
//! ```

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde_json::Value;
use spec::control::Ending;
use spec::ids::InstanceId;
use spec::machine::{Launch, Run};
use volume::lock;

use crate::linux::sys::files;

/// The most bytes of a spec or of an ending. The process that writes an ending is not trusted.
const MOST: u64 = 1 << 20;

/// One machine's run directory, there or not.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// The directory of an instance's machine among those of all.
    pub(super) fn of(machines: &Path, instance: InstanceId) -> Self {
        Self(machines.join(instance.to_string()))
    }

    /// Whether there is anything.
    pub(super) fn exists(&self) -> bool {
        self.0.exists()
    }

    /// The control socket.
    pub(super) fn control(&self) -> PathBuf {
        self.0.join("control")
    }

    /// The console's socket.
    pub(super) fn console(&self) -> PathBuf {
        self.0.join("console")
    }

    /// Whether a process lives whose machine this is.
    pub(super) fn is_locked(&self) -> io::Result<bool> {
        files::open_if_there(&self.0.join("lock"))?.map_or(Ok(false), |file| lock::is_held(&file))
    }

    /// Which run was launched; none before the launch is complete. No more is read, so that a machine that another build
    /// launched is known too.
    pub(super) fn run(&self) -> io::Result<Option<Run>> {
        let Some(json) = files::read_if_there(&self.0.join("spec"), MOST)? else { return Ok(None) };
        let Ok(mut launch) = serde_json::from_slice::<Value>(&json) else { return Ok(None) };
        Ok(launch.pointer_mut("/machine/run").and_then(|run| serde_json::from_value(run.take()).ok()))
    }

    /// What the process said at its end, if it did.
    pub(super) fn ending(&self) -> io::Result<Option<Ending>> {
        let Some(json) = files::read_if_there(&self.0.join("ending"), MOST)? else { return Ok(None) };
        Ok(serde_json::from_slice(&json).ok())
    }

    /// Makes the directory and locks it; the file returned holds the lock.
    pub(super) fn make(&self) -> io::Result<File> {
        DirBuilder::new().mode(0o700).create(&self.0)?;
        let file = self.writable("lock")?;
        match lock::try_lock(&file, lock::Kind::Exclusive)? {
            true => Ok(file),
            false => Err(io::ErrorKind::ResourceBusy.into()),
        }
    }

    /// The file for the ending.
    pub(super) fn make_ending(&self) -> io::Result<File> {
        self.writable("ending")
    }

    /// Writes the spec, by which the launch becomes one, and opens it for the process to read.
    pub(super) fn write_spec(&self, launch: &Launch) -> io::Result<File> {
        let path = self.0.join("spec");
        files::write_whole(&path, &serde_json::to_vec_pretty(launch)?)?;
        File::open(path)
    }

    /// Takes the directory away with all in it.
    pub(super) fn remove(&self) -> io::Result<()> {
        files::remove_folder(&self.0)
    }

    fn writable(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(self.0.join(name))
    }
}
