//! Who may ask: the account's access keys.
//!
//! At its first start the daemon makes one pair of keys for the account's owner and writes it, with
//! the endpoint, into `client.json` in the state folder, readable by its owner and group alone. The
//! `cumulet` program reads that file; `cumulet env` turns it into the variables that AWS's tools know.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::store::random;

/// The file's name in the state folder.
pub const FILE: &str = "client.json";

/// Why the keys could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file could not be read or written.
    #[error("Could not {step} the access keys in {}", path.display())]
    File {
        /// Which step.
        step: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("The access keys in {} cannot be read; delete the file to have new ones made", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

/// What a client needs to reach this cloud.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// The API's address: `http://127.0.0.1:8773`.
    pub endpoint: String,
    /// The region.
    pub region: String,
    /// The access key's id: `AKIA` and sixteen letters and digits.
    pub access_key_id: String,
    /// The access key's secret.
    pub secret_access_key: String,
}

impl std::fmt::Debug for Client {
    /// Without the secret, which must not get into logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

impl Client {
    /// Reads the keys of `state`, or makes them; endpoint and region are brought up to date.
    pub fn load_or_make(state: &Path, endpoint: String, region: String) -> Result<Self, IdentityError> {
        let path = state.join(FILE);
        let had = match fs::read(&path) {
            Ok(bytes) => Some(
                serde_json::from_slice::<Self>(&bytes)
                    .map_err(|source| IdentityError::Parse { path: path.clone(), source })?,
            ),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => return Err(IdentityError::File { step: "read", path, source }),
        };
        let client = match &had {
            Some(had) => Self { endpoint, region, ..had.clone() },
            None => Self { endpoint, region, access_key_id: new_id(), secret_access_key: new_secret() },
        };
        if had.as_ref() != Some(&client) {
            client.write(&path).map_err(|source| IdentityError::File { step: "write", path, source })?;
        }
        Ok(client)
    }

    /// Whole or not at all: written beside, then renamed.
    fn write(&self, path: &Path) -> std::io::Result<()> {
        let partial = path.with_extension("partial");
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o640).open(&partial)?;
        file.set_permissions(fs::Permissions::from_mode(0o640))?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&partial, path)
    }

    /// The secret of an access key, if it is this one.
    pub fn secret_of(&self, access_key_id: &str) -> Option<&str> {
        (access_key_id == self.access_key_id).then_some(self.secret_access_key.as_str())
    }
}

/// `AKIA` and sixteen characters of the base-32 alphabet, as AWS's ids have it.
fn new_id() -> String {
    format!("AKIA{}", text(16, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
}

/// Forty characters of base 64's alphabet: 240 random bits.
fn new_secret() -> String {
    text(40, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
}

/// Random characters of an alphabet whose size is a power of two, so that none is likelier.
fn text(length: usize, alphabet: &[u8]) -> String {
    let pick = |_| alphabet[usize::try_from(random() % alphabet.len() as u64).unwrap_or_default()] as char;
    (0..length).map(pick).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(state: &Path, endpoint: &str) -> Client {
        Client::load_or_make(state, endpoint.into(), "us-east-1".into()).unwrap()
    }

    #[test]
    fn keys_stay_and_the_endpoint_follows() {
        let folder = tempfile::tempdir().unwrap();
        let first = load(folder.path(), "http://127.0.0.1:1");
        let second = load(folder.path(), "http://127.0.0.1:2");
        assert_eq!(second, Client { endpoint: "http://127.0.0.1:2".into(), ..first.clone() });
        assert_eq!((first.access_key_id.len(), first.secret_access_key.len()), (20, 40));
        let mode = fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert!(!format!("{first:?}").contains(&first.secret_access_key));
    }

    #[test]
    fn a_broken_file_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "{").unwrap();
        let error = Client::load_or_make(folder.path(), String::new(), String::new()).unwrap_err();
        assert!(matches!(error, IdentityError::Parse { .. }));
    }
}
