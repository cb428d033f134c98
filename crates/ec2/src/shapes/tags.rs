//! Tags.

use serde::{Deserialize, Serialize};

use super::common::{Filter, Tag};
use crate::NonEmpty;

/// [CreateTags](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateTags.html).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateTagsRequest {
    pub resource_id: NonEmpty<String>,
    pub tag: NonEmpty<Tag>,
}

/// [DeleteTags](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteTags.html).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteTagsRequest {
    pub resource_id: NonEmpty<String>,
    /// Empty for all tags that are the user's own.
    pub tag: Vec<TagToDelete>,
}

/// A tag to take away: with this value only, or with any if none is given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TagToDelete {
    pub key: String,
    pub value: Option<String>,
}

/// [DescribeTags](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeTags.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeTagsRequest {
    pub filter: Vec<Filter>,
    pub max_results: Option<i32>,
    pub next_token: Option<String>,
}

/// The answer to [`DescribeTagsRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeTagsResponse {
    pub tag_set: Vec<TagDescription>,
    pub next_token: Option<String>,
}

/// A tag and the resource it is on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TagDescription {
    pub resource_id: String,
    pub resource_type: String,
    pub key: String,
    pub value: String,
}
