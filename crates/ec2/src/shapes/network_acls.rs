//! Network access control lists.

use serde::{Deserialize, Serialize};

use super::common::{Filter, Tag};

/// [DescribeNetworkAcls](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeNetworkAcls.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeNetworkAclsRequest {
    pub network_acl_id: Vec<String>,
    pub filter: Vec<Filter>,
    pub max_results: Option<i32>,
    pub next_token: Option<String>,
}

/// The answer to [`DescribeNetworkAclsRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeNetworkAclsResponse {
    pub network_acl_set: Vec<NetworkAcl>,
    pub next_token: Option<String>,
}

/// [A network ACL](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_NetworkAcl.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkAcl {
    pub network_acl_id: String,
    pub vpc_id: String,
    pub owner_id: String,
    pub default: bool,
    pub entry_set: Vec<NetworkAclEntry>,
    pub association_set: Vec<NetworkAclAssociation>,
    pub tag_set: Vec<Tag>,
}

/// One rule of a network ACL.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkAclEntry {
    pub rule_number: u32,
    /// A protocol's number, or -1 for all.
    pub protocol: String,
    pub rule_action: RuleAction,
    pub egress: bool,
    pub cidr_block: Option<String>,
    pub ipv6_cidr_block: Option<String>,
    pub icmp_type_code: Option<IcmpTypeCode>,
    pub port_range: Option<PortRange>,
}

/// What a rule does with what it matches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleAction {
    #[default]
    Deny,
    Allow,
}

/// A type and code of ICMP, -1 for all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IcmpTypeCode {
    pub code: i32,
    #[serde(rename = "type")]
    pub kind: i32,
}

/// Ports, both ends included.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortRange {
    pub from: u16,
    pub to: u16,
}

/// The subnet that a network ACL guards.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkAclAssociation {
    pub network_acl_association_id: String,
    pub network_acl_id: String,
    pub subnet_id: String,
}
