//! Instances: launching, describing, and moving them between states.

use serde::{Deserialize, Serialize};

use super::common::{
    AttachmentStatus, Filter, GroupIdentifier, NO_MANAGED_RESOURCES, StateReason, Tag, TagSpecification,
};
use super::volumes::EbsBlockDevice;
use crate::query::{Unobeyed, moot, only, refused};
use crate::{Blob, NonEmpty, Timestamp};

/// [RunInstances](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunInstancesRequest {
    pub block_device_mapping: Vec<BlockDeviceMapping>,
    pub client_token: Option<String>,
    pub disable_api_stop: Option<bool>,
    pub disable_api_termination: Option<bool>,
    pub hibernation_options: Option<RequestedHibernationOptions>,
    pub image_id: Option<String>,
    pub instance_initiated_shutdown_behavior: Option<ShutdownBehavior>,
    pub instance_type: Option<String>,
    pub key_name: Option<String>,
    pub max_count: u32,
    pub metadata_options: Option<RequestedMetadataOptions>,
    pub min_count: u32,
    pub network_interface: Vec<InstanceNetworkInterfaceSpecification>,
    pub placement: Option<RequestedPlacement>,
    pub private_ip_address: Option<String>,
    /// Names of groups in the default VPC.
    pub security_group: Vec<String>,
    pub security_group_id: Vec<String>,
    pub subnet_id: Option<String>,
    pub tag_specification: Vec<TagSpecification>,
    pub user_data: Option<Blob>,
}

pub(crate) const RUN_INSTANCES: &[Unobeyed] = &[
    refused("AdditionalInfo"),
    refused("BlockDeviceMapping.N.VirtualName"),
    refused("BlockDeviceMapping.N.Ebs.AvailabilityZone"),
    refused("BlockDeviceMapping.N.Ebs.AvailabilityZoneId"),
    only("BlockDeviceMapping.N.Ebs.EbsCardIndex", "0"),
    only("BlockDeviceMapping.N.Ebs.Encrypted", "false"),
    refused("BlockDeviceMapping.N.Ebs.KmsKeyId"),
    refused("BlockDeviceMapping.N.Ebs.OutpostArn"),
    refused("BlockDeviceMapping.N.Ebs.VolumeInitializationRate"),
    only("CapacityReservationSpecification.CapacityReservationPreference", "open"),
    refused("CapacityReservationSpecification.CapacityReservationTarget"),
    refused("CpuOptions"),
    only("CreditSpecification.CpuCredits", "unlimited"),
    only("EbsOptimized", "false"),
    refused("ElasticGpuSpecification"),
    refused("ElasticInferenceAccelerator"),
    only("EnablePrimaryIpv6", "false"),
    only("EnclaveOptions.Enabled", "false"),
    refused("IamInstanceProfile"),
    only("InstanceMarketOptions.MarketType", "on-demand"),
    refused("InstanceMarketOptions.SpotOptions"),
    refused("Ipv6Address"),
    only("Ipv6AddressCount", "0"),
    refused("KernelId"),
    refused("LaunchTemplate"),
    refused("LicenseSpecification"),
    only("MaintenanceOptions.AutoRecovery", "default"),
    only("MetadataOptions.HttpProtocolIpv6", "disabled"),
    only("Monitoring.Enabled", "false"),
    refused("Monitoring.MetricCategoryId"),
    only("NetworkInterface.N.AssociateCarrierIpAddress", "false"),
    refused("NetworkInterface.N.ConnectionTrackingSpecification"),
    refused("NetworkInterface.N.EnaQueueCount"),
    refused("NetworkInterface.N.EnaSrdSpecification"),
    only("NetworkInterface.N.InterfaceType", "interface"),
    refused("NetworkInterface.N.Ipv4Prefix"),
    only("NetworkInterface.N.Ipv4PrefixCount", "0"),
    only("NetworkInterface.N.Ipv6AddressCount", "0"),
    refused("NetworkInterface.N.Ipv6Addresses"),
    refused("NetworkInterface.N.Ipv6Prefix"),
    only("NetworkInterface.N.Ipv6PrefixCount", "0"),
    only("NetworkInterface.N.NetworkCardIndex", "0"),
    refused("NetworkInterface.N.NetworkInterfaceId"),
    only("NetworkInterface.N.PrimaryIpv6", "false"),
    refused("NetworkInterface.N.PrivateIpAddresses"),
    only("NetworkInterface.N.SecondaryPrivateIpAddressCount", "0"),
    only("NetworkPerformanceOptions.BandwidthWeighting", "default"),
    refused("Operator"),
    refused("Placement.Affinity"),
    refused("Placement.AvailabilityZoneId"),
    refused("Placement.GroupId"),
    refused("Placement.GroupName"),
    refused("Placement.HostId"),
    refused("Placement.HostResourceGroupArn"),
    refused("Placement.PartitionNumber"),
    refused("Placement.SpreadDomain"),
    only("Placement.Tenancy", "default"),
    only("PrivateDnsNameOptions.EnableResourceNameDnsAAAARecord", "false"),
    only("PrivateDnsNameOptions.EnableResourceNameDnsARecord", "false"),
    only("PrivateDnsNameOptions.HostnameType", "ip-name"),
    refused("RamdiskId"),
    refused("SecondaryInterface"),
];

/// What a device of an instance or an image holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockDeviceMapping {
    pub device_name: String,
    pub ebs: Option<EbsBlockDevice>,
    /// Takes a device of the image away; the value does not matter, it is usually empty.
    pub no_device: Option<String>,
}

/// How the metadata service shall answer an instance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestedMetadataOptions {
    pub http_endpoint: Option<Switch>,
    /// From 1 to 64.
    pub http_put_response_hop_limit: Option<i32>,
    pub http_tokens: Option<HttpTokens>,
    pub instance_metadata_tags: Option<Switch>,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    Enabled,
    Disabled,
}

/// Whether a question to the metadata service needs a session token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HttpTokens {
    Optional,
    Required,
}

/// A network interface to make with an instance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceNetworkInterfaceSpecification {
    pub associate_public_ip_address: Option<bool>,
    pub delete_on_termination: Option<bool>,
    pub description: Option<String>,
    pub device_index: u32,
    pub private_ip_address: Option<String>,
    pub security_group_id: Vec<String>,
    pub subnet_id: Option<String>,
}

/// Where an instance shall run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestedPlacement {
    pub availability_zone: Option<String>,
}

/// Whether an instance is to be one that can hibernate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestedHibernationOptions {
    pub configured: Option<bool>,
}

/// What happens to an instance whose guest powers itself off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShutdownBehavior {
    #[default]
    Stop,
    Terminate,
}

/// The instances of one launch. RunInstances answers with one, DescribeInstances with many.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reservation {
    pub reservation_id: String,
    pub owner_id: String,
    pub requester_id: Option<String>,
    /// Groups outside a VPC, which there are none of any more: always empty, and always answered.
    pub group_set: Vec<GroupIdentifier>,
    pub instances_set: Vec<Instance>,
}

/// [An instance](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Instance.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    pub instance_id: String,
    pub image_id: String,
    pub instance_state: InstanceState,
    pub private_dns_name: String,
    /// The public name; empty, not absent, where there is none.
    pub dns_name: String,
    /// Why the state last changed, for people; usually empty.
    pub reason: String,
    pub key_name: Option<String>,
    pub ami_launch_index: u32,
    pub product_codes: Vec<ProductCode>,
    pub instance_type: String,
    pub launch_time: Timestamp,
    pub placement: Placement,
    pub kernel_id: Option<String>,
    pub ramdisk_id: Option<String>,
    pub monitoring: Monitoring,
    pub subnet_id: Option<String>,
    pub vpc_id: Option<String>,
    pub private_ip_address: Option<String>,
    pub ip_address: Option<String>,
    pub source_dest_check: Option<bool>,
    pub group_set: Vec<GroupIdentifier>,
    pub state_reason: Option<StateReason>,
    pub architecture: String,
    pub root_device_type: String,
    pub root_device_name: String,
    pub block_device_mapping: Vec<InstanceBlockDeviceMapping>,
    pub virtualization_type: String,
    pub client_token: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tag_set: Vec<Tag>,
    pub hypervisor: String,
    pub network_interface_set: Vec<InstanceNetworkInterface>,
    pub ebs_optimized: bool,
    pub ena_support: Option<bool>,
    pub cpu_options: Option<CpuOptions>,
    pub capacity_reservation_specification: Option<CapacityReservationSpecification>,
    pub hibernation_options: Option<HibernationOptions>,
    pub metadata_options: Option<MetadataOptions>,
    pub enclave_options: Option<EnclaveOptions>,
    pub boot_mode: Option<String>,
    pub current_instance_boot_mode: Option<String>,
    pub platform_details: Option<String>,
    pub usage_operation: Option<String>,
    pub usage_operation_update_time: Option<Timestamp>,
    pub private_dns_name_options: Option<PrivateDnsNameOptions>,
    pub maintenance_options: Option<MaintenanceOptions>,
}

/// A state of an instance and its number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceState {
    pub code: u16,
    pub name: InstanceStateName,
}

impl From<InstanceStateName> for InstanceState {
    fn from(name: InstanceStateName) -> Self {
        Self { code: name as u16, name }
    }
}

/// The states of an instance, with EC2's numbers for them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceStateName {
    #[default]
    Pending = 0,
    Running = 16,
    ShuttingDown = 32,
    Terminated = 48,
    Stopping = 64,
    Stopped = 80,
}

/// A product code of a marketplace; there are none here, but the list is always answered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProductCode {
    pub product_code: String,
    #[serde(rename = "type")]
    pub kind: String,
}

/// Where an instance runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    pub availability_zone: String,
    pub availability_zone_id: Option<String>,
    pub group_name: String,
    pub tenancy: String,
}

/// Whether detailed monitoring is on: `disabled`, `enabled`, …
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Monitoring {
    pub state: String,
}

/// A volume on a device of an instance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceBlockDeviceMapping {
    pub device_name: String,
    pub ebs: EbsInstanceBlockDevice,
}

/// The volume of an [`InstanceBlockDeviceMapping`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EbsInstanceBlockDevice {
    pub volume_id: String,
    pub status: AttachmentStatus,
    pub attach_time: Timestamp,
    pub delete_on_termination: bool,
}

/// A network interface of an instance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceNetworkInterface {
    pub network_interface_id: String,
    pub subnet_id: String,
    pub vpc_id: String,
    pub description: String,
    pub owner_id: String,
    pub status: String,
    pub mac_address: String,
    pub private_ip_address: String,
    pub private_dns_name: Option<String>,
    pub source_dest_check: bool,
    pub group_set: Vec<GroupIdentifier>,
    pub attachment: InstanceNetworkInterfaceAttachment,
    pub association: Option<InstanceNetworkInterfaceAssociation>,
    pub private_ip_addresses_set: Vec<InstancePrivateIpAddress>,
    pub ipv6_addresses_set: Vec<InstanceIpv6Address>,
    pub interface_type: String,
}

/// How a network interface hangs on its instance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceNetworkInterfaceAttachment {
    pub attachment_id: String,
    pub device_index: u32,
    pub network_card_index: u32,
    pub status: AttachmentStatus,
    pub attach_time: Timestamp,
    pub delete_on_termination: bool,
}

/// The public address of a private one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceNetworkInterfaceAssociation {
    pub public_ip: String,
    pub public_dns_name: String,
    /// `amazon` for an address of the pool, else the owner of the elastic one.
    pub ip_owner_id: String,
}

/// A private address of an instance's network interface.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstancePrivateIpAddress {
    pub private_ip_address: String,
    pub private_dns_name: Option<String>,
    pub primary: bool,
    pub association: Option<InstanceNetworkInterfaceAssociation>,
}

/// An IPv6 address of an instance's network interface.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceIpv6Address {
    pub ipv6_address: String,
}

/// vCPUs, as cores and threads.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CpuOptions {
    pub core_count: u32,
    pub threads_per_core: u32,
}

/// Whether an instance runs in reserved capacity: `open` or `none`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CapacityReservationSpecification {
    pub capacity_reservation_preference: String,
}

/// Whether an instance can hibernate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HibernationOptions {
    pub configured: bool,
}

/// How the metadata service answers an instance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetadataOptions {
    pub state: String,
    pub http_tokens: String,
    pub http_put_response_hop_limit: u32,
    pub http_endpoint: String,
    pub http_protocol_ipv6: String,
    pub instance_metadata_tags: String,
}

/// Whether an instance can make enclaves.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnclaveOptions {
    pub enabled: bool,
}

/// Which private names an instance or a subnet's instances have.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrivateDnsNameOptions {
    pub hostname_type: String,
    #[serde(rename = "enableResourceNameDnsARecord")]
    pub enable_resource_name_dns_a_record: bool,
    #[serde(rename = "enableResourceNameDnsAAAARecord")]
    pub enable_resource_name_dns_aaaa_record: bool,
}

/// What is done for an instance whose host fails.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MaintenanceOptions {
    pub auto_recovery: String,
}

/// [DescribeInstances](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeInstancesRequest {
    pub instance_id: Vec<String>,
    pub filter: Vec<Filter>,
    pub max_results: Option<i32>,
    pub next_token: Option<String>,
}

pub(crate) const DESCRIBE_INSTANCES: &[Unobeyed] = &[NO_MANAGED_RESOURCES];

/// The answer to [`DescribeInstancesRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeInstancesResponse {
    pub reservation_set: Vec<Reservation>,
    pub next_token: Option<String>,
}

/// [StartInstances](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StartInstances.html).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartInstancesRequest {
    pub instance_id: NonEmpty<String>,
}

pub(crate) const START_INSTANCES: &[Unobeyed] = &[refused("AdditionalInfo")];

/// [StopInstances](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StopInstances.html).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StopInstancesRequest {
    pub instance_id: NonEmpty<String>,
    /// Do not wait for the guest to shut down.
    pub force: Option<bool>,
    /// Keep what is in the guest's memory for the next start.
    pub hibernate: Option<bool>,
}

pub(crate) const STOP_INSTANCES: &[Unobeyed] = &[only("SkipOsShutdown", "false")];

/// [RebootInstances](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RebootInstances.html).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RebootInstancesRequest {
    pub instance_id: NonEmpty<String>,
}

/// [TerminateInstances](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_TerminateInstances.html).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TerminateInstancesRequest {
    pub instance_id: NonEmpty<String>,
}

pub(crate) const TERMINATE_INSTANCES: &[Unobeyed] =
    &[only("Force", "false"), only("SkipOsShutdown", "false")];

/// The answer to starting, stopping and terminating: each instance's state before and after.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStateChanges {
    pub instances_set: Vec<InstanceStateChange>,
}

/// One instance of [`InstanceStateChanges`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStateChange {
    pub instance_id: String,
    pub current_state: InstanceState,
    pub previous_state: InstanceState,
}

/// [DescribeInstanceStatus](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstanceStatus.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeInstanceStatusRequest {
    pub instance_id: Vec<String>,
    pub filter: Vec<Filter>,
    pub include_all_instances: Option<bool>,
    pub max_results: Option<i32>,
    pub next_token: Option<String>,
}

pub(crate) const DESCRIBE_INSTANCE_STATUS: &[Unobeyed] = &[NO_MANAGED_RESOURCES];

/// The answer to [`DescribeInstanceStatusRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeInstanceStatusResponse {
    pub instance_status_set: Vec<InstanceStatus>,
    pub next_token: Option<String>,
}

/// The health of an instance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus {
    pub instance_id: String,
    pub availability_zone: String,
    pub availability_zone_id: Option<String>,
    pub instance_state: InstanceState,
    /// The host's part.
    pub system_status: StatusSummary,
    /// The guest's part.
    pub instance_status: StatusSummary,
    pub attached_ebs_status: Option<StatusSummary>,
}

/// All checks of one kind, summed up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusSummary {
    pub status: SummaryStatus,
    pub details: Vec<StatusDetails>,
}

/// What all checks of one kind come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SummaryStatus {
    Ok,
    Impaired,
    InsufficientData,
    #[default]
    NotApplicable,
    Initializing,
}

/// One check.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusDetails {
    /// `reachability`, the only one there is.
    pub name: String,
    pub status: CheckStatus,
    pub impaired_since: Option<Timestamp>,
}

/// What one check says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckStatus {
    Passed,
    Failed,
    #[default]
    InsufficientData,
    Initializing,
}

/// [GetConsoleOutput](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_GetConsoleOutput.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetConsoleOutputRequest {
    pub instance_id: String,
}

pub(crate) const GET_CONSOLE_OUTPUT: &[Unobeyed] = &[moot("Latest", "the latest output is always answered")];

/// The answer to [`GetConsoleOutputRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetConsoleOutputResponse {
    pub instance_id: String,
    pub timestamp: Timestamp,
    /// What the serial port said last.
    pub output: Blob,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_ec2s_numbers() {
        use InstanceStateName::{Pending, Running, ShuttingDown, Stopped, Stopping, Terminated};
        let codes = [Pending, Running, ShuttingDown, Terminated, Stopping, Stopped]
            .map(|name| InstanceState::from(name).code);
        assert_eq!(codes, [0, 16, 32, 48, 64, 80]);
    }
}
