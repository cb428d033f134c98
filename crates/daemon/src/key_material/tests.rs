//! Against ssh-keygen and openssl: what they make is read, what is made they read, and fingerprints agree.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use super::*;

/// What a tool prints; none where it is not installed. A tool that fails fails the test.
fn said(command: &mut Command) -> Option<Vec<u8>> {
    match command.output() {
        Ok(output) => {
            let problem = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{command:?}: {problem}");
            Some(output.stdout)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("{command:?}: {error}"),
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap().trim().to_owned()
}

fn written(folder: &Path, private: &str) -> std::path::PathBuf {
    let path = folder.join("key");
    fs::write(&path, private).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// `ssh-keygen -y`: the public key of a private one, without its comment.
fn public_half(path: &Path) -> Option<String> {
    let line = text(said(Command::new("ssh-keygen").args(["-y", "-P", "", "-f"]).arg(path))?);
    Some(line.split(' ').take(2).collect::<Vec<_>>().join(" "))
}

#[test]
fn rsa_made_here_is_pkcs1_and_has_openssls_fingerprint() {
    let folder = tempfile::tempdir().unwrap();
    let MadePair { public, private } = make(KeyKind::Rsa).unwrap();
    assert!(private.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"), "{private}");
    assert!(private.ends_with("-----END RSA PRIVATE KEY-----\n"));
    let path = written(folder.path(), &private);
    if let Some(line) = public_half(&path) {
        assert_eq!(line, public.openssh);
    }
    let pkcs8 = ["pkcs8", "-topk8", "-nocrypt", "-outform", "DER", "-in"];
    if let Some(der) = said(Command::new("openssl").args(pkcs8).arg(&path)) {
        assert_eq!(colons(&Sha1::digest(der)), public.fingerprint);
    }
    assert_eq!(public.fingerprint.len(), 20 * 3 - 1);
}

#[test]
fn ed25519_made_here_is_openssh_and_has_its_fingerprint() {
    let folder = tempfile::tempdir().unwrap();
    let MadePair { public, private } = make(KeyKind::Ed25519).unwrap();
    assert!(private.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\n"), "{private}");
    let path = written(folder.path(), &private);
    if let Some(line) = public_half(&path) {
        assert_eq!(line, public.openssh);
    }
    if let Some(line) = said(Command::new("ssh-keygen").arg("-lf").arg(&path)) {
        let line = text(line);
        assert_eq!(
            line.split(' ').nth(1),
            Some(&*format!("SHA256:{}", public.fingerprint.trim_end_matches('=')))
        );
    }
    assert_eq!(public.fingerprint.len(), 44);
}

/// A key of 2048 bits, with what openssl says of it: `openssl pkey -pubin -outform DER | md5sum`.
const RSA: &str = include_str!("rsa.pub");
const RSA_FINGERPRINT: &str = include_str!("rsa.fingerprint");
/// The same key as RFC 4716 and as DER.
const RSA_4716: &str = include_str!("rsa.4716");
const RSA_DER: &str = include_str!("rsa.der.base64");
/// A key of Ed25519, with what `ssh-keygen -l` says of it.
const ED25519: &str = include_str!("ed25519.pub");
const ED25519_FINGERPRINT: &str = include_str!("ed25519.fingerprint");

#[test]
fn all_forms_of_one_key_are_one_key() {
    let expected = PublicKey {
        kind: KeyKind::Rsa,
        openssh: RSA.split(' ').take(2).collect::<Vec<_>>().join(" "),
        fingerprint: RSA_FINGERPRINT.trim().into(),
    };
    let long_head = RSA_4716.replacen('\n', "\nX-Long: it goes \\\non here\n", 1);
    for form in [RSA, RSA_4716, RSA_DER, &long_head, &RSA.replace('\n', "\r\n"), &RSA_DER.replace('\n', "")] {
        assert_eq!(read(form.as_bytes()), Ok(expected.clone()), "{form}");
    }
}

#[test]
fn ed25519_is_read_and_keeps_its_padding() {
    let key = read(ED25519.as_bytes()).unwrap();
    assert_eq!((key.kind, key.fingerprint.as_str()), (KeyKind::Ed25519, ED25519_FINGERPRINT.trim()));
    assert!(ED25519.starts_with(&key.openssh) && !key.openssh.contains("comment"));
}

#[test]
fn what_is_made_can_be_imported() {
    for kind in [KeyKind::Rsa, KeyKind::Ed25519] {
        let made = make(kind).unwrap().public;
        let read = read(made.openssh.as_bytes()).unwrap();
        assert_eq!((read.kind, &read.openssh), (kind, &made.openssh));
        // EC2 hashes the public key of an RSA key that was imported, the private one of one that it made.
        assert_eq!(read.fingerprint == made.fingerprint, kind == KeyKind::Ed25519);
    }
}

#[test]
fn other_kinds_and_sizes_are_refused_by_name() {
    assert_eq!(read(include_bytes!("ecdsa.pub")), Err(ReadError::Kind));
    assert_eq!(read(include_bytes!("rsa-3072.pub")), Err(ReadError::Size(3072)));
}

#[test]
fn what_is_no_key_is_refused() {
    let private = make(KeyKind::Ed25519).unwrap().private;
    let cut = &RSA[..RSA.len() / 2];
    let open = RSA_4716.replace(RFC4716[1], "");
    for nonsense in ["", "ssh-rsa", "ssh-rsa AAAA", "AAAA", cut, &open, &private, &"A".repeat(MAX_TEXT + 4)] {
        assert_eq!(read(nonsense.as_bytes()), Err(ReadError::Form), "{nonsense}");
    }
    assert_eq!(read(&[0xff; 100]), Err(ReadError::Form));
}

/// Any byte of a key may be wrong: it is read or refused, and nothing breaks.
#[test]
fn broken_keys_do_no_harm() {
    for text in [RSA, RSA_4716, RSA_DER, ED25519] {
        for at in (0..text.len()).step_by(5) {
            let mut broken = text.as_bytes().to_vec();
            broken[at] = if broken[at] == b'A' { b'/' } else { b'A' };
            let _ = read(&broken);
        }
    }
}
