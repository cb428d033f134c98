//! Changing what an instance was launched with.
//!
//! What its machine is made of (type, user-data) can be changed while it is stopped; the rest holds from the next moment.
//! Source: AWS API reference, *ModifyInstanceAttribute* and *ModifyInstanceMetadataOptions*.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use spec::ids::*;

use crate::catalog;
use crate::model::*;
use crate::refusal::{Kind, Reason, Refusal};
use crate::rules::attachments::check_not_saved;
use crate::rules::launch::{check_architecture, check_groups};
use crate::state::InstanceState;
use crate::tx::Tx;

/// A new value for one attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// Its type's name.
    InstanceType(String),
    /// Its user-data, base64; none takes it away.
    UserData(Option<String>),
    /// What a guest's own power-off means.
    ShutdownBehavior(ShutdownBehavior),
    /// Terminating it by the API is refused.
    TerminationProtection(bool),
    /// Stopping it by the API is refused.
    StopProtection(bool),
    /// The security groups of its interface.
    Groups(BTreeSet<GroupId>),
    /// Its interface may only send and receive under its own addresses.
    SourceDestCheck(bool),
    /// For devices by name, whether their volume goes with it; where `volume` is said, it must be that one.
    DeleteOnTermination(BTreeMap<String, DeviceChange>),
}

/// What becomes of a device's volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceChange {
    /// The volume that is meant.
    pub volume: Option<VolumeId>,
    /// It goes with the instance.
    pub delete_on_termination: bool,
}

/// What is to change of the metadata service; what is none stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetadataChange {
    /// It answers at all.
    pub enabled: Option<bool>,
    /// It answers only with a session token.
    pub tokens_required: Option<bool>,
    /// The largest number of hops, 1 to 64.
    pub hop_limit: Option<u8>,
    /// It shows the instance's tags.
    pub tags: Option<bool>,
}

/// Changes one attribute.
pub fn modify(tx: &mut Tx<'_>, id: InstanceId, attribute: &Attribute) -> Result<(), Refusal> {
    let instance = existing(tx, id)?;
    match attribute {
        Attribute::InstanceType(name) => change_type(tx, &instance, name),
        Attribute::UserData(data) => {
            require_stopped(tx, &instance)?;
            tx.put(Instance { user_data: data.clone(), ..(*instance).clone() });
            Ok(())
        }
        Attribute::ShutdownBehavior(shutdown_behavior) => {
            tx.put(Instance { shutdown_behavior: *shutdown_behavior, ..(*instance).clone() });
            Ok(())
        }
        Attribute::TerminationProtection(on) => {
            tx.put(Instance { termination_protection: *on, ..(*instance).clone() });
            Ok(())
        }
        Attribute::StopProtection(on) => {
            tx.put(Instance { stop_protection: *on, ..(*instance).clone() });
            Ok(())
        }
        Attribute::Groups(groups) => change_groups(tx, &instance, groups),
        Attribute::SourceDestCheck(source_dest_check) => {
            let interface = only_interface(tx, id)?;
            tx.put(Interface { source_dest_check: *source_dest_check, ..(*interface).clone() });
            Ok(())
        }
        Attribute::DeleteOnTermination(devices) => {
            devices.iter().try_for_each(|(device, change)| change_device(tx, id, device, *change))
        }
    }
}

/// Changes how an instance's metadata service behaves, and returns how it does now.
pub fn modify_metadata(
    tx: &mut Tx<'_>,
    id: InstanceId,
    change: MetadataChange,
) -> Result<MetadataOptions, Refusal> {
    let instance = existing(tx, id)?;
    let old = instance.metadata;
    let metadata = MetadataOptions {
        enabled: change.enabled.unwrap_or(old.enabled),
        tokens_required: change.tokens_required.unwrap_or(old.tokens_required),
        hop_limit: change.hop_limit.unwrap_or(old.hop_limit),
        tags: change.tags.unwrap_or(old.tags),
    };
    tx.put(Instance { metadata, ..(*instance).clone() });
    Ok(metadata)
}

/// The instance, unless it is gone or about to be.
fn existing(tx: &Tx<'_>, id: InstanceId) -> Result<Arc<Instance>, Refusal> {
    let instance = tx.require::<Instance>(id, Kind::Instance, "instance ID")?;
    let state = tx.world().instance_state(&instance);
    if matches!(state, InstanceState::ShuttingDown | InstanceState::Terminated) {
        let text = format!("The instance '{id}' is {}; its attributes cannot be modified.", state.name());
        return Err(Refusal::new(Reason::IncorrectInstanceState, text));
    }
    Ok(instance)
}

fn require_stopped(tx: &Tx<'_>, instance: &Instance) -> Result<(), Refusal> {
    if tx.world().instance_state(instance) == InstanceState::Stopped {
        return Ok(());
    }
    let text = format!("The instance '{}' is not in the 'stopped' state.", instance.id);
    Err(Refusal::new(Reason::IncorrectInstanceState, text))
}

fn change_type(tx: &mut Tx<'_>, instance: &Instance, name: &str) -> Result<(), Refusal> {
    require_stopped(tx, instance)?;
    check_not_saved(tx.world(), instance.id)?;
    let bad = |text: String| Err(Refusal::new(Reason::InvalidAttributeValue, text));
    let Some(kind) = catalog::find(name) else {
        let shown: String = name.chars().take(64).collect();
        return bad(format!("Invalid value '{shown}' for InstanceType."));
    };
    // The image may be gone; the type it ran with until now fits the disk as well.
    if let Some(old) = catalog::find(&instance.instance_type) {
        check_architecture(kind, old.architecture)?;
    }
    let interfaces = tx.world().interfaces_of(instance.id).len();
    if interfaces > kind.max_interfaces as usize {
        return bad(format!(
            "Instances of type '{name}' have at most {} network interfaces, and '{}' has {interfaces}.",
            kind.max_interfaces, instance.id
        ));
    }
    tx.put(Instance { instance_type: kind.name.to_owned(), ..instance.clone() });
    Ok(())
}

fn change_groups(tx: &mut Tx<'_>, instance: &Instance, groups: &BTreeSet<GroupId>) -> Result<(), Refusal> {
    let interface = only_interface(tx, instance.id)?;
    let subnet = tx.require::<Subnet>(interface.subnet, Kind::Subnet, "subnet ID")?;
    check_groups(tx, groups, &subnet)?;
    tx.put(Interface { groups: groups.clone(), ..(*interface).clone() });
    Ok(())
}

/// The interface that is meant where only the instance is named.
fn only_interface(tx: &Tx<'_>, id: InstanceId) -> Result<Arc<Interface>, Refusal> {
    let interfaces = tx.world().interfaces_of(id);
    match interfaces.as_slice() {
        [one] => Ok(Arc::clone(one)),
        _ => {
            let text = format!(
                "There are multiple interfaces attached to instance '{id}'. Please specify an interface ID for the \
                 operation instead."
            );
            Err(Refusal::new(Reason::SeveralInterfaces, text))
        }
    }
}

fn change_device(tx: &mut Tx<'_>, id: InstanceId, device: &str, change: DeviceChange) -> Result<(), Refusal> {
    let volumes = tx.world().volumes_of(id);
    let is_meant = |volume: &&&Arc<Volume>| {
        volume.attachment.as_ref().is_some_and(|at| at.device == device)
            && change.volume.is_none_or(|meant| meant == volume.id)
    };
    let Some(volume) = volumes.iter().find(is_meant).map(|volume| Arc::clone(volume)) else {
        let shown: String = device.chars().take(64).collect();
        let text = match change.volume {
            None => format!("No device is currently mapped at {shown}"),
            Some(volume) => format!("The volume {volume} is not mapped at {shown}"),
        };
        return Err(Refusal::new(Reason::InvalidAttributeValue, text));
    };
    let attachment = volume
        .attachment
        .clone()
        .map(|at| VolumeAttachment { delete_on_termination: change.delete_on_termination, ..at });
    tx.put(Volume { attachment, ..(*volume).clone() });
    Ok(())
}
