//! What to do next: the difference between what should be and what is, as steps.
//!
//! One path serves a fresh start, a restart and a repair. Only steps whose ground is already
//! observed are planned (a machine when its volumes and interfaces are there), so that all steps of one
//! plan may run side by side; the next look brings the next plan. Whatever the host has that is not
//! wanted is removed, but never data that no row calls doomed: a volume or image that nobody knows is
//! left alone.

use std::collections::{BTreeMap, BTreeSet};

use spec::Fingerprint;
use spec::control::{DeviceState, Save, Status};
use spec::ids::{GroupId, ImageId, InstanceId, InterfaceId, VolumeId, VpcId};
use spec::machine::{Device, DeviceId, Disk, Machine, Nic};
use spec::network;
use spec::observed::{MachineState, Observed, Scope};
use spec::steps::{Resource, Step};

use crate::model::*;
use crate::time::Timestamp;
use crate::wanted::MachineWish;
use crate::world::World;

/// Seconds that a guest has to power off after StopInstances, before its machine is killed.
pub const STOP_PATIENCE: u64 = 120;
/// Seconds that a guest has to power off after TerminateInstances.
pub const TERMINATE_PATIENCE: u64 = 30;

/// Seconds that a machine has to be saved after StopInstances with hibernation, before it is stopped without.
pub const SAVE_PATIENCE: u64 = 600;

/// What to do next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Steps that may all run side by side.
    pub steps: Vec<Step>,
    /// When to look at something again though nothing may have changed: a deadline or the end of a backoff.
    pub wakes: BTreeMap<Resource, Timestamp>,
}

/// What was looked at: facts, their scope, and the resources about which nothing may be concluded, since
/// something happened to them meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// What was looked for.
    pub scope: &'a Scope,
    /// What was found.
    pub observed: &'a Observed,
    /// What is or was being changed since the look began.
    pub busy: &'a BTreeSet<Resource>,
}

impl Look<'_> {
    /// Whether this look says something about the resource.
    pub fn covers(&self, resource: Resource) -> bool {
        self.scope.covers(resource) && !self.busy.contains(&resource)
    }

    /// All that this look says something about.
    pub(crate) fn resources(&self, world: &World) -> BTreeSet<Resource> {
        let mut resources = match self.scope {
            Scope::Everything => world.resources().into_iter().chain(self.observed.resources()).collect(),
            Scope::Resources(resources) => resources.clone(),
        };
        resources.retain(|resource| !self.busy.contains(resource));
        resources
    }
}

/// Plans the next steps. What it costs follows from what was looked at, not from the world.
pub fn plan(world: &World, look: Look<'_>, now: Timestamp) -> Plan {
    let (standing, leaving) = (BTreeMap::new(), Vec::new());
    let mut planner = Planner { world, look, now, standing, leaving, plan: Plan::default() };
    for resource in look.resources(world) {
        planner.consider(resource);
    }
    planner.remove_groups();
    planner.plan
}

struct Planner<'a> {
    world: &'a World,
    look: Look<'a>,
    now: Timestamp,
    /// Whether the networks asked about so far stand.
    standing: BTreeMap<VpcId, bool>,
    /// Groups that are to go as soon as no interface is in them any more.
    leaving: Vec<(VpcId, GroupId)>,
    plan: Plan,
}

impl Planner<'_> {
    fn consider(&mut self, resource: Resource) {
        match resource {
            Resource::Network(vpc) => self.network(vpc),
            Resource::Group(vpc, id) => self.group(vpc, id),
            Resource::Interface(vpc, id) => self.interface(vpc, id),
            Resource::Volume(id) => self.volume(id),
            Resource::Image(id) => self.image(id),
            Resource::Memory(id) => self.memory(id),
            Resource::Machine(id) => self.machine(id),
        }
    }

    fn step(&mut self, step: Step) {
        self.plan.steps.push(step);
    }

    fn network(&mut self, vpc: VpcId) {
        match self.world.vpcs.get(&vpc).filter(|_| self.world.wants_network(vpc)) {
            Some(row) => {
                let network = self.world.wanted_network(row);
                if !self.network_is(&network) {
                    self.step(Step::EnsureNetwork(network));
                }
            }
            None if self.look.observed.networks.contains_key(&vpc) => self.step(Step::RemoveNetwork(vpc)),
            None => {}
        }
    }

    fn network_is(&self, network: &network::Network) -> bool {
        self.look.observed.networks.get(&network.vpc) == Some(&Some(Fingerprint::of(network)))
    }

    /// The VPC's namespace is there just as it should be, and may be built upon.
    fn network_stands(&mut self, vpc: VpcId) -> bool {
        if let Some(stands) = self.standing.get(&vpc) {
            return *stands;
        }
        let wanted = self.world.vpcs.get(&vpc).filter(|_| self.world.wants_network(vpc));
        let stands = self.look.covers(Resource::Network(vpc))
            && wanted.is_some_and(|row| self.network_is(&self.world.wanted_network(row)));
        self.standing.insert(vpc, stands);
        stands
    }

    /// A group inside a namespace that stays. It comes before the interfaces in it, and goes after.
    fn group(&mut self, vpc: VpcId, id: GroupId) {
        if !self.network_stands(vpc) {
            return;
        }
        let found = self.look.observed.groups.get(&(vpc, id));
        match self.world.security_groups.get(&id).filter(|_| self.world.wants_group(id)) {
            Some(row) => {
                let group = self.world.wanted_group(row);
                if found != Some(&Some(Fingerprint::of(&group))) {
                    self.step(Step::EnsureGroup(group));
                }
            }
            None if found.is_some() => self.leaving.push((vpc, id)),
            None => {}
        }
    }

    /// Removes groups, but not beside a change of interfaces, which may still be in them.
    fn remove_groups(&mut self) {
        let planned = self.plan.steps.iter().map(Step::resource);
        let changing = planned.chain(self.look.busy.iter().copied()).filter_map(|resource| match resource {
            Resource::Interface(vpc, _) => Some(vpc),
            _ => None,
        });
        let changing: BTreeSet<VpcId> = changing.collect();
        let leaving = self.leaving.iter().filter(|(vpc, _)| !changing.contains(vpc));
        self.plan.steps.extend(leaving.map(|(vpc, id)| Step::RemoveGroup(*vpc, *id)));
    }

    fn interface(&mut self, vpc: VpcId, id: InterfaceId) {
        if !self.network_stands(vpc) {
            return;
        }
        match self.world.interfaces.get(&id).filter(|row| self.world.wants_interface(row)) {
            Some(row) => {
                let wanted = self.world.wanted_interface(row);
                if !self.interface_is(&wanted) && self.groups_stand(row) {
                    self.step(Step::EnsureInterface(wanted));
                }
            }
            None if self.look.observed.interfaces.contains_key(&(vpc, id)) => {
                self.step(Step::RemoveInterface(vpc, id));
            }
            None => {}
        }
    }

    fn interface_is(&self, wanted: &network::Interface) -> bool {
        self.look.observed.interfaces.get(&(wanted.vpc, wanted.id)) == Some(&Some(Fingerprint::of(wanted)))
    }

    /// The groups that the interface is in are there, if not yet with their newest rules.
    fn groups_stand(&self, row: &Interface) -> bool {
        let stands = |id: &GroupId| {
            let found = self.look.observed.groups.get(&(row.vpc, *id));
            matches!(found, Some(Some(_))) && self.look.covers(Resource::Group(row.vpc, *id))
        };
        row.groups.iter().all(stands)
    }

    fn volume(&mut self, id: VolumeId) {
        let Some(volume) = self.world.volumes.get(&id) else { return };
        let exists = self.look.observed.volumes.contains(&id);
        let wanted = self.world.wants_volume(volume);
        let base_exists = volume.base.is_none_or(|image| self.look.observed.images.contains(&image));
        if wanted && !exists && base_exists {
            self.step(Step::CreateVolume(self.world.wanted_volume(volume)));
        } else if !wanted && exists && !self.in_use(volume) {
            self.step(Step::RemoveVolume(id));
        }
    }

    /// A machine that may have the volume open is not known to be gone.
    fn in_use(&self, volume: &Volume) -> bool {
        volume.attachment.as_ref().is_some_and(|at| {
            let machine = Resource::Machine(at.instance);
            let running = self.look.observed.machines.get(&at.instance);
            !self.look.covers(machine) || matches!(running, Some(MachineState::Running { .. }))
        })
    }

    fn image(&mut self, id: ImageId) {
        let doomed = self.world.images.get(&id).is_some_and(|image| image.doomed);
        if doomed && !self.world.is_base(id) && self.look.observed.images.contains(&id) {
            self.step(Step::RemoveImage(id));
        }
    }

    /// What was saved is used up by the next start; of an instance that is to be gone it goes.
    fn memory(&mut self, id: InstanceId) {
        let is_gone = self.world.instances.get(&id).is_some_and(|row| self.world.aim(row) == Aim::Gone);
        if is_gone && self.look.observed.memories.contains(&id) {
            self.step(Step::RemoveMemory(id));
        }
    }

    fn machine(&mut self, id: InstanceId) {
        let found = self.look.observed.machines.get(&id);
        match self.world.instances.get(&id) {
            Some(instance) => {
                if let Some(wish) = self.world.wanted_machine(instance) {
                    self.fulfil(instance, wish, found);
                }
            }
            None => {
                if let Some(state) = found {
                    self.end_machine(id, state);
                }
            }
        }
    }

    fn fulfil(&mut self, instance: &Instance, wish: MachineWish, found: Option<&MachineState>) {
        let id = instance.id;
        match (wish.aim, found) {
            (Aim::Run, Some(MachineState::Running { run: Some(run), .. })) if *run < wish.machine.run => {
                self.step(Step::KillMachine(id));
            }
            (Aim::Run, Some(MachineState::Running { status: Some(status), .. })) => {
                if status.reboots.max(status.rebooting.unwrap_or(0)) < instance.reboots {
                    self.step(Step::Reboot(id, instance.reboots));
                } else if let Some(step) = self.change_devices(&wish.machine, status) {
                    self.step(step);
                }
            }
            (Aim::Run, Some(MachineState::Running { status: None, .. })) => {}
            (Aim::Run, _) => self.start_machine(wish),
            (Aim::Down { .. } | Aim::Gone, None) => {}
            (Aim::Down { force: true, .. }, Some(state)) => self.end_machine(id, state),
            (Aim::Down { force: false, hibernate: true }, Some(state)) => self.save(id, state, wish.since),
            (Aim::Down { force: false, hibernate: false }, Some(state)) => {
                self.power_off(id, state, wish.since.plus_seconds(STOP_PATIENCE));
            }
            (Aim::Gone, Some(state)) => {
                self.power_off(id, state, wish.since.plus_seconds(TERMINATE_PATIENCE))
            }
        }
    }

    /// What comes next of the devices that a running machine has too much, lacks, has too small or too fast or slow.
    fn change_devices(&mut self, machine: &Machine, status: &Status) -> Option<Step> {
        // Every machine has a root disk: one that names none is of a build that does not say what it has.
        if status.disks.is_empty() {
            return None;
        }
        let detach = self.too_much(machine, status);
        detach
            .or_else(|| self.too_small(machine.instance, status))
            .or_else(|| ill_limited(machine, status))
            .or_else(|| self.lacking(machine, status))
    }

    /// Takes away what should not be there, where it can be. Force is for who was asked in vain, too.
    fn too_much(&self, machine: &Machine, status: &Status) -> Option<Step> {
        let wanted: BTreeSet<DeviceId> = device_ids(machine).collect();
        let disks = status.disks.iter().map(|(id, disk)| (DeviceId::Disk(*id), disk.port, disk.state));
        let nics = status.nics.iter().map(|(id, nic)| (DeviceId::Nic(*id), nic.port, nic.state));
        let mut superfluous =
            disks.chain(nics).filter(|(id, port, _)| port.is_some() && !wanted.contains(id));
        superfluous.find_map(|(id, _, state)| {
            let force = self.world.detach_of(id) == Some(Detach::Forced);
            let is_next = state == DeviceState::Attached || (state == DeviceState::Detaching && force);
            is_next.then_some(Step::DetachDevice(machine.instance, id, force))
        })
    }

    fn too_small(&self, instance: InstanceId, status: &Status) -> Option<Step> {
        let attached = status.disks.iter().filter(|(_, disk)| disk.state == DeviceState::Attached);
        let rows = attached.filter_map(|(id, disk)| Some((self.world.volumes.get(id)?, disk.bytes)));
        let mut wanted = rows.map(|(row, bytes)| (self.world.wanted_volume(row), bytes));
        let (volume, _) = wanted.find(|(volume, bytes)| *bytes < volume.bytes)?;
        Some(Step::GrowDisk(instance, volume.id, volume.bytes))
    }

    /// Gives what is missing, as soon as it is there to be given and there is a place for it.
    fn lacking(&mut self, machine: &Machine, status: &Status) -> Option<Step> {
        if status.free_ports == 0 {
            return None;
        }
        let lacks = |id: DeviceId| status.state_of(id).is_none();
        let mut disks = machine.disks.iter().filter(|disk| lacks(DeviceId::Disk(disk.volume)));
        let device = match disks.find(|disk| self.disk_stands(disk)) {
            Some(disk) => Device::Disk(disk.clone()),
            None => {
                let mut nics = machine.nics.iter().filter(|nic| lacks(DeviceId::Nic(nic.interface)));
                Device::Nic(nics.find(|nic| self.nic_stands(nic))?.clone())
            }
        };
        Some(Step::AttachDevice(machine.instance, device))
    }

    fn wake(&mut self, id: InstanceId, at: Timestamp) {
        self.plan.wakes.insert(Resource::Machine(id), at);
    }

    fn start_machine(&mut self, wish: MachineWish) {
        if wish.not_before > self.now {
            self.wake(wish.machine.instance, wish.not_before);
        } else if self.ground_stands(&wish) {
            let resumes = self.look.observed.memories.contains(&wish.machine.instance);
            self.step(Step::StartMachine(Machine { resumes, ..wish.machine }));
        }
    }

    /// The volumes and interfaces of the machine are there, and stay.
    fn ground_stands(&mut self, wish: &MachineWish) -> bool {
        let memory = Resource::Memory(wish.machine.instance);
        !wish.machine.disks.is_empty()
            && (!wish.machine.hibernates || self.look.covers(memory))
            && wish.machine.disks.iter().all(|disk| self.disk_stands(disk))
            && wish.machine.nics.iter().all(|nic| self.nic_stands(nic))
    }

    fn disk_stands(&self, disk: &Disk) -> bool {
        self.look.observed.volumes.contains(&disk.volume) && self.look.covers(Resource::Volume(disk.volume))
    }

    fn nic_stands(&mut self, nic: &Nic) -> bool {
        let world = self.world;
        let row = world.interfaces.get(&nic.interface);
        self.look.covers(Resource::Interface(nic.vpc, nic.interface))
            && self.network_stands(nic.vpc)
            && row.is_some_and(|row| self.interface_is(&world.wanted_interface(row)))
    }

    /// Has a machine saved. One that cannot be is stopped as if nobody had asked for that.
    fn save(&mut self, id: InstanceId, state: &MachineState, since: Timestamp) {
        let deadline = since.plus_seconds(SAVE_PATIENCE);
        match state {
            MachineState::Running { status: Some(status), .. } if self.now < deadline => match status.save {
                None => {
                    self.wake(id, deadline);
                    self.step(Step::SaveMachine(id));
                }
                Some(Save::UnderWay) => self.wake(id, deadline),
                Some(Save::Done | Save::Failed(_)) => {
                    self.power_off(id, state, deadline.plus_seconds(STOP_PATIENCE));
                }
            },
            _ => self.power_off(id, state, deadline.plus_seconds(STOP_PATIENCE)),
        }
    }

    fn power_off(&mut self, id: InstanceId, state: &MachineState, deadline: Timestamp) {
        match state {
            MachineState::Running { .. } if deadline <= self.now => self.step(Step::KillMachine(id)),
            MachineState::Running { status, .. } => {
                self.wake(id, deadline);
                if status.as_ref().is_some_and(|status| !status.powering_off) {
                    self.step(Step::PowerOff(id));
                }
            }
            MachineState::Ended(_) | MachineState::Lost { .. } => self.step(Step::RemoveMachine(id)),
        }
    }

    fn end_machine(&mut self, id: InstanceId, state: &MachineState) {
        match state {
            MachineState::Running { .. } => self.step(Step::KillMachine(id)),
            MachineState::Ended(_) | MachineState::Lost { .. } => self.step(Step::RemoveMachine(id)),
        }
    }
}

/// Gives a device that stays the limits that it should have.
fn ill_limited(machine: &Machine, status: &Status) -> Option<Step> {
    let disks = machine.disks.iter().map(|disk| (DeviceId::Disk(disk.volume), disk.limits));
    let nics = machine.nics.iter().map(|nic| (DeviceId::Nic(nic.interface), nic.limits));
    let mut stay = disks.chain(nics).filter(|(id, _)| status.state_of(*id) == Some(DeviceState::Attached));
    let (id, limits) = stay.find(|(id, limits)| status.limits_of(*id) != Some(*limits))?;
    Some(Step::LimitDevice(machine.instance, id, limits))
}

fn device_ids(machine: &Machine) -> impl Iterator<Item = DeviceId> {
    let disks = machine.disks.iter().map(|disk| DeviceId::Disk(disk.volume));
    disks.chain(machine.nics.iter().map(|nic| DeviceId::Nic(nic.interface)))
}
