//! Key pairs. The private half is shown once and kept nowhere.

use cloud::World;
use cloud::model::{KeyKind, KeyPair, Tags};
use cloud::rules::key_pairs::{self, NewKeyPair};
use ec2::shapes::key_pairs as wire;
use ec2::{Blob, Error, Handler, Resource};
use spec::ids::KeyPairId;
use tokio::task::spawn_blocking;
use tracing::error;

use super::Api;
use super::common::{read_tags_for, tag_set, time};
use super::ids::{id, ids};
use crate::filters::{Fields, Filters};
use crate::key_material::{self, PublicKey};

const FIELDS: Fields = Fields {
    paths: &[("fingerprint", "keyFingerprint"), ("key-name", "keyName"), ("key-pair-id", "keyPairId")],
    tags: Some("tagSet"),
};

impl Handler<wire::CreateKeyPairRequest> for Api {
    async fn handle(
        &self,
        request: wire::CreateKeyPairRequest,
    ) -> Result<wire::CreateKeyPairResponse, Error> {
        let wire::CreateKeyPairRequest { key_name, key_type, tag_specification } = request;
        let tags = read_tags_for("key-pair", tag_specification)?;
        let kind = match key_type.unwrap_or_default() {
            wire::KeyType::Rsa => KeyKind::Rsa,
            wire::KeyType::Ed25519 => KeyKind::Ed25519,
        };
        // Searching for primes takes a while; other requests need not wait for it.
        let made = spawn_blocking(move || key_material::make(kind)).await.map_err(|broken| {
            error!("making a key broke off: {broken}");
            Error::internal_error()
        })?;
        let made = made.map_err(|problem| {
            error!(error = &problem as &dyn std::error::Error, "could not make a key");
            Error::internal_error()
        })?;
        let fingerprint = made.public.fingerprint.clone();
        let id = self.keep(key_name.clone(), made.public, tags.clone()).await?;
        Ok(wire::CreateKeyPairResponse {
            key_name,
            key_fingerprint: fingerprint,
            key_material: made.private,
            key_pair_id: id.to_string(),
            tag_set: tag_set(&tags),
        })
    }
}

impl Handler<wire::ImportKeyPairRequest> for Api {
    async fn handle(
        &self,
        request: wire::ImportKeyPairRequest,
    ) -> Result<wire::ImportKeyPairResponse, Error> {
        let wire::ImportKeyPairRequest { key_name, public_key_material: Blob(material), tag_specification } =
            request;
        let tags = read_tags_for("key-pair", tag_specification)?;
        let public = key_material::read(&material)
            .map_err(|why| Error::new(400, "InvalidKey.Format", why.to_string()))?;
        let fingerprint = public.fingerprint.clone();
        let id = self.keep(key_name.clone(), public, tags.clone()).await?;
        Ok(wire::ImportKeyPairResponse {
            key_name,
            key_fingerprint: fingerprint,
            key_pair_id: id.to_string(),
            tag_set: tag_set(&tags),
        })
    }
}

impl Api {
    /// Keeps a public key. Its comment is the pair's name, as EC2 has it.
    async fn keep(&self, name: String, public: PublicKey, tags: Tags) -> Result<KeyPairId, Error> {
        let PublicKey { kind, openssh, fingerprint } = public;
        let public_key = format!("{openssh} {name}");
        let new = NewKeyPair { name, kind, fingerprint, public_key, tags };
        self.change(move |tx| key_pairs::create(tx, new)).await.map(|(id, _)| id)
    }
}

impl Handler<wire::DeleteKeyPairRequest> for Api {
    async fn handle(
        &self,
        request: wire::DeleteKeyPairRequest,
    ) -> Result<wire::DeleteKeyPairResponse, Error> {
        let wire::DeleteKeyPairRequest { key_name, key_pair_id } = request;
        let by_id = key_pair_id.as_deref().map(id::<KeyPairId>).transpose()?;
        if by_id.is_none() && key_name.is_none() {
            return Err(Error::missing_parameter("KeyName or KeyPairId"));
        }
        let (deleted, _) = self
            .change(move |tx| {
                Ok(match (by_id, key_name) {
                    (Some(id), _) => key_pairs::delete(tx, id),
                    (None, name) => key_pairs::delete_by_name(tx, &name.unwrap_or_default()),
                })
            })
            .await?;
        Ok(wire::DeleteKeyPairResponse { done: true, key_pair_id: deleted.map(|id| id.to_string()) })
    }
}

impl Handler<wire::DescribeKeyPairsRequest> for Api {
    async fn handle(
        &self,
        request: wire::DescribeKeyPairsRequest,
    ) -> Result<wire::DescribeKeyPairsResponse, Error> {
        let wire::DescribeKeyPairsRequest { key_name, key_pair_id, filter, include_public_key } = request;
        let ids = ids::<KeyPairId>(&key_pair_id)?;
        let filters = Filters::read(&FIELDS, &filter)?;
        self.look(|world| {
            check_all_there(world, &ids, &key_name)?;
            let all = ids.is_empty() && key_name.is_empty();
            let mut rows: Vec<_> = world
                .key_pairs
                .values()
                .filter(|row| all || ids.contains(&row.id) || key_name.contains(&row.name))
                .collect();
            rows.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            let shown = rows.into_iter().map(|row| show(row, include_public_key.unwrap_or(false)));
            Ok(wire::DescribeKeyPairsResponse { key_set: shown.filter(|pair| filters.pass(pair)).collect() })
        })
    }
}

/// The refusal that names the pairs that do not exist.
fn check_all_there(world: &World, ids: &[KeyPairId], names: &[String]) -> Result<(), Error> {
    let no_name = |name: &&String| world.key_pairs.values().all(|row| row.name != **name);
    let missing_ids = ids.iter().filter(|id| !world.key_pairs.contains_key(*id)).map(KeyPairId::to_string);
    let missing_names = names.iter().filter(no_name).map(|name| name.chars().take(255).collect());
    let missing: Vec<String> = missing_ids.chain(missing_names).collect();
    let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
    if missing.is_empty() { Ok(()) } else { Err(Error::none_found(Resource::KeyPair, &missing)) }
}

fn show(row: &KeyPair, with_public_key: bool) -> wire::KeyPairInfo {
    wire::KeyPairInfo {
        key_pair_id: row.id.to_string(),
        key_name: row.name.clone(),
        key_fingerprint: row.fingerprint.clone(),
        key_type: match row.kind {
            KeyKind::Rsa => wire::KeyType::Rsa,
            KeyKind::Ed25519 => wire::KeyType::Ed25519,
        },
        public_key: Some(row.public_key.clone()).filter(|_| with_public_key),
        create_time: time(row.created),
        tag_set: tag_set(&row.tags),
    }
}

#[cfg(test)]
#[test]
fn filters_find_their_elements() {
    assert_eq!(crate::filters::lost_paths::<wire::KeyPairInfo>(&FIELDS), [""; 0]);
}
