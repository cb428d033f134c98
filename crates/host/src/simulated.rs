//! A host in memory: the same trait, no root, no KVM, no guests.
//!
//! It is for trying and testing the API: what a step makes is noted, and nothing else happens.
//! A [`Simulated`] is a handle; clones share one host, so a host outlives the daemon that used
//! it, as a real one does. [`Simulated::cut_after`] makes it go dead after some effects, before or
//! after the next one is reported, to test that any moment is a good one to be killed.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{SocketAddrV4, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use spec::Fingerprint;
use spec::control::{DeviceState, DiskStatus, EndReason, Ending, NicStatus, Status};
use spec::ids::{ImageId, InstanceId, VolumeId, VpcId};
use spec::machine::{Device, DeviceId, Limits, Machine};
use spec::network::Network;
use spec::observed::{MachineState, Observed, Scope};
use spec::steps::{Resource, Step};
use spec::storage::{Architecture, ImageFacts};

use crate::{Capacity, Error, ErrorKind, GuestSockets, Host};

/// A simulated host, or rather a handle to one.
#[derive(Clone, Debug)]
pub struct Simulated(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    found: Observed,
    /// Bytes of each volume.
    sizes: BTreeMap<VolumeId, u64>,
    capacity: Capacity,
    hints: Sender<Resource>,
    receiver: Option<Receiver<Resource>>,
    /// Effects until the host goes dead.
    left: Option<u64>,
    effects: u64,
}

impl Simulated {
    /// An empty host of that size.
    pub fn new(capacity: Capacity) -> Self {
        let (hints, receiver) = channel();
        Self(Arc::new(Mutex::new(State {
            found: Observed::default(),
            sizes: BTreeMap::new(),
            capacity,
            hints,
            receiver: Some(receiver),
            left: None,
            effects: 0,
        })))
    }

    /// Everything that is on the host.
    pub fn found(&self) -> Observed {
        self.state().found.clone()
    }

    /// How many effects there were so far.
    pub fn effects(&self) -> u64 {
        self.state().effects
    }

    /// Lets `effects` more effects happen, and fails every call from then on; `None` brings the host back. The
    /// last effect happens, but its step is reported as failed, as it is for a daemon that dies there.
    pub fn cut_after(&self, effects: Option<u64>) {
        self.state().left = effects;
    }

    /// Whether the host has gone dead.
    pub fn is_cut(&self) -> bool {
        self.state().left == Some(0)
    }

    /// Puts an image there without importing it.
    pub fn add_image(&self, image: ImageId) {
        self.state().found.images.insert(image);
    }

    /// The guest of a machine powers itself off.
    pub fn power_off_inside(&self, instance: InstanceId) {
        self.state().end(instance, EndReason::PoweredOff);
    }

    /// Somebody kills a machine's process.
    pub fn kill_outside(&self, instance: InstanceId) {
        let mut state = self.state();
        state.lose(instance);
        state.hint(Resource::Machine(instance));
    }

    /// The host is switched off and on: what is not on disk is gone.
    pub fn switch_off_and_on(&self) {
        let mut state = self.state();
        let found = std::mem::take(&mut state.found);
        let Observed { volumes, images, memories, .. } = found;
        state.found = Observed { volumes, images, memories, ..Observed::default() };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn alive(&self) -> Result<(), Error> {
        match self.left {
            Some(0) => Err(Error::new(ErrorKind::Passing, "The simulated host was cut off")),
            _ => Ok(()),
        }
    }

    /// Counts an effect; the error where it was the last one.
    fn effect(&mut self) -> Result<(), Error> {
        self.effects += 1;
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        self.alive()
    }

    fn hint(&self, resource: Resource) {
        // Nobody may listen any more; a hint is only a hint.
        let _ = self.hints.send(resource);
    }

    fn end(&mut self, instance: InstanceId, reason: EndReason) {
        if let Some(MachineState::Running { run: Some(run), .. }) = self.found.machines.get(&instance) {
            let ending = Ending { run: *run, reason, message: "The guest powered itself off".into() };
            self.found.machines.insert(instance, MachineState::Ended(ending));
            self.hint(Resource::Machine(instance));
        }
    }

    fn lose(&mut self, instance: InstanceId) {
        if let Some(MachineState::Running { run, .. }) = self.found.machines.get(&instance) {
            let lost = MachineState::Lost { run: *run };
            self.found.machines.insert(instance, lost);
        }
    }

    fn start(&mut self, machine: &Machine) -> Result<(), Error> {
        if let Some(MachineState::Running { run, .. }) = self.found.machines.get(&machine.instance) {
            return match run {
                Some(run) if *run == machine.run => Ok(()),
                _ => Err(refuse(format!("Another run of {} still runs", machine.instance))),
            };
        }
        let run = machine.run;
        let mut status = Status { free_ports: machine.ports, ..Status::new(run, machine.reboots) };
        let disks = machine.disks.iter().cloned().map(Device::Disk);
        let nics = machine.nics.iter().cloned().map(Device::Nic);
        for (index, device) in disks.enumerate().chain(nics.enumerate()) {
            self.check_ground(machine.instance, &device)?;
            // The root disk and the primary interface stay; of the others, whoever finds a port may go.
            let place = if index == 0 { None } else { take_port(&mut status) };
            self.put(&mut status, &device, place);
        }
        let state = MachineState::Running { run: Some(run), status: Some(status) };
        self.found.memories.remove(&machine.instance);
        self.found.machines.insert(machine.instance, state);
        Ok(())
    }

    /// Whether what stands behind a device is there.
    fn check_ground(&self, instance: InstanceId, device: &Device) -> Result<(), Error> {
        let (there, kind) = match device {
            Device::Disk(disk) => (self.found.volumes.contains(&disk.volume), "volume"),
            Device::Nic(nic) => {
                (self.found.interfaces.keys().any(|(_, id)| *id == nic.interface), "interface")
            }
        };
        if there { Ok(()) } else { Err(refuse(format!("{instance} has no {kind} {}", device.id()))) }
    }

    fn put(&self, status: &mut Status, device: &Device, port: Option<u8>) {
        match device {
            Device::Disk(disk) => {
                let bytes = self.sizes.get(&disk.volume).copied().unwrap_or_default();
                status.disks.insert(
                    disk.volume,
                    DiskStatus {
                        port,
                        state: DeviceState::Attached,
                        bytes,
                        limits: disk.limits,
                        failure: None,
                    },
                );
            }
            Device::Nic(nic) => {
                status.nics.insert(
                    nic.interface,
                    NicStatus { port, state: DeviceState::Attached, limits: nic.limits },
                );
            }
        }
    }

    /// Changes what a running machine says of itself.
    fn change(
        &mut self,
        instance: InstanceId,
        change: impl FnOnce(&Self, &mut Status) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Some(MachineState::Running { status: Some(status), .. }) = self.found.machines.get(&instance)
        else {
            return Err(Error::new(ErrorKind::NotFound, format!("{instance} does not run")));
        };
        let mut changed = status.clone();
        change(self, &mut changed)?;
        let run = Some(changed.run);
        let state = MachineState::Running { run, status: Some(changed) };
        self.found.machines.insert(instance, state);
        Ok(())
    }

    fn attach(&mut self, instance: InstanceId, device: &Device) -> Result<(), Error> {
        self.change(instance, |host, status| {
            if status.state_of(device.id()).is_none() {
                host.check_ground(instance, device)?;
                let port = take_port(status)
                    .ok_or_else(|| refuse(format!("No root port is free for the device {}", device.id())))?;
                host.put(status, device, Some(port));
            }
            Ok(())
        })
    }

    /// This host's guests obey at once.
    fn detach(&mut self, instance: InstanceId, device: DeviceId) -> Result<(), Error> {
        self.change(instance, |_, status| {
            let port = match device {
                DeviceId::Disk(id) => status.disks.get(&id).map(|disk| disk.port),
                DeviceId::Nic(id) => status.nics.get(&id).map(|nic| nic.port),
            };
            match port {
                None => return Ok(()),
                Some(None) => return Err(refuse(format!("The device {device} is in no root port"))),
                Some(Some(_)) => status.free_ports += 1,
            }
            match device {
                DeviceId::Disk(id) => drop(status.disks.remove(&id)),
                DeviceId::Nic(id) => drop(status.nics.remove(&id)),
            }
            Ok(())
        })
    }

    fn grow(&mut self, instance: InstanceId, volume: VolumeId, bytes: u64) -> Result<(), Error> {
        self.change(instance, |_, status| {
            let disk = status.disks.get_mut(&volume);
            let disk = disk.ok_or_else(|| refuse(format!("{instance} has no disk {volume}")))?;
            disk.bytes = disk.bytes.max(bytes);
            Ok(())
        })?;
        self.sizes.entry(volume).and_modify(|size| *size = bytes.max(*size)).or_insert(bytes);
        Ok(())
    }

    fn limit(&mut self, instance: InstanceId, device: DeviceId, limits: Limits) -> Result<(), Error> {
        self.change(instance, |_, status| {
            let has = match device {
                DeviceId::Disk(id) => status.disks.get_mut(&id).map(|disk| &mut disk.limits),
                DeviceId::Nic(id) => status.nics.get_mut(&id).map(|nic| &mut nic.limits),
            };
            *has.ok_or_else(|| refuse(format!("{instance} has no device {device}")))? = limits;
            Ok(())
        })
    }

    fn perform(&mut self, step: &Step) -> Result<(), Error> {
        let found = &mut self.found;
        match step {
            Step::EnsureNetwork(network) => {
                found.networks.insert(network.vpc, Some(Fingerprint::of(network)));
            }
            Step::RemoveNetwork(vpc) => {
                found.networks.remove(vpc);
                found.groups.retain(|(of, _), _| of != vpc);
                found.interfaces.retain(|(of, _), _| of != vpc);
            }
            Step::EnsureGroup(group) => {
                if !found.networks.contains_key(&group.vpc) {
                    return Err(refuse(format!("{} has no network {}", group.id, group.vpc)));
                }
                found.groups.insert((group.vpc, group.id), Some(Fingerprint::of(group)));
            }
            Step::RemoveGroup(vpc, id) => {
                found.groups.remove(&(*vpc, *id));
            }
            Step::EnsureInterface(row) => {
                if let Some(group) = row.groups.iter().find(|id| !found.groups.contains_key(&(row.vpc, **id)))
                {
                    return Err(refuse(format!("{} has no security group {group}", row.id)));
                }
                found.interfaces.insert((row.vpc, row.id), Some(Fingerprint::of(row)));
            }
            Step::RemoveInterface(vpc, id) => {
                found.interfaces.remove(&(*vpc, *id));
            }
            Step::CreateVolume(volume) => {
                if let Some(image) = volume.base.filter(|image| !found.images.contains(image)) {
                    return Err(refuse(format!("{} has no image {image}", volume.id)));
                }
                found.volumes.insert(volume.id);
                self.sizes.entry(volume.id).or_insert(volume.bytes);
            }
            Step::RemoveVolume(id) => {
                found.volumes.remove(id);
                self.sizes.remove(id);
            }
            Step::RemoveImage(id) => {
                found.images.remove(id);
            }
            Step::RemoveMemory(id) => drop(found.memories.remove(id)),
            Step::StartMachine(machine) => self.start(machine)?,
            Step::PowerOff(id) => self.end(*id, EndReason::PoweredOff),
            Step::Reboot(id, count) => {
                if let Some(MachineState::Running { status: Some(status), .. }) = found.machines.get_mut(id) {
                    (status.reboots, status.resets) = (*count, status.resets + 1);
                }
            }
            Step::AttachDevice(id, device) => self.attach(*id, device)?,
            Step::DetachDevice(id, device, _) => self.detach(*id, *device)?,
            Step::GrowDisk(id, volume, bytes) => self.grow(*id, *volume, *bytes)?,
            Step::SaveMachine(id) => self.end(*id, EndReason::Saved),
            Step::LimitDevice(id, device, limits) => self.limit(*id, *device, *limits)?,
            Step::KillMachine(id) => self.lose(*id),
            Step::RemoveMachine(id) => {
                if let Some(MachineState::Ended(Ending { reason: EndReason::Saved, .. })) =
                    found.machines.get(id)
                {
                    found.memories.insert(*id);
                }
                found.machines.remove(id);
            }
        }
        Ok(())
    }
}

/// Takes one of a machine's free ports.
fn take_port(status: &mut Status) -> Option<u8> {
    status.free_ports = status.free_ports.checked_sub(1)?;
    let ports = status.disks.values().map(|disk| disk.port).chain(status.nics.values().map(|nic| nic.port));
    let taken: Vec<u8> = ports.flatten().collect();
    (0..=u8::MAX).find(|port| !taken.contains(port))
}

fn refuse(what: String) -> Error {
    Error::new(ErrorKind::Passing, what)
}

fn unsupported<T>(what: &str) -> Result<T, Error> {
    Err(Error::new(ErrorKind::Unsupported, format!("{what} needs a real host; this one is simulated")))
}

impl Host for Simulated {
    fn observe(&self, scope: &Scope) -> Result<Observed, Error> {
        let state = self.state();
        state.alive()?;
        Ok(state.found.within(scope))
    }

    fn perform(&self, step: &Step) -> Result<(), Error> {
        let mut state = self.state();
        state.alive()?;
        state.perform(step)?;
        state.effect()
    }

    fn capacity(&self) -> Result<Capacity, Error> {
        Ok(self.state().capacity)
    }

    fn hints(&self) -> Option<Receiver<Resource>> {
        let mut state = self.state();
        state.receiver.take().or_else(|| {
            // A daemon that was restarted on this host listens in place of the one before.
            let (hints, receiver) = channel();
            state.hints = hints;
            Some(receiver)
        })
    }

    fn console_output(&self, instance: InstanceId) -> Result<Vec<u8>, Error> {
        match self.state().found.machines.get(&instance) {
            Some(_) => Ok(format!("{instance} runs on a simulated host: there is no guest\r\n").into_bytes()),
            None => Ok(Vec::new()),
        }
    }

    fn attach_console(&self, _: InstanceId) -> Result<UnixStream, Error> {
        unsupported("The serial console")
    }

    fn connect(&self, _: VpcId, _: SocketAddrV4, _: Duration) -> Result<TcpStream, Error> {
        unsupported("A connection to a guest")
    }

    fn guest_sockets(&self, _: &Network) -> Result<GuestSockets, Error> {
        unsupported("Serving guests")
    }

    fn network_identity(&self, _: VpcId) -> Option<u64> {
        None
    }

    fn guest_services(&self) -> Result<UnixStream, Error> {
        unsupported("Serving guests")
    }

    fn guard_guest_services(&self) -> Result<(), Error> {
        unsupported("Serving guests")
    }

    fn end_guest_services(&self) -> Result<(), Error> {
        unsupported("Serving guests")
    }

    fn staging_file(&self) -> Result<File, Error> {
        // Kept by nobody: what is uploaded to a simulated host only has to be counted.
        File::options()
            .write(true)
            .open("/dev/null")
            .map_err(|error| Error::passing("Could not open /dev/null", error))
    }

    fn import_image(
        &self,
        image: ImageId,
        _: File,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<ImageFacts, Error> {
        let mut state = self.state();
        state.alive()?;
        state.found.images.insert(image);
        progress(1, 1);
        state.effect()?;
        Ok(ImageFacts { bytes: 1 << 30, architecture: Architecture::HERE, kernel: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spec::ids::VolumeId;
    use spec::storage::Volume;

    fn host() -> Simulated {
        Simulated::new(Capacity { processors: 4, memory_mib: 8192 })
    }

    fn create(id: u64) -> Step {
        Step::CreateVolume(Volume { id: VolumeId::from_random(id), bytes: 1 << 30, base: None })
    }

    #[test]
    fn a_cut_host_has_done_its_last_effect_and_says_nothing_more() {
        let host = host();
        host.cut_after(Some(2));
        assert!(host.perform(&create(1)).is_ok());
        assert!(host.perform(&create(2)).is_err());
        assert!(host.perform(&create(3)).is_err() && host.observe(&Scope::Everything).is_err());
        host.cut_after(None);
        assert_eq!(host.observe(&Scope::Everything).unwrap().volumes.len(), 2);
        assert_eq!(host.effects(), 2);
    }

    #[test]
    fn observing_keeps_to_its_scope() {
        let host = host();
        host.perform(&create(1)).unwrap();
        let other = Scope::Resources([Resource::Volume(VolumeId::from_random(2))].into());
        assert!(host.observe(&other).unwrap().volumes.is_empty());
    }

    #[test]
    fn devices_come_to_running_machines_and_go() {
        use spec::machine::{Disk, Rate, Run};
        let host = host();
        let disk =
            |id| Disk { volume: VolumeId::from_random(id), read_only: false, limits: Limits::default() };
        let instance = InstanceId::from_random(1);
        let machine = Machine {
            instance,
            instance_type: String::new(),
            run: Run { incarnation: 1, attempt: 1 },
            user: 1,
            vcpus: 1,
            memory_mib: 64,
            disks: vec![disk(1), disk(2)],
            nics: Vec::new(),
            ports: 2,
            reboots: 0,
            hibernates: false,
            resumes: false,
            storage: Limits::default(),
        };
        (1..5).for_each(|id| host.perform(&create(id)).unwrap());
        host.perform(&Step::StartMachine(machine)).unwrap();
        let attach = |id| host.perform(&Step::AttachDevice(instance, Device::Disk(disk(id))));
        let detach = |id| host.perform(&Step::DetachDevice(instance, Device::Disk(disk(id)).id(), false));
        let ports = || match &host.found().machines[&instance] {
            MachineState::Running { status: Some(status), .. } => {
                (status.disks.values().map(|disk| disk.port).collect::<Vec<_>>(), status.free_ports)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(ports(), (vec![None, Some(0)], 1));
        attach(3).unwrap();
        attach(3).unwrap();
        assert_eq!(ports(), (vec![None, Some(0), Some(1)], 0));
        assert!(attach(4).is_err() && detach(1).is_err());
        detach(2).unwrap();
        detach(2).unwrap();
        attach(4).unwrap();
        assert_eq!(ports(), (vec![None, Some(1), Some(0)], 0));
        host.perform(&Step::GrowDisk(instance, VolumeId::from_random(4), 2 << 30)).unwrap();
        let operations = Some(Rate { per_second: 100.try_into().unwrap(), burst: 0, peak: None });
        let (limits, id) = (Limits { operations, bytes: None }, DeviceId::Disk(VolumeId::from_random(4)));
        host.perform(&Step::LimitDevice(instance, id, limits)).unwrap();
        let MachineState::Running { status: Some(status), .. } = &host.found().machines[&instance] else {
            panic!("it runs")
        };
        assert_eq!(status.disks[&VolumeId::from_random(4)].bytes, 2 << 30);
        assert_eq!(status.limits_of(id), Some(limits));
        let gone = DeviceId::Disk(VolumeId::from_random(2));
        assert!(host.perform(&Step::LimitDevice(instance, gone, limits)).is_err());
    }

    #[test]
    fn hints_go_to_whoever_listens_now() {
        let host = host();
        let first = host.hints().unwrap();
        let second = host.hints().unwrap();
        host.kill_outside(InstanceId::from_random(1));
        assert!(first.try_recv().is_err());
        assert_eq!(second.try_recv(), Ok(Resource::Machine(InstanceId::from_random(1))));
    }
}
