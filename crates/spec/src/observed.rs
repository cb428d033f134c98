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
    /// The saved machines that exist whole, by instance.
    pub memories: BTreeSet<InstanceId>,
    /// The machines of which there is anything: process, run directory or cgroup.
    pub machines: BTreeMap<InstanceId, MachineState>,
}

impl Observed {
    /// What of it is within a scope, at the cost of the scope.
    pub fn within(&self, scope: &Scope) -> Self {
        let Scope::Resources(resources) = scope else { return self.clone() };
        let mut within = Self::default();
        for resource in resources {
            match resource {
                Resource::Network(vpc) => take(&self.networks, *vpc, &mut within.networks),
                Resource::Group(vpc, id) => take(&self.groups, (*vpc, *id), &mut within.groups),
                Resource::Interface(vpc, id) => take(&self.interfaces, (*vpc, *id), &mut within.interfaces),
                Resource::Volume(id) => within.volumes.extend(self.volumes.get(id)),
                Resource::Image(id) => within.images.extend(self.images.get(id)),
                Resource::Memory(id) => within.memories.extend(self.memories.get(id)),
                Resource::Machine(id) => take(&self.machines, *id, &mut within.machines),
            }
        }
        within
    }

    /// All that was found.
    pub fn resources(&self) -> impl Iterator<Item = Resource> {
        let networks = self.networks.keys().map(|vpc| Resource::Network(*vpc));
        let groups = self.groups.keys().map(|(vpc, id)| Resource::Group(*vpc, *id));
        let interfaces = self.interfaces.keys().map(|(vpc, id)| Resource::Interface(*vpc, *id));
        let volumes = self.volumes.iter().copied().map(Resource::Volume);
        let images = self.images.iter().copied().map(Resource::Image);
        let memories = self.memories.iter().copied().map(Resource::Memory);
        let machines = self.machines.keys().copied().map(Resource::Machine);
        networks.chain(groups).chain(interfaces).chain(volumes).chain(images).chain(memories).chain(machines)
    }
}

fn take<K: Ord, V: Clone>(from: &BTreeMap<K, V>, key: K, into: &mut BTreeMap<K, V>) {
    if let Some(value) = from.get(&key) {
        into.insert(key, value.clone());
    }
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
