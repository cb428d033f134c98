//! Key pairs: only public halves come here; whoever makes a pair shows the private half once and keeps none.
//!
//! Source: AWS API reference, *CreateKeyPair*, *ImportKeyPair*, *DeleteKeyPair*.

use spec::ids::KeyPairId;

use crate::model::*;
use crate::refusal::{Kind, Reason, Refusal};
use crate::rules::tags::check_tags;
use crate::tx::Tx;

/// Longest name, in characters.
const MAX_NAME: usize = 255;

/// A public key to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKeyPair {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: KeyKind,
    /// Its fingerprint as EC2 makes it.
    pub fingerprint: String,
    /// The public key in OpenSSH's form.
    pub public_key: String,
    /// Its tags.
    pub tags: Tags,
}

/// Keeps a key pair's public half under a name that is free.
pub fn create(tx: &mut Tx<'_>, new: NewKeyPair) -> Result<KeyPairId, Refusal> {
    check_name(&new.name)?;
    check_tags(&new.tags)?;
    if tx.world().key_pairs.values().any(|pair| pair.name == new.name) {
        return Err(Refusal::new(
            Reason::Duplicate(Kind::KeyPair),
            format!("The keypair '{}' already exists.", new.name),
        ));
    }
    let id = KeyPairId::from_random(tx.random());
    let NewKeyPair { name, kind, fingerprint, public_key, tags } = new;
    tx.put(KeyPair { id, name, kind, fingerprint, public_key, created: tx.now, tags });
    Ok(id)
}

/// Deletes a key pair by name; running instances keep the key. Nothing where there is none, as in EC2.
pub fn delete_by_name(tx: &mut Tx<'_>, name: &str) -> Option<KeyPairId> {
    let id = tx.world().key_pairs.values().find(|pair| pair.name == name)?.id;
    delete(tx, id)
}

/// Deletes a key pair by id. Nothing where there is none.
pub fn delete(tx: &mut Tx<'_>, id: KeyPairId) -> Option<KeyPairId> {
    tx.get::<KeyPair>(id)?;
    tx.remove(Key::KeyPair(id));
    Some(id)
}

/// Up to 255 printable ASCII characters, and no space at either end.
fn check_name(name: &str) -> Result<(), Refusal> {
    let printable = name.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if printable && !name.is_empty() && name.len() <= MAX_NAME && name.trim() == name {
        return Ok(());
    }
    let text = format!(
        "The key pair's name must have 1 to {MAX_NAME} printable ASCII characters and no space at its ends"
    );
    Err(Refusal::new(Reason::InvalidValue, text))
}
