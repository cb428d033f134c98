//! One attribute of an instance at a time, which is how some tools read an instance back, and change it.

use serde::{Deserialize, Serialize};

use super::common::{Filter, GroupIdentifier};
use super::instances::{
    EnclaveOptions, HttpTokens, InstanceBlockDeviceMapping, MetadataOptions, ProductCode, Switch,
};
use crate::Blob;
use crate::query::{Unobeyed, only, partly, refused};

/// [DescribeInstanceAttribute](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstanceAttribute.html).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeInstanceAttributeRequest {
    pub attribute: InstanceAttributeName,
    pub instance_id: String,
}

/// The attributes that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum InstanceAttributeName {
    InstanceType,
    Kernel,
    Ramdisk,
    UserData,
    DisableApiTermination,
    InstanceInitiatedShutdownBehavior,
    RootDeviceName,
    BlockDeviceMapping,
    ProductCodes,
    SourceDestCheck,
    GroupSet,
    EbsOptimized,
    SriovNetSupport,
    EnaSupport,
    EnclaveOptions,
    DisableApiStop,
}

/// The answer to [`DescribeInstanceAttributeRequest`]: the id and the one attribute.
///
/// An attribute without a value, such as the user-data of an instance that has none, is present and holds none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeInstanceAttributeResponse {
    pub instance_id: String,
    pub block_device_mapping: Option<Vec<InstanceBlockDeviceMapping>>,
    pub disable_api_stop: Option<AttributeFlag>,
    pub disable_api_termination: Option<AttributeFlag>,
    pub ebs_optimized: Option<AttributeFlag>,
    pub ena_support: Option<AttributeFlag>,
    pub enclave_options: Option<EnclaveOptions>,
    pub group_set: Option<Vec<GroupIdentifier>>,
    pub instance_initiated_shutdown_behavior: Option<AttributeText>,
    pub instance_type: Option<AttributeText>,
    pub kernel: Option<AttributeText>,
    pub product_codes: Option<Vec<ProductCode>>,
    pub ramdisk: Option<AttributeText>,
    pub root_device_name: Option<AttributeText>,
    pub source_dest_check: Option<AttributeFlag>,
    pub sriov_net_support: Option<AttributeText>,
    /// Base64 of the user-data.
    pub user_data: Option<AttributeText>,
}

/// An attribute that is true or false.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttributeFlag {
    pub value: bool,
}

/// An attribute that is a text, or is not set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttributeText {
    pub value: Option<String>,
}

/// [ModifyInstanceAttribute](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyInstanceAttribute.html).
///
/// The attribute is a field of its own, or named by `attribute`, with a text for `value`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModifyInstanceAttributeRequest {
    pub attribute: Option<InstanceAttributeName>,
    pub block_device_mapping: Vec<InstanceBlockDeviceMappingSpecification>,
    pub disable_api_stop: Option<AttributeFlag>,
    pub disable_api_termination: Option<AttributeFlag>,
    pub ebs_optimized: Option<AttributeFlag>,
    pub ena_support: Option<AttributeFlag>,
    pub group_id: Vec<String>,
    pub instance_id: String,
    pub instance_initiated_shutdown_behavior: Option<AttributeText>,
    pub instance_type: Option<AttributeText>,
    pub source_dest_check: Option<AttributeFlag>,
    pub user_data: Option<AttributeBlob>,
    pub value: Option<String>,
}

pub(crate) const MODIFY_INSTANCE_ATTRIBUTE: &[Unobeyed] = &[
    refused("BlockDeviceMapping.N.NoDevice"),
    refused("BlockDeviceMapping.N.VirtualName"),
    partly("EbsOptimized", "only `false`"),
    partly("EnaSupport", "only `false`"),
    refused("EnclaveOptions"),
    refused("Kernel"),
    refused("Ramdisk"),
    refused("SriovNetSupport"),
];

/// What becomes of the volume on a device when its instance is terminated.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceBlockDeviceMappingSpecification {
    pub device_name: Option<String>,
    pub ebs: Option<EbsInstanceBlockDeviceSpecification>,
}

/// The volume of an [`InstanceBlockDeviceMappingSpecification`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EbsInstanceBlockDeviceSpecification {
    /// It is, unless it is said.
    pub delete_on_termination: Option<bool>,
    pub volume_id: Option<String>,
}

/// An attribute of bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttributeBlob {
    pub value: Option<Blob>,
}

/// [ModifyInstanceMetadataOptions](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyInstanceMetadataOptions.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModifyInstanceMetadataOptionsRequest {
    pub http_endpoint: Option<Switch>,
    /// From 1 to 64.
    pub http_put_response_hop_limit: Option<i32>,
    pub http_tokens: Option<HttpTokens>,
    pub instance_id: String,
    pub instance_metadata_tags: Option<Switch>,
}

pub(crate) const MODIFY_INSTANCE_METADATA_OPTIONS: &[Unobeyed] = &[only("HttpProtocolIpv6", "disabled")];

/// The answer to [`ModifyInstanceMetadataOptionsRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModifyInstanceMetadataOptionsResponse {
    pub instance_id: String,
    pub instance_metadata_options: MetadataOptions,
}

/// [DescribeInstanceCreditSpecifications](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstanceCreditSpecifications.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeInstanceCreditSpecificationsRequest {
    pub instance_id: Vec<String>,
    pub filter: Vec<Filter>,
    pub max_results: Option<i32>,
    pub next_token: Option<String>,
}

/// The answer to [`DescribeInstanceCreditSpecificationsRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeInstanceCreditSpecificationsResponse {
    pub instance_credit_specification_set: Vec<InstanceCreditSpecification>,
    pub next_token: Option<String>,
}

/// How an instance uses CPU credits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceCreditSpecification {
    pub instance_id: String,
    /// `standard` or `unlimited`.
    pub cpu_credits: String,
}
