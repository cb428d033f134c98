//! Public addresses that an account keeps.

use serde::{Deserialize, Serialize};

use super::common::{Filter, Tag};

/// [DescribeAddresses](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeAddresses.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeAddressesRequest {
    pub allocation_id: Vec<String>,
    pub public_ip: Vec<String>,
    pub filter: Vec<Filter>,
}

/// The answer to [`DescribeAddressesRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeAddressesResponse {
    pub addresses_set: Vec<Address>,
}

/// [An elastic address](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Address.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    pub allocation_id: String,
    pub association_id: Option<String>,
    /// Always `vpc`.
    pub domain: String,
    pub instance_id: Option<String>,
    pub network_border_group: String,
    pub network_interface_id: Option<String>,
    pub network_interface_owner_id: Option<String>,
    pub private_ip_address: Option<String>,
    pub public_ip: String,
    /// `amazon`, or a pool that the operator brought.
    pub public_ipv4_pool: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tag_set: Vec<Tag>,
}
