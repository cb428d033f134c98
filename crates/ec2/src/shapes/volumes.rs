//! Volumes.

use serde::{Deserialize, Serialize};

use super::common::{AttachmentStatus, Filter, NO_MANAGED_RESOURCES, Tag};
use crate::Timestamp;
use crate::query::Unobeyed;

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
