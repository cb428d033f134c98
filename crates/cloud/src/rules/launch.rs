//! RunInstances: from a command to instances with their volumes and interfaces.
//!
//! All or nothing: every instance of the call is checked and written in one transaction. The host
//! is not asked; what fits is arithmetic over what has been given out already.
//! Source: AWS API reference, *RunInstances*.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use spec::ids::*;
use spec::machine::Mac;
use spec::storage::Architecture;

use crate::capacity;
use crate::catalog::{self, InstanceType};
use crate::model::*;
use crate::refusal::{Kind, Reason, Refusal};
use crate::rules::block_devices::{BlockDevice, NewVolume, check_volumes, write_volumes};
use crate::rules::client_tokens::{earlier, mark};
use crate::rules::tags::check_tags;
use crate::subnet_space::{self, next_free};
use crate::tx::Tx;
use crate::world::World;

/// Security groups of an interface at most (AWS, *Amazon VPC quotas*).
pub const MAX_GROUPS: usize = 5;

/// The command: how many of what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Launch {
    /// From which image.
    pub image: ImageId,
    /// Of which type; the default one where it is not said.
    pub instance_type: Option<String>,
    /// At least so many, or none.
    pub least: u32,
    /// At most so many.
    pub most: u32,
    /// With whose public key.
    pub key_name: Option<String>,
    /// In which security groups, by id.
    pub groups: BTreeSet<GroupId>,
    /// In which security groups of the default VPC, by name.
    pub group_names: BTreeSet<String>,
    /// In which subnet; a default one where it is not said.
    pub subnet: Option<SubnetId>,
    /// In which availability zone.
    pub zone: Option<String>,
    /// With which private address; only for a single instance.
    pub address: Option<Ipv4Addr>,
    /// With a public address or without one; as its subnet says where it is not said.
    pub public: Option<bool>,
    /// What the primary interface says of itself.
    pub interface_description: String,
    /// The primary interface outlives the instance.
    pub keep_interface: bool,
    /// User-data, base64.
    pub user_data: Option<String>,
    /// Changes to the image's root disk, and further volumes.
    pub volumes: Vec<BlockDevice>,
    /// Tags for the instances.
    pub instance_tags: Tags,
    /// Tags for their volumes.
    pub volume_tags: Tags,
    /// Tags for their interfaces.
    pub interface_tags: Tags,
    /// Calls with the same token launch once.
    pub client_token: Option<String>,
    /// What a guest's own power-off means.
    pub shutdown_behavior: ShutdownBehavior,
    /// Terminating by the API is refused.
    pub termination_protection: bool,
    /// Stopping by the API is refused.
    pub stop_protection: bool,
    /// The instances can be hibernated.
    pub hibernation: bool,
    /// How the metadata service behaves.
    pub metadata: MetadataOptions,
}

/// What the checks found: everything needed to write the instances.
struct Checked {
    image: Arc<Image>,
    kind: &'static InstanceType,
    subnet: Arc<Subnet>,
    groups: BTreeSet<GroupId>,
    public_key: Option<String>,
    volumes: Vec<NewVolume>,
    public: bool,
    count: u32,
}

/// Launches instances; the reservation says which.
pub fn run_instances(tx: &mut Tx<'_>, launch: &Launch) -> Result<ReservationId, Refusal> {
    let token = mark(launch.client_token.as_ref(), launch);
    if let Some(instance) = earlier::<Instance>(tx, token.as_ref())? {
        return Ok(instance.reservation);
    }
    let checked = check(tx, launch)?;
    let reservation = ReservationId::from_random(tx.random());
    for index in 0..checked.count {
        let instance = write_instance(tx, launch, &checked, reservation, index, token.clone())?;
        write_volumes(tx, &checked.volumes, &checked.subnet.zone, instance, &launch.volume_tags);
        write_interface(tx, launch, &checked, instance)?;
    }
    Ok(reservation)
}

fn check(tx: &Tx<'_>, launch: &Launch) -> Result<Checked, Refusal> {
    check_counts(launch)?;
    for tags in [&launch.instance_tags, &launch.volume_tags, &launch.interface_tags] {
        check_tags(tags)?;
    }
    let image = check_image(tx, launch.image)?;
    let kind = check_type(tx, launch, &image)?;
    let subnet = choose_subnet(tx, launch)?;
    let groups = choose_groups(tx, launch, &subnet)?;
    let public_key = check_key(tx, launch)?;
    let volumes = check_volumes(&image, &launch.volumes)?;
    let count = capacity::fit(tx.world(), kind, launch.least, launch.most)?;
    let count = fit_addresses(tx, &subnet, launch.least, count)?;
    let gib: u64 = volumes.iter().map(|volume| u64::from(volume.gib)).sum();
    capacity::fit_volumes(tx.world(), gib * u64::from(count))?;
    let public = launch.public.unwrap_or(subnet.map_public_ip_on_launch);
    Ok(Checked { image, kind, subnet, groups, public_key, volumes, public, count })
}

fn check_counts(launch: &Launch) -> Result<(), Refusal> {
    if launch.least < 1 || launch.most < launch.least {
        return Err(Refusal::new(
            Reason::InvalidValue,
            format!(
                "MinCount must be at least 1 and MaxCount at least MinCount; they are {} and {}",
                launch.least, launch.most
            ),
        ));
    }
    if launch.address.is_some() && launch.most > 1 {
        return Err(Refusal::new(
            Reason::InvalidCombination,
            "A private address can be given for a single instance only",
        ));
    }
    Ok(())
}

fn check_image(tx: &Tx<'_>, id: ImageId) -> Result<Arc<Image>, Refusal> {
    let image = tx.get::<Image>(id).filter(|image| !image.doomed);
    let image = image.ok_or_else(|| {
        Refusal::new(Reason::NotFound(Kind::Image), format!("The image id '[{id}]' does not exist"))
    })?;
    if !image.available {
        let text = format!("The image '{id}' is still being imported; wait until its state is 'available'");
        return Err(Refusal::new(Reason::ImageUnavailable, text));
    }
    Ok(image)
}

fn check_type(tx: &Tx<'_>, launch: &Launch, image: &Image) -> Result<&'static InstanceType, Refusal> {
    let here = tx.settings().architecture;
    let name = launch.instance_type.as_deref().unwrap_or_else(|| catalog::default_type(here));
    let kind = catalog::find(name).ok_or_else(|| {
        let text =
            format!("The instance type '{name}' does not exist; describe-instance-types lists those that do");
        Refusal::new(Reason::InvalidValue, text)
    })?;
    check_architecture(kind, image.architecture)?;
    if kind.architecture != here {
        let text = format!(
            "This host runs {} guests only; type '{name}' is {}",
            here.name(),
            kind.architecture.name()
        );
        return Err(Refusal::new(Reason::Unsupported, text));
    }
    Ok(kind)
}

/// Whether the type can run that image.
pub(super) fn check_architecture(kind: &InstanceType, image: Architecture) -> Result<(), Refusal> {
    if kind.architecture == image {
        return Ok(());
    }
    let (of_type, of_image) = (kind.architecture.name(), image.name());
    let text = format!(
        "The architecture '{of_type}' of the specified instance type does not match the architecture '{of_image}' of \
         the specified AMI. Specify an instance type and an AMI that have matching architectures, and try again."
    );
    Err(Refusal::new(Reason::InvalidValue, text))
}

fn choose_subnet(tx: &Tx<'_>, launch: &Launch) -> Result<Arc<Subnet>, Refusal> {
    if let Some(zone) =
        launch.zone.as_ref().filter(|zone| !tx.settings().zone_names().any(|name| name == **zone))
    {
        return Err(Refusal::new(Reason::InvalidValue, format!("Invalid availability zone: [{zone}]")));
    }
    let in_zone = |subnet: &Subnet| launch.zone.as_ref().is_none_or(|zone| *zone == subnet.zone);
    if let Some(id) = launch.subnet {
        let subnet = tx.get::<Subnet>(id).ok_or_else(|| {
            Refusal::new(Reason::NotFound(Kind::Subnet), format!("The subnet ID '{id}' does not exist"))
        })?;
        if !in_zone(&subnet) {
            let text = format!("The subnet '{id}' is in the availability zone {}", subnet.zone);
            return Err(Refusal::new(Reason::InvalidCombination, text));
        }
        return Ok(subnet);
    }
    let mut defaults: Vec<&Arc<Subnet>> =
        tx.world().subnets.values().filter(|row| row.is_default && in_zone(row)).collect();
    defaults.sort_by(|a, b| a.zone.cmp(&b.zone));
    let roomy = defaults.iter().find(|row| subnet_space::free_in(tx.world(), row) > 0);
    roomy.or(defaults.first()).map(|row| Arc::clone(row)).ok_or_else(|| {
        Refusal::new(Reason::NoDefaultVpc, "No default subnet for this availability zone; name a subnet")
    })
}

fn choose_groups(tx: &Tx<'_>, launch: &Launch, subnet: &Subnet) -> Result<BTreeSet<GroupId>, Refusal> {
    let mut groups = launch.groups.clone();
    for name in &launch.group_names {
        groups.insert(group_by_name(tx.world(), subnet.vpc, name)?);
    }
    if groups.is_empty() {
        groups.insert(group_by_name(tx.world(), subnet.vpc, "default")?);
    }
    check_groups(tx, &groups, subnet)?;
    Ok(groups)
}

/// Whether an interface in that subnet can be in these groups together.
pub(super) fn check_groups(tx: &Tx<'_>, groups: &BTreeSet<GroupId>, subnet: &Subnet) -> Result<(), Refusal> {
    for id in groups {
        let group = tx.get::<SecurityGroup>(*id).ok_or_else(|| {
            Refusal::new(Reason::NotFound(Kind::Group), format!("The security group '{id}' does not exist"))
        })?;
        if group.vpc != subnet.vpc {
            let text = format!("Security group {id} and subnet {} belong to different networks.", subnet.id);
            return Err(Refusal::new(Reason::InvalidCombination, text));
        }
    }
    if groups.len() > MAX_GROUPS {
        let text = format!("An interface can be in {MAX_GROUPS} security groups, not {}", groups.len());
        return Err(Refusal::new(Reason::LimitExceeded(Kind::Group), text));
    }
    Ok(())
}

/// The group of that name in a VPC.
pub fn group_by_name(world: &World, vpc: VpcId, name: &str) -> Result<GroupId, Refusal> {
    let mut groups = world.referring::<SecurityGroup>(Key::Vpc(vpc));
    groups.find(|group| group.name == name).map(|group| group.id).ok_or_else(|| {
        let text = format!("The security group '{name}' does not exist in VPC '{vpc}'");
        Refusal::new(Reason::NotFound(Kind::Group), text)
    })
}

fn check_key(tx: &Tx<'_>, launch: &Launch) -> Result<Option<String>, Refusal> {
    let Some(name) = &launch.key_name else { return Ok(None) };
    let pair = tx.world().key_pairs.values().find(|pair| pair.name == *name);
    pair.map(|pair| Some(pair.public_key.clone())).ok_or_else(|| {
        Refusal::new(Reason::NotFound(Kind::KeyPair), format!("The key pair '{name}' does not exist"))
    })
}

fn fit_addresses(tx: &Tx<'_>, subnet: &Subnet, least: u32, most: u32) -> Result<u32, Refusal> {
    let free = subnet_space::free_in(tx.world(), subnet);
    if free < least {
        let text = format!(
            "There are not enough free addresses in subnet '{}' to satisfy the requested number of instances.",
            subnet.id
        );
        return Err(Refusal::new(Reason::InsufficientAddresses, text));
    }
    Ok(most.min(free))
}

fn write_instance(
    tx: &mut Tx<'_>,
    launch: &Launch,
    checked: &Checked,
    reservation: ReservationId,
    launch_index: u32,
    client_token: Option<ClientToken>,
) -> Result<InstanceId, Refusal> {
    let id = InstanceId::from_random(tx.random());
    let user = free_user(tx)?;
    tx.put(Instance {
        id,
        reservation,
        launch_index,
        image: checked.image.id,
        instance_type: checked.kind.name.to_owned(),
        subnet: checked.subnet.id,
        key_name: launch.key_name.clone(),
        public_key: checked.public_key.clone(),
        user_data: launch.user_data.clone(),
        shutdown_behavior: launch.shutdown_behavior,
        termination_protection: launch.termination_protection,
        stop_protection: launch.stop_protection,
        hibernation: launch.hibernation,
        metadata: launch.metadata,
        user,
        client_token,
        launched: tx.now,
        goal: Goal { incarnation: 1, aim: Aim::Run, since: tx.now },
        reboots: 0,
        tags: launch.instance_tags.clone(),
    });
    Ok(id)
}

/// A user id that no instance has of which something may still be on the host.
fn free_user(tx: &mut Tx<'_>) -> Result<u32, Refusal> {
    let (random, users) = (tx.random(), tx.settings().users.clone());
    let last = users.end.checked_sub(1);
    let free = last.and_then(|last| next_free(users.start, last, random, |user| tx.world().has_user(user)));
    free.ok_or_else(|| {
        let text = format!("All {} user ids for machines are in use", users.len());
        Refusal::new(Reason::InsufficientCapacity, text)
    })
}

fn write_interface(
    tx: &mut Tx<'_>,
    launch: &Launch,
    checked: &Checked,
    instance: InstanceId,
) -> Result<(), Refusal> {
    let id = InterfaceId::from_random(tx.random());
    let attachment = InterfaceAttachmentId::from_random(tx.random());
    let mac = Mac::from_random(tx.random());
    let random = tx.random();
    let address = subnet_space::choose(tx.world(), &checked.subnet, launch.address, random)?;
    let random = tx.random();
    let public = checked.public.then(|| subnet_space::choose_public(tx.world(), None, random)).transpose()?;
    tx.put(Interface {
        id,
        vpc: checked.subnet.vpc,
        subnet: checked.subnet.id,
        description: launch.interface_description.clone(),
        mac,
        address,
        auto_public: public,
        groups: checked.groups.clone(),
        source_dest_check: true,
        attachment: Some(InterfaceAttachment {
            id: attachment,
            instance,
            device_index: 0,
            delete_on_termination: !launch.keep_interface,
            since: tx.now,
            detach: None,
        }),
        created: tx.now,
        client_token: None,
        doomed: false,
        tags: launch.interface_tags.clone(),
    });
    Ok(())
}
