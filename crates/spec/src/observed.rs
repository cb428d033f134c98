//! What is: the facts a host reports, which the planner compares with what should be.
//!
//! Facts are looked up afresh each time, from the kernel and the file system, never from a
//! memory of what was done. A report covers a [`Scope`]; nothing may be concluded about what lies outside it.

use std::collections::{BTreeMap, BTreeSet};

use crate::Fingerprint;
use crate::control::{Ending, Status};
use crate::ids::{GroupId, ImageId, InstanceId, InterfaceId, VolumeId, VpcId};
use crate::machine::Run;
use crate::steps::Resource;

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All there is, strays included.
    Everything,
    /// These only.
    Resources(BTreeSet<Resource>),
}

impl Scope {
    /// Whether a report on this scope says something about `resource`.
    pub fn covers(&self, resource: Resource) -> bool {
        match self {
            Self::Everything => true,
            Self::Resources(resources) => resources.contains(&resource),
        }
    }
}

/// Everything a host found within a scope. What is absent here and covered by the scope does not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The namespaces that are VPCs, each with the mark of the [`Network`](crate::network::Network) it was made from; no
    /// mark where it is incomplete or was changed by others, so that it is ensured again.
    pub networks: BTreeMap<VpcId, Option<Fingerprint>>,
    /// Security groups, likewise.
    pub groups: BTreeMap<(VpcId, GroupId), Option<Fingerprint>>,
    /// Interfaces, likewise.
    pub interfaces: BTreeMap<(VpcId, InterfaceId), Option<Fingerprint>>,
    /// The volumes that exist whole.
    pub volumes: BTreeSet<VolumeId>,
    /// The images that exist whole.
    pub images: BTreeSet<ImageId>,
    /// The machines of which there is anything: process, run directory or cgroup.
    pub machines: BTreeMap<InstanceId, MachineState>,
}

/// What there is of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineState {
    /// Its lock is held: its process lives. The status is missing where its socket does not answer (yet).
    Running {
        /// Which life of the instance; `None` while the run directory cannot say it.
        run: Option<Run>,
        /// What it says of itself.
        status: Option<Status>,
    },
    /// Its process is gone and left word of why.
    Ended(Ending),
    /// Its process is gone without a word: killed, or the host went down.
    Lost {
        /// Which life of the instance; `None` where the run directory cannot say it.
        run: Option<Run>,
    },
}
