//! Network interfaces.

use serde::{Deserialize, Serialize};

use super::common::{AttachmentStatus, Filter, GroupIdentifier, NO_MANAGED_RESOURCES, Tag};
use crate::Timestamp;
use crate::query::Unobeyed;

/// [DescribeNetworkInterfaces](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeNetworkInterfaces.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeNetworkInterfacesRequest {
    pub network_interface_id: Vec<String>,
    pub filter: Vec<Filter>,
    pub max_results: Option<i32>,
    pub next_token: Option<String>,
}

pub(crate) const DESCRIBE_NETWORK_INTERFACES: &[Unobeyed] = &[NO_MANAGED_RESOURCES];

/// The answer to [`DescribeNetworkInterfacesRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeNetworkInterfacesResponse {
    pub network_interface_set: Vec<NetworkInterface>,
    pub next_token: Option<String>,
}

/// [A network interface](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_NetworkInterface.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkInterface {
    pub network_interface_id: String,
    pub subnet_id: String,
    pub vpc_id: String,
    pub availability_zone: String,
    pub availability_zone_id: Option<String>,
    pub description: String,
    pub owner_id: String,
    pub requester_id: Option<String>,
    pub requester_managed: bool,
    pub status: NetworkInterfaceStatus,
    pub mac_address: String,
    pub private_ip_address: String,
    pub private_dns_name: Option<String>,
    pub source_dest_check: bool,
    pub group_set: Vec<GroupIdentifier>,
    pub attachment: Option<NetworkInterfaceAttachment>,
    pub association: Option<NetworkInterfaceAssociation>,
    pub private_ip_addresses_set: Vec<NetworkInterfacePrivateIpAddress>,
    pub ipv6_addresses_set: Vec<NetworkInterfaceIpv6Address>,
    pub interface_type: String,
    pub tag_set: Vec<Tag>,
}

/// The states of a network interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkInterfaceStatus {
    #[default]
    Available,
    Associated,
    Attaching,
    InUse,
    Detaching,
}

/// What a network interface hangs on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkInterfaceAttachment {
    pub attachment_id: String,
    pub instance_id: Option<String>,
    pub instance_owner_id: String,
    pub device_index: u32,
    pub network_card_index: u32,
    pub status: AttachmentStatus,
    pub attach_time: Timestamp,
    pub delete_on_termination: bool,
}

/// The public address of a private one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkInterfaceAssociation {
    pub public_ip: String,
    pub public_dns_name: String,
    /// `amazon` for an address of the pool, else the owner of the elastic one.
    pub ip_owner_id: String,
    pub allocation_id: Option<String>,
    pub association_id: Option<String>,
}

/// A private address of a network interface.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkInterfacePrivateIpAddress {
    pub private_ip_address: String,
    pub private_dns_name: Option<String>,
    pub primary: bool,
    pub association: Option<NetworkInterfaceAssociation>,
}

/// An IPv6 address of a network interface.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkInterfaceIpv6Address {
    pub ipv6_address: String,
}
