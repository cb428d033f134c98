//! Network interfaces.

use serde::{Deserialize, Serialize};

use super::common::{AttachmentStatus, Filter, GroupIdentifier, NO_MANAGED_RESOURCES, Tag, TagSpecification};
use super::instance_attributes::{AttributeFlag, AttributeText};
use crate::Timestamp;
use crate::query::{Unobeyed, only, partly, refused};

/// [CreateNetworkInterface](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateNetworkInterface.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateNetworkInterfaceRequest {
    pub client_token: Option<String>,
    pub description: Option<String>,
    pub private_ip_address: Option<String>,
    pub private_ip_addresses: Vec<PrivateIpAddressSpecification>,
    pub security_group_id: Vec<String>,
    pub subnet_id: String,
    pub tag_specification: Vec<TagSpecification>,
}

pub(crate) const CREATE_NETWORK_INTERFACE: &[Unobeyed] = &[
    refused("ConnectionTrackingSpecification"),
    only("EnablePrimaryIpv6", "false"),
    only("InterfaceType", "interface"),
    refused("Ipv4Prefix"),
    only("Ipv4PrefixCount", "0"),
    only("Ipv6AddressCount", "0"),
    refused("Ipv6Addresses"),
    refused("Ipv6Prefix"),
    only("Ipv6PrefixCount", "0"),
    refused("Operator"),
    partly("PrivateIpAddresses", "one, the primary one"),
    only("SecondaryPrivateIpAddressCount", "0"),
];

/// A private address to give to a network interface.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrivateIpAddressSpecification {
    pub primary: Option<bool>,
    pub private_ip_address: String,
}

/// The answer to [`CreateNetworkInterfaceRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateNetworkInterfaceResponse {
    pub network_interface: NetworkInterface,
    pub client_token: Option<String>,
}

/// [DeleteNetworkInterface](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteNetworkInterface.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteNetworkInterfaceRequest {
    pub network_interface_id: String,
}

/// [AttachNetworkInterface](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AttachNetworkInterface.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachNetworkInterfaceRequest {
    /// From 1; no two at an instance have the same.
    pub device_index: i32,
    pub instance_id: String,
    pub network_interface_id: String,
}

pub(crate) const ATTACH_NETWORK_INTERFACE: &[Unobeyed] =
    &[refused("EnaQueueCount"), refused("EnaSrdSpecification"), only("NetworkCardIndex", "0")];

/// The answer to [`AttachNetworkInterfaceRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachNetworkInterfaceResponse {
    pub attachment_id: String,
    pub network_card_index: u32,
}

/// [DetachNetworkInterface](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DetachNetworkInterface.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DetachNetworkInterfaceRequest {
    pub attachment_id: String,
    /// Do not ask the guest.
    pub force: Option<bool>,
}

/// [ModifyNetworkInterfaceAttribute](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyNetworkInterfaceAttribute.html).
///
/// One attribute at a time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModifyNetworkInterfaceAttributeRequest {
    pub attachment: Option<NetworkInterfaceAttachmentChanges>,
    pub description: Option<AttributeText>,
    pub network_interface_id: String,
    pub security_group_id: Vec<String>,
    pub source_dest_check: Option<AttributeFlag>,
}

pub(crate) const MODIFY_NETWORK_INTERFACE_ATTRIBUTE: &[Unobeyed] = &[
    refused("AssociatePublicIpAddress"),
    refused("AssociatedSubnetId"),
    refused("Attachment.DefaultEnaQueueCount"),
    refused("Attachment.EnaQueueCount"),
    refused("ConnectionTrackingSpecification"),
    refused("EnaSrdSpecification"),
    only("EnablePrimaryIpv6", "false"),
];

/// What is to change of an attachment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkInterfaceAttachmentChanges {
    pub attachment_id: String,
    pub delete_on_termination: bool,
}

/// [DescribeNetworkInterfaceAttribute](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeNetworkInterfaceAttribute.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeNetworkInterfaceAttributeRequest {
    pub attribute: Option<NetworkInterfaceAttribute>,
    pub network_interface_id: String,
}

/// The attributes that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NetworkInterfaceAttribute {
    Description,
    GroupSet,
    SourceDestCheck,
    Attachment,
    AssociatePublicIpAddress,
}

/// The answer to [`DescribeNetworkInterfaceAttributeRequest`], with the one attribute that was asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeNetworkInterfaceAttributeResponse {
    pub network_interface_id: String,
    pub associate_public_ip_address: Option<bool>,
    pub attachment: Option<NetworkInterfaceAttachment>,
    pub description: Option<AttributeText>,
    pub group_set: Option<Vec<GroupIdentifier>>,
    pub source_dest_check: Option<AttributeFlag>,
}

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
