//! The keys of key pairs: making them, reading those of others, and EC2's fingerprints of them.
//!
//! ```text
//!            made here                                   imported
//!   RSA      SHA-1 of the private key, PKCS#8 DER        MD5 of the public key, DER       hexadecimal, with colons
//!   ED25519  SHA-256 of the public key, SSH's form       the same                         base64
//! ```
//!
//! Sources: AWS, *Verify the fingerprint of your key pair*; AWS API reference, *CreateKeyPair*, *ImportKeyPair*.
//! Nothing here keeps a private key: whoever made one is shown it, and it is dropped.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cloud::model::KeyKind;
use md5::Md5;
use rsa::pkcs1::EncodeRsaPrivateKey as _;
use rsa::pkcs8::{DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use rsa::traits::PublicKeyParts as _;
use rsa::{RsaPrivateKey, RsaPublicKey};
use sha1::{Digest as _, Sha1};
use ssh_key::rand_core::OsRng;
use ssh_key::{Algorithm, HashAlg, PrivateKey, public};

/// The size of RSA keys that are made, in bits.
const RSA_BITS: usize = 2048;
/// The sizes of RSA keys that EC2 takes, in bits.
const RSA_SIZES: [usize; 3] = [1024, 2048, 4096];
/// Bytes of a public key's text at most; the longest that is taken has some 800.
const MAX_TEXT: usize = 16 * 1024;
/// How lines of OpenSSH's begin that are keys, of kinds that EC2 does not take.
const OTHER_KINDS: [&str; 3] = ["ecdsa-", "sk-", "ssh-dss"];
/// The first and the last line of the form of RFC 4716.
const RFC4716: [&str; 2] = ["---- BEGIN SSH2 PUBLIC KEY ----", "---- END SSH2 PUBLIC KEY ----"];

/// A public key, as the cloud keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// Its type.
    pub kind: KeyKind,
    /// Type and key as in OpenSSH's files, without a comment.
    pub openssh: String,
    /// EC2's fingerprint of it.
    pub fingerprint: String,
}

/// A pair that was just made.
pub struct MadePair {
    /// Its public half.
    pub public: PublicKey,
    /// Its private half: PKCS#1 PEM for RSA, OpenSSH's PEM for ED25519.
    pub private: String,
}

/// A pair could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// No primes were found, or a key did not fit its form.
    #[error("Could not make an RSA key")]
    Rsa(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A key did not fit OpenSSH's form.
    #[error("Could not write a key in OpenSSH's form")]
    OpenSsh(#[from] ssh_key::Error),
}

/// What was to be imported is not a public key that EC2 takes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It is none of the forms.
    #[error("Key is not in valid OpenSSH public key format")]
    Form,
    /// It is a key of another kind.
    #[error("Keys of this type cannot be imported; the types are RSA and ED25519")]
    Kind,
    /// It is an RSA key of another size.
    #[error("RSA keys must have 1024, 2048 or 4096 bits; this one has {0}")]
    Size(usize),
}

/// Makes a pair. RSA takes a processor for some tenths of a second.
pub fn make(kind: KeyKind) -> Result<MadePair, MakeError> {
    match kind {
        KeyKind::Rsa => make_rsa(),
        KeyKind::Ed25519 => make_ed25519(),
    }
}

fn make_rsa() -> Result<MadePair, MakeError> {
    let key = RsaPrivateKey::new(&mut OsRng, RSA_BITS).map_err(|error| MakeError::Rsa(error.into()))?;
    let pkcs8 = key.to_pkcs8_der().map_err(|error| MakeError::Rsa(error.into()))?;
    let private = key.to_pkcs1_pem(LineEnding::LF).map_err(|error| MakeError::Rsa(error.into()))?;
    let public = PublicKey {
        kind: KeyKind::Rsa,
        openssh: openssh(&rsa_in_ssh(key.as_ref())?)?,
        fingerprint: colons(&Sha1::digest(pkcs8.as_bytes())),
    };
    Ok(MadePair { public, private: private.to_string() })
}

fn make_ed25519() -> Result<MadePair, MakeError> {
    let key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519)?;
    let private = key.to_openssh(ssh_key::LineEnding::LF)?.to_string();
    Ok(MadePair { public: ed25519(key.public_key())?, private })
}

/// Reads a public key in one of EC2's three forms: a line as in OpenSSH's files, base64 of DER (X.509's
/// SubjectPublicKeyInfo), or RFC 4716.
pub fn read(material: &[u8]) -> Result<PublicKey, ReadError> {
    let text = std::str::from_utf8(material).map_err(|_| ReadError::Form)?.trim();
    if text.len() > MAX_TEXT {
        return Err(ReadError::Form);
    }
    if text.starts_with(RFC4716[0]) {
        return read_ssh(&rfc4716_body(text)?);
    }
    if OTHER_KINDS.iter().any(|kind| text.starts_with(kind)) {
        return Err(ReadError::Kind);
    }
    if let Ok(key) = ssh_key::PublicKey::from_openssh(text) {
        return from_ssh(&key);
    }
    let der = decode(text)?;
    let key = RsaPublicKey::from_public_key_der(&der).map_err(|_| ReadError::Form)?;
    imported_rsa(&key)
}

/// The base64 between the head lines and the last line. A head line has a colon, and a backslash at its end when it
/// goes on (RFC 4716, 3.3).
fn rfc4716_body(text: &str) -> Result<Vec<u8>, ReadError> {
    let mut lines = text.lines().map(str::trim_end).skip(1);
    let mut body = String::new();
    while let Some(mut line) = lines.next() {
        if line == RFC4716[1] {
            return decode(&body);
        }
        if line.contains(':') {
            while line.ends_with('\\') {
                line = lines.next().ok_or(ReadError::Form)?;
            }
        } else {
            body.push_str(line);
        }
    }
    Err(ReadError::Form)
}

fn decode(text: &str) -> Result<Vec<u8>, ReadError> {
    let text: String = text.chars().filter(|letter| !letter.is_ascii_whitespace()).collect();
    BASE64_STANDARD.decode(text).map_err(|_| ReadError::Form)
}

fn read_ssh(blob: &[u8]) -> Result<PublicKey, ReadError> {
    from_ssh(&ssh_key::PublicKey::from_bytes(blob).map_err(|_| ReadError::Form)?)
}

fn from_ssh(key: &ssh_key::PublicKey) -> Result<PublicKey, ReadError> {
    match key.key_data() {
        public::KeyData::Ed25519(_) => ed25519(key).map_err(|_| ReadError::Form),
        public::KeyData::Rsa(key) => imported_rsa(&RsaPublicKey::try_from(key).map_err(|_| ReadError::Form)?),
        _ => Err(ReadError::Kind),
    }
}

fn imported_rsa(key: &RsaPublicKey) -> Result<PublicKey, ReadError> {
    let bits = key.n().bits();
    if !RSA_SIZES.contains(&bits) {
        return Err(ReadError::Size(bits));
    }
    let der = key.to_public_key_der().map_err(|_| ReadError::Form)?;
    let ssh = rsa_in_ssh(key).map_err(|_| ReadError::Form)?;
    Ok(PublicKey {
        kind: KeyKind::Rsa,
        openssh: openssh(&ssh).map_err(|_| ReadError::Form)?,
        fingerprint: colons(&Md5::digest(der.as_bytes())),
    })
}

fn ed25519(key: &ssh_key::PublicKey) -> Result<PublicKey, ssh_key::Error> {
    // Unlike OpenSSH, EC2 keeps base64's padding and leaves the hash's name away.
    let fingerprint = BASE64_STANDARD.encode(key.fingerprint(HashAlg::Sha256).as_bytes());
    Ok(PublicKey { kind: KeyKind::Ed25519, openssh: openssh(key)?, fingerprint })
}

fn rsa_in_ssh(key: &RsaPublicKey) -> Result<ssh_key::PublicKey, ssh_key::Error> {
    Ok(public::KeyData::Rsa(public::RsaPublicKey::try_from(key)?).into())
}

fn openssh(key: &ssh_key::PublicKey) -> Result<String, ssh_key::Error> {
    ssh_key::PublicKey::new(key.key_data().clone(), "").to_openssh().map(|line| line.trim_end().to_owned())
}

/// `1f:51:ae:…`.
fn colons(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests;
