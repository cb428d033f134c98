//! One attribute of an instance at a time, which is how some tools read an instance back.

use serde::{Deserialize, Serialize};

use super::common::GroupIdentifier;
use super::instances::{EnclaveOptions, InstanceBlockDeviceMapping, ProductCode};

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
