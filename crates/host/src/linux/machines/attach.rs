//! Devices of a machine that runs: what they need is opened here and handed over with the request.
//!
//! What a machine has, its status says; so a step that is repeated looks first. A volume is locked when it is opened,
//! and the lock goes over with the descriptor, as at a launch.

use std::fs::File;
use std::os::fd::OwnedFd;

use spec::control::{DeviceState, Request};
use spec::ids::{InstanceId, VolumeId};
use spec::machine::{Device, DeviceId, Limits, descriptors as names};

use super::launch::{OpenTap, access, largest};
use super::{ANSWER, Machines, control};
use crate::linux::storage::Storage;
use crate::linux::sys::limits;
use crate::{Error, ErrorKind};

impl Machines {
    /// Gives a running machine a device. One that it has already it keeps.
    pub fn attach(
        &self,
        instance: InstanceId,
        device: &Device,
        storage: &Storage,
        open_tap: OpenTap<'_>,
    ) -> Result<(), Error> {
        let id = device.id();
        let verb = format!("attach {id} to");
        let status =
            self.ask(instance, &Request::Status).map_err(|error| self.failed(instance, &verb, error))?;
        match status.state_of(id) {
            Some(DeviceState::Attached) => return Ok(()),
            Some(DeviceState::Detaching | DeviceState::Taken) => {
                let what = format!("Could not {verb} machine {instance}: it is not gone from there yet");
                return Err(Error::new(ErrorKind::Passing, what));
            }
            None => {}
        }
        let (names, descriptors) = match device {
            Device::Disk(disk) => {
                let parts = storage.open_volume(disk.volume, access(disk))?;
                self.allow_files_like(instance, [&parts.data, &parts.map])?;
                let named = parts.named().map(|(part, file)| (names::volume(disk.volume, part), file.into()));
                named.unzip::<_, OwnedFd, Vec<_>, Vec<_>>()
            }
            Device::Nic(nic) => open_tap(nic)?.into_iter().unzip(),
        };
        let request = Request::Attach { device: device.clone(), descriptors: names };
        control::ask(&self.folder(instance).control(), &request, &descriptors, ANSWER)
            .map(|_| ())
            .map_err(|error| self.failed(instance, &verb, error))
    }

    /// Begins to take a device away; gone it is when the machine's status no longer has it.
    pub fn detach(&self, instance: InstanceId, device: DeviceId, force: bool) -> Result<(), Error> {
        self.ask(instance, &Request::Detach { device, force })
            .map(|_| ())
            .map_err(|error| self.failed(instance, &format!("detach {device} from"), error))
    }

    /// Makes a running machine's disk larger.
    pub fn grow_disk(&self, instance: InstanceId, volume: VolumeId, bytes: u64) -> Result<(), Error> {
        self.allow_files_of(instance, bytes)?;
        self.ask(instance, &Request::Resize { volume, bytes })
            .map(|_| ())
            .map_err(|error| self.failed(instance, &format!("enlarge {volume} of"), error))
    }

    /// Changes how much a running machine's device may do.
    pub fn limit(&self, instance: InstanceId, device: DeviceId, limits: Limits) -> Result<(), Error> {
        self.ask(instance, &Request::Limit { device, limits })
            .map(|_| ())
            .map_err(|error| self.failed(instance, &format!("limit {device} of"), error))
    }

    fn allow_files_like(&self, instance: InstanceId, files: [&File; 2]) -> Result<(), Error> {
        let bytes = largest(files).map_err(|error| limit_error(instance, error))?;
        self.allow_files_of(instance, bytes)
    }

    /// Lets a machine's process write files so large: its limit is that of the largest disk it began with.
    fn allow_files_of(&self, instance: InstanceId, bytes: u64) -> Result<(), Error> {
        let processes = self.cgroups.processes(&instance.to_string());
        processes
            .and_then(|processes| {
                processes.into_iter().try_for_each(|process| limits::allow_files_of(process, bytes))
            })
            .map_err(|error| limit_error(instance, error))
    }
}

fn limit_error(instance: InstanceId, error: std::io::Error) -> Error {
    Error::passing(format!("Could not let machine {instance} write a larger disk"), error)
}
