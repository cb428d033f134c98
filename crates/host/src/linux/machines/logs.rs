//! What is kept of a machine's words after its run directory is gone.
//!
//! ```text
//! STATE/logs/i-….console    the ring of its serial console (spec::console), anew for each run
//! STATE/logs/i-….monitor    what its process wrote to standard error, run after run
//! ```
//!
//! EC2 keeps a console's output for at least an hour after the instance is gone (GetConsoleOutput); so do we, and no longer.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use spec::console;
use spec::ids::InstanceId;

use crate::linux::sys::files;

/// How long the words of a machine that has no run directory are kept.
const KEPT: Duration = Duration::from_secs(3600);
/// A monitor's log is begun anew where it is larger than this, in bytes. Monitors say a few lines per run.
const MOST_MONITOR: u64 = 256 << 10;

/// The folder of words.
pub(super) struct Logs {
    folder: PathBuf,
}

impl Logs {
    /// The words kept in a folder, which is made if need be.
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        files::make_folder(&folder)?;
        Ok(Self { folder })
    }

    /// An empty ring for a new run.
    pub(super) fn new_console(&self, instance: InstanceId) -> io::Result<File> {
        let path = self.path(instance, "console");
        files::remove_file(&path)?; // an old process, if there were one, would write into the old file
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
    }

    /// The file that a monitor's standard error goes to.
    pub(super) fn monitor(&self, instance: InstanceId) -> io::Result<File> {
        let path = self.path(instance, "monitor");
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        if file.metadata()?.len() > MOST_MONITOR {
            file.set_len(0)?;
        }
        Ok(file)
    }

    /// The console's output, oldest byte first; nothing where there never was a console.
    pub(super) fn console(&self, instance: InstanceId) -> io::Result<Vec<u8>> {
        let most = (console::HEADER + console::CAPACITY) as u64;
        let ring = files::read_if_there(&self.path(instance, "console"), most)?;
        Ok(ring.map_or_else(Vec::new, |ring| console::unroll(&ring)))
    }

    /// Forgets what machines said that are gone since long; `lives` tells of those that are not.
    pub(super) fn forget(&self, lives: &dyn Fn(InstanceId) -> bool) -> io::Result<()> {
        for name in files::names(&self.folder)? {
            let Some(instance) = name.split('.').next().and_then(|id| id.parse().ok()) else { continue };
            let path = self.folder.join(&name);
            let written = files::if_there(fs::metadata(&path).and_then(|metadata| metadata.modified()))?;
            let old = written
                .is_some_and(|written| SystemTime::now().duration_since(written).is_ok_and(|age| age > KEPT));
            if old && !lives(instance) {
                files::remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn path(&self, instance: InstanceId, kind: &str) -> PathBuf {
        self.folder.join(format!("{instance}.{kind}"))
    }
}
