//! Regions, zones, and what the account may do in them.

use serde::{Deserialize, Serialize};

use super::common::Filter;
use crate::query::{Unobeyed, moot};

/// [DescribeRegions](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeRegions.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeRegionsRequest {
    pub region_name: Vec<String>,
    pub filter: Vec<Filter>,
}

pub(crate) const DESCRIBE_REGIONS: &[Unobeyed] = &[moot("AllRegions", "no region has to be enabled here")];

/// The answer to [`DescribeRegionsRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeRegionsResponse {
    pub region_info: Vec<Region>,
}

/// A region.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Region {
    pub region_name: String,
    /// The host to speak to.
    pub region_endpoint: String,
    pub opt_in_status: String,
}

/// [DescribeAvailabilityZones](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeAvailabilityZones.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeAvailabilityZonesRequest {
    pub zone_name: Vec<String>,
    pub zone_id: Vec<String>,
    pub filter: Vec<Filter>,
}

pub(crate) const DESCRIBE_AVAILABILITY_ZONES: &[Unobeyed] =
    &[moot("AllAvailabilityZones", "no zone has to be enabled here")];

/// The answer to [`DescribeAvailabilityZonesRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeAvailabilityZonesResponse {
    pub availability_zone_info: Vec<AvailabilityZone>,
}

/// [A zone](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AvailabilityZone.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AvailabilityZone {
    pub zone_name: String,
    pub zone_id: String,
    pub zone_state: String,
    pub zone_type: String,
    pub region_name: String,
    pub group_name: String,
    pub network_border_group: String,
    pub opt_in_status: String,
    pub message_set: Vec<AvailabilityZoneMessage>,
}

/// A notice about a zone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AvailabilityZoneMessage {
    pub message: String,
}

/// [DescribeAccountAttributes](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeAccountAttributes.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeAccountAttributesRequest {
    pub attribute_name: Vec<String>,
}

/// The answer to [`DescribeAccountAttributesRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeAccountAttributesResponse {
    pub account_attribute_set: Vec<AccountAttribute>,
}

/// An attribute of the account, such as `supported-platforms`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountAttribute {
    pub attribute_name: String,
    pub attribute_value_set: Vec<AccountAttributeValue>,
}

/// One value of an attribute of the account.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountAttributeValue {
    pub attribute_value: String,
}
