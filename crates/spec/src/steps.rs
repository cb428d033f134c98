//! What to do next: the planner's words, which a host carries out one by one.
//!
//! A step carries all it needs. Doing it twice does no more than doing it once, and a step cut short
//! anywhere is completed by doing it again. Steps on different resources may run side by side.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{GroupId, ImageId, InstanceId, InterfaceId, VolumeId, VpcId};
use crate::machine::{Device, DeviceId, Limits, Machine};
use crate::network::{Interface, Network, SecurityGroup};
use crate::storage::Volume;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", content = "of", rename_all = "kebab-case")]
pub enum Step {
    /// Make a VPC's namespace, bridges, routes and uplink be so.
    EnsureNetwork(Network),
    /// Take a VPC's namespace away with all in it.
    RemoveNetwork(VpcId),
    /// Make a security group's rules be so, in one transaction.
    EnsureGroup(SecurityGroup),
    /// Take a group away that no interface is in any more.
    RemoveGroup(VpcId, GroupId),
    /// Make a TAP, its anti-spoofing, its part in its groups and its public addresses be so, the rules in one
    /// transaction.
    EnsureInterface(Interface),
    /// Take a TAP away with its rules.
    RemoveInterface(VpcId, InterfaceId),
    /// Make a volume, in constant time.
    CreateVolume(Volume),
    /// Take a volume away with all its data.
    RemoveVolume(VolumeId),
    /// Take an image's disk away that no volume is based on any more.
    RemoveImage(ImageId),
    /// Take away what was saved of a machine.
    RemoveMemory(InstanceId),
    /// Launch a machine's process, detached. Where that run already runs, nothing. What was saved of it is used up by
    /// that, whether it goes on from there or begins anew.
    StartMachine(Machine),
    /// Press a machine's power button; see [`crate::control::Request::PowerOff`].
    PowerOff(InstanceId),
    /// Reboot a machine; see [`crate::control::Request::Reboot`].
    Reboot(InstanceId, u64),
    /// Give a running machine a device; see [`crate::control::Request::Attach`]. Its volume or TAP must be there.
    AttachDevice(InstanceId, Device),
    /// Begin to take a device away from a running machine, by force or not; see [`crate::control::Request::Detach`]. It
    /// is gone when the machine's status no longer has it.
    DetachDevice(InstanceId, DeviceId, bool),
    /// Make a running machine's disk larger, to so many bytes; see [`crate::control::Request::Resize`].
    GrowDisk(InstanceId, VolumeId, u64),
    /// Have a machine write itself down and end; see [`crate::control::Request::Save`].
    SaveMachine(InstanceId),
    /// Change how much a running machine's device may do; see [`crate::control::Request::Limit`].
    LimitDevice(InstanceId, DeviceId, Limits),
    /// Kill every process of a machine, at once.
    KillMachine(InstanceId),
    /// Take what is left of a machine that has ended: run directory, cgroup. Of one that was saved, what it saved is kept
    /// from here on.
    RemoveMachine(InstanceId),
}

impl Step {
    /// What the step is about; two steps on one resource never run at the same time.
    pub fn resource(&self) -> Resource {
        match self {
            Self::EnsureNetwork(network) => Resource::Network(network.vpc),
            Self::RemoveNetwork(vpc) => Resource::Network(*vpc),
            Self::EnsureGroup(group) => Resource::Group(group.vpc, group.id),
            Self::RemoveGroup(vpc, group) => Resource::Group(*vpc, *group),
            Self::EnsureInterface(interface) => Resource::Interface(interface.vpc, interface.id),
            Self::RemoveInterface(vpc, interface) => Resource::Interface(*vpc, *interface),
            Self::CreateVolume(volume) => Resource::Volume(volume.id),
            Self::RemoveVolume(volume) => Resource::Volume(*volume),
            Self::RemoveImage(image) => Resource::Image(*image),
            Self::RemoveMemory(instance) => Resource::Memory(*instance),
            Self::StartMachine(machine) => Resource::Machine(machine.instance),
            Self::PowerOff(instance)
            | Self::Reboot(instance, _)
            | Self::AttachDevice(instance, _)
            | Self::DetachDevice(instance, _, _)
            | Self::GrowDisk(instance, _, _)
            | Self::SaveMachine(instance)
            | Self::LimitDevice(instance, _, _)
            | Self::KillMachine(instance)
            | Self::RemoveMachine(instance) => Resource::Machine(*instance),
        }
    }

    /// The step's verb, for logs and messages: `start machine`.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::EnsureNetwork(_) => "set up network",
            Self::RemoveNetwork(_) => "remove network",
            Self::EnsureGroup(_) => "set up security group",
            Self::RemoveGroup(..) => "remove security group",
            Self::EnsureInterface(_) => "set up interface",
            Self::RemoveInterface(..) => "remove interface",
            Self::CreateVolume(_) => "create volume",
            Self::RemoveVolume(_) => "remove volume",
            Self::RemoveImage(_) => "remove image",
            Self::RemoveMemory(_) => "remove saved machine",
            Self::StartMachine(_) => "start machine",
            Self::PowerOff(_) => "power off machine",
            Self::Reboot(..) => "reboot machine",
            Self::AttachDevice(..) => "attach device to machine",
            Self::DetachDevice(..) => "detach device from machine",
            Self::GrowDisk(..) => "enlarge disk of machine",
            Self::SaveMachine(_) => "save machine",
            Self::LimitDevice(..) => "limit device of machine",
            Self::KillMachine(_) => "kill machine",
            Self::RemoveMachine(_) => "clear away machine",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb(), self.resource())
    }
}

/// Something on the host that a step can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resource {
    /// A VPC's namespace.
    Network(VpcId),
    /// A security group's rules, in a VPC's namespace.
    Group(VpcId, GroupId),
    /// An interface's TAP, in a VPC's namespace.
    Interface(VpcId, InterfaceId),
    /// A volume's files.
    Volume(VolumeId),
    /// An image's files.
    Image(ImageId),
    /// What was saved of an instance's machine.
    Memory(InstanceId),
    /// An instance's process and run directory.
    Machine(InstanceId),
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(id) => id.fmt(f),
            Self::Group(_, id) => id.fmt(f),
            Self::Interface(_, id) => id.fmt(f),
            Self::Volume(id) => id.fmt(f),
            Self::Image(id) => id.fmt(f),
            Self::Memory(id) | Self::Machine(id) => id.fmt(f),
        }
    }
}
