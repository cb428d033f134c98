//! What has become true: observed facts and failed steps, written into the statuses.
//!
//! The only writer of statuses, and the one who clears away rows whose things are gone: a doomed
//! volume that is no longer there, a terminated instance after its hour. It concludes nothing
//! about what was not looked at, or is being changed just now.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use spec::control::{EndReason, Ending, Status};
use spec::ids::{ImageId, InstanceId, InterfaceId, VolumeId};
use spec::machine::{DeviceId, Run};
use spec::observed::MachineState;
use spec::steps::Resource;

use crate::model::*;
use crate::plan::Look;
use crate::time::Timestamp;
use crate::tx::Tx;

/// Seconds that a terminated instance stays visible (AWS, *Terminate Amazon EC2 instances*: "about
/// an hour").
pub const TERMINATED_VISIBLE: u64 = 3600;
/// How often in a row a machine may fail soon after its start before its incarnation is given up.
pub const MAX_QUICK_FAILURES: u32 = 8;
/// A machine that ran so many seconds did not fail soon.
pub const LASTED: u64 = 600;
/// The longest wait before the next attempt, in seconds.
pub const MAX_BACKOFF: u64 = 60;

/// A step on a resource that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// It will fail again until what was asked for is changed.
    pub lasting: bool,
    /// What was said: one line.
    pub message: String,
}

/// The newest failure for each resource; none for those whose last step succeeded.
pub type Troubles = BTreeMap<Resource, Trouble>;

/// What an operator should hear of: something that a guest did, or that befell a machine, unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Whose machine.
    pub instance: InstanceId,
    /// What became of it; goes on after "The machine of i-…".
    pub what: String,
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the machine of {} {}", self.instance, self.what)
    }
}

/// Writes down what has become true, and tells what of it is news.
pub fn settle(tx: &mut Tx<'_>, look: Look<'_>, troubles: &Troubles) -> Vec<News> {
    let mut news = Vec::new();
    let resources = look.resources(tx.world());
    for resource in &resources {
        if let Resource::Machine(id) = resource {
            let before = tx.get::<InstanceStatus>(*id);
            settle_machine(tx, *id, look.observed.machines.get(id), troubles);
            settle_devices(tx, *id, look.observed.machines.get(id));
            if let (Some(before), Some(after)) = (before, tx.get::<InstanceStatus>(*id)) {
                news.extend(what_is_new(&before, &after).map(|what| News { instance: *id, what }));
            }
            settle_end(tx, *id, look);
        }
    }
    for resource in &resources {
        match resource {
            Resource::Volume(id) => settle_volume(tx, *id, look),
            Resource::Interface(_, id) => settle_interface(tx, *id, look),
            Resource::Image(id) => settle_image(tx, *id, look),
            Resource::Memory(id) => settle_memory(tx, *id, look),
            Resource::Network(_) | Resource::Group(..) | Resource::Machine(_) => {}
        }
    }
    news
}

fn what_is_new(before: &InstanceStatus, after: &InstanceStatus) -> Option<String> {
    if before.over != after.over {
        return after.over.as_ref().map(|over| match &over.why {
            WhyOver::PoweredOff => "was powered off by its guest".to_owned(),
            WhyOver::GivenUp { message, .. } => format!("is given up: {message}"),
        });
    }
    let trouble = || after.trouble.as_deref().unwrap_or("no reason is known");
    if after.run.incarnation == before.run.incarnation && after.run.attempt > before.run.attempt {
        return Some(format!("was lost and is started again (attempt {}): {}", after.run.attempt, trouble()));
    }
    if after.panicked && !before.panicked {
        return Some("says that its guest's kernel panicked".to_owned());
    }
    let mut failures = after.disk_failures.iter();
    if let Some((volume, what)) = failures.find(|(id, _)| !before.disk_failures.contains_key(id)) {
        return Some(format!("gets errors from its disk {volume}: {what}"));
    }
    // A reboot that the user asked for is no news.
    let unasked = after.resets.saturating_sub(before.resets) > after.reboots.saturating_sub(before.reboots);
    (after.run == before.run && unasked).then(|| "was reset by its guest".to_owned())
}

fn settle_machine(tx: &mut Tx<'_>, id: InstanceId, found: Option<&MachineState>, troubles: &Troubles) {
    let Some(instance) = tx.get::<Instance>(id) else { return };
    let old = tx.get::<InstanceStatus>(id);
    let mut status = old.as_deref().cloned().unwrap_or_else(|| fresh(&instance, tx.now));
    let running = matches!(found, Some(MachineState::Running { .. }));
    if !running && instance.goal.aim == Aim::Run && status.run.incarnation != instance.goal.incarnation {
        status = fresh(&instance, tx.now);
    }
    let failed = match found {
        Some(MachineState::Running { run, status: said }) => {
            note_running(&mut status, *run, said.as_ref(), tx.now);
            None
        }
        Some(MachineState::Ended(ending)) => note_ending(&mut status, &instance, ending, tx.now),
        Some(MachineState::Lost { run }) if run.is_none_or(|run| run == status.run) => {
            Some((None, "The machine's process was killed".to_owned()))
        }
        None if status.seen == Seen::Running => Some((None, "The machine's process is gone".to_owned())),
        _ => None,
    };
    let lived = tx.now.millis_since(status.since) / 1000;
    let was_running = status.seen == Seen::Running && !running;
    if was_running {
        (status.seen, status.since) = (Seen::Nothing, tx.now);
    }
    if !running {
        status.devices = None;
        status.disk_failures = BTreeMap::new();
    }
    if tx.world().aim(&instance) == Aim::Run {
        if let Some((reason, message)) = failed {
            if was_running && lived >= LASTED {
                status.quick_failures = 0;
            }
            status.run.attempt += 1;
            note_failure(&mut status, reason, message, tx.now);
        } else if !running {
            note_trouble(&mut status, tx, &instance, troubles);
        }
    }
    tx.put_if_changed(id, status);
}

/// The status of an incarnation that nothing was seen of yet.
fn fresh(instance: &Instance, now: Timestamp) -> InstanceStatus {
    InstanceStatus {
        id: instance.id,
        run: Run { incarnation: instance.goal.incarnation, attempt: 1 },
        seen: Seen::Nothing,
        since: now,
        not_before: Timestamp(0),
        quick_failures: 0,
        over: None,
        reboots: instance.reboots,
        resets: 0,
        panicked: false,
        devices: None,
        disk_failures: BTreeMap::new(),
        saved: false,
        trouble: None,
        gone: None,
    }
}

fn note_running(status: &mut InstanceStatus, run: Option<Run>, said: Option<&Status>, now: Timestamp) {
    if status.seen != Seen::Running {
        (status.seen, status.since) = (Seen::Running, now);
    }
    status.run = run.unwrap_or(status.run);
    if let Some(said) = said {
        status.devices = devices_of(said);
        let failures = said.disks.iter().filter_map(|(id, disk)| Some((*id, disk.failure.clone()?)));
        status.disk_failures = failures.collect();
        status.reboots = said.reboots;
        status.resets = said.resets;
        status.panicked = said.panicked;
        status.trouble = None;
    }
}

/// What a machine has; none where it is of a build that does not say: every machine has a root disk.
fn devices_of(said: &Status) -> Option<BTreeSet<DeviceId>> {
    let disks = said.disks.keys().copied().map(DeviceId::Disk);
    let nics = said.nics.keys().copied().map(DeviceId::Nic);
    (!said.disks.is_empty()).then(|| disks.chain(nics).collect())
}

/// Ends the attachments of what was to be taken away, and is.
fn settle_devices(tx: &mut Tx<'_>, instance: InstanceId, found: Option<&MachineState>) {
    let devices = match found {
        Some(MachineState::Running { status, .. }) => match status.as_ref().and_then(devices_of) {
            Some(devices) => devices,
            None => return,
        },
        _ => BTreeSet::new(),
    };
    let is_gone = |tx: &Tx<'_>, id| tx.world().detach_of(id).is_some() && !devices.contains(&id);
    let volumes: Vec<Arc<Volume>> = tx.world().volumes_of(instance).into_iter().cloned().collect();
    for volume in volumes {
        if is_gone(tx, DeviceId::Disk(volume.id)) {
            tx.put(Volume { attachment: None, ..(*volume).clone() });
        }
    }
    let interfaces: Vec<Arc<Interface>> = tx.world().interfaces_of(instance).into_iter().cloned().collect();
    for interface in interfaces {
        if is_gone(tx, DeviceId::Nic(interface.id)) {
            tx.put(Interface { attachment: None, ..(*interface).clone() });
        }
    }
}

/// Notes how a machine ended; what is returned is a failure, from which it is to be brought up again.
fn note_ending(
    status: &mut InstanceStatus,
    instance: &Instance,
    ending: &Ending,
    now: Timestamp,
) -> Option<(Option<EndReason>, String)> {
    if ending.run != status.run {
        return None;
    }
    let over = |why| Some(Over { incarnation: ending.run.incarnation, why, at: now });
    let already = status.over.as_ref().is_some_and(|over| over.incarnation == ending.run.incarnation);
    match ending.reason {
        _ if already || instance.goal.aim != Aim::Run => None,
        EndReason::PoweredOff => {
            status.over = over(WhyOver::PoweredOff);
            None
        }
        EndReason::Unbuildable => {
            let message = ending.message.clone();
            status.trouble = Some(message.clone());
            status.over = over(WhyOver::GivenUp { reason: Some(ending.reason), message });
            None
        }
        // What was saved is used up: the next attempt begins anew. One that was saved unasked goes on.
        EndReason::Crashed | EndReason::Failed | EndReason::Unrestorable | EndReason::Saved => {
            Some((Some(ending.reason), ending.message.clone()))
        }
    }
}

/// Counts a failure: another attempt after a while, or the end of the incarnation.
fn note_failure(status: &mut InstanceStatus, reason: Option<EndReason>, message: String, now: Timestamp) {
    status.quick_failures += 1;
    status.trouble = Some(message.clone());
    status.not_before = now.plus_seconds(backoff(status.quick_failures));
    if status.quick_failures >= MAX_QUICK_FAILURES {
        let why = WhyOver::GivenUp { reason, message };
        status.over = Some(Over { incarnation: status.run.incarnation, why, at: now });
    }
}

/// Seconds to wait after so many failures in a row: none after the first, then doubling.
fn backoff(failures: u32) -> u64 {
    match failures {
        0 | 1 => 0,
        more => (1 << (more - 2).min(6)).min(MAX_BACKOFF),
    }
}

/// A step that the machine waits for failed: on its own resource it counts as a failure, and one that
/// lasts, anywhere, is the end of the incarnation.
fn note_trouble(status: &mut InstanceStatus, tx: &Tx<'_>, instance: &Instance, troubles: &Troubles) {
    if troubles.is_empty() {
        return;
    }
    let keys = [Key::Instance(instance.id)];
    let resources = tx.world().resources_of(keys);
    let mut trouble = troubles.iter().filter(|(resource, _)| resources.contains(resource));
    if let Some((_, lasting)) = trouble.clone().find(|(_, trouble)| trouble.lasting) {
        let why = WhyOver::GivenUp { reason: None, message: lasting.message.clone() };
        status.trouble = Some(lasting.message.clone());
        status.over = Some(Over { incarnation: status.run.incarnation, why, at: tx.now });
    } else if let Some(own) = troubles.get(&Resource::Machine(instance.id)) {
        if status.not_before <= tx.now {
            note_failure(status, None, own.message.clone(), tx.now);
        }
    } else if let Some((_, other)) = trouble.next() {
        status.trouble = Some(other.message.clone());
    }
}

/// Clears up behind an instance that is to be gone: first what goes with it, then, when nothing of that is left
/// either, it is terminated, and after an hour forgotten.
fn settle_end(tx: &mut Tx<'_>, id: InstanceId, look: Look<'_>) {
    let (Some(instance), Some(status)) = (tx.get::<Instance>(id), tx.get::<InstanceStatus>(id)) else {
        return;
    };
    if tx.world().aim(&instance) != Aim::Gone {
        return;
    }
    if let Some(gone) = status.gone {
        if tx.now >= gone.plus_seconds(TERMINATED_VISIBLE) {
            tx.remove(Key::InstanceStatus(id));
            tx.remove(Key::Instance(id));
        }
        return;
    }
    if look.observed.machines.contains_key(&id) || look.observed.memories.contains(&id) {
        return;
    }
    release_volumes(tx, id);
    release_interfaces(tx, id);
    let left = tx.world().interfaces_of(id).len() + tx.world().volumes_of(id).len();
    if left == 0 {
        tx.put(InstanceStatus { gone: Some(tx.now), ..(*status).clone() });
    }
}

fn release_volumes(tx: &mut Tx<'_>, instance: InstanceId) {
    let volumes: Vec<Arc<Volume>> = tx.world().volumes_of(instance).into_iter().cloned().collect();
    for volume in volumes.iter().filter(|volume| !volume.doomed) {
        let goes = volume.attachment.as_ref().is_some_and(|at| at.delete_on_termination);
        let attachment = volume.attachment.clone().filter(|_| goes);
        tx.put(Volume { doomed: goes, attachment, ..(**volume).clone() });
    }
}

fn release_interfaces(tx: &mut Tx<'_>, instance: InstanceId) {
    let interfaces: Vec<Arc<Interface>> = tx.world().interfaces_of(instance).into_iter().cloned().collect();
    for interface in interfaces.iter().filter(|interface| !interface.doomed) {
        let goes = interface.attachment.as_ref().is_some_and(|at| at.delete_on_termination);
        let attachment = interface.attachment.clone().filter(|_| goes);
        tx.put(Interface { doomed: goes, attachment, ..(**interface).clone() });
    }
}

fn settle_volume(tx: &mut Tx<'_>, id: VolumeId, look: Look<'_>) {
    let Some(volume) = tx.get::<Volume>(id) else { return };
    let exists = look.observed.volumes.contains(&id);
    if volume.doomed && !exists {
        tx.remove(Key::VolumeStatus(id));
        tx.remove(Key::Volume(id));
    } else if exists {
        let mut modified = tx.get::<VolumeStatus>(id).and_then(|status| status.modified);
        let open = volume.modification.filter(|_| tx.world().modification_end(&volume).is_none());
        if let Some(open) = open.filter(|_| is_modified(tx, &volume, look)) {
            modified = Some(tx.now.max(Timestamp(open.started.0 + 1)));
        }
        tx.put_if_changed(id, VolumeStatus { id, modified });
    }
}

/// Whoever has the volume sees it as large as it should be, and holds it to its speed. One that nobody has open becomes so
/// when it is opened.
fn is_modified(tx: &Tx<'_>, volume: &Volume, look: Look<'_>) -> bool {
    let Some(at) = &volume.attachment else { return true };
    let (bytes, limits) = (tx.world().wanted_volume(volume).bytes, tx.world().disk_limits(volume));
    match look.observed.machines.get(&at.instance) {
        _ if !look.covers(Resource::Machine(at.instance)) => false,
        Some(MachineState::Running { status, .. }) => status
            .as_ref()
            .map(|status| status.disks.get(&volume.id))
            .is_some_and(|disk| disk.is_none_or(|disk| disk.bytes >= bytes && disk.limits == limits)),
        _ => true,
    }
}

fn settle_memory(tx: &mut Tx<'_>, id: InstanceId, look: Look<'_>) {
    if let Some(status) = tx.get::<InstanceStatus>(id) {
        let saved = look.observed.memories.contains(&id);
        tx.put_if_changed(id, InstanceStatus { saved, ..(*status).clone() });
    }
}

fn settle_interface(tx: &mut Tx<'_>, id: InterfaceId, look: Look<'_>) {
    let Some(row) = tx.get::<Interface>(id).filter(|row| row.doomed) else { return };
    if !look.observed.interfaces.contains_key(&(row.vpc, id)) {
        tx.remove(Key::Interface(id));
    }
}

fn settle_image(tx: &mut Tx<'_>, id: ImageId, look: Look<'_>) {
    let doomed = tx.get::<Image>(id).is_some_and(|image| image.doomed);
    if doomed && !tx.world().is_base(id) && !look.observed.images.contains(&id) {
        tx.remove(Key::Image(id));
    }
}
