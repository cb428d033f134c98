//! The user's own key: made once, known to the cloud by a name that follows from it.
//!
//! `ssh-keygen` makes it in the user's data folder, and only its public half ever leaves this machine. The key pair's
//! name in the cloud holds the end of the public key, so the same name always means the same key, on whatever machine
//! and in whatever cloud, and importing it again is no conflict.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use ec2::Blob;
use ec2::shapes::key_pairs::ImportKeyPairRequest;

use crate::client::{CallError, Client};
use crate::failure::Remedy;
use crate::folders::Folder;
use crate::identity::Variables;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// The user has no home to keep it in.
    #[error("There is no folder to keep a key in: HOME is not set")]
    NoHome,
    /// A file or folder of it cannot be used.
    #[error("Could not {step} {}", path.display())]
    File { step: &'static str, path: PathBuf, source: io::Error },
    /// `ssh-keygen` is not there.
    #[error("Could not run ssh-keygen")]
    Run(#[source] io::Error),
    /// `ssh-keygen` did not make it.
    #[error("ssh-keygen made no key in {}: {status}", path.display())]
    Made { path: PathBuf, status: ExitStatus },
    /// The public half is none.
    #[error("{} is not a public key", path.display())]
    Malformed { path: PathBuf },
    /// The cloud does not take it.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl Remedy for KeyError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Run(_) => {
                Some("sudo apt install openssh-client; or take a key pair of the cloud with --key".to_owned())
            }
            Self::Call(error) => error.hint(),
            _ => Some("take a key pair of the cloud with --key NAME".to_owned()),
        }
    }
}

/// The key in the user's data folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnKey {
    /// The file of the private half.
    pub(crate) private: PathBuf,
    /// The public half, in OpenSSH's form.
    public: String,
    /// What the cloud knows it by.
    pub(crate) name: String,
}

impl OwnKey {
    /// The key, if it was made.
    pub(crate) fn load(variables: Variables<'_>) -> Result<Option<Self>, KeyError> {
        let private = Self::path(variables)?;
        let path = private.with_extension("pub");
        let public = match fs::read_to_string(&path) {
            Ok(public) => public.trim().to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(KeyError::File { step: "read", path, source }),
        };
        let name = name_of(&public).ok_or(KeyError::Malformed { path })?;
        Ok(Some(Self { private, public, name }))
    }

    /// The key, which is made if there is none, and which the cloud knows when this is done.
    pub(crate) async fn ensure(client: &Client, variables: Variables<'_>) -> Result<Self, KeyError> {
        let key = match Self::load(variables)? {
            Some(key) => key,
            None => {
                make(&Self::path(variables)?)?;
                Self::load(variables)?.ok_or(KeyError::NoHome)?
            }
        };
        let import = ImportKeyPairRequest {
            key_name: key.name.clone(),
            public_key_material: Blob(key.public.clone().into_bytes()),
            ..Default::default()
        };
        match client.call(&import).await {
            Err(error) if error.code() != Some("InvalidKeyPair.Duplicate") => Err(error.into()),
            _ => Ok(key),
        }
    }

    fn path(variables: Variables<'_>) -> Result<PathBuf, KeyError> {
        Ok(Folder::Data.path(variables).ok_or(KeyError::NoHome)?.join("ssh/id_ed25519"))
    }
}

/// Makes a key without a passphrase: it opens this user's own guests and nothing else.
fn make(private: &Path) -> Result<(), KeyError> {
    let folder = private.parent().unwrap_or(private);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|source| KeyError::File {
        step: "make",
        path: folder.to_owned(),
        source,
    })?;
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "cumulet", "-f"])
        .arg(private)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(KeyError::Run)?;
    if status.success() { Ok(()) } else { Err(KeyError::Made { path: folder.to_owned(), status }) }
}

/// `cumulet-` and the last eight letters and digits of the key, which are as good as random.
fn name_of(public: &str) -> Option<String> {
    let mut words = public.split_ascii_whitespace();
    let (kind, key) = (words.next()?, words.next()?);
    let letters: Vec<char> = key.chars().filter(char::is_ascii_alphanumeric).collect();
    let known = kind.starts_with("ssh-") && letters.len() > 40;
    known.then(|| format!("cumulet-{}", letters[letters.len() - 8..].iter().collect::<String>()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_name_follows_from_the_key() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFNh7mXvQ1kq7cNq4k1pSm3Vx0bVdYl2C6JmZk/+aB1c cumulet";
        assert_eq!(name_of(key).as_deref(), Some("cumulet-JmZkaB1c"));
        for text in ["", "ssh-ed25519", "ssh-ed25519 short", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA"] {
            assert_eq!(name_of(text), None, "{text}");
        }
    }

    #[test]
    fn a_key_is_made_once_and_kept_private() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap().to_owned();
        let variables = |name: &str| (name == "XDG_DATA_HOME").then(|| home.clone());
        assert_eq!(OwnKey::load(&variables).unwrap(), None);
        let path = OwnKey::path(&variables).unwrap();
        make(&path).unwrap();
        let key = OwnKey::load(&variables).unwrap().unwrap();
        assert_eq!(fs::metadata(&key.private).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(key.name.starts_with("cumulet-") && key.public.starts_with("ssh-ed25519 "), "{key:?}");
        assert!(matches!(make(&path), Err(KeyError::Made { .. })), "an existing key is never overwritten");
    }
}
