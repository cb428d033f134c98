//! From the world to what the host should be: networks, groups, interfaces, volumes, machines.
//!
//! Only what a machine that runs or should run needs is wanted of the network: a cloud at rest
//! has no namespace on the host. Storage is wanted until it is doomed.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::Ipv4Net;
use spec::ids::*;
use spec::machine::{DeviceId, Disk, Limits, Machine, Nic, Run};
use spec::network::{self, PublicAddress, Route, Rule, Uplink};
use spec::steps::Resource;
use spec::storage;

use crate::catalog::{self, InstanceType};
use crate::limits;
use crate::model::*;
use crate::time::Timestamp;
use crate::world::World;

/// Bytes of a GiB.
const GIB: u64 = 1 << 30;
/// The largest packet inside a VPC, in bytes.
pub const MTU: u16 = 1500;
/// The first of the /31s that join VPCs to the host: link-local, as it is nobody else's business
/// (RFC 3927), and below the metadata service's 169.254.169.254.
const FIRST_LINK: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 0);

/// What should be of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineWish {
    /// What is aimed at.
    pub aim: Aim,
    /// Since when.
    pub since: Timestamp,
    /// Not before this moment is it to be started.
    pub not_before: Timestamp,
    /// The machine as it should run; its `run` is the next to be tried.
    pub machine: Machine,
}

impl World {
    /// The machine of an instance, as it should be; `None` where the instance's type is unknown.
    pub fn wanted_machine(&self, instance: &Instance) -> Option<MachineWish> {
        let kind = catalog::find(&instance.instance_type)?;
        let status = self.instance_statuses.get(&instance.id);
        let started = status.filter(|status| status.run.incarnation == instance.goal.incarnation);
        let run =
            started.map_or(Run { incarnation: instance.goal.incarnation, attempt: 1 }, |status| status.run);
        let since = self.over(instance).map_or(instance.goal.since, |over| over.at.max(instance.goal.since));
        Some(MachineWish {
            aim: self.aim(instance),
            since,
            not_before: started.map_or(Timestamp(0), |status| status.not_before),
            machine: Machine {
                instance: instance.id,
                instance_type: instance.instance_type.clone(),
                run,
                user: instance.user,
                vcpus: kind.vcpus,
                memory_mib: kind.memory_mib,
                disks: self.disks(instance),
                nics: self.nics(instance, kind),
                ports: catalog::PORTS,
                reboots: instance.reboots,
                hibernates: instance.hibernation,
                // Whether there is something to go on from is seen when it is started.
                resumes: false,
                storage: if self.settings.limit_speeds {
                    limits::of_machine(kind)
                } else {
                    Limits::default()
                },
            },
        })
    }

    /// The instance's disks: the root disk first, the others by device name. Those that are to be taken away are none
    /// any more.
    fn disks(&self, instance: &Instance) -> Vec<Disk> {
        let root = self.root_device(instance);
        let mut volumes = self.volumes_of(instance.id);
        volumes.retain(|volume| !volume.doomed && self.detach_of(DeviceId::Disk(volume.id)).is_none());
        volumes.sort_by_key(|volume| volume.attachment.as_ref().is_none_or(|at| at.device != root));
        volumes
            .into_iter()
            .map(|volume| Disk { volume: volume.id, read_only: false, limits: self.disk_limits(volume) })
            .collect()
    }

    /// How much the disk of a volume may do.
    pub fn disk_limits(&self, volume: &Volume) -> Limits {
        if self.settings.limit_speeds { limits::of_disk(volume) } else { Limits::default() }
    }

    fn nics(&self, instance: &Instance, kind: &InstanceType) -> Vec<Nic> {
        let interfaces = self.interfaces_of(instance.id);
        let index = |row: &Interface| row.attachment.as_ref().map_or(0, |at| at.device_index);
        let stays = |row: &&Arc<Interface>| self.detach_of(DeviceId::Nic(row.id)).is_none();
        let limited = self.settings.limit_speeds && self.settings.limit_packets;
        let limits = if limited { limits::of_interface(kind) } else { Limits::default() };
        let nic = |row: &Arc<Interface>| Nic {
            interface: row.id,
            // Far above what any machine has room for, an index is refused like every other that is too high.
            index: u8::try_from(index(row)).unwrap_or(u8::MAX),
            vpc: row.vpc,
            mac: row.mac,
            mtu: MTU,
            queues: Nic::queues_for(kind.vcpus),
            limits,
        };
        interfaces.into_iter().filter(stays).map(nic).collect()
    }

    /// How a device is to be taken away from its instance, if it is.
    pub fn detach_of(&self, device: DeviceId) -> Option<Detach> {
        match device {
            DeviceId::Disk(id) => self.volumes.get(&id)?.attachment.as_ref()?.detach,
            DeviceId::Nic(id) => self.interfaces.get(&id)?.attachment.as_ref()?.detach,
        }
    }

    /// Whether the host should have a TAP for the interface.
    pub fn wants_interface(&self, interface: &Interface) -> bool {
        !interface.doomed
            && interface.attachment.as_ref().is_some_and(|at| {
                self.instances.get(&at.instance).is_some_and(|instance| self.needs_machine(instance))
            })
    }

    /// The interface as the host should have it.
    pub fn wanted_interface(&self, interface: &Interface) -> network::Interface {
        let public = self.public_address(interface);
        let instance = interface.attachment.as_ref().and_then(|at| self.instances.get(&at.instance));
        let kind = instance.and_then(|instance| catalog::find(&instance.instance_type));
        network::Interface {
            id: interface.id,
            vpc: interface.vpc,
            subnet: interface.subnet,
            mac: interface.mac,
            addresses: vec![interface.address],
            public: public
                .map(|public| PublicAddress { public, private: interface.address })
                .into_iter()
                .collect(),
            groups: interface.groups.clone(),
            source_dest_check: interface.source_dest_check,
            several_queues: kind.is_some_and(|kind| Nic::queues_for(kind.vcpus) > 1),
        }
    }

    /// Whether the host should have the group: a wanted interface is in it, or in another one whose rules name it.
    pub fn wants_group(&self, group: GroupId) -> bool {
        let used = |id| self.needed_interfaces(Key::SecurityGroup(id)).next().is_some();
        used(group) || self.referring::<SecurityGroup>(Key::SecurityGroup(group)).any(|other| used(other.id))
    }

    /// The group as the host should have it.
    pub fn wanted_group(&self, group: &SecurityGroup) -> network::SecurityGroup {
        let rules = |direction| {
            let rules = group.rules.values().filter(|rule| rule.direction == direction);
            rules.map(|rule| Rule { traffic: rule.traffic, peer: rule.peer }).collect()
        };
        network::SecurityGroup {
            id: group.id,
            vpc: group.vpc,
            ingress: rules(Direction::Ingress),
            egress: rules(Direction::Egress),
        }
    }

    /// Whether the host should have a namespace for the VPC.
    pub fn wants_network(&self, vpc: VpcId) -> bool {
        self.needed_interfaces(Key::Vpc(vpc)).next().is_some()
    }

    /// The VPC as the host should have it.
    pub fn wanted_network(&self, vpc: &Vpc) -> network::Network {
        let subnets = self.referring::<Subnet>(Key::Vpc(vpc.id)).map(|subnet| network::Subnet {
            id: subnet.id,
            cidr: subnet.cidr,
            routes: self.routes(subnet),
        });
        let gateway = self.referring::<InternetGateway>(Key::Vpc(vpc.id)).next().is_some();
        network::Network {
            vpc: vpc.id,
            cidrs: vec![vpc.cidr],
            subnets: subnets.collect(),
            uplink: gateway.then(|| Uplink { link: link(vpc.number), pool: self.settings.public_pool }),
        }
    }

    /// The route table that holds for a subnet: its VPC's main one.
    pub fn route_table_of(&self, subnet: &Subnet) -> Option<&RouteTable> {
        let mut tables = self.referring::<RouteTable>(Key::Vpc(subnet.vpc));
        tables.find(|table| table.main.is_some()).map(|table| &**table)
    }

    fn routes(&self, subnet: &Subnet) -> Vec<Route> {
        let Some(table) = self.route_table_of(subnet) else { return Vec::new() };
        let attached =
            |gateway| self.internet_gateways.get(gateway).is_some_and(|row| row.vpc == Some(subnet.vpc));
        let routes = table.routes.iter().map(|route| Route {
            destination: route.destination,
            target: route.target(attached(&route.gateway)),
        });
        routes.collect()
    }

    /// Whether the host should have the volume.
    pub fn wants_volume(&self, volume: &Volume) -> bool {
        !volume.doomed
    }

    /// The volume as it should be made.
    pub fn wanted_volume(&self, volume: &Volume) -> storage::Volume {
        storage::Volume { id: volume.id, bytes: u64::from(volume.gib) * GIB, base: volume.base }
    }

    /// What the host has that these rows decide about, directly or through another: where to look
    /// after they changed. What stands on each other comes together: a machine, its volumes and its interfaces.
    pub fn resources_of(&self, keys: impl IntoIterator<Item = Key>) -> BTreeSet<Resource> {
        let mut found = BTreeSet::new();
        for key in keys {
            self.add_resources(key, &mut found);
        }
        found
    }

    fn add_resources(&self, key: Key, found: &mut BTreeSet<Resource>) {
        match key {
            Key::Instance(id) | Key::InstanceStatus(id) => {
                if found.insert(Resource::Machine(id)) {
                    if self.instances.get(&id).is_some_and(|row| row.hibernation) {
                        found.insert(Resource::Memory(id));
                    }
                    let of = Key::Instance(id);
                    self.referring::<Volume>(of)
                        .for_each(|row| self.add_resources(Key::Volume(row.id), found));
                    let interfaces = self.referring::<Interface>(of);
                    interfaces.for_each(|row| self.add_resources(Key::Interface(row.id), found));
                }
            }
            Key::Interface(id) => {
                let Some(row) = self.interfaces.get(&id) else { return };
                if found.insert(Resource::Interface(row.vpc, id)) {
                    found.insert(Resource::Network(row.vpc));
                    row.groups.iter().for_each(|group| self.add_resources(Key::SecurityGroup(*group), found));
                    let at = row.attachment.as_ref();
                    at.into_iter().for_each(|at| self.add_resources(Key::Instance(at.instance), found));
                }
            }
            Key::Volume(id) | Key::VolumeStatus(id) => {
                let row = self.volumes.get(&id);
                if let (true, Some(row)) = (found.insert(Resource::Volume(id)), row) {
                    found.extend(row.base.map(Resource::Image));
                    let at = row.attachment.as_ref();
                    at.into_iter().for_each(|at| self.add_resources(Key::Instance(at.instance), found));
                }
            }
            Key::Image(id) => {
                found.insert(Resource::Image(id));
            }
            Key::SecurityGroup(id) => {
                let Some(row) = self.security_groups.get(&id) else { return };
                found.insert(Resource::Network(row.vpc));
                let named = row.rules.values().filter_map(|rule| match rule.peer {
                    network::Peer::Group(peer) => Some(peer),
                    _ => None,
                });
                found.extend(named.chain([id]).map(|group| Resource::Group(row.vpc, group)));
            }
            Key::Vpc(id) => {
                found.insert(Resource::Network(id));
            }
            Key::Subnet(id) => found.extend(self.subnets.get(&id).map(|row| Resource::Network(row.vpc))),
            Key::RouteTable(id) => {
                found.extend(self.route_tables.get(&id).map(|row| Resource::Network(row.vpc)));
            }
            Key::InternetGateway(id) => {
                let vpc = self.internet_gateways.get(&id).and_then(|row| row.vpc);
                found.extend(vpc.map(Resource::Network));
            }
            Key::KeyPair(_) | Key::NetworkAcl(_) | Key::DhcpOptions(_) => {}
        }
    }

    /// What the host could have by all rows together.
    pub fn resources(&self) -> BTreeSet<Resource> {
        let networks = self.vpcs.keys().copied().map(Resource::Network);
        let groups = self.security_groups.values().map(|row| Resource::Group(row.vpc, row.id));
        let interfaces = self.interfaces.values().map(|row| Resource::Interface(row.vpc, row.id));
        let volumes = self.volumes.keys().copied().map(Resource::Volume);
        let images = self.images.keys().copied().map(Resource::Image);
        let hibernating = self.instances.values().filter(|row| row.hibernation);
        let memories = hibernating.map(|row| Resource::Memory(row.id));
        let machines = self.instances.keys().copied().map(Resource::Machine);
        let devices = interfaces.chain(volumes).chain(images);
        networks.chain(groups).chain(devices).chain(memories).chain(machines).collect()
    }

    /// Whether a volume is based on the image.
    pub fn is_base(&self, image: ImageId) -> bool {
        self.referring::<Volume>(Key::Image(image)).next().is_some()
    }
}

/// The two addresses that join a VPC to the host, by the VPC's number.
fn link(number: u16) -> Ipv4Net {
    let first = u32::from(FIRST_LINK) + 2 * u32::from(number % 0x5000);
    Ipv4Net::new_assert(first.into(), 31)
}
