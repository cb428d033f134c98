//! Key pairs.

use serde::{Deserialize, Serialize};

use super::common::{Filter, Tag, TagSpecification};
use crate::query::{Unobeyed, only};
use crate::{Blob, Timestamp};

/// The kinds of key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyType {
    #[default]
    Rsa,
    Ed25519,
}

/// [CreateKeyPair](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateKeyPair.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateKeyPairRequest {
    pub key_name: String,
    pub key_type: Option<KeyType>,
    pub tag_specification: Vec<TagSpecification>,
}

pub(crate) const CREATE_KEY_PAIR: &[Unobeyed] = &[only("KeyFormat", "pem")];

/// The answer to [`CreateKeyPairRequest`], the only one that ever holds the private key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateKeyPairResponse {
    pub key_name: String,
    pub key_fingerprint: String,
    /// The private key as PEM.
    pub key_material: String,
    pub key_pair_id: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tag_set: Vec<Tag>,
}

/// [ImportKeyPair](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ImportKeyPair.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportKeyPairRequest {
    pub key_name: String,
    pub public_key_material: Blob,
    pub tag_specification: Vec<TagSpecification>,
}

/// The answer to [`ImportKeyPairRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportKeyPairResponse {
    pub key_name: String,
    pub key_fingerprint: String,
    pub key_pair_id: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tag_set: Vec<Tag>,
}

/// [DeleteKeyPair](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteKeyPair.html), by name or by id.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteKeyPairRequest {
    pub key_name: Option<String>,
    pub key_pair_id: Option<String>,
}

/// The answer to [`DeleteKeyPairRequest`]. Deleting a key pair that does not exist succeeds, and has no id.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteKeyPairResponse {
    #[serde(rename = "return")]
    pub done: bool,
    pub key_pair_id: Option<String>,
}

/// [DescribeKeyPairs](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeKeyPairs.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeKeyPairsRequest {
    pub key_name: Vec<String>,
    pub key_pair_id: Vec<String>,
    pub filter: Vec<Filter>,
    pub include_public_key: Option<bool>,
}

/// The answer to [`DescribeKeyPairsRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeKeyPairsResponse {
    pub key_set: Vec<KeyPairInfo>,
}

/// [A key pair](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_KeyPairInfo.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyPairInfo {
    pub key_pair_id: String,
    pub key_name: String,
    pub key_fingerprint: String,
    pub key_type: KeyType,
    /// In OpenSSH's form; answered only when asked for.
    pub public_key: Option<String>,
    pub create_time: Timestamp,
    pub tag_set: Vec<Tag>,
}
