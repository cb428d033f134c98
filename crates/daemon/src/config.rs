//! The configuration file: what the operator decides. Everything has a default.
//!
//! `cumuletd.toml` beside this crate's `Cargo.toml` is the file that is installed: every setting with its default and
//! its meaning. A test holds the two together. An unknown setting is an error, not a surprise.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use cloud::Settings;
use host::Capacity;
use ipnet::Ipv4Net;
use serde::Deserialize;
use spec::storage::Architecture;

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("Could not read the configuration {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("The configuration {} is not valid", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A setting's value makes no sense.
    #[error("The setting {setting} in the configuration {}: {problem}", path.display())]
    Value {
        /// Which file.
        path: PathBuf,
        /// Which setting.
        setting: &'static str,
        /// What is wrong.
        problem: String,
    },
}

/// The configuration, as the file has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the API listens.
    pub listen: SocketAddr,
    /// The region's name.
    pub region: String,
    /// The letters of its zones.
    pub zones: Vec<char>,
    /// The account's twelve digits.
    pub account: String,
    /// The public addresses that may be given out.
    pub public_pool: Ipv4Net,
    /// Where images, volumes, keys and the store are.
    pub state: PathBuf,
    /// Where running machines have their directories; emptied by a reboot.
    pub run: PathBuf,
    /// The monitor's program; beside this one where it is not said.
    pub vmm: Option<PathBuf>,
    /// Whether the kernel carries guests' packets itself.
    pub vhost_net: bool,
    /// What guests may use.
    pub limits: Limits,
}

/// What guests may use of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Virtual CPUs for each processor of the machine.
    pub vcpus_per_processor: u32,
    /// Memory that guests may not have, in MiB; all other memory they may.
    pub reserved_memory_mib: u64,
    /// All volumes together, in GiB.
    pub volume_gib: u64,
    /// The first of the user ids for machines' processes.
    pub first_user: u32,
    /// How many such user ids there are.
    pub users: u32,
    /// Whether disks and network interfaces get no more than EC2 gives their types.
    pub speeds: bool,
}

impl Default for Config {
    fn default() -> Self {
        let settings = Settings::default();
        Self {
            listen: ([127, 0, 0, 1], 8773).into(),
            region: settings.region,
            zones: settings.zones,
            account: settings.account,
            public_pool: settings.public_pool,
            state: "/var/lib/cumulet".into(),
            run: "/run/cumulet".into(),
            vmm: None,
            vhost_net: !settings.limit_packets,
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let settings = Settings::default();
        Self {
            vcpus_per_processor: 8,
            reserved_memory_mib: 1024,
            volume_gib: settings.volume_gib,
            first_user: settings.users.start,
            users: settings.users.end - settings.users.start,
            speeds: settings.limit_speeds,
        }
    }
}

impl Limits {
    /// The user of the process that answers guests: the one after the machines'.
    pub fn services_user(&self) -> u32 {
        self.first_user + self.users
    }

    /// The user of the processes that read guests' disks: the one after that.
    pub fn reader_user(&self) -> u32 {
        self.services_user() + 1
    }
}

impl Config {
    /// Where the configuration is looked for when no file is named.
    pub const PATH: &'static str = "/etc/cumulet/cumuletd.toml";

    /// Reads a named file, or the usual one, or, where there is none, takes the defaults.
    pub fn load(named: Option<&Path>) -> Result<Self, ConfigError> {
        let path = named.unwrap_or(Path::new(Self::PATH));
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text),
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        match config.problem() {
            None => Ok(config),
            Some((setting, problem)) => Err(ConfigError::Value { path: path.to_owned(), setting, problem }),
        }
    }

    /// The first setting whose value makes no sense, and why.
    fn problem(&self) -> Option<(&'static str, String)> {
        let digits = self.account.len() == 12 && self.account.bytes().all(|b| b.is_ascii_digit());
        let letters = self.zones.iter().all(char::is_ascii_lowercase);
        let distinct = self.zones.iter().enumerate().all(|(at, zone)| !self.zones[..at].contains(zone));
        let region = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let checks = [
            (digits, "account", "it must have twelve digits"),
            (
                !self.region.is_empty() && self.region.chars().all(region),
                "region",
                "it must be like us-east-1",
            ),
            (
                (1..=6).contains(&self.zones.len()) && letters && distinct,
                "zones",
                "there must be 1 to 6 different lower-case letters",
            ),
            (
                (8..=29).contains(&self.public_pool.prefix_len()),
                "public_pool",
                "its prefix must be from /8 to /29",
            ),
            (
                self.public_pool.addr() == self.public_pool.network(),
                "public_pool",
                "bits are set behind its prefix",
            ),
            (self.limits.vcpus_per_processor >= 1, "limits.vcpus_per_processor", "it must be at least 1"),
            (self.limits.first_user >= 1000, "limits.first_user", "user ids below 1000 belong to the system"),
            (
                self.limits.first_user.checked_add(self.limits.users).is_some_and(|end| end < u32::MAX - 1),
                "limits.users",
                "the last user id would exceed 32 bits",
            ),
            (
                self.state.is_absolute() && self.run.is_absolute(),
                "state, run",
                "the folders must be absolute paths",
            ),
        ];
        checks.into_iter().find(|(good, ..)| !good).map(|(_, setting, problem)| (setting, problem.to_owned()))
    }

    /// What the cloud's rules go by, on a machine of that size.
    pub fn settings(&self, capacity: Capacity) -> Settings {
        Settings {
            account: self.account.clone(),
            region: self.region.clone(),
            zones: self.zones.clone(),
            public_pool: self.public_pool,
            users: self.limits.first_user..self.limits.first_user + self.limits.users,
            vcpus: capacity.processors.saturating_mul(self.limits.vcpus_per_processor),
            memory_mib: capacity.memory_mib.saturating_sub(self.limits.reserved_memory_mib),
            architecture: Architecture::HERE,
            volume_gib: self.limits.volume_gib,
            limit_speeds: self.limits.speeds,
            limit_packets: !self.vhost_net,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTALLED: &str = include_str!("../cumuletd.toml");

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("test.toml"), text)
    }

    #[test]
    fn the_installed_file_says_the_defaults_whole() {
        // Every setting stands there behind a "#": taken away, the file says what is the default anyhow.
        let setting = |line: &&str| {
            line.starts_with('[') || line.starts_with("#") && line.contains(" = ") && !line.starts_with("# ")
        };
        let text: Vec<&str> =
            INSTALLED.lines().filter(setting).map(|line| line.trim_start_matches('#')).collect();
        assert_eq!(
            parse(&text.join("\n")).unwrap(),
            Config { vmm: Some("/usr/lib/cumulet/cumulet-vmm".into()), ..Config::default() }
        );
        assert_eq!(text.len(), 9 + 1 + 6, "a line for each setting: {text:?}");
        assert_eq!(parse(INSTALLED).unwrap(), Config::default());
    }

    #[test]
    fn nonsense_is_refused_with_the_setting_named() {
        for (text, named) in [
            ("account = \"12\"", "account"),
            ("zones = []", "zones"),
            ("zones = [\"a\", \"a\"]", "zones"),
            ("public_pool = \"198.18.0.1/24\"", "public_pool"),
            ("public_pool = \"198.18.0.0/31\"", "public_pool"),
            ("region = \"US East\"", "region"),
            ("[limits]\nfirst_user = 0", "limits.first_user"),
            ("state = \"here\"", "state, run"),
        ] {
            match parse(text) {
                Err(ConfigError::Value { setting, .. }) => assert_eq!(setting, named),
                other => panic!("{text}: {other:?}"),
            }
        }
        assert!(matches!(parse("listne = \"127.0.0.1:80\""), Err(ConfigError::Parse { .. })));
    }
}
