//! Security groups and their rules.

use serde::{Deserialize, Serialize};

use super::common::{Filter, Tag, TagSpecification};
use crate::query::{Unobeyed, refused};

/// [CreateSecurityGroup](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSecurityGroup.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateSecurityGroupRequest {
    pub group_description: String,
    pub group_name: String,
    pub vpc_id: Option<String>,
    pub tag_specification: Vec<TagSpecification>,
}

/// The answer to [`CreateSecurityGroupRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateSecurityGroupResponse {
    pub group_id: String,
    pub security_group_arn: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tag_set: Vec<Tag>,
}

/// [DeleteSecurityGroup](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteSecurityGroup.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteSecurityGroupRequest {
    pub group_id: Option<String>,
    pub group_name: Option<String>,
}

/// The answer to [`DeleteSecurityGroupRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteSecurityGroupResponse {
    #[serde(rename = "return")]
    pub done: bool,
    pub group_id: Option<String>,
}

/// [DescribeSecurityGroups](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSecurityGroups.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeSecurityGroupsRequest {
    pub group_id: Vec<String>,
    pub group_name: Vec<String>,
    pub filter: Vec<Filter>,
    pub max_results: Option<i32>,
    pub next_token: Option<String>,
}

/// The answer to [`DescribeSecurityGroupsRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeSecurityGroupsResponse {
    pub security_group_info: Vec<SecurityGroup>,
    pub next_token: Option<String>,
}

/// [A security group](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_SecurityGroup.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecurityGroup {
    pub group_id: String,
    pub group_name: String,
    pub group_description: String,
    pub owner_id: String,
    pub vpc_id: String,
    pub security_group_arn: Option<String>,
    pub ip_permissions: Vec<IpPermission>,
    pub ip_permissions_egress: Vec<IpPermission>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tag_set: Vec<Tag>,
}

/// Rules that share protocol and ports. Travels both ways.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpPermission {
    /// `tcp`, `udp`, `icmp`, `icmpv6`, a number, or `-1` for all.
    pub ip_protocol: String,
    /// The first port, or ICMP's type; -1 for all.
    pub from_port: Option<i32>,
    /// The last port, or ICMP's code; -1 for all.
    pub to_port: Option<i32>,
    pub groups: Vec<UserIdGroupPair>,
    pub ip_ranges: Vec<IpRange>,
    pub ipv6_ranges: Vec<Ipv6Range>,
    pub prefix_list_ids: Vec<PrefixListId>,
}

/// A group whose members a rule means.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserIdGroupPair {
    pub description: Option<String>,
    pub group_id: Option<String>,
    pub group_name: Option<String>,
    pub user_id: Option<String>,
}

/// IPv4 addresses that a rule means.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpRange {
    pub cidr_ip: String,
    pub description: Option<String>,
}

/// IPv6 addresses that a rule means.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ipv6Range {
    pub cidr_ipv6: String,
    pub description: Option<String>,
}

/// A list of addresses that a rule means. Only answered, and always empty: see [`IP_PERMISSIONS`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrefixListId {
    pub description: Option<String>,
    pub prefix_list_id: String,
}

/// What the rules of a request may not say yet.
const IP_PERMISSIONS: [Unobeyed; 4] = [
    refused("IpPermissions.N.Groups.N.PeeringStatus"),
    refused("IpPermissions.N.Groups.N.VpcId"),
    refused("IpPermissions.N.Groups.N.VpcPeeringConnectionId"),
    refused("IpPermissions.N.PrefixListIds"),
];

pub(crate) const INGRESS: &[Unobeyed] = &IP_PERMISSIONS;

/// EC2 knows these for symmetry with ingress, and its reference says that it does not obey them either.
pub(crate) const EGRESS: &[Unobeyed] = &[
    IP_PERMISSIONS[0],
    IP_PERMISSIONS[1],
    IP_PERMISSIONS[2],
    IP_PERMISSIONS[3],
    refused("CidrIp"),
    refused("FromPort"),
    refused("IpProtocol"),
    refused("SourceSecurityGroupName"),
    refused("SourceSecurityGroupOwnerId"),
    refused("ToPort"),
];

/// [AuthorizeSecurityGroupIngress](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AuthorizeSecurityGroupIngress.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizeSecurityGroupIngressRequest {
    pub group_id: Option<String>,
    pub group_name: Option<String>,
    pub ip_permissions: Vec<IpPermission>,
    pub tag_specification: Vec<TagSpecification>,
    /// This and the following spell one rule without [`IpPermission`], as old clients do.
    pub cidr_ip: Option<String>,
    pub from_port: Option<i32>,
    pub ip_protocol: Option<String>,
    pub source_security_group_name: Option<String>,
    pub source_security_group_owner_id: Option<String>,
    pub to_port: Option<i32>,
}

/// [AuthorizeSecurityGroupEgress](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AuthorizeSecurityGroupEgress.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizeSecurityGroupEgressRequest {
    pub group_id: String,
    pub ip_permissions: Vec<IpPermission>,
    pub tag_specification: Vec<TagSpecification>,
}

/// The answer to both authorizations: the rules that are new.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizeSecurityGroupResponse {
    #[serde(rename = "return")]
    pub done: bool,
    pub security_group_rule_set: Vec<SecurityGroupRule>,
}

/// [RevokeSecurityGroupIngress](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RevokeSecurityGroupIngress.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevokeSecurityGroupIngressRequest {
    pub group_id: Option<String>,
    pub group_name: Option<String>,
    pub ip_permissions: Vec<IpPermission>,
    pub security_group_rule_id: Vec<String>,
    /// This and the following spell one rule without [`IpPermission`], as old clients do.
    pub cidr_ip: Option<String>,
    pub from_port: Option<i32>,
    pub ip_protocol: Option<String>,
    pub source_security_group_name: Option<String>,
    pub source_security_group_owner_id: Option<String>,
    pub to_port: Option<i32>,
}

/// [RevokeSecurityGroupEgress](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RevokeSecurityGroupEgress.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevokeSecurityGroupEgressRequest {
    pub group_id: String,
    pub ip_permissions: Vec<IpPermission>,
    pub security_group_rule_id: Vec<String>,
}

/// The answer to both revocations: the rules that are gone, and the permissions that matched none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevokeSecurityGroupResponse {
    #[serde(rename = "return")]
    pub done: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown_ip_permission_set: Vec<IpPermission>,
    pub revoked_security_group_rule_set: Vec<RevokedSecurityGroupRule>,
}

/// A rule that is gone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevokedSecurityGroupRule {
    pub security_group_rule_id: String,
    pub group_id: String,
    pub is_egress: bool,
    pub ip_protocol: String,
    pub from_port: i32,
    pub to_port: i32,
    pub cidr_ipv4: Option<String>,
    pub cidr_ipv6: Option<String>,
    pub referenced_group_id: Option<String>,
    pub description: Option<String>,
}

/// [DescribeSecurityGroupRules](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSecurityGroupRules.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeSecurityGroupRulesRequest {
    pub security_group_rule_id: Vec<String>,
    pub filter: Vec<Filter>,
    pub max_results: Option<i32>,
    pub next_token: Option<String>,
}

/// The answer to [`DescribeSecurityGroupRulesRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeSecurityGroupRulesResponse {
    pub security_group_rule_set: Vec<SecurityGroupRule>,
    pub next_token: Option<String>,
}

/// [A rule](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_SecurityGroupRule.html) of one group, with one source or destination.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecurityGroupRule {
    pub security_group_rule_id: String,
    pub group_id: String,
    pub group_owner_id: String,
    pub is_egress: bool,
    pub ip_protocol: String,
    pub from_port: i32,
    pub to_port: i32,
    pub cidr_ipv4: Option<String>,
    pub cidr_ipv6: Option<String>,
    pub referenced_group_info: Option<ReferencedSecurityGroup>,
    pub description: Option<String>,
    pub security_group_rule_arn: Option<String>,
    pub tag_set: Vec<Tag>,
}

/// The group whose members a rule means.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReferencedSecurityGroup {
    pub group_id: String,
    pub user_id: String,
    pub vpc_id: Option<String>,
}
