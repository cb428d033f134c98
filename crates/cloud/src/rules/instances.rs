//! Start, stop, reboot and terminate: each writes a goal, the reconciler does the rest.
//!
//! A call that names several instances is all or nothing. An instance that is already on the way
//! to where the call wants it is left as it is, as in EC2.
//! Source: AWS API reference, *StartInstances* and its neighbours.

use std::sync::Arc;

use spec::ids::InstanceId;

use crate::capacity;
use crate::catalog;
use crate::model::*;
use crate::refusal::{Kind, Reason, Refusal};
use crate::state::InstanceState;
use crate::subnet_space;
use crate::tx::Tx;

/// How a call changed one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// Which instance.
    pub instance: InstanceId,
    /// Its state before the call.
    pub previous: InstanceState,
    /// Its state after it.
    pub current: InstanceState,
}

/// Starts stopped instances.
pub fn start(tx: &mut Tx<'_>, ids: &[InstanceId]) -> Result<Vec<StateChange>, Refusal> {
    change_each(tx, ids, |tx, instance, state| match state {
        InstanceState::Stopped => start_one(tx, instance),
        InstanceState::Pending | InstanceState::Running => Ok(()),
        _ => Err(wrong_state(instance, "started")),
    })
}

fn start_one(tx: &mut Tx<'_>, instance: &Instance) -> Result<(), Refusal> {
    check_root(tx, instance)?;
    if let Some(kind) = catalog::find(&instance.instance_type) {
        capacity::fit(tx.world(), kind, 1, 1)?;
    }
    let goal = Goal { incarnation: instance.goal.incarnation + 1, aim: Aim::Run, since: tx.now };
    // First, so that the address chosen for one of its interfaces is taken when the next one's is chosen.
    tx.put(Instance { goal, launched: tx.now, ..instance.clone() });
    let interfaces: Vec<Arc<Interface>> =
        tx.world().interfaces_of(instance.id).into_iter().cloned().collect();
    for interface in interfaces.iter().filter(|interface| interface.auto_public.is_some()) {
        let random = tx.random();
        let public = subnet_space::choose_public(tx.world(), interface.auto_public, random)?;
        tx.put(Interface { auto_public: Some(public), ..(**interface).clone() });
    }
    Ok(())
}

/// The refusal where there is nothing to start from: a root volume can be taken away while an instance is stopped.
fn check_root(tx: &Tx<'_>, instance: &Instance) -> Result<(), Refusal> {
    let root = tx.world().root_device(instance);
    let volumes = tx.world().volumes_of(instance.id);
    let mut there = volumes.iter().filter_map(|row| row.attachment.as_ref());
    if there.any(|at| at.device == root && at.detach.is_none()) {
        return Ok(());
    }
    let text = format!(
        "Invalid value '{}' for instanceId. Instance does not have a volume attached at root ({root})",
        instance.id
    );
    Err(Refusal::new(Reason::InvalidValue, text))
}

/// How instances are stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Their guests are asked.
    Asked,
    /// Their guests are not asked.
    Forced,
    /// They go on at the next start where they are now.
    Hibernated,
}

/// Stops running instances.
pub fn stop(tx: &mut Tx<'_>, ids: &[InstanceId], stop: Stop) -> Result<Vec<StateChange>, Refusal> {
    let (force, hibernate) = (stop == Stop::Forced, stop == Stop::Hibernated);
    change_each(tx, ids, |tx, instance, state| match state {
        InstanceState::Pending | InstanceState::Running if hibernate && !instance.hibernation => {
            let text = format!(
                "The instance '{}' was not launched with HibernationOptions and cannot be hibernated",
                instance.id
            );
            Err(Refusal::new(Reason::UnsupportedHibernation, text))
        }
        InstanceState::Pending if hibernate => Err(wrong_state(instance, "hibernated")),
        InstanceState::Pending | InstanceState::Running if instance.stop_protection => {
            Err(protected(instance, "stopped", "disableApiStop"))
        }
        InstanceState::Pending | InstanceState::Running => {
            aim(tx, instance, Aim::Down { force, hibernate });
            Ok(())
        }
        InstanceState::Stopping if force => {
            aim(tx, instance, Aim::Down { force, hibernate });
            Ok(())
        }
        InstanceState::Stopping | InstanceState::Stopped => Ok(()),
        InstanceState::ShuttingDown | InstanceState::Terminated => Err(wrong_state(instance, "stopped")),
    })
}

/// Terminates instances.
pub fn terminate(tx: &mut Tx<'_>, ids: &[InstanceId]) -> Result<Vec<StateChange>, Refusal> {
    change_each(tx, ids, |tx, instance, state| match state {
        InstanceState::ShuttingDown | InstanceState::Terminated => Ok(()),
        _ if instance.termination_protection => {
            Err(protected(instance, "terminated", "disableApiTermination"))
        }
        _ => {
            aim(tx, instance, Aim::Gone);
            Ok(())
        }
    })
}

/// Reboots running instances: the guest is asked, and reset where it does not do it itself.
pub fn reboot(tx: &mut Tx<'_>, ids: &[InstanceId]) -> Result<(), Refusal> {
    change_each(tx, ids, |tx, instance, state| match state {
        InstanceState::Running => {
            tx.put(Instance { reboots: instance.reboots + 1, ..instance.clone() });
            Ok(())
        }
        _ => Err(wrong_state(instance, "rebooted")),
    })?;
    Ok(())
}

fn aim(tx: &mut Tx<'_>, instance: &Instance, aim: Aim) {
    let goal = Goal { aim, since: tx.now, ..instance.goal };
    tx.put(Instance { goal, ..instance.clone() });
}

fn change_each(
    tx: &mut Tx<'_>,
    ids: &[InstanceId],
    mut change: impl FnMut(&mut Tx<'_>, &Instance, InstanceState) -> Result<(), Refusal>,
) -> Result<Vec<StateChange>, Refusal> {
    require_all(tx, ids)?;
    let mut changes = Vec::with_capacity(ids.len());
    for id in ids {
        let Some(instance) = tx.get::<Instance>(*id) else { continue };
        let previous = tx.world().instance_state(&instance);
        change(tx, &instance, previous)?;
        changes.push(StateChange { instance: *id, previous, current: tx.world().state_of(*id) });
    }
    Ok(changes)
}

/// The refusal that names every instance that does not exist.
pub fn require_all(tx: &Tx<'_>, ids: &[InstanceId]) -> Result<(), Refusal> {
    let missing: Vec<String> =
        ids.iter().filter(|id| !tx.world().instances.contains_key(*id)).map(InstanceId::to_string).collect();
    match missing.as_slice() {
        [] => Ok(()),
        [one] => Err(Refusal::not_found(Kind::Instance, "instance ID", one)),
        more => {
            let text = format!("The instance IDs '{}' do not exist", more.join(", "));
            Err(Refusal::new(Reason::NotFound(Kind::Instance), text))
        }
    }
}

fn wrong_state(instance: &Instance, done: &str) -> Refusal {
    let text = format!("The instance '{}' is not in a state from which it can be {done}.", instance.id);
    Refusal::new(Reason::IncorrectInstanceState, text)
}

fn protected(instance: &Instance, done: &str, attribute: &str) -> Refusal {
    let text = format!(
        "The instance '{}' may not be {done}. Modify its '{attribute}' instance attribute and try again.",
        instance.id
    );
    Refusal::new(Reason::OperationNotPermitted, text)
}
