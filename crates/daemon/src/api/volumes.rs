//! Volumes: making, attaching, changing and deleting them, and describing them.

use cloud::World;
use cloud::model::{Volume, VolumeAttachment, VolumeKind};
use cloud::rules::performance::Performance;
use cloud::rules::volumes::{self, Change, NewVolume};
use cloud::state::VolumeState;
use ec2::shapes::common::Done;
use ec2::shapes::volumes as wire;
use ec2::{Error, Handler, Resource};
use spec::ids::{InstanceId, SnapshotId, VolumeId};

use super::Api;
use super::common::{attachment_status, read_tags_for, read_token, tag_set, time};
use super::ids::{id, ids, the};
use super::volume_changes::show_change;
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

impl Handler<wire::CreateVolumeRequest> for Api {
    async fn handle(&self, request: wire::CreateVolumeRequest) -> Result<wire::Volume, Error> {
        let new = read_new(&self.store.world(), request)?;
        let (id, world) = self.change(move |tx| volumes::create(tx, &new)).await?;
        Ok(show(&world, the::<Volume>(&world, id)?))
    }
}

fn read_new(world: &World, request: wire::CreateVolumeRequest) -> Result<NewVolume, Error> {
    let wire::CreateVolumeRequest {
        availability_zone,
        availability_zone_id,
        client_token,
        iops,
        size,
        snapshot_id,
        tag_specification,
        throughput,
        volume_type,
    } = request;
    if let Some(snapshot) = snapshot_id.filter(|id| !id.is_empty()) {
        let snapshot: SnapshotId = id(&snapshot)?;
        return Err(Error::not_found(Resource::Snapshot, &snapshot.to_string()));
    }
    let zone = match (availability_zone, availability_zone_id) {
        (Some(zone), None) => zone,
        (None, Some(id)) => {
            let mut names = world.settings.zone_names();
            names.find(|name| world.settings.zone_id(name) == id).unwrap_or(id)
        }
        (None, None) => return Err(Error::missing_parameter("AvailabilityZone")),
        (Some(_), Some(_)) => {
            let text = "The parameters AvailabilityZone and AvailabilityZoneId cannot be used together";
            return Err(Error::invalid_parameter_combination(text));
        }
    };
    Ok(NewVolume {
        zone,
        gib: size.ok_or_else(|| Error::missing_parameter("Size or SnapshotId"))?,
        kind: volume_type.map_or(VolumeKind::Gp2, read_kind),
        performance: Performance { iops, throughput },
        tags: read_tags_for("volume", tag_specification)?,
        client_token: read_token(client_token)?,
    })
}

impl Handler<wire::DeleteVolumeRequest> for Api {
    async fn handle(&self, request: wire::DeleteVolumeRequest) -> Result<Done, Error> {
        let wire::DeleteVolumeRequest { volume_id } = request;
        let id = id(&volume_id)?;
        self.change(move |tx| volumes::delete(tx, id)).await?;
        Ok(Done::default())
    }
}

impl Handler<wire::AttachVolumeRequest> for Api {
    async fn handle(&self, request: wire::AttachVolumeRequest) -> Result<wire::VolumeAttachment, Error> {
        let wire::AttachVolumeRequest { device, instance_id, volume_id } = request;
        let (volume, instance): (VolumeId, InstanceId) = (id(&volume_id)?, id(&instance_id)?);
        let (_, world) = self.change(move |tx| volumes::attach(tx, volume, instance, &device)).await?;
        the_attachment(&world, volume)
    }
}

impl Handler<wire::DetachVolumeRequest> for Api {
    async fn handle(&self, request: wire::DetachVolumeRequest) -> Result<wire::VolumeAttachment, Error> {
        let wire::DetachVolumeRequest { device, force, instance_id, volume_id } = request;
        let volume: VolumeId = id(&volume_id)?;
        let instance = instance_id.as_deref().map(id::<InstanceId>).transpose()?;
        let force = force.unwrap_or(false);
        let detach =
            move |tx: &mut cloud::Tx<'_>| volumes::detach(tx, volume, instance, device.as_deref(), force);
        let (_, world) = self.change(detach).await?;
        the_attachment(&world, volume)
    }
}

/// The attachment that a change has just written; nobody but the reconciler ends it.
fn the_attachment(world: &World, id: VolumeId) -> Result<wire::VolumeAttachment, Error> {
    let row = the::<Volume>(world, id)?;
    row.attachment.as_ref().map(|at| show_attachment(world, row, at)).ok_or_else(Error::internal_error)
}

impl Handler<wire::ModifyVolumeRequest> for Api {
    async fn handle(&self, request: wire::ModifyVolumeRequest) -> Result<wire::ModifyVolumeResponse, Error> {
        let wire::ModifyVolumeRequest { iops, size, throughput, volume_id, volume_type } = request;
        let id: VolumeId = id(&volume_id)?;
        let kind = volume_type.map(read_kind);
        let change = Change { gib: size, kind, performance: Performance { iops, throughput } };
        let (_, world) = self.change(move |tx| volumes::modify(tx, id, change)).await?;
        let shown = show_change(&world, the::<Volume>(&world, id)?);
        Ok(wire::ModifyVolumeResponse { volume_modification: shown.ok_or_else(Error::internal_error)? })
    }
}

fn show_attachment(world: &World, row: &Volume, at: &VolumeAttachment) -> wire::VolumeAttachment {
    wire::VolumeAttachment {
        volume_id: row.id.to_string(),
        instance_id: at.instance.to_string(),
        device: at.device.clone(),
        status: attachment_status(world.volume_attachment_state(row, at)),
        attach_time: time(at.since),
        delete_on_termination: at.delete_on_termination,
    }
}

fn show(world: &World, row: &Volume) -> wire::Volume {
    let attachment = row.attachment.as_ref().map(|at| show_attachment(world, row, at));
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

macro_rules! kinds {
    ($($kind:ident)*) => {
        /// The type as EC2 shows it.
        pub(super) fn show_kind(kind: VolumeKind) -> wire::VolumeType {
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
