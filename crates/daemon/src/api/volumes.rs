//! Volumes.

use cloud::World;
use cloud::model::{Volume, VolumeKind};
use cloud::state::VolumeState;
use ec2::shapes::common::AttachmentStatus;
use ec2::shapes::volumes as wire;
use ec2::{Error, Handler};

use super::Api;
use super::common::{tag_set, time};
use super::ids::ids;
use crate::filters::Fields;
use crate::pages::{Listed, MAX_RESULTS};

static LISTED: Listed = Listed {
    fields: Fields {
        paths: &[
            ("attachment.attach-time", "attachmentSet.attachTime"),
            ("attachment.delete-on-termination", "attachmentSet.deleteOnTermination"),
            ("attachment.device", "attachmentSet.device"),
            ("attachment.instance-id", "attachmentSet.instanceId"),
            ("attachment.status", "attachmentSet.status"),
            ("availability-zone", "availabilityZone"),
            ("availability-zone-id", "availabilityZoneId"),
            ("create-time", "createTime"),
            ("encrypted", "encrypted"),
            ("fast-restored", ""),
            ("multi-attach-enabled", "multiAttachEnabled"),
            ("operator.managed", ""),
            ("operator.principal", ""),
            ("size", "size"),
            ("snapshot-id", "snapshotId"),
            ("status", "status"),
            ("volume-id", "volumeId"),
            ("volume-type", "volumeType"),
        ],
        tags: Some("tagSet"),
    },
    results: MAX_RESULTS,
    not_with: Some("volumeSet"),
};

impl Handler<wire::DescribeVolumesRequest> for Api {
    async fn handle(
        &self,
        request: wire::DescribeVolumesRequest,
    ) -> Result<wire::DescribeVolumesResponse, Error> {
        let wire::DescribeVolumesRequest { volume_id, filter, max_results, next_token } = request;
        let ids = ids(&volume_id)?;
        let listing = LISTED.read(ids.len(), &filter, max_results, next_token)?;
        let (volume_set, next_token) = self.list::<Volume, _>(&ids, &listing, show)?;
        Ok(wire::DescribeVolumesResponse { volume_set, next_token })
    }
}

fn show(world: &World, row: &Volume) -> wire::Volume {
    let attachment = row.attachment.as_ref().map(|at| wire::VolumeAttachment {
        volume_id: row.id.to_string(),
        instance_id: at.instance.to_string(),
        device: at.device.clone(),
        status: attachment_status(world, row),
        attach_time: time(at.since),
        delete_on_termination: at.delete_on_termination,
    });
    wire::Volume {
        volume_id: row.id.to_string(),
        size: row.gib,
        // A root volume begins as its image, not as a snapshot.
        snapshot_id: String::new(),
        availability_zone: row.zone.clone(),
        availability_zone_id: Some(world.settings.zone_id(&row.zone)),
        status: match world.volume_state(row) {
            VolumeState::Creating => wire::VolumeState::Creating,
            VolumeState::Available => wire::VolumeState::Available,
            VolumeState::InUse => wire::VolumeState::InUse,
            VolumeState::Deleting => wire::VolumeState::Deleting,
        },
        create_time: time(row.created),
        attachment_set: attachment.into_iter().collect(),
        tag_set: tag_set(&row.tags),
        volume_type: show_kind(row.kind),
        iops: row.iops,
        throughput: row.throughput,
        encrypted: false,
        multi_attach_enabled: false,
    }
}

/// How far a volume's attachment has come, for a volume that has one: it is there as soon as the volume is.
pub(super) fn attachment_status(world: &World, row: &Volume) -> AttachmentStatus {
    match world.volume_state(row) {
        VolumeState::Creating => AttachmentStatus::Attaching,
        VolumeState::InUse | VolumeState::Available => AttachmentStatus::Attached,
        VolumeState::Deleting => AttachmentStatus::Detaching,
    }
}

macro_rules! kinds {
    ($($kind:ident)*) => {
        fn show_kind(kind: VolumeKind) -> wire::VolumeType {
            match kind {
                $(VolumeKind::$kind => wire::VolumeType::$kind,)*
            }
        }

        /// The type that a request says.
        pub(super) fn read_kind(kind: wire::VolumeType) -> VolumeKind {
            match kind {
                $(wire::VolumeType::$kind => VolumeKind::$kind,)*
            }
        }
    };
}

kinds! { Standard Gp2 Gp3 Io1 Io2 St1 Sc1 }

#[cfg(test)]
#[test]
fn filters_find_their_elements() {
    assert_eq!(crate::filters::lost_paths::<wire::Volume>(&LISTED.fields), [""; 0]);
}
