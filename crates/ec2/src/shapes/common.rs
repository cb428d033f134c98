//! Shapes that many families share.

use serde::{Deserialize, Serialize};

use crate::query::{Unobeyed, moot};
use crate::values::absent_is_empty;

/// One condition of a Describe: the resource has one of the values. Values may hold `*` and `?`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Filter {
    pub name: String,
    pub value: Vec<String>,
}

/// A tag on a resource. A request that leaves the value out means the empty one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tag {
    pub key: String,
    #[serde(deserialize_with = "absent_is_empty")]
    pub value: String,
}

/// Tags for the resources of one type that an action creates.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TagSpecification {
    pub resource_type: String,
    pub tag: Vec<Tag>,
}

/// The whole answer of actions that only say that they did it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    #[serde(rename = "return")]
    pub done: bool,
}

impl Default for Done {
    fn default() -> Self {
        Self { done: true }
    }
}

/// A security group as other resources mention it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupIdentifier {
    pub group_id: String,
    pub group_name: String,
}

/// Why a resource is in its state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateReason {
    pub code: String,
    pub message: String,
}

/// How far an attachment of a volume or a network interface has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachmentStatus {
    Attaching,
    #[default]
    Attached,
    Detaching,
    Detached,
}

/// Many Describes can show what other AWS services manage in the account. Here they manage nothing.
pub(crate) const NO_MANAGED_RESOURCES: Unobeyed =
    moot("IncludeManagedResources", "no other service manages resources here");
