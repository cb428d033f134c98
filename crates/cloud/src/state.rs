//! What the user sees, computed from what the user wants and what was seen.
//!
//! ```text
//!              goal: run              goal: down              goal: gone
//!   not up     pending                stopped                 shutting-down, then terminated
//!   up         running                stopping                shutting-down
//! ```
//!
//! A life that is over by itself changes the aim without a user's word: a guest's own power-off
//! means stop or terminate, as its instance says; a life that could not be kept up means stop, or
//! terminate where it was the first. Source: AWS, *Amazon EC2 instance state changes*.

use std::net::Ipv4Addr;
use std::sync::Arc;

use spec::ids::{InstanceId, InterfaceId};
use spec::machine::{DeviceId, Run};

use crate::model::*;
use crate::time::Timestamp;
use crate::world::World;

/// An instance's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "EC2's names, explained there")]
pub enum InstanceState {
    Pending,
    Running,
    ShuttingDown,
    Terminated,
    Stopping,
    Stopped,
}

impl InstanceState {
    /// EC2's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::ShuttingDown => "shutting-down",
            Self::Terminated => "terminated",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }

    /// EC2's code.
    pub const fn code(self) -> u16 {
        match self {
            Self::Pending => 0,
            Self::Running => 16,
            Self::ShuttingDown => 32,
            Self::Terminated => 48,
            Self::Stopping => 64,
            Self::Stopped => 80,
        }
    }
}

/// A volume's state, by EC2's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "EC2's names, explained there")]
pub enum VolumeState {
    Creating,
    Available,
    InUse,
    Deleting,
}

impl VolumeState {
    /// EC2's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Available => "available",
            Self::InUse => "in-use",
            Self::Deleting => "deleting",
        }
    }
}

/// How far an attachment is, by EC2's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "EC2's names, explained there")]
pub enum AttachmentState {
    Attaching,
    Attached,
    Detaching,
}

impl World {
    /// Whether the files behind a volume have failed the guest that uses it, since its machine began.
    pub fn is_impaired(&self, volume: &Volume) -> bool {
        let instance = volume.attachment.as_ref().and_then(|at| self.instance_statuses.get(&at.instance));
        instance.is_some_and(|status| status.disk_failures.contains_key(&volume.id))
    }

    /// The life of the instance that ended by itself, if it is the one the user wants.
    pub fn over(&self, instance: &Instance) -> Option<&Over> {
        let status = self.instance_statuses.get(&instance.id)?;
        status.over.as_ref().filter(|over| over.incarnation == instance.goal.incarnation)
    }

    /// What is to be aimed at: the user's goal, unless that life is over by itself.
    pub fn aim(&self, instance: &Instance) -> Aim {
        let Some(over) = self.over(instance).filter(|_| instance.goal.aim == Aim::Run) else {
            return instance.goal.aim;
        };
        let terminate = match over.why {
            WhyOver::PoweredOff => instance.shutdown_behavior == ShutdownBehavior::Terminate,
            WhyOver::GivenUp { .. } => over.incarnation == 1,
        };
        if terminate { Aim::Gone } else { Aim::Down { force: true, hibernate: false } }
    }

    /// Its machine is saved, with the devices that it had then.
    pub fn is_saved(&self, instance: InstanceId) -> bool {
        self.instance_statuses.get(&instance).is_some_and(|status| status.saved)
    }

    /// Its machine's process was seen to run.
    pub fn is_up(&self, instance: InstanceId) -> bool {
        self.instance_statuses.get(&instance).is_some_and(|status| status.seen == Seen::Running)
    }

    /// The state the user sees.
    pub fn instance_state(&self, instance: &Instance) -> InstanceState {
        let status = self.instance_statuses.get(&instance.id);
        let up = self.is_up(instance.id);
        match self.aim(instance) {
            Aim::Run if status.is_some_and(|status| has_run(status, instance.goal.incarnation)) => {
                InstanceState::Running
            }
            Aim::Run => InstanceState::Pending,
            Aim::Down { .. } if up => InstanceState::Stopping,
            Aim::Down { .. } => InstanceState::Stopped,
            Aim::Gone if status.is_some_and(|status| status.gone.is_some()) => InstanceState::Terminated,
            Aim::Gone => InstanceState::ShuttingDown,
        }
    }

    /// The state of the instance with that id; terminated where there is none.
    pub fn state_of(&self, instance: InstanceId) -> InstanceState {
        self.instances.get(&instance).map_or(InstanceState::Terminated, |row| self.instance_state(row))
    }

    /// The volume's state.
    pub fn volume_state(&self, volume: &Volume) -> VolumeState {
        if volume.doomed {
            VolumeState::Deleting
        } else if !self.volume_statuses.contains_key(&volume.id) {
            VolumeState::Creating
        } else if volume.attachment.is_some() {
            VolumeState::InUse
        } else {
            VolumeState::Available
        }
    }

    /// When the volume's last modification was through; none while it is not, or where there was none.
    pub fn modification_end(&self, volume: &Volume) -> Option<Timestamp> {
        let started = volume.modification?.started;
        let status = self.volume_statuses.get(&volume.id)?;
        status.modified.filter(|modified| *modified > started)
    }

    /// How far the volume's attachment to its instance is.
    pub fn volume_attachment_state(&self, volume: &Volume, at: &VolumeAttachment) -> AttachmentState {
        match self.volume_state(volume) {
            VolumeState::Creating => AttachmentState::Attaching,
            VolumeState::Deleting => AttachmentState::Detaching,
            _ => self.attachment_state(at.instance, DeviceId::Disk(volume.id), at.detach),
        }
    }

    /// How far the interface's attachment to its instance is.
    pub fn interface_attachment_state(&self, id: InterfaceId, at: &InterfaceAttachment) -> AttachmentState {
        self.attachment_state(at.instance, DeviceId::Nic(id), at.detach)
    }

    /// With a machine that does not run, or does not say what it has, everything is attached that should be.
    fn attachment_state(
        &self,
        instance: InstanceId,
        device: DeviceId,
        detach: Option<Detach>,
    ) -> AttachmentState {
        let devices = self.instance_statuses.get(&instance).and_then(|status| status.devices.as_ref());
        match detach {
            Some(_) => AttachmentState::Detaching,
            None if devices.is_some_and(|devices| !devices.contains(&device)) => AttachmentState::Attaching,
            None => AttachmentState::Attached,
        }
    }

    /// The interface's public address, while it has one: from its instance's launch or start until its
    /// machine is down.
    pub fn public_address(&self, interface: &Interface) -> Option<Ipv4Addr> {
        let instance = self.instances.get(&interface.attachment.as_ref()?.instance)?;
        interface.auto_public.filter(|_| self.needs_machine(instance) && !interface.doomed)
    }

    /// The instance's machine is there or should be, so what it needs should be too.
    pub fn needs_machine(&self, instance: &Instance) -> bool {
        self.aim(instance) == Aim::Run || self.is_up(instance.id)
    }

    /// The instance uses the host's memory and processors, or is about to.
    pub fn occupies(&self, instance: &Instance) -> bool {
        !matches!(self.instance_state(instance), InstanceState::Stopped | InstanceState::Terminated)
    }

    /// The primary interface of an instance.
    pub fn primary_interface(&self, instance: InstanceId) -> Option<&Arc<Interface>> {
        self.interfaces_of(instance).into_iter().next()
    }
}

/// That incarnation runs, or ran and is being brought up again.
fn has_run(status: &InstanceStatus, incarnation: u32) -> bool {
    let Run { incarnation: seen, attempt } = status.run;
    seen == incarnation && (status.seen == Seen::Running || attempt > 1)
}
