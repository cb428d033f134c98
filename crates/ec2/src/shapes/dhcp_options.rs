//! Sets of DHCP options.

use serde::{Deserialize, Serialize};

use super::common::{Filter, Tag};

/// [DescribeDhcpOptions](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeDhcpOptions.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeDhcpOptionsRequest {
    pub dhcp_options_id: Vec<String>,
    pub filter: Vec<Filter>,
    pub max_results: Option<i32>,
    pub next_token: Option<String>,
}

/// The answer to [`DescribeDhcpOptionsRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeDhcpOptionsResponse {
    pub dhcp_options_set: Vec<DhcpOptions>,
    pub next_token: Option<String>,
}

/// [A set of DHCP options](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DhcpOptions.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DhcpOptions {
    pub dhcp_options_id: String,
    pub owner_id: String,
    pub dhcp_configuration_set: Vec<DhcpConfiguration>,
    pub tag_set: Vec<Tag>,
}

/// One option, such as `domain-name-servers`, and its values.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DhcpConfiguration {
    pub key: String,
    pub value_set: Vec<DhcpOptionValue>,
}

/// One value of an option.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DhcpOptionValue {
    pub value: String,
}
