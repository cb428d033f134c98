//! Instance types, and where they are offered.

use serde::{Deserialize, Serialize};

use super::common::Filter;
use crate::query::{Unobeyed, moot};

/// [DescribeInstanceTypes](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstanceTypes.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeInstanceTypesRequest {
    pub instance_type: Vec<String>,
    pub filter: Vec<Filter>,
    pub max_results: Option<i32>,
    pub next_token: Option<String>,
}

pub(crate) const DESCRIBE_INSTANCE_TYPES: &[Unobeyed] =
    &[moot("IncludeUnsupportedInRegion", "every type known here is offered in the only region")];

/// The answer to [`DescribeInstanceTypesRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeInstanceTypesResponse {
    pub instance_type_set: Vec<InstanceTypeInfo>,
    pub next_token: Option<String>,
}

/// [An instance type](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceTypeInfo.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceTypeInfo {
    pub instance_type: String,
    pub current_generation: bool,
    pub free_tier_eligible: bool,
    pub supported_usage_classes: Vec<String>,
    pub supported_root_device_types: Vec<String>,
    pub supported_virtualization_types: Vec<String>,
    pub bare_metal: bool,
    pub hypervisor: Option<String>,
    pub processor_info: ProcessorInfo,
    pub v_cpu_info: VCpuInfo,
    pub memory_info: MemoryInfo,
    pub instance_storage_supported: bool,
    pub ebs_info: EbsInfo,
    pub network_info: NetworkInfo,
    pub placement_group_info: PlacementGroupInfo,
    pub hibernation_supported: bool,
    pub burstable_performance_supported: bool,
    pub dedicated_hosts_supported: bool,
    pub auto_recovery_supported: bool,
    pub supported_boot_modes: Vec<String>,
}

/// The processor of an instance type.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessorInfo {
    pub supported_architectures: Vec<String>,
    pub sustained_clock_speed_in_ghz: Option<f64>,
    pub manufacturer: Option<String>,
}

/// The vCPUs of an instance type.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VCpuInfo {
    #[serde(rename = "defaultVCpus")]
    pub default_v_cpus: u32,
    pub default_cores: u32,
    pub default_threads_per_core: u32,
    pub valid_cores: Vec<u32>,
    pub valid_threads_per_core: Vec<u32>,
}

/// The memory of an instance type.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryInfo {
    #[serde(rename = "sizeInMiB")]
    pub size_in_mib: u64,
}

/// How an instance type reaches its volumes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EbsInfo {
    pub ebs_optimized_support: String,
    pub encryption_support: String,
    pub nvme_support: String,
    pub maximum_ebs_attachments: Option<u32>,
    pub attachment_limit_type: Option<String>,
}

/// How an instance type reaches its network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkInfo {
    pub network_performance: String,
    pub maximum_network_interfaces: u32,
    pub maximum_network_cards: u32,
    pub default_network_card_index: u32,
    pub network_cards: Vec<NetworkCardInfo>,
    pub ipv4_addresses_per_interface: u32,
    pub ipv6_addresses_per_interface: u32,
    pub ipv6_supported: bool,
    pub ena_support: String,
    pub efa_supported: bool,
    pub encryption_in_transit_supported: bool,
    pub ena_srd_supported: bool,
}

/// A network card of an instance type.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkCardInfo {
    pub network_card_index: u32,
    pub network_performance: String,
    pub maximum_network_interfaces: u32,
    pub baseline_bandwidth_in_gbps: Option<f64>,
    pub peak_bandwidth_in_gbps: Option<f64>,
}

/// The placement groups that an instance type can be in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlacementGroupInfo {
    pub supported_strategies: Vec<String>,
}

/// [DescribeInstanceTypeOfferings](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstanceTypeOfferings.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeInstanceTypeOfferingsRequest {
    pub location_type: Option<LocationType>,
    pub filter: Vec<Filter>,
    pub max_results: Option<i32>,
    pub next_token: Option<String>,
}

/// What an offering's location is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LocationType {
    #[default]
    Region,
    AvailabilityZone,
    AvailabilityZoneId,
    Outpost,
}

/// The answer to [`DescribeInstanceTypeOfferingsRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeInstanceTypeOfferingsResponse {
    pub instance_type_offering_set: Vec<InstanceTypeOffering>,
    pub next_token: Option<String>,
}

/// That a type can be launched in a place.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceTypeOffering {
    pub instance_type: String,
    pub location_type: LocationType,
    pub location: String,
}
