//! Subnets.

use serde::{Deserialize, Serialize};

use super::common::{Filter, Tag};
use super::instances::PrivateDnsNameOptions;
use super::vpcs::Ipv6CidrBlockAssociation;

/// [DescribeSubnets](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSubnets.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeSubnetsRequest {
    pub subnet_id: Vec<String>,
    pub filter: Vec<Filter>,
    pub max_results: Option<i32>,
    pub next_token: Option<String>,
}

/// The answer to [`DescribeSubnetsRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeSubnetsResponse {
    pub subnet_set: Vec<Subnet>,
    pub next_token: Option<String>,
}

/// [A subnet](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Subnet.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subnet {
    pub subnet_id: String,
    pub subnet_arn: String,
    pub vpc_id: String,
    pub owner_id: String,
    pub state: String,
    pub cidr_block: String,
    pub available_ip_address_count: u32,
    pub availability_zone: String,
    pub availability_zone_id: String,
    pub default_for_az: bool,
    pub map_public_ip_on_launch: bool,
    pub map_customer_owned_ip_on_launch: bool,
    pub assign_ipv6_address_on_creation: bool,
    pub ipv6_cidr_block_association_set: Vec<Ipv6CidrBlockAssociation>,
    pub ipv6_native: bool,
    pub enable_dns64: bool,
    pub private_dns_name_options_on_launch: PrivateDnsNameOptions,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tag_set: Vec<Tag>,
}
