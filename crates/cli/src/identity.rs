//! Where the cloud is, and with which key to ask it.
//!
//! The daemon writes both into `client.json`. Whoever sets the variables that AWS's tools obey means those instead,
//! but only where they name an endpoint: keys without one are for the real AWS, and signing with them here would only
//! fail. In order:
//!
//! 1. the file that `--client` names;
//! 2. `AWS_ENDPOINT_URL_EC2` or `AWS_ENDPOINT_URL`, with `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`;
//! 3. the file that `CUMULET_CLIENT` names;
//! 4. `cumulet/client.json` in the user's configuration folder;
//! 5. `/var/lib/cumulet/client.json`.
//!
//! `--endpoint` and `--region` then replace what was found. An endpoint in the environment without keys does too.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use ec2::sign::{Secret, Signer};
use serde::Deserialize;

use crate::endpoint::{Endpoint, EndpointError};
use crate::failure::Remedy;
use crate::folders::Folder;

/// Looks up an environment variable. An empty one counts as unset, as with AWS's tools.
pub(crate) type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The variables of this process.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where a system-wide daemon writes its `client.json`.
const SYSTEM: &str = "/var/lib/cumulet/client.json";
/// The region where none is said: the daemon's own default.
const REGION: &str = "us-east-1";

/// What the command line says about the cloud.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Which cloud")]
pub(crate) struct Overrides {
    /// The file that the daemon wrote for its clients, client.json
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) client: Option<PathBuf>,
    /// Ask this address, for example http://127.0.0.1:8773
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// Sign for this region
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) region: Option<String>,
}

/// A cloud and a key that it knows.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) endpoint: Endpoint,
    pub(crate) region: String,
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    pub(crate) session_token: Option<String>,
    pub(crate) source: Source,
}

/// Where the key was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    File(PathBuf),
    Environment,
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(formatter, "{}", path.display()),
            Self::Environment => formatter.write_str("the environment"),
        }
    }
}

impl fmt::Debug for Identity {
    /// Without the secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Identity").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// The daemon's `client.json`.
#[derive(Deserialize)]
struct ClientFile {
    endpoint: String,
    region: String,
    access_key_id: String,
    secret_access_key: String,
}

/// Why no cloud can be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// Nothing says where one is.
    #[error("No cloud is known: there is no {}", list(.0))]
    NotFound(Vec<PathBuf>),
    /// A file is there and cannot be read.
    #[error("Could not read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// A file is there and is no `client.json`.
    #[error("{} is not a file that cumuletd wrote for its clients", path.display())]
    Parse { path: PathBuf, source: serde_json::Error },
    /// The endpoint cannot be used.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", nor ")
}

impl Remedy for IdentityError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotFound(_) => {
                "start a cloud (scripts/quickstart, or cumuletd), or name its client.json with --client \
                                  or in CUMULET_CLIENT"
                    .to_owned()
            }
            Self::Read { path, source } if source.kind() == io::ErrorKind::PermissionDenied => format!(
                "only its owner and its group may read it: sudo install -D -m 600 -o $USER {} \
                 ~/.config/cumulet/client.json",
                path.display()
            ),
            Self::Read { .. } | Self::Parse { .. } => {
                "cumuletd writes the file into its state folder at every start".to_owned()
            }
            Self::Endpoint(error) => return error.hint(),
        })
    }
}

impl Identity {
    /// The cloud that the command line, the environment and the files lead to.
    pub(crate) fn find(overrides: &Overrides, variables: Variables<'_>) -> Result<Self, IdentityError> {
        let found = if let Some(path) = &overrides.client {
            Self::read(path)?.ok_or_else(|| IdentityError::NotFound(vec![path.clone()]))?
        } else if let Some(identity) = Self::from_environment(variables)? {
            identity
        } else {
            Self::from_files(variables)?.with_endpoint(endpoint_of(variables).as_deref())?
        };
        found.overridden(overrides)
    }

    /// The same, but files before the environment: to refresh variables that an earlier cloud may have left behind.
    pub(crate) fn find_in_files(
        overrides: &Overrides,
        variables: Variables<'_>,
    ) -> Result<Self, IdentityError> {
        if overrides.client.is_some() {
            return Self::find(overrides, variables);
        }
        match Self::from_files(variables) {
            Err(IdentityError::NotFound(_)) => Self::find(overrides, variables),
            found => found?.overridden(overrides),
        }
    }

    fn overridden(self, overrides: &Overrides) -> Result<Self, IdentityError> {
        let region = overrides.region.clone().unwrap_or(self.region);
        Self { region, ..self }.with_endpoint(overrides.endpoint.as_deref())
    }

    fn with_endpoint(self, endpoint: Option<&str>) -> Result<Self, IdentityError> {
        match endpoint {
            Some(text) => Ok(Self { endpoint: text.parse()?, ..self }),
            None => Ok(self),
        }
    }

    /// What the variables say, if they say all of it.
    fn from_environment(variables: Variables<'_>) -> Result<Option<Self>, IdentityError> {
        let endpoint = endpoint_of(variables);
        let keys = (variables("AWS_ACCESS_KEY_ID"), variables("AWS_SECRET_ACCESS_KEY"));
        let (Some(endpoint), (Some(access_key_id), Some(secret_access_key))) = (endpoint, keys) else {
            return Ok(None);
        };
        let region = variables("AWS_REGION").or_else(|| variables("AWS_DEFAULT_REGION"));
        Ok(Some(Self {
            endpoint: endpoint.parse()?,
            region: region.unwrap_or_else(|| REGION.to_owned()),
            access_key_id,
            secret_access_key,
            session_token: variables("AWS_SESSION_TOKEN"),
            source: Source::Environment,
        }))
    }

    /// The first of the files that exists. One that is named must exist.
    fn from_files(variables: Variables<'_>) -> Result<Self, IdentityError> {
        let candidates = match variables("CUMULET_CLIENT") {
            Some(named) => vec![PathBuf::from(named)],
            None => {
                let own = Folder::Config.path(variables).map(|folder| folder.join("client.json"));
                own.into_iter().chain([PathBuf::from(SYSTEM)]).collect()
            }
        };
        for path in &candidates {
            if let Some(identity) = Self::read(path)? {
                return Ok(identity);
            }
        }
        Err(IdentityError::NotFound(candidates))
    }

    /// What a file says, if there is one.
    fn read(path: &Path) -> Result<Option<Self>, IdentityError> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(IdentityError::Read { path: path.to_owned(), source }),
        };
        let parsed = serde_json::from_slice(&text);
        let ClientFile { endpoint, region, access_key_id, secret_access_key } =
            parsed.map_err(|source| IdentityError::Parse { path: path.to_owned(), source })?;
        Ok(Some(Self {
            endpoint: endpoint.parse()?,
            region,
            access_key_id,
            secret_access_key,
            session_token: None,
            source: Source::File(path.to_owned()),
        }))
    }

    /// Whoever signs as this identity.
    pub(crate) fn signer(&self) -> Signer {
        Signer {
            access_key_id: self.access_key_id.clone(),
            secret: Secret::new(self.secret_access_key.as_str()),
            session_token: self.session_token.clone(),
        }
    }
}

fn endpoint_of(variables: Variables<'_>) -> Option<String> {
    variables("AWS_ENDPOINT_URL_EC2").or_else(|| variables("AWS_ENDPOINT_URL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"endpoint": "http://127.0.0.1:8773", "region": "eu-test-1",
                           "access_key_id": "AKIAFILE", "secret_access_key": "file/secret"}"#;
    const AWS: [(&str, &str); 2] =
        [("AWS_ACCESS_KEY_ID", "AKIAENV"), ("AWS_SECRET_ACCESS_KEY", "env/secret")];
    const ENDPOINT: (&str, &str) = ("AWS_ENDPOINT_URL", "http://127.0.0.1:1");

    /// A home with a `client.json` in it.
    fn home() -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join(".config/cumulet/client.json");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, FILE).unwrap();
        (home, file)
    }

    fn find(home: &Path, overrides: &Overrides, set: &[(&str, &str)]) -> Result<Identity, IdentityError> {
        let home = home.to_str().unwrap();
        let all: Vec<_> = set.iter().copied().chain([("HOME", home)]).collect();
        let look_up =
            |name: &str| all.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
        Identity::find(overrides, &look_up)
    }

    /// Where it asks, for which region, with which key.
    fn summary(found: Result<Identity, IdentityError>) -> (String, String, String) {
        let found = found.unwrap();
        (found.endpoint.to_string(), found.region, found.access_key_id)
    }

    fn is(endpoint: &str, region: &str, key: &str) -> (String, String, String) {
        (endpoint.to_owned(), region.to_owned(), key.to_owned())
    }

    #[test]
    fn keys_for_the_real_aws_do_not_hide_the_file() {
        let (home, _) = home();
        let found = find(home.path(), &Overrides::default(), &AWS);
        assert_eq!(summary(found), is("http://127.0.0.1:8773", "eu-test-1", "AKIAFILE"));
    }

    #[test]
    fn a_whole_environment_wins_over_the_file() {
        let (home, _) = home();
        let set =
            [AWS[0], AWS[1], ENDPOINT, ("AWS_DEFAULT_REGION", "eu-env-1"), ("AWS_SESSION_TOKEN", "token")];
        let found = find(home.path(), &Overrides::default(), &set).unwrap();
        assert_eq!((found.session_token.as_deref(), &found.source), (Some("token"), &Source::Environment));
        assert_eq!(summary(Ok(found)), is("http://127.0.0.1:1", "eu-env-1", "AKIAENV"));

        let set = [AWS[0], AWS[1], ENDPOINT, ("AWS_ENDPOINT_URL_EC2", "http://127.0.0.1:2")];
        let found = find(home.path(), &Overrides::default(), &set);
        assert_eq!(summary(found), is("http://127.0.0.1:2", REGION, "AKIAENV"));
    }

    #[test]
    fn an_endpoint_alone_replaces_the_files() {
        let (home, _) = home();
        let found = find(home.path(), &Overrides::default(), &[ENDPOINT]);
        assert_eq!(summary(found), is("http://127.0.0.1:1", "eu-test-1", "AKIAFILE"));
    }

    #[test]
    fn the_command_line_wins_over_all() {
        let (home, file) = home();
        let overrides = Overrides {
            client: Some(file),
            endpoint: Some("http://127.0.0.1:3".to_owned()),
            region: Some("eu-flag-1".to_owned()),
        };
        let found = find(home.path(), &overrides, &[AWS[0], AWS[1], ENDPOINT]);
        assert_eq!(summary(found), is("http://127.0.0.1:3", "eu-flag-1", "AKIAFILE"));
    }

    #[test]
    fn a_file_that_is_named_must_exist_and_be_one() {
        let (home, _) = home();
        let named = [("CUMULET_CLIENT", "/nonexistent/client.json")];
        let error = find(home.path(), &Overrides::default(), &named).unwrap_err();
        assert_eq!(error.to_string(), "No cloud is known: there is no /nonexistent/client.json");

        let other = home.path().join("other.json");
        std::fs::write(&other, "{}").unwrap();
        let overrides = Overrides { client: Some(other), ..Overrides::default() };
        assert!(matches!(find(home.path(), &overrides, &[]), Err(IdentityError::Parse { .. })));

        let empty = tempfile::tempdir().unwrap();
        let error = find(empty.path(), &Overrides::default(), &[("XDG_CONFIG_HOME", "/nonexistent")]);
        // A machine that runs the tests may well run a daemon too.
        if let Err(error) = error {
            assert!(error.to_string().contains("/nonexistent/cumulet/client.json, nor /var/lib"), "{error}");
        }
    }

    #[test]
    fn to_refresh_variables_files_win_over_them() {
        let (home, file) = home();
        let path = file.to_str().unwrap().to_owned();
        let set = |name: &str| match name {
            "CUMULET_CLIENT" => Some(path.clone()),
            "AWS_ENDPOINT_URL" => Some("http://127.0.0.1:1".to_owned()),
            "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("stale".to_owned()),
            _ => None,
        };
        let found = Identity::find_in_files(&Overrides::default(), &set);
        assert_eq!(summary(found), is("http://127.0.0.1:8773", "eu-test-1", "AKIAFILE"));
        drop(home);
    }

    #[test]
    fn the_secret_is_not_printed() {
        let (home, _) = home();
        let found = find(home.path(), &Overrides::default(), &[]).unwrap();
        assert!(!format!("{found:?}").contains("secret"));
    }
}
