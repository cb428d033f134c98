//! A user: a home, a cloud that it knows, and commands.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::fake::{Fake, KEY};

/// Someone with a home of their own, who knows one cloud.
pub(crate) struct User {
    pub(crate) home: tempfile::TempDir,
}

impl User {
    pub(crate) fn of(fake: &Fake) -> Self {
        let home = tempfile::tempdir().expect("a home");
        let user = Self { home };
        let file = user.client();
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("the folder");
        fake.write_client(&file, KEY.1);
        user
    }

    pub(crate) fn client(&self) -> PathBuf {
        self.home.path().join(".config/cumulet/client.json")
    }

    /// A command that this user types, in an environment that holds nothing else of ours.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cumulet"));
        command.args(arguments).env_clear().env("HOME", self.home.path()).stdin(Stdio::null());
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().expect("cumulet runs"))
    }
}

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// What it printed, if it succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.status, Some(0), "{self:?}");
        self.stdout
    }

    /// What it complained of, if it failed and printed nothing else.
    #[track_caller]
    pub(crate) fn refused(self) -> String {
        assert_eq!((self.status, self.stdout.as_str()), (Some(1), ""), "{self:?}");
        self.stderr
    }
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}
