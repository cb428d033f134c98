//! Volumes: making and deleting them, giving them to instances and taking them back, changing them.
//!
//! Each writes what should be; the reconciler makes the volume, and moves it while its instance runs.
//! Source: AWS API reference, *CreateVolume*, *AttachVolume*, *ModifyVolume* and their neighbours.

use std::sync::Arc;

use spec::ids::{InstanceId, VolumeId};

use crate::capacity;
use crate::model::*;
use crate::refusal::{Kind, Reason, Refusal};
use crate::rules::attachments::{check_not_saved, check_places, how, receiver};
use crate::rules::block_devices::is_device_name;
use crate::rules::client_tokens::{earlier, mark};
use crate::rules::performance::{self, Performance};
use crate::rules::tags::check_tags;
use crate::state::{InstanceState, VolumeState};
use crate::tx::Tx;

/// An empty volume to make.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NewVolume {
    /// In which availability zone.
    pub zone: String,
    /// Its size in GiB.
    pub gib: u32,
    /// Its type.
    pub kind: VolumeKind,
    /// Its speed.
    pub performance: Performance,
    /// Its tags.
    pub tags: Tags,
    /// Calls with the same token make one volume.
    pub client_token: Option<String>,
}

/// Makes a volume.
pub fn create(tx: &mut Tx<'_>, new: &NewVolume) -> Result<VolumeId, Refusal> {
    let client_token = mark(new.client_token.as_ref(), new);
    if let Some(volume) = earlier::<Volume>(tx, client_token.as_ref())? {
        return Ok(volume.id);
    }
    check_tags(&new.tags)?;
    if !tx.settings().zone_names().any(|name| name == new.zone) {
        return Err(Refusal::not_found(Kind::Zone, "zone", &new.zone));
    }
    let performance = performance::check(new.kind, new.gib, new.performance)?;
    capacity::fit_volumes(tx.world(), new.gib.into())?;
    let id = VolumeId::from_random(tx.random());
    tx.put(Volume {
        id,
        gib: new.gib,
        zone: new.zone.clone(),
        kind: new.kind,
        iops: performance.iops,
        throughput: performance.throughput,
        base: None,
        created: tx.now,
        attachment: None,
        modification: None,
        client_token,
        doomed: false,
        tags: new.tags.clone(),
    });
    Ok(id)
}

/// Deletes a volume that is attached nowhere, and its data. One that is going already goes on.
pub fn delete(tx: &mut Tx<'_>, id: VolumeId) -> Result<(), Refusal> {
    let volume = require(tx, id)?;
    if let Some(at) = volume.attachment.as_ref().filter(|_| !volume.doomed) {
        let text = format!("Volume {id} is currently attached to {}", at.instance);
        return Err(Refusal::new(Reason::VolumeInUse, text));
    }
    tx.put_if_changed(id, Volume { doomed: true, ..(*volume).clone() });
    Ok(())
}

/// Attaches a volume to an instance under a device name.
pub fn attach(tx: &mut Tx<'_>, id: VolumeId, instance: InstanceId, device: &str) -> Result<(), Refusal> {
    if !is_device_name(device) {
        let shown: String = device.chars().take(64).collect();
        let text = format!(
            "Value ({shown}) for parameter device is invalid. {shown} is not a valid EBS device name."
        );
        return Err(Refusal::new(Reason::InvalidValue, text));
    }
    let volume = require(tx, id)?;
    let receiver = receiver(tx, instance)?;
    match (&volume.attachment, tx.world().volume_state(&volume)) {
        (None, VolumeState::Available) => {}
        (Some(at), VolumeState::Creating | VolumeState::InUse) => {
            let text = format!("{id} is already attached to an instance: {}", at.instance);
            return Err(Refusal::new(Reason::VolumeInUse, text));
        }
        (_, state) => return Err(wrong_state(id, state)),
    }
    let zone = tx.world().subnets.get(&receiver.subnet).map(|subnet| &subnet.zone);
    if zone.is_some_and(|zone| *zone != volume.zone) {
        let text = format!("The volume '{id}' is not in the same availability zone as instance '{instance}'");
        return Err(Refusal::new(Reason::ZoneMismatch, text));
    }
    let there = tx.world().volumes_of(instance);
    if there.iter().any(|row| row.attachment.as_ref().is_some_and(|at| at.device == device)) {
        let text =
            format!("Invalid value '{device}' for unixDevice. Attachment point {device} is already in use");
        return Err(Refusal::new(Reason::InvalidValue, text));
    }
    if device != tx.world().root_device(&receiver) {
        check_places(tx.world(), &receiver)?;
    }
    let attachment = VolumeAttachment {
        instance,
        device: device.to_owned(),
        delete_on_termination: false,
        since: tx.now,
        detach: None,
    };
    tx.put(Volume { attachment: Some(attachment), ..(*volume).clone() });
    Ok(())
}

/// Takes a volume back from its instance, which must be the one named, at the device named, where they are.
pub fn detach(
    tx: &mut Tx<'_>,
    id: VolumeId,
    instance: Option<InstanceId>,
    device: Option<&str>,
    force: bool,
) -> Result<(), Refusal> {
    let volume = require(tx, id)?;
    let state = tx.world().volume_state(&volume);
    let Some(at) = volume.attachment.as_ref().filter(|_| state != VolumeState::Deleting) else {
        return Err(wrong_state(id, state));
    };
    if let Some(other) = instance.filter(|named| *named != at.instance) {
        let text = format!("The volume '{id}' is not attached to instance '{other}'");
        return Err(Refusal::new(Reason::NotAttached, text));
    }
    if let Some(other) = device.filter(|named| *named != at.device) {
        let shown: String = other.chars().take(64).collect();
        let text = format!("The volume '{id}' is not attached as device '{shown}'");
        return Err(Refusal::new(Reason::NotAttached, text));
    }
    check_not_saved(tx.world(), at.instance)?;
    let is_root = tx
        .get::<Instance>(at.instance)
        .is_some_and(|instance| tx.world().root_device(&instance) == at.device);
    if is_root && tx.world().state_of(at.instance) != InstanceState::Stopped {
        let text = format!(
            "Unable to detach root volume '{id}' from instance '{}' while it is not stopped",
            at.instance
        );
        return Err(Refusal::new(Reason::OperationNotPermitted, text));
    }
    let attachment = VolumeAttachment { detach: Some(how(force, at.detach)), ..at.clone() };
    tx.put_if_changed(id, Volume { attachment: Some(attachment), ..(*volume).clone() });
    Ok(())
}

/// What a volume is to become; what is none stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Its size in GiB, which cannot shrink.
    pub gib: Option<u32>,
    /// Its type.
    pub kind: Option<VolumeKind>,
    /// Its speed.
    pub performance: Performance,
}

/// Changes a volume, attached or not; a running guest sees it grow, and is let do more or less at once. One that nobody has
/// open changes when it is opened.
pub fn modify(tx: &mut Tx<'_>, id: VolumeId, change: Change) -> Result<(), Refusal> {
    let volume = require(tx, id)?;
    let state = tx.world().volume_state(&volume);
    if matches!(state, VolumeState::Creating | VolumeState::Deleting) {
        return Err(wrong_state(id, state));
    }
    if volume.modification.is_some() && tx.world().modification_end(&volume).is_none() {
        let text = format!("The volume '{id}' is currently being modified; wait until it is through");
        return Err(Refusal::new(Reason::IncorrectModificationState, text));
    }
    let (gib, kind) = (change.gib.unwrap_or(volume.gib), change.kind.unwrap_or(volume.kind));
    if gib < volume.gib {
        let text = format!("New size cannot be smaller than existing size: {gib} GiB, {} GiB", volume.gib);
        return Err(Refusal::new(Reason::InvalidValue, text));
    }
    let has = Performance { iops: volume.iops, throughput: volume.throughput };
    let said = change.performance.or_kept((volume.kind, has), kind);
    let Performance { iops, throughput } = performance::check(kind, gib, said)?;
    capacity::fit_volumes(tx.world(), u64::from(gib - volume.gib))?;
    let modification = Some(Modification {
        started: tx.now,
        gib: volume.gib,
        kind: volume.kind,
        iops: volume.iops,
        throughput: volume.throughput,
    });
    tx.put(Volume { gib, kind, iops, throughput, modification, ..(*volume).clone() });
    Ok(())
}

fn require(tx: &Tx<'_>, id: VolumeId) -> Result<Arc<Volume>, Refusal> {
    tx.require::<Volume>(id, Kind::Volume, "volume")
}

fn wrong_state(id: VolumeId, state: VolumeState) -> Refusal {
    Refusal::new(Reason::IncorrectState, format!("Volume '{id}' is in the '{}' state.", state.name()))
}
