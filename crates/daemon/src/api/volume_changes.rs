//! What became of volumes: their changes, their health, their attributes.

use cloud::World;
use cloud::model::{Modification, Volume};
use cloud::state::VolumeState;
use ec2::shapes::common::Done;
use ec2::shapes::instance_attributes::AttributeFlag;
use ec2::shapes::volumes as wire;
use ec2::{Error, Handler, Resource};
use spec::ids::VolumeId;

use super::Api;
use super::common::time;
use super::ids::{chosen, id, ids, the};
use super::volumes::show_kind;
use crate::filters::Fields;
use crate::pages::{Listed, MAX_RESULTS};

static CHANGES: Listed = Listed {
    fields: Fields {
        paths: &[
            ("modification-state", "modificationState"),
            ("operator.managed", ""),
            ("operator.principal", ""),
            ("original-iops", "originalIops"),
            ("original-size", "originalSize"),
            ("original-volume-type", "originalVolumeType"),
            ("originalMultiAttachEnabled", "originalMultiAttachEnabled"),
            ("start-time", "startTime"),
            ("target-iops", "targetIops"),
            ("target-size", "targetSize"),
            ("target-volume-type", "targetVolumeType"),
            ("targetMultiAttachEnabled", "targetMultiAttachEnabled"),
            ("volume-id", "volumeId"),
        ],
        tags: None,
    },
    results: 1..=500,
    not_with: None,
};

static HEALTH: Listed = Listed {
    fields: Fields {
        paths: &[
            ("action.code", ""),
            ("action.description", ""),
            ("action.event-id", ""),
            ("availability-zone", "availabilityZone"),
            ("availability-zone-id", "availabilityZoneId"),
            ("event.description", ""),
            ("event.event-id", ""),
            ("event.event-type", ""),
            ("event.not-after", ""),
            ("event.not-before", ""),
            ("operator.managed", ""),
            ("operator.principal", ""),
            ("volume-status.details-name", "volumeStatus.details.name"),
            ("volume-status.details-status", "volumeStatus.details.status"),
            ("volume-status.status", "volumeStatus.status"),
        ],
        tags: None,
    },
    results: MAX_RESULTS,
    not_with: None,
};

impl Handler<wire::DescribeVolumesModificationsRequest> for Api {
    async fn handle(
        &self,
        request: wire::DescribeVolumesModificationsRequest,
    ) -> Result<wire::DescribeVolumesModificationsResponse, Error> {
        let wire::DescribeVolumesModificationsRequest { volume_id, filter, max_results, next_token } =
            request;
        let ids = ids(&volume_id)?;
        let listing = CHANGES.read(ids.len(), &filter, max_results, next_token)?;
        self.look(|world| {
            let rows = chosen::<Volume>(world, &ids)?;
            let unchanged = rows.iter().filter(|(_, row)| row.modification.is_none());
            let unchanged: Vec<String> = unchanged.map(|(id, _)| id.to_string()).collect();
            if !ids.is_empty() && !unchanged.is_empty() {
                return Err(Error::none_found(Resource::VolumeModification, &unchanged));
            }
            let changes: Vec<_> = rows.iter().filter_map(|(_, row)| show_change(world, row)).collect();
            let (volume_modification_set, next_token) =
                listing.of(changes, |change| change.volume_id.clone(), Clone::clone);
            Ok(wire::DescribeVolumesModificationsResponse { volume_modification_set, next_token })
        })
    }
}

/// A volume's last change; none where it never was changed.
pub(super) fn show_change(world: &World, row: &Volume) -> Option<wire::VolumeModification> {
    let Modification { started, gib, kind, iops, throughput } = row.modification?;
    let end = world.modification_end(row);
    Some(wire::VolumeModification {
        volume_id: row.id.to_string(),
        modification_state: match end {
            Some(_) => wire::VolumeModificationState::Completed,
            None => wire::VolumeModificationState::Modifying,
        },
        target_size: row.gib,
        target_iops: row.iops,
        target_volume_type: show_kind(row.kind),
        target_throughput: row.throughput,
        target_multi_attach_enabled: false,
        original_size: gib,
        original_iops: iops,
        original_volume_type: show_kind(kind),
        original_throughput: throughput,
        original_multi_attach_enabled: false,
        progress: if end.is_some() { 100 } else { 0 },
        start_time: time(started),
        end_time: end.map(time),
    })
}

impl Handler<wire::DescribeVolumeStatusRequest> for Api {
    async fn handle(
        &self,
        request: wire::DescribeVolumeStatusRequest,
    ) -> Result<wire::DescribeVolumeStatusResponse, Error> {
        let wire::DescribeVolumeStatusRequest { volume_id, filter, max_results, next_token } = request;
        let ids = ids(&volume_id)?;
        let listing = HEALTH.read(ids.len(), &filter, max_results, next_token)?;
        let (volume_status_set, next_token) = self.list::<Volume, _>(&ids, &listing, show_health)?;
        Ok(wire::DescribeVolumeStatusResponse { volume_status_set, next_token })
    }
}

/// A volume that exists can be read and written, until the host's disk does not do what its guest asks; how fast it is is not
/// measured.
fn show_health(world: &World, row: &Volume) -> wire::VolumeStatusItem {
    let (status, enabled) = match world.volume_state(row) {
        _ if world.is_impaired(row) => (wire::VolumeStatusInfoStatus::Impaired, "failed"),
        VolumeState::Creating => (wire::VolumeStatusInfoStatus::InsufficientData, "insufficient-data"),
        _ => (wire::VolumeStatusInfoStatus::Ok, "passed"),
    };
    let check = |name, status: &str| wire::VolumeStatusDetails { name, status: status.into() };
    wire::VolumeStatusItem {
        volume_id: row.id.to_string(),
        availability_zone: row.zone.clone(),
        availability_zone_id: Some(world.settings.zone_id(&row.zone)),
        volume_status: wire::VolumeStatusInfo {
            status,
            details: vec![
                check(wire::VolumeStatusName::IoEnabled, enabled),
                check(wire::VolumeStatusName::IoPerformance, "not-applicable"),
            ],
        },
    }
}

impl Handler<wire::DescribeVolumeAttributeRequest> for Api {
    async fn handle(
        &self,
        request: wire::DescribeVolumeAttributeRequest,
    ) -> Result<wire::DescribeVolumeAttributeResponse, Error> {
        let wire::DescribeVolumeAttributeRequest { attribute, volume_id } = request;
        let id: VolumeId = id(&volume_id)?;
        self.look(|world| {
            let row = the::<Volume>(world, id)?;
            let mut answer =
                wire::DescribeVolumeAttributeResponse { volume_id: row.id.to_string(), ..Default::default() };
            match attribute {
                wire::VolumeAttributeName::AutoEnableIo => {
                    answer.auto_enable_io = Some(AttributeFlag { value: false });
                }
                wire::VolumeAttributeName::ProductCodes => answer.product_codes = Some(Vec::new()),
            }
            Ok(answer)
        })
    }
}

impl Handler<wire::ModifyVolumeAttributeRequest> for Api {
    async fn handle(&self, request: wire::ModifyVolumeAttributeRequest) -> Result<Done, Error> {
        let wire::ModifyVolumeAttributeRequest { volume_id } = request;
        let id: VolumeId = id(&volume_id)?;
        self.look(|world| the::<Volume>(world, id).map(|_| Done::default()))
    }
}

#[cfg(test)]
#[test]
fn filters_find_their_elements() {
    assert_eq!(crate::filters::lost_paths::<wire::VolumeModification>(&CHANGES.fields), [""; 0]);
    assert_eq!(crate::filters::lost_paths::<wire::VolumeStatusItem>(&HEALTH.fields), [""; 0]);
}
