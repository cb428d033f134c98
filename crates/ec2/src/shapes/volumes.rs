//! Volumes.

use serde::{Deserialize, Serialize};

use super::common::{AttachmentStatus, Filter, NO_MANAGED_RESOURCES, Tag, TagSpecification};
use super::instance_attributes::AttributeFlag;
use super::instances::ProductCode;
use crate::Timestamp;
use crate::query::{Unobeyed, only, partly, refused};

/// The kinds of volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeType {
    Standard,
    Io1,
    Io2,
    #[default]
    Gp2,
    Sc1,
    St1,
    Gp3,
}

/// A volume to make for a device, or the one an image makes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EbsBlockDevice {
    pub delete_on_termination: Option<bool>,
    pub iops: Option<u32>,
    pub snapshot_id: Option<String>,
    /// In MiB/s.
    pub throughput: Option<u32>,
    /// In GiB.
    pub volume_size: Option<u32>,
    pub volume_type: Option<VolumeType>,
}

/// [CreateVolume](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateVolume.html).
///
/// Its answer is the [`Volume`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateVolumeRequest {
    /// This, or the zone's id.
    pub availability_zone: Option<String>,
    pub availability_zone_id: Option<String>,
    pub client_token: Option<String>,
    pub iops: Option<u32>,
    /// In GiB.
    pub size: Option<u32>,
    pub snapshot_id: Option<String>,
    pub tag_specification: Vec<TagSpecification>,
    /// In MiB/s.
    pub throughput: Option<u32>,
    pub volume_type: Option<VolumeType>,
}

pub(crate) const CREATE_VOLUME: &[Unobeyed] = &[
    only("Encrypted", "false"),
    refused("KmsKeyId"),
    only("MultiAttachEnabled", "false"),
    refused("Operator"),
    refused("OutpostArn"),
    partly("SnapshotId", "there are no snapshots yet"),
    refused("VolumeInitializationRate"),
];

/// [DeleteVolume](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteVolume.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteVolumeRequest {
    pub volume_id: String,
}

/// [AttachVolume](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AttachVolume.html).
///
/// Its answer is the [`VolumeAttachment`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachVolumeRequest {
    /// `/dev/sdf`; how the guest calls it is the guest's affair.
    pub device: String,
    pub instance_id: String,
    pub volume_id: String,
}

pub(crate) const ATTACH_VOLUME: &[Unobeyed] = &[only("EbsCardIndex", "0")];

/// [DetachVolume](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DetachVolume.html).
///
/// Its answer is the [`VolumeAttachment`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DetachVolumeRequest {
    pub device: Option<String>,
    /// Do not ask the guest.
    pub force: Option<bool>,
    pub instance_id: Option<String>,
    pub volume_id: String,
}

/// [ModifyVolume](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyVolume.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModifyVolumeRequest {
    pub iops: Option<u32>,
    /// In GiB; a volume can only grow.
    pub size: Option<u32>,
    /// In MiB/s.
    pub throughput: Option<u32>,
    pub volume_id: String,
    pub volume_type: Option<VolumeType>,
}

pub(crate) const MODIFY_VOLUME: &[Unobeyed] = &[only("MultiAttachEnabled", "false")];

/// The answer to [`ModifyVolumeRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModifyVolumeResponse {
    pub volume_modification: VolumeModification,
}

/// [DescribeVolumesModifications](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeVolumesModifications.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeVolumesModificationsRequest {
    pub volume_id: Vec<String>,
    pub filter: Vec<Filter>,
    pub max_results: Option<i32>,
    pub next_token: Option<String>,
}

pub(crate) const DESCRIBE_VOLUMES_MODIFICATIONS: &[Unobeyed] = &[NO_MANAGED_RESOURCES];

/// The answer to [`DescribeVolumesModificationsRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeVolumesModificationsResponse {
    pub volume_modification_set: Vec<VolumeModification>,
    pub next_token: Option<String>,
}

/// [The last change of a volume](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_VolumeModification.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeModification {
    pub volume_id: String,
    pub modification_state: VolumeModificationState,
    pub target_size: u32,
    pub target_iops: Option<u32>,
    pub target_volume_type: VolumeType,
    pub target_throughput: Option<u32>,
    pub target_multi_attach_enabled: bool,
    pub original_size: u32,
    pub original_iops: Option<u32>,
    pub original_volume_type: VolumeType,
    pub original_throughput: Option<u32>,
    pub original_multi_attach_enabled: bool,
    /// In percent.
    pub progress: u32,
    pub start_time: Timestamp,
    pub end_time: Option<Timestamp>,
}

/// How far a change of a volume is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeModificationState {
    #[default]
    Modifying,
    Optimizing,
    Completed,
    Failed,
}

/// [DescribeVolumeStatus](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeVolumeStatus.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeVolumeStatusRequest {
    pub volume_id: Vec<String>,
    pub filter: Vec<Filter>,
    pub max_results: Option<i32>,
    pub next_token: Option<String>,
}

pub(crate) const DESCRIBE_VOLUME_STATUS: &[Unobeyed] = &[NO_MANAGED_RESOURCES];

/// The answer to [`DescribeVolumeStatusRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeVolumeStatusResponse {
    pub volume_status_set: Vec<VolumeStatusItem>,
    pub next_token: Option<String>,
}

/// The health of one volume.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeStatusItem {
    pub volume_id: String,
    pub availability_zone: String,
    pub availability_zone_id: Option<String>,
    pub volume_status: VolumeStatusInfo,
}

/// What is known of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeStatusInfo {
    pub status: VolumeStatusInfoStatus,
    pub details: Vec<VolumeStatusDetails>,
}

/// The health of a volume in one word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeStatusInfoStatus {
    #[default]
    Ok,
    Impaired,
    InsufficientData,
    Warning,
}

/// One check of a volume.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeStatusDetails {
    pub name: VolumeStatusName,
    pub status: String,
}

/// What is checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeStatusName {
    #[default]
    IoEnabled,
    IoPerformance,
    InitializationState,
}

/// [DescribeVolumeAttribute](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeVolumeAttribute.html).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeVolumeAttributeRequest {
    pub attribute: VolumeAttributeName,
    pub volume_id: String,
}

/// The attributes of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VolumeAttributeName {
    #[serde(rename = "autoEnableIO")]
    AutoEnableIo,
    ProductCodes,
}

/// The answer to [`DescribeVolumeAttributeRequest`], with the one attribute that was asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeVolumeAttributeResponse {
    pub volume_id: String,
    #[serde(rename = "autoEnableIO")]
    pub auto_enable_io: Option<AttributeFlag>,
    pub product_codes: Option<Vec<ProductCode>>,
}

/// [ModifyVolumeAttribute](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyVolumeAttribute.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModifyVolumeAttributeRequest {
    pub volume_id: String,
}

pub(crate) const MODIFY_VOLUME_ATTRIBUTE: &[Unobeyed] = &[only("AutoEnableIO.Value", "false")];

/// [DescribeVolumes](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeVolumes.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeVolumesRequest {
    pub volume_id: Vec<String>,
    pub filter: Vec<Filter>,
    pub max_results: Option<i32>,
    pub next_token: Option<String>,
}

pub(crate) const DESCRIBE_VOLUMES: &[Unobeyed] = &[NO_MANAGED_RESOURCES];

/// The answer to [`DescribeVolumesRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeVolumesResponse {
    pub volume_set: Vec<Volume>,
    pub next_token: Option<String>,
}

/// [A volume](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Volume.html).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    pub volume_id: String,
    /// In GiB.
    pub size: u32,
    /// The snapshot it was made from; empty for an empty volume.
    pub snapshot_id: String,
    pub availability_zone: String,
    pub availability_zone_id: Option<String>,
    pub status: VolumeState,
    pub create_time: Timestamp,
    pub attachment_set: Vec<VolumeAttachment>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tag_set: Vec<Tag>,
    pub volume_type: VolumeType,
    pub iops: Option<u32>,
    /// In MiB/s.
    pub throughput: Option<u32>,
    pub encrypted: bool,
    pub multi_attach_enabled: bool,
}

/// The states of a volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeState {
    #[default]
    Creating,
    Available,
    InUse,
    Deleting,
    Deleted,
    Error,
}

/// A volume on an instance, seen from the volume.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeAttachment {
    pub volume_id: String,
    pub instance_id: String,
    pub device: String,
    pub status: AttachmentStatus,
    pub attach_time: Timestamp,
    pub delete_on_termination: bool,
}
