//! Internet gateways.

use serde::{Deserialize, Serialize};

use super::common::{Filter, Tag};

/// [DescribeInternetGateways](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInternetGateways.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeInternetGatewaysRequest {
    pub internet_gateway_id: Vec<String>,
    pub filter: Vec<Filter>,
    pub max_results: Option<i32>,
    pub next_token: Option<String>,
}

/// The answer to [`DescribeInternetGatewaysRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeInternetGatewaysResponse {
    pub internet_gateway_set: Vec<InternetGateway>,
    pub next_token: Option<String>,
}

/// [An internet gateway](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InternetGateway.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InternetGateway {
    pub internet_gateway_id: String,
    pub owner_id: String,
    pub attachment_set: Vec<InternetGatewayAttachment>,
    pub tag_set: Vec<Tag>,
}

/// The VPC that an internet gateway serves.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InternetGatewayAttachment {
    pub vpc_id: String,
    /// `available` when attached, unlike what the enumeration of the reference says.
    pub state: String,
}
