//! Images (AMIs).

use serde::{Deserialize, Serialize};

use super::common::{Filter, StateReason, Tag, TagSpecification};
use super::instances::{BlockDeviceMapping, ProductCode};
use super::volumes::VolumeType;
use crate::query::{Unobeyed, moot, only, refused};

/// [DescribeImages](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeImages.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeImagesRequest {
    pub image_id: Vec<String>,
    /// Account ids, `self` or `amazon`.
    pub owner: Vec<String>,
    pub filter: Vec<Filter>,
    pub max_results: Option<i32>,
    pub next_token: Option<String>,
}

pub(crate) const DESCRIBE_IMAGES: &[Unobeyed] = &[
    refused("ExecutableBy"),
    moot("IncludeDeprecated", "no image can be deprecated here"),
    moot("IncludeDisabled", "no image can be disabled here"),
];

/// The answer to [`DescribeImagesRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeImagesResponse {
    pub images_set: Vec<Image>,
    pub next_token: Option<String>,
}

/// [An image](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Image.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    pub image_id: String,
    pub image_location: String,
    pub image_state: ImageState,
    pub image_owner_id: String,
    pub image_owner_alias: Option<String>,
    pub creation_date: crate::Timestamp,
    pub is_public: bool,
    pub product_codes: Vec<ProductCode>,
    pub architecture: String,
    pub image_type: String,
    pub kernel_id: Option<String>,
    pub ramdisk_id: Option<String>,
    pub name: String,
    pub description: Option<String>,
    pub root_device_type: String,
    pub root_device_name: String,
    pub block_device_mapping: Vec<ImageBlockDeviceMapping>,
    pub virtualization_type: String,
    pub hypervisor: String,
    pub ena_support: Option<bool>,
    pub platform_details: Option<String>,
    pub usage_operation: Option<String>,
    pub boot_mode: Option<String>,
    pub imds_support: Option<String>,
    pub state_reason: Option<StateReason>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tag_set: Vec<Tag>,
}

/// The states of an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageState {
    #[default]
    Pending,
    Available,
    Invalid,
    Deregistered,
    Transient,
    Failed,
    Error,
    Disabled,
}

/// What a device holds when an instance is launched from the image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageBlockDeviceMapping {
    pub device_name: String,
    pub ebs: Option<ImageEbsBlockDevice>,
}

/// The volume that a device of an image makes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageEbsBlockDevice {
    pub delete_on_termination: bool,
    pub snapshot_id: Option<String>,
    /// In GiB.
    pub volume_size: u32,
    pub volume_type: VolumeType,
    pub encrypted: bool,
}

/// [RegisterImage](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RegisterImage.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisterImageRequest {
    pub architecture: Option<String>,
    pub block_device_mapping: Vec<BlockDeviceMapping>,
    pub description: Option<String>,
    pub ena_support: Option<bool>,
    pub name: String,
    pub root_device_name: Option<String>,
    pub tag_specification: Vec<TagSpecification>,
    pub virtualization_type: Option<String>,
}

pub(crate) const REGISTER_IMAGE: &[Unobeyed] = &[
    refused("BillingProduct"),
    refused("BlockDeviceMapping.N.VirtualName"),
    refused("BlockDeviceMapping.N.Ebs.AvailabilityZone"),
    refused("BlockDeviceMapping.N.Ebs.AvailabilityZoneId"),
    only("BlockDeviceMapping.N.Ebs.EbsCardIndex", "0"),
    only("BlockDeviceMapping.N.Ebs.Encrypted", "false"),
    refused("BlockDeviceMapping.N.Ebs.Iops"),
    refused("BlockDeviceMapping.N.Ebs.KmsKeyId"),
    refused("BlockDeviceMapping.N.Ebs.OutpostArn"),
    refused("BlockDeviceMapping.N.Ebs.Throughput"),
    refused("BlockDeviceMapping.N.Ebs.VolumeInitializationRate"),
    refused("BootMode"),
    refused("ImageLocation"),
    refused("ImdsSupport"),
    refused("KernelId"),
    refused("RamdiskId"),
    refused("SriovNetSupport"),
    refused("TpmSupport"),
    refused("UefiData"),
];

/// The answer to [`RegisterImageRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisterImageResponse {
    pub image_id: String,
}

/// [DeregisterImage](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeregisterImage.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeregisterImageRequest {
    pub image_id: String,
}

pub(crate) const DEREGISTER_IMAGE: &[Unobeyed] = &[only("DeleteAssociatedSnapshots", "false")];
