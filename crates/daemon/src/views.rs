//! What the guests of each VPC may know, derived from the world once for each that is published.
//!
//! [`Views`] are plain data: whoever answers guests looks askers up in them, by source address, by link address or by
//! name, and never sees the world. The process that answers is sent them piece by piece, see `guests::words`.
//!
//! What must hold:
//! - Only an interface that the host should have ([`World::wants_interface`]) makes an asker known: an address that is
//!   free again leads to nobody, even while the packets of its last owner still fly.
//! - One derivation costs what is being served, not what each request asks: a VPC at rest costs nothing.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloud::model::{Instance, Interface, Key, Vpc};
use cloud::wanted::MTU;
use cloud::{World, catalog};
use guest_services::dns::VpcNames;
use guest_services::view::{
    GroupView, InstanceView, InterfaceView, KeyView, MetadataOptions, NetworkConfig, TokenUse,
};
use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use spec::ids::{InstanceId, SubnetId, VpcId};
use spec::machine::Mac;
use spec::network::Network;

/// How long an address holds before its guest has to ask again, in seconds; EC2's.
const LEASE_SECONDS: u32 = 3600;

/// A VPC whose guests are to be served: where, and what they may know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The VPC as the host should have it.
    pub network: Network,
    /// What its guests may know.
    pub views: Views,
}

/// What the guests of one VPC may know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Views {
    index: Index,
    instances: Instances,
}

/// The instances of one VPC, as their guests may see them.
pub type Instances = BTreeMap<InstanceId, Arc<InstanceView>>;

/// Who asks from where, and the VPC's names: all that guests may know but the instances themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    region: String,
    cidrs: Vec<Ipv4Net>,
    /// Whether guests may ask the VPC's resolver.
    resolver: bool,
    by_address: BTreeMap<Ipv4Addr, InstanceId>,
    by_mac: BTreeMap<SubnetId, BTreeMap<Mac, InstanceId>>,
    /// The private addresses of the VPC's interfaces, also those at rest: a name is stable, whoever is up.
    private: BTreeSet<Ipv4Addr>,
    /// The cloud's public addresses that have names, each with what it stands for in this VPC.
    public: BTreeMap<Ipv4Addr, Ipv4Addr>,
}

impl Views {
    /// The views that an index leads to, out of these instances.
    pub fn new(index: Index, instances: &Instances) -> Self {
        let led_to: BTreeSet<&InstanceId> = index.by_address.values().collect();
        let kept = instances.iter().filter(|(id, _)| led_to.contains(id));
        let instances = kept.map(|(id, view)| (*id, Arc::clone(view))).collect();
        Self { index, instances }
    }

    /// Who asks from where, and the VPC's names.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The instances.
    pub fn instances(&self) -> &Instances {
        &self.instances
    }

    /// The instance that asks from this address.
    pub fn instance(&self, source: Ipv4Addr) -> Option<&InstanceView> {
        self.instances.get(self.index.by_address.get(&source)?).map(|view| &**view)
    }

    /// The interface with this link address in a subnet.
    pub fn interface(&self, subnet: SubnetId, mac: [u8; 6]) -> Option<&InterfaceView> {
        let mac = Mac(mac);
        let instance = self.instances.get(self.index.by_mac.get(&subnet)?.get(&mac)?)?;
        let text = mac.to_string();
        instance.interfaces().find(|interface| interface.mac == text)
    }

    /// Whether somebody asks from this address.
    pub fn knows(&self, source: Ipv4Addr) -> bool {
        self.index.by_address.contains_key(&source)
    }

    /// From how many addresses somebody may ask.
    pub fn askers(&self) -> usize {
        self.index.by_address.len()
    }

    /// Whether guests may ask the VPC's resolver (EC2's `enableDnsSupport`).
    pub fn has_resolver(&self) -> bool {
        self.index.resolver
    }
}

impl VpcNames for Views {
    fn region(&self) -> &str {
        &self.index.region
    }

    fn covers(&self, address: Ipv4Addr) -> bool {
        self.index.cidrs.iter().any(|cidr| cidr.contains(&address))
    }

    fn is_private(&self, address: Ipv4Addr) -> bool {
        self.index.private.contains(&address)
    }

    fn public_target(&self, public: Ipv4Addr) -> Option<Ipv4Addr> {
        self.index.public.get(&public).copied()
    }
}

/// The VPCs whose guests are to be served, by the world's word.
pub fn served(world: &World) -> BTreeMap<VpcId, Served> {
    let public = named_public_addresses(world);
    let wanted = world.vpcs.values().filter(|vpc| world.wants_network(vpc.id));
    wanted.map(|vpc| (vpc.id, serve(world, vpc, &public))).collect()
}

/// The public addresses that have a name, each with its interface (AWS, *DNS attributes for your VPC*:
/// `enableDnsHostnames`).
fn named_public_addresses(world: &World) -> Vec<(Ipv4Addr, &Interface)> {
    let rows = world.interfaces.values().filter(|row| {
        row.auto_public.is_some() && world.vpcs.get(&row.vpc).is_some_and(|vpc| vpc.dns_hostnames)
    });
    rows.filter_map(|row| Some((world.public_address(row)?, &**row))).collect()
}

fn serve(world: &World, vpc: &Vpc, public: &[(Ipv4Addr, &Interface)]) -> Served {
    let derivation = Derivation { world, vpc, network: world.wanted_network(vpc) };
    let mut index = Index {
        region: world.settings.region.clone(),
        cidrs: derivation.network.cidrs.clone(),
        resolver: vpc.dns_support,
        ..Index::default()
    };
    let mut instances = Instances::new();
    for (public, row) in public {
        index.public.insert(*public, if row.vpc == vpc.id { row.address } else { *public });
    }
    for row in derivation.interfaces().filter(|row| !row.doomed) {
        index.private.insert(row.address);
        let instance = row.attachment.as_ref().and_then(|at| world.instances.get(&at.instance));
        let Some(instance) = instance.filter(|_| world.wants_interface(row)) else { continue };
        if let Entry::Vacant(place) = instances.entry(instance.id) {
            let Some(view) = derivation.instance(instance) else { continue };
            place.insert(Arc::new(view));
        }
        index.by_address.insert(row.address, instance.id);
        index.by_mac.entry(row.subnet).or_default().insert(row.mac, instance.id);
    }
    Served { network: derivation.network, views: Views { index, instances } }
}

/// One VPC's views in the making.
struct Derivation<'a> {
    world: &'a World,
    vpc: &'a Vpc,
    network: Network,
}

impl<'a> Derivation<'a> {
    fn interfaces(&self) -> impl Iterator<Item = &'a Interface> {
        self.world.referring::<Interface>(Key::Vpc(self.vpc.id)).map(|row| &**row)
    }

    /// None where the instance has no interface in a subnet that exists.
    fn instance(&self, row: &Instance) -> Option<InstanceView> {
        let (world, settings) = (self.world, &self.world.settings);
        let mut interfaces = world.interfaces_of(row.id).into_iter().filter_map(|one| self.interface(one));
        let (primary, secondary) = (interfaces.next()?, interfaces.collect());
        let zone = &world.subnets.get(&row.subnet)?.zone;
        let root_device = world.root_device(row);
        Some(InstanceView {
            instance_id: row.id.to_string(),
            image_id: row.image.to_string(),
            launch_index: row.launch_index,
            instance_type: row.instance_type.clone(),
            reservation_id: row.reservation.to_string(),
            account_id: settings.account.clone(),
            region: settings.region.clone(),
            zone: zone.clone(),
            zone_id: settings.zone_id(zone),
            architecture: catalog::find(&row.instance_type)?.architecture.name().to_owned(),
            kernel_id: None,
            ramdisk_id: None,
            launch_time: timestamp(row.launched),
            key: key(row),
            user_data: row.user_data.as_ref().and_then(|text| STANDARD.decode(text).ok()),
            volume_devices: self.volume_devices(row, &root_device),
            root_device,
            tags: row.metadata.tags.then(|| row.tags.clone()),
            metadata: metadata_options(row),
            primary,
            secondary,
            identity: None,
        })
    }

    /// The devices that were attached when the instance was started, but for the root disk.
    fn volume_devices(&self, row: &Instance, root_device: &str) -> Vec<String> {
        let volumes = self.world.volumes_of(row.id).into_iter().filter(|volume| !volume.doomed);
        let attachments = volumes.filter_map(|volume| volume.attachment.as_ref());
        attachments
            .filter(|at| at.device != root_device && at.since <= row.launched)
            .map(|at| at.device.clone())
            .collect()
    }

    fn interface(&self, row: &Interface) -> Option<InterfaceView> {
        let subnet = self.network.subnets.iter().find(|subnet| subnet.id == row.subnet)?;
        let groups = row.groups.iter().filter_map(|id| self.world.security_groups.get(id));
        Some(InterfaceView {
            interface_id: row.id.to_string(),
            mac: row.mac.to_string(),
            device_number: row.attachment.as_ref()?.device_index,
            owner_id: self.world.settings.account.clone(),
            address: row.address,
            public_address: self.world.public_address(row),
            security_groups: groups
                .map(|group| GroupView { id: group.id.to_string(), name: group.name.clone() })
                .collect(),
            subnet_id: subnet.id.to_string(),
            subnet_cidr: subnet.cidr,
            vpc_id: self.vpc.id.to_string(),
            vpc_cidrs: self.network.cidrs.clone(),
            network: NetworkConfig {
                router: subnet.router(),
                dns_servers: self.vpc.dns_support.then(|| subnet.resolver()).into_iter().collect(),
                ntp_servers: Vec::new(),
                domain_name: self.domain_name(),
                mtu: MTU,
                lease_seconds: LEASE_SECONDS,
            },
        })
    }

    fn domain_name(&self) -> String {
        let options = self.world.dhcp_options.get(&self.vpc.dhcp_options);
        options.map_or_else(|| self.world.settings.private_domain(), |options| options.domain_name.clone())
    }
}

/// The key as EC2 shows it: its comment is the key pair's name, whatever it was when it was imported.
fn key(row: &Instance) -> Option<KeyView> {
    let (name, public) = row.key_name.as_ref().zip(row.public_key.as_ref())?;
    let mut words = public.split_ascii_whitespace();
    let openssh = format!("{} {} {name}", words.next()?, words.next()?);
    Some(KeyView { name: name.clone(), openssh })
}

fn metadata_options(row: &Instance) -> MetadataOptions {
    let tokens = if row.metadata.tokens_required { TokenUse::Required } else { TokenUse::Optional };
    MetadataOptions { endpoint: row.metadata.enabled, tokens, hop_limit: row.metadata.hop_limit }
}

/// The cloud's moment, which is always one that jiff knows, too.
fn timestamp(moment: cloud::Timestamp) -> Timestamp {
    i64::try_from(moment.0)
        .ok()
        .and_then(|millis| Timestamp::from_millisecond(millis).ok())
        .unwrap_or_default()
}
