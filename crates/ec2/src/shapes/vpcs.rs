//! VPCs.

use serde::{Deserialize, Serialize};

use super::common::{Filter, Tag};
use super::instance_attributes::AttributeFlag;

/// [DescribeVpcs](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeVpcs.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeVpcsRequest {
    pub vpc_id: Vec<String>,
    pub filter: Vec<Filter>,
    pub max_results: Option<i32>,
    pub next_token: Option<String>,
}

/// The answer to [`DescribeVpcsRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeVpcsResponse {
    pub vpc_set: Vec<Vpc>,
    pub next_token: Option<String>,
}

/// [A VPC](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Vpc.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Vpc {
    pub vpc_id: String,
    pub owner_id: String,
    pub state: String,
    pub cidr_block: String,
    pub cidr_block_association_set: Vec<CidrBlockAssociation>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ipv6_cidr_block_association_set: Vec<Ipv6CidrBlockAssociation>,
    pub dhcp_options_id: String,
    pub instance_tenancy: String,
    pub is_default: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tag_set: Vec<Tag>,
}

/// A range of IPv4 addresses of a VPC.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CidrBlockAssociation {
    pub association_id: String,
    pub cidr_block: String,
    pub cidr_block_state: CidrBlockState,
}

/// A range of IPv6 addresses of a VPC or a subnet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ipv6CidrBlockAssociation {
    pub association_id: String,
    pub ipv6_cidr_block: String,
    pub ipv6_cidr_block_state: CidrBlockState,
}

/// How far an association of a range has come.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CidrBlockState {
    pub state: String,
}

/// [DescribeVpcAttribute](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeVpcAttribute.html).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeVpcAttributeRequest {
    pub attribute: VpcAttributeName,
    pub vpc_id: String,
}

/// The attributes that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VpcAttributeName {
    EnableDnsSupport,
    EnableDnsHostnames,
    EnableNetworkAddressUsageMetrics,
}

/// The answer to [`DescribeVpcAttributeRequest`]: the id and the one attribute.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeVpcAttributeResponse {
    pub vpc_id: String,
    pub enable_dns_support: Option<AttributeFlag>,
    pub enable_dns_hostnames: Option<AttributeFlag>,
    pub enable_network_address_usage_metrics: Option<AttributeFlag>,
}
