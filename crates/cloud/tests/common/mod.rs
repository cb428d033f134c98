//! A cloud to command and a host of a few lines under it, for tests of rules, plans and settling together.

use std::collections::BTreeSet;
use std::sync::Arc;

use cloud::plan::Look;
use cloud::settle::Troubles;
use cloud::{Refusal, Settings, Timestamp, Tx, World, plan, settle};
use spec::Fingerprint;
use spec::control::{DeviceState, DiskStatus, EndReason, Ending, NicStatus, Save, Status};
use spec::ids::*;
use spec::machine::{Device, DeviceId};
use spec::observed::{MachineState, Observed, Scope};
use spec::steps::Step;
use tests::small_world::{chance, first_image, settings};

/// A cloud, the time in it, and what its host has.
#[derive(Clone)]
pub(crate) struct Cloud {
    pub(crate) world: World,
    pub(crate) now: Timestamp,
    pub(crate) host: Observed,
    pub(crate) troubles: Troubles,
    /// How guests of this host take the power button.
    pub(crate) guests_obey: bool,
    /// All that was news so far.
    pub(crate) news: Vec<String>,
    seed: u64,
}

impl Cloud {
    /// A cloud after its first start, with one image.
    pub(crate) fn new() -> (Self, ImageId) {
        Self::with(settings())
    }

    /// The same with other settings.
    pub(crate) fn with(settings: Settings) -> (Self, ImageId) {
        let mut cloud = Self {
            world: World::empty(Arc::new(settings)),
            now: Timestamp(1_000_000),
            host: Observed::default(),
            troubles: Troubles::new(),
            guests_obey: true,
            news: Vec::new(),
            seed: 1,
        };
        let image = cloud.command(first_image).unwrap();
        cloud.host.images.insert(image);
        (cloud, image)
    }

    /// Runs a command in a transaction and, unless it is refused, commits it.
    pub(crate) fn command<T>(
        &mut self,
        command: impl Fn(&mut Tx<'_>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut random = chance(&mut self.seed);
        let mut tx = Tx::new(&self.world, self.now, &mut random);
        let answer = command(&mut tx)?;
        self.world = tx.finish().1;
        Ok(answer)
    }

    /// One round: settle, plan, do every step. Returns whether anything was settled, and the steps.
    pub(crate) fn round(&mut self) -> (bool, Vec<Step>) {
        let (settled, steps) = self.look(&Scope::Everything);
        steps.iter().for_each(|step| self.perform(step));
        (settled, steps)
    }

    /// Settles and plans what is found within a scope. Returns whether anything was settled, and the steps.
    pub(crate) fn look(&mut self, scope: &Scope) -> (bool, Vec<Step>) {
        let (busy, observed) = (BTreeSet::new(), self.host.within(scope));
        let look = Look { scope, observed: &observed, busy: &busy };
        let troubles = self.troubles.clone();
        let settled = self.command(|tx| {
            let news = settle(tx, look, &troubles);
            Ok((news, !tx.is_empty()))
        });
        let (news, settled) = settled.unwrap();
        self.news.extend(news.iter().map(ToString::to_string));
        (settled, plan(&self.world, look, self.now).steps)
    }

    /// Rounds until there is nothing to do; the time stands still.
    pub(crate) fn converge(&mut self) -> Vec<Step> {
        let mut all = Vec::new();
        for _ in 0..50 {
            let (settled, steps) = self.round();
            if !settled && steps.is_empty() {
                return all;
            }
            all.extend(steps);
        }
        panic!("no end to the steps: {all:?}");
    }

    pub(crate) fn pass_seconds(&mut self, seconds: u64) {
        self.now = self.now.plus_seconds(seconds);
    }

    /// The guest powers itself off.
    pub(crate) fn power_off_inside(&mut self, id: InstanceId) {
        self.end(id, EndReason::PoweredOff);
    }

    pub(crate) fn end(&mut self, id: InstanceId, reason: EndReason) {
        if let Some(MachineState::Running { run: Some(run), .. }) = self.host.machines.get(&id) {
            let ending = Ending { run: *run, reason, message: format!("{reason:?} in a test") };
            self.host.machines.insert(id, MachineState::Ended(ending));
        }
    }

    /// Its process is killed from outside.
    pub(crate) fn kill(&mut self, id: InstanceId) {
        if let Some(MachineState::Running { run, .. }) = self.host.machines.get(&id) {
            self.host.machines.insert(id, MachineState::Lost { run: *run });
        }
    }

    pub(crate) fn perform(&mut self, step: &Step) {
        self.check_ground(step);
        let host = &mut self.host;
        match step {
            Step::EnsureNetwork(network) => {
                host.networks.insert(network.vpc, Some(Fingerprint::of(network)));
            }
            Step::RemoveNetwork(vpc) => {
                host.networks.remove(vpc);
                host.groups.retain(|(of, _), _| of != vpc);
                host.interfaces.retain(|(of, _), _| of != vpc);
            }
            Step::EnsureGroup(group) => {
                host.groups.insert((group.vpc, group.id), Some(Fingerprint::of(group)));
            }
            Step::RemoveGroup(vpc, id) => {
                host.groups.remove(&(*vpc, *id));
            }
            Step::EnsureInterface(row) => {
                host.interfaces.insert((row.vpc, row.id), Some(Fingerprint::of(row)));
            }
            Step::RemoveInterface(vpc, id) => {
                host.interfaces.remove(&(*vpc, *id));
            }
            Step::CreateVolume(volume) => {
                host.volumes.insert(volume.id);
            }
            Step::RemoveVolume(id) => {
                host.volumes.remove(id);
            }
            Step::RemoveImage(id) => {
                host.images.remove(id);
            }
            Step::StartMachine(machine) => {
                let mut status =
                    Status { free_ports: machine.ports, ..Status::new(machine.run, machine.reboots) };
                let disks = machine.disks.iter().cloned().map(Device::Disk);
                let nics = machine.nics.iter().cloned().map(Device::Nic);
                for (index, device) in disks.enumerate().chain(nics.enumerate()) {
                    self.put_device(&mut status, &device, (index > 0).then_some(0));
                }
                let state = MachineState::Running { run: Some(machine.run), status: Some(status) };
                assert_eq!(self.host.memories.remove(&machine.instance), machine.resumes, "{step:?}");
                self.host.machines.insert(machine.instance, state);
            }
            Step::PowerOff(id) if self.guests_obey => self.end(*id, EndReason::PoweredOff),
            Step::PowerOff(id) => {
                if let Some(MachineState::Running { status: Some(status), .. }) = host.machines.get_mut(id) {
                    status.powering_off = true;
                }
            }
            Step::Reboot(id, count) => {
                if let Some(MachineState::Running { status: Some(status), .. }) = host.machines.get_mut(id) {
                    (status.reboots, status.resets) = (*count, status.resets + 1);
                }
            }
            Step::AttachDevice(id, device) => {
                let mut status = self.status(*id).clone();
                self.put_device(&mut status, device, Some(0));
                *self.status(*id) = status;
            }
            Step::DetachDevice(id, device, force) => {
                let obey = self.guests_obey || *force;
                detach(self.status(*id), *device, obey);
            }
            Step::GrowDisk(id, volume, bytes) => {
                self.status(*id).disks.get_mut(volume).unwrap().bytes = *bytes;
            }
            Step::RemoveMemory(id) => drop(host.memories.remove(id)),
            Step::SaveMachine(id) if self.guests_obey => self.end(*id, EndReason::Saved),
            Step::SaveMachine(id) => self.status(*id).save = Some(Save::Failed("Disk full in a test".into())),
            Step::LimitDevice(id, device, limits) => match device {
                DeviceId::Disk(volume) => self.status(*id).disks.get_mut(volume).unwrap().limits = *limits,
                DeviceId::Nic(nic) => self.status(*id).nics.get_mut(nic).unwrap().limits = *limits,
            },
            Step::KillMachine(id) => self.kill(*id),
            Step::RemoveMachine(id) => {
                if let Some(MachineState::Ended(Ending { reason: EndReason::Saved, .. })) =
                    host.machines.get(id)
                {
                    host.memories.insert(*id);
                }
                host.machines.remove(id);
            }
        }
    }

    /// What a running machine says of itself.
    pub(crate) fn status(&mut self, id: InstanceId) -> &mut Status {
        match self.host.machines.get_mut(&id) {
            Some(MachineState::Running { status: Some(status), .. }) => status,
            other => panic!("{id} does not run: {other:?}"),
        }
    }

    fn put_device(&self, status: &mut Status, device: &Device, port: Option<u8>) {
        if port.is_some() {
            status.free_ports = status.free_ports.checked_sub(1).unwrap();
        }
        let state = DeviceState::Attached;
        match device {
            Device::Disk(disk) => {
                let bytes = self.world.wanted_volume(&self.world.volumes[&disk.volume]).bytes;
                let disk_status = DiskStatus { port, state, bytes, limits: disk.limits, failure: None };
                status.disks.insert(disk.volume, disk_status);
            }
            Device::Nic(nic) => {
                status.nics.insert(nic.interface, NicStatus { port, state, limits: nic.limits });
            }
        }
    }

    /// What a step stands on must be there, and what it takes away must not be stood on.
    fn check_ground(&self, step: &Step) {
        let running =
            |id: &InstanceId| matches!(self.host.machines.get(id), Some(MachineState::Running { .. }));
        match step {
            Step::EnsureGroup(group) => assert!(self.host.networks.contains_key(&group.vpc), "{step:?}"),
            Step::EnsureInterface(row) => {
                let group = |id: &GroupId| self.host.groups.contains_key(&(row.vpc, *id));
                assert!(row.groups.iter().all(group), "{step:?}");
            }
            Step::CreateVolume(volume) => {
                assert!(volume.base.is_none_or(|image| self.host.images.contains(&image)), "{step:?}");
            }
            Step::StartMachine(machine) => {
                assert!(!running(&machine.instance), "{step:?}");
                assert!(
                    machine.disks.iter().all(|disk| self.host.volumes.contains(&disk.volume)),
                    "{step:?}"
                );
                let nic = |id| self.host.interfaces.keys().any(|(_, found)| *found == id);
                assert!(machine.nics.iter().all(|one| nic(one.interface)), "{step:?}");
            }
            Step::AttachDevice(id, Device::Disk(disk)) => {
                assert!(running(id) && self.host.volumes.contains(&disk.volume), "{step:?}");
            }
            Step::AttachDevice(id, Device::Nic(nic)) => {
                let tap = self.host.interfaces.contains_key(&(nic.vpc, nic.interface));
                assert!(running(id) && tap, "{step:?}");
            }
            Step::RemoveMachine(id) => assert!(!running(id), "{step:?}"),
            Step::RemoveVolume(id) => {
                let users = self.world.volumes.get(id).and_then(|row| row.attachment.as_ref());
                assert!(users.is_none_or(|at| !running(&at.instance)), "{step:?}");
            }
            Step::RemoveInterface(_, id) => {
                let users = self.world.interfaces.get(id).and_then(|row| row.attachment.as_ref());
                assert!(users.is_none_or(|at| !running(&at.instance)), "{step:?}");
            }
            _ => {}
        }
    }
}

/// A guest that obeys lets go at once; another keeps what it is asked for.
fn detach(status: &mut Status, device: DeviceId, obey: bool) {
    let state = match device {
        DeviceId::Disk(id) => &mut status.disks.get_mut(&id).unwrap().state,
        DeviceId::Nic(id) => &mut status.nics.get_mut(&id).unwrap().state,
    };
    *state = DeviceState::Detaching;
    if obey {
        status.free_ports += 1;
        status.disks.retain(|id, _| DeviceId::Disk(*id) != device);
        status.nics.retain(|id, _| DeviceId::Nic(*id) != device);
    }
}
