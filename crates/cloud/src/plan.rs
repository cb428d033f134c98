//! What to do next: the difference between what should be and what is, as steps.
//!
//! One path serves a fresh start, a restart and a repair. Only steps whose ground is already
//! observed are planned (a machine when its volumes and interfaces are there), so that all steps of one
//! plan may run side by side; the next look brings the next plan. Whatever the host has that is not
//! wanted is removed, but never data that no row calls doomed: a volume or image that nobody knows is
//! left alone.

use std::collections::BTreeSet;

use spec::Fingerprint;
use spec::ids::{InstanceId, InterfaceId, VpcId};
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

/// What to do next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Steps that may all run side by side.
    pub steps: Vec<Step>,
    /// When to look again though nothing may have changed: a deadline or the end of a backoff.
    pub wake_at: Option<Timestamp>,
}

/// What was looked at: facts, their scope, and the resources that a step is working on, about which
/// nothing may be concluded.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// What was looked for.
    pub scope: &'a Scope,
    /// What was found.
    pub observed: &'a Observed,
    /// What is being changed just now.
    pub busy: &'a BTreeSet<Resource>,
}

impl Look<'_> {
    /// Whether this look says something about the resource.
    pub fn covers(&self, resource: Resource) -> bool {
        self.scope.covers(resource) && !self.busy.contains(&resource)
    }
}

/// Plans the next steps.
pub fn plan(world: &World, look: Look<'_>, now: Timestamp) -> Plan {
    let mut planner = Planner { world, look, now, plan: Plan::default() };
    planner.networks();
    planner.interfaces_and_groups();
    planner.volumes();
    planner.images();
    planner.machines();
    planner.plan
}

struct Planner<'a> {
    world: &'a World,
    look: Look<'a>,
    now: Timestamp,
    plan: Plan,
}

impl Planner<'_> {
    /// Adds a step, unless the look says nothing about its resource.
    fn step(&mut self, step: Step) {
        if self.look.covers(step.resource()) {
            self.plan.steps.push(step);
        }
    }

    fn wake(&mut self, at: Timestamp) {
        self.plan.wake_at = Some(self.plan.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    fn networks(&mut self) {
        for vpc in self.world.vpcs.values().filter(|vpc| self.world.wants_network(vpc.id)) {
            let network = self.world.wanted_network(vpc);
            if !self.network_is(&network) {
                self.step(Step::EnsureNetwork(network));
            }
        }
        for vpc in self.look.observed.networks.keys().filter(|vpc| !self.world.wants_network(**vpc)) {
            self.step(Step::RemoveNetwork(*vpc));
        }
    }

    fn network_is(&self, network: &network::Network) -> bool {
        self.look.observed.networks.get(&network.vpc) == Some(&Some(Fingerprint::of(network)))
    }

    /// The VPC's namespace is there just as it should be, and may be built upon.
    fn network_stands(&self, vpc: VpcId) -> bool {
        let wanted = self.world.vpcs.get(&vpc).filter(|_| self.world.wants_network(vpc));
        wanted.is_some_and(|vpc| self.network_is(&self.world.wanted_network(vpc)))
    }

    /// Inside namespaces that stay. Groups come before the interfaces in them, and go after.
    fn interfaces_and_groups(&mut self) {
        let world = self.world;
        for vpc in world.vpcs.keys().copied() {
            if self.network_stands(vpc) {
                let settled = self.interfaces(vpc);
                self.groups(vpc, settled);
            }
        }
    }

    fn groups(&mut self, vpc: VpcId, interfaces_settled: bool) {
        let (world, observed) = (self.world, self.look.observed);
        let wanted = world.wanted_groups(vpc);
        for group in wanted.iter().filter_map(|id| world.security_groups.get(id)) {
            let group = world.wanted_group(group);
            if observed.groups.get(&(vpc, group.id)) != Some(&Some(Fingerprint::of(&group))) {
                self.step(Step::EnsureGroup(group));
            }
        }
        let found = observed.groups.keys().filter(|(of, _)| *of == vpc).map(|(_, id)| *id);
        for group in found.filter(|id| interfaces_settled && !wanted.contains(id)) {
            self.step(Step::RemoveGroup(vpc, group));
        }
    }

    /// Plans the VPC's interfaces; true when there was nothing to do.
    fn interfaces(&mut self, vpc: VpcId) -> bool {
        let before = self.plan.steps.len();
        for row in
            self.world.interfaces.values().filter(|row| row.vpc == vpc && self.world.wants_interface(row))
        {
            let wanted = self.world.wanted_interface(row);
            if !self.interface_is(&wanted) && self.groups_stand(row) {
                self.step(Step::EnsureInterface(wanted));
            }
        }
        let found: Vec<InterfaceId> = self.found_interfaces(vpc).collect();
        for id in found {
            if !self.world.interfaces.get(&id).is_some_and(|row| self.world.wants_interface(row)) {
                self.step(Step::RemoveInterface(vpc, id));
            }
        }
        self.plan.steps.len() == before
    }

    fn found_interfaces(&self, vpc: VpcId) -> impl Iterator<Item = InterfaceId> + '_ {
        let found = self.look.observed.interfaces.keys();
        found.filter(move |(of, _)| *of == vpc).map(|(_, id)| *id)
    }

    fn interface_is(&self, wanted: &network::Interface) -> bool {
        self.look.observed.interfaces.get(&(wanted.vpc, wanted.id)) == Some(&Some(Fingerprint::of(wanted)))
    }

    /// The groups that the interface is in are there, if not yet with their newest rules.
    fn groups_stand(&self, row: &Interface) -> bool {
        row.groups.iter().all(|id| matches!(self.look.observed.groups.get(&(row.vpc, *id)), Some(Some(_))))
    }

    fn volumes(&mut self) {
        for volume in self.world.volumes.values() {
            let exists = self.look.observed.volumes.contains(&volume.id);
            let wanted = self.world.wants_volume(volume);
            let base_exists = volume.base.is_none_or(|image| self.look.observed.images.contains(&image));
            if wanted && !exists && base_exists {
                self.step(Step::CreateVolume(self.world.wanted_volume(volume)));
            } else if !wanted && exists && !self.in_use(volume) {
                self.step(Step::RemoveVolume(volume.id));
            }
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

    fn images(&mut self) {
        for image in self.world.images.values().filter(|image| image.doomed) {
            let unused = self.world.based_on(image.id).next().is_none();
            if unused && self.look.observed.images.contains(&image.id) {
                self.step(Step::RemoveImage(image.id));
            }
        }
    }

    fn machines(&mut self) {
        for instance in self.world.instances.values() {
            if let Some(wish) = self.world.wanted_machine(instance) {
                self.machine(instance, wish);
            }
        }
        for (id, state) in &self.look.observed.machines {
            if !self.world.instances.contains_key(id) {
                self.end_machine(*id, state);
            }
        }
    }

    fn machine(&mut self, instance: &Instance, wish: MachineWish) {
        let id = instance.id;
        if !self.look.covers(Resource::Machine(id)) {
            return;
        }
        let found = self.look.observed.machines.get(&id);
        match (wish.aim, found) {
            (Aim::Run, Some(MachineState::Running { run: Some(run), .. })) if *run < wish.machine.run => {
                self.step(Step::KillMachine(id));
            }
            (Aim::Run, Some(MachineState::Running { status: Some(status), .. })) => {
                if status.reboots < instance.reboots {
                    self.step(Step::Reboot(id, instance.reboots));
                }
            }
            (Aim::Run, Some(MachineState::Running { status: None, .. })) => {}
            (Aim::Run, _) => self.start_machine(wish),
            (Aim::Down { .. } | Aim::Gone, None) => {}
            (Aim::Down { force: true }, Some(state)) => self.end_machine(id, state),
            (Aim::Down { force: false }, Some(state)) => {
                self.power_off(id, state, wish.since.plus_seconds(STOP_PATIENCE));
            }
            (Aim::Gone, Some(state)) => {
                self.power_off(id, state, wish.since.plus_seconds(TERMINATE_PATIENCE))
            }
        }
    }

    fn start_machine(&mut self, wish: MachineWish) {
        if wish.not_before > self.now {
            self.wake(wish.not_before);
        } else if self.ground_stands(&wish) {
            self.step(Step::StartMachine(wish.machine));
        }
    }

    /// The volumes and interfaces of the machine are there.
    fn ground_stands(&self, wish: &MachineWish) -> bool {
        let world = self.world;
        let disks = wish.machine.disks.iter().all(|disk| self.look.observed.volumes.contains(&disk.volume));
        let nics = wish.machine.nics.iter().all(|nic| {
            world.interfaces.get(&nic.interface).is_some_and(|row| {
                self.network_stands(row.vpc) && self.interface_is(&world.wanted_interface(row))
            })
        });
        disks && nics && !wish.machine.disks.is_empty()
    }

    fn power_off(&mut self, id: InstanceId, state: &MachineState, deadline: Timestamp) {
        match state {
            MachineState::Running { .. } if deadline <= self.now => self.step(Step::KillMachine(id)),
            MachineState::Running { status, .. } => {
                self.wake(deadline);
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
