//! What holds for everything that comes to an instance: its state, and the places that it has.

use std::sync::Arc;

use spec::ids::InstanceId;

use crate::catalog::PORTS;
use crate::model::{Detach, Instance};
use crate::refusal::{Kind, Reason, Refusal};
use crate::state::InstanceState;
use crate::tx::Tx;
use crate::world::World;

/// The instance, where something can be attached to it: to a running one at once, to a stopped one for its next start.
pub(super) fn receiver(tx: &Tx<'_>, id: InstanceId) -> Result<Arc<Instance>, Refusal> {
    let instance = tx.require::<Instance>(id, Kind::Instance, "instance ID")?;
    check_not_saved(tx.world(), id)?;
    match tx.world().instance_state(&instance) {
        InstanceState::Running | InstanceState::Stopped => Ok(instance),
        state => {
            let text =
                format!("Instance '{id}' is not 'running' or 'stopped'; its state is '{}'", state.name());
            Err(Refusal::new(Reason::IncorrectState, text))
        }
    }
}

/// The refusal where the instance is hibernated: its guest goes on with the devices, and of the size, that it knows.
pub(super) fn check_not_saved(world: &World, id: InstanceId) -> Result<(), Refusal> {
    if !world.is_saved(id) {
        return Ok(());
    }
    let text = format!("Instance '{id}' is hibernated: start it, and stop it without hibernation, first");
    Err(Refusal::new(Reason::IncorrectState, text))
}

/// The refusal where the instance has no place left. What is leaving still has its own.
pub(super) fn check_places(world: &World, instance: &Instance) -> Result<(), Refusal> {
    let root = world.root_device(instance);
    let volumes = world.volumes_of(instance.id);
    let interfaces = world.interfaces_of(instance.id);
    let volumes = volumes.iter().filter_map(|row| row.attachment.as_ref()).filter(|at| at.device != root);
    let interfaces =
        interfaces.iter().filter_map(|row| row.attachment.as_ref()).filter(|at| at.device_index != 0);
    let taken = volumes.count() + interfaces.count();
    if taken < usize::from(PORTS) {
        return Ok(());
    }
    let text = format!(
        "Instance '{}' has {taken} volumes and network interfaces beside its root volume and its primary network \
         interface; there are places for {PORTS}",
        instance.id
    );
    Err(Refusal::new(Reason::LimitExceeded(Kind::Attachment), text))
}

/// How something is to be taken away that may be on its way already: force stays force.
pub(super) fn how(force: bool, already: Option<Detach>) -> Detach {
    if force { Detach::Forced } else { already.unwrap_or(Detach::Asked) }
}
