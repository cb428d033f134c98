//! The secret that session tokens are made with. It is kept, so that tokens outlive a restart of the daemon.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::store::random;

/// The file's name in the state folder.
const FILE: &str = "metadata-secret";
/// For its owner alone.
const MODE: u32 = 0o600;

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file could not be read or written.
    #[error("Could not {step} the metadata service's secret in {}", path.display())]
    File {
        /// Which step.
        step: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("The metadata service's secret in {} does not have 32 bytes; delete the file to have a new one made", .0.display())]
    Length(PathBuf),
}

/// Reads the secret in `state`, or makes it.
pub fn load_or_make_secret(state: &Path) -> Result<[u8; 32], SecretError> {
    let path = state.join(FILE);
    match read(&path) {
        Ok(bytes) => bytes.try_into().map_err(|_| SecretError::Length(path)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make(&path).map_err(|source| SecretError::File { step: "make", path, source })
        }
        Err(source) => Err(SecretError::File { step: "read", path, source }),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(33).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whole or not at all: written beside, then renamed.
fn make(path: &Path) -> io::Result<[u8; 32]> {
    let mut secret = [0; 32];
    secret.as_chunks_mut().0.iter_mut().for_each(|eight| *eight = random().to_be_bytes());
    let partial = path.with_extension("partial");
    let mut file = File::options().write(true).create(true).truncate(true).mode(MODE).open(&partial)?;
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.write_all(&secret)?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_for_its_owner_alone() {
        let state = tempfile::tempdir().unwrap();
        let first = load_or_make_secret(state.path()).unwrap();
        assert_eq!(load_or_make_secret(state.path()).unwrap(), first);
        assert_ne!(load_or_make_secret(tempfile::tempdir().unwrap().path()).unwrap(), first);
        let file = fs::metadata(state.path().join(FILE)).unwrap();
        assert_eq!((file.permissions().mode() & 0o777, file.len()), (MODE, 32));
    }

    #[test]
    fn another_length_is_not_replaced() {
        let state = tempfile::tempdir().unwrap();
        for wrong in [&[][..], &[1; 31], &[1; 33]] {
            fs::write(state.path().join(FILE), wrong).unwrap();
            assert!(matches!(load_or_make_secret(state.path()), Err(SecretError::Length(_))));
            assert_eq!(fs::read(state.path().join(FILE)).unwrap(), wrong);
        }
        let nowhere = state.path().join("missing");
        assert!(matches!(load_or_make_secret(&nowhere), Err(SecretError::File { step: "make", .. })));
    }
}
