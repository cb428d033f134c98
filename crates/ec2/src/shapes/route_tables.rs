//! Route tables.

use serde::{Deserialize, Serialize};

use super::common::{Filter, Tag};

/// [DescribeRouteTables](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeRouteTables.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeRouteTablesRequest {
    pub route_table_id: Vec<String>,
    pub filter: Vec<Filter>,
    pub max_results: Option<i32>,
    pub next_token: Option<String>,
}

/// The answer to [`DescribeRouteTablesRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeRouteTablesResponse {
    pub route_table_set: Vec<RouteTable>,
    pub next_token: Option<String>,
}

/// [A route table](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RouteTable.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteTable {
    pub route_table_id: String,
    pub vpc_id: String,
    pub owner_id: String,
    pub route_set: Vec<Route>,
    pub association_set: Vec<RouteTableAssociation>,
    pub propagating_vgw_set: Vec<PropagatingVgw>,
    pub tag_set: Vec<Tag>,
}

/// A route: one destination and one target.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    pub destination_cidr_block: Option<String>,
    pub destination_ipv6_cidr_block: Option<String>,
    /// An internet gateway, or `local`.
    pub gateway_id: Option<String>,
    pub instance_id: Option<String>,
    pub nat_gateway_id: Option<String>,
    pub network_interface_id: Option<String>,
    pub vpc_peering_connection_id: Option<String>,
    pub origin: RouteOrigin,
    pub state: RouteState,
}

/// What made a route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub enum RouteOrigin {
    #[default]
    CreateRouteTable,
    CreateRoute,
    EnableVgwRoutePropagation,
    Advertisement,
}

/// Whether a route's target is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteState {
    #[default]
    Active,
    Blackhole,
    Filtered,
}

/// What a route table routes for: a subnet, or all that have no other.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteTableAssociation {
    pub route_table_association_id: String,
    pub route_table_id: String,
    pub subnet_id: Option<String>,
    pub main: bool,
    pub association_state: RouteTableAssociationState,
}

/// How far an association has come.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteTableAssociationState {
    pub state: String,
}

/// A gateway that adds routes by itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PropagatingVgw {
    pub gateway_id: String,
}
