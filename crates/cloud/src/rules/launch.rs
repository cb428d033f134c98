//! RunInstances: from a command to instances with their volumes and interfaces.
//!
//! All or nothing: every instance of the call is checked and written in one transaction. The host
//! is not asked; what fits is arithmetic over what has been given out already.
//! Source: AWS API reference, *RunInstances*.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use spec::Fingerprint;
use spec::ids::*;
use spec::machine::Mac;

use crate::capacity;
use crate::catalog::{self, InstanceType};
use crate::model::*;
use crate::refusal::{Kind, Reason, Refusal};
use crate::rules::tags::check_tags;
use crate::subnet_space::{self, next_free};
use crate::tx::Tx;
use crate::world::World;

/// Volumes of an instance at most (AWS, *Amazon EBS volume limits*: 28 attachments, one of which
/// is the network interface).
pub const MAX_VOLUMES: usize = 27;
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
    /// How the metadata service behaves.
    pub metadata: MetadataOptions,
}

/// One block device mapping.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BlockDevice {
    /// The device's name: `/dev/sdf`.
    pub device: String,
    /// Its size in GiB; the image's where it is the root disk and does not say.
    pub gib: Option<u32>,
    /// Its type; `gp3` for the root disk, else `gp2`, where it is not said.
    pub kind: Option<VolumeKind>,
    /// I/O operations a second.
    pub iops: Option<u32>,
    /// MiB a second.
    pub throughput: Option<u32>,
    /// It goes with the instance. Every volume made at launch does, unless it is said.
    pub delete_on_termination: Option<bool>,
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

/// A volume to be made for each instance.
struct NewVolume {
    device: String,
    gib: u32,
    kind: VolumeKind,
    iops: Option<u32>,
    throughput: Option<u32>,
    base: Option<ImageId>,
    delete_on_termination: bool,
}

/// Launches instances; the reservation says which.
pub fn run_instances(tx: &mut Tx<'_>, launch: &Launch) -> Result<ReservationId, Refusal> {
    let token =
        launch.client_token.clone().map(|token| ClientToken { token, parameters: Fingerprint::of(launch).0 });
    if let Some(earlier) = token.as_ref().map(|token| same_token(tx, token)).transpose()?.flatten() {
        return Ok(earlier);
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

/// The reservation that was made with this token already.
fn same_token(tx: &Tx<'_>, token: &ClientToken) -> Result<Option<ReservationId>, Refusal> {
    match tx.world().launched_with(&token.token) {
        None => Ok(None),
        Some(row) if row.client_token.as_ref() == Some(token) => Ok(Some(row.reservation)),
        Some(_) => Err(Refusal::new(
            Reason::IdempotentParameterMismatch,
            format!("The client token '{}' was used before with other parameters", token.token),
        )),
    }
}

fn check(tx: &Tx<'_>, launch: &Launch) -> Result<Checked, Refusal> {
    check_counts(launch)?;
    for tags in [&launch.instance_tags, &launch.volume_tags, &launch.interface_tags] {
        check_tags(tags)?;
    }
    let image = check_image(tx, launch.image)?;
    let kind = check_type(tx, launch, &image)?;
    let subnet = choose_subnet(tx, launch)?;
    let groups = check_groups(tx, launch, &subnet)?;
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
    if kind.architecture != image.architecture {
        let (of_type, of_image) = (kind.architecture.name(), image.architecture.name());
        return Err(Refusal::new(
            Reason::InvalidValue,
            format!(
                "The architecture '{of_type}' of the specified instance type does not match the architecture \
                 '{of_image}' of the specified AMI. Specify an instance type and an AMI that have matching \
                 architectures, and try again."
            ),
        ));
    }
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

fn check_groups(tx: &Tx<'_>, launch: &Launch, subnet: &Subnet) -> Result<BTreeSet<GroupId>, Refusal> {
    let mut groups = launch.groups.clone();
    for name in &launch.group_names {
        groups.insert(group_by_name(tx.world(), subnet.vpc, name)?);
    }
    for id in &groups {
        let group = tx.get::<SecurityGroup>(*id).ok_or_else(|| {
            Refusal::new(Reason::NotFound(Kind::Group), format!("The security group '{id}' does not exist"))
        })?;
        if group.vpc != subnet.vpc {
            let text = format!("Security group {id} and subnet {} belong to different networks.", subnet.id);
            return Err(Refusal::new(Reason::InvalidCombination, text));
        }
    }
    if groups.is_empty() {
        groups.insert(group_by_name(tx.world(), subnet.vpc, "default")?);
    }
    if groups.len() > MAX_GROUPS {
        let text = format!("An interface can be in {MAX_GROUPS} security groups, not {}", groups.len());
        return Err(Refusal::new(Reason::LimitExceeded(Kind::Group), text));
    }
    Ok(groups)
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

/// The root disk first, then the further volumes.
fn check_volumes(image: &Image, devices: &[BlockDevice]) -> Result<Vec<NewVolume>, Refusal> {
    let bad = |text: String| Refusal::new(Reason::InvalidBlockDeviceMapping, text);
    let mut names = BTreeSet::from([image.root_device.as_str()]);
    let is_root = |device: &&BlockDevice| device.device == image.root_device;
    let root = devices.iter().find(is_root);
    let mut volumes = vec![root_volume(image, root)?];
    if devices.iter().filter(is_root).count() > 1 {
        return Err(bad(format!(
            "The device '{}' is used in more than one block device mapping",
            image.root_device
        )));
    }
    for device in devices.iter().filter(|device| !is_root(device)) {
        if !is_device_name(&device.device) {
            return Err(bad(format!("Invalid device name {}", device.device)));
        }
        if !names.insert(&device.device) {
            return Err(bad(format!(
                "The device '{}' is used in more than one block device mapping",
                device.device
            )));
        }
        let gib = device
            .gib
            .ok_or_else(|| bad(format!("The size of the volume '{}' is missing", device.device)))?;
        volumes.push(new_volume(device, gib, VolumeKind::Gp2, None)?);
    }
    if volumes.len() > MAX_VOLUMES {
        return Err(bad(format!(
            "An instance can have {MAX_VOLUMES} volumes, {} were asked for",
            volumes.len()
        )));
    }
    Ok(volumes)
}

fn root_volume(image: &Image, mapping: Option<&BlockDevice>) -> Result<NewVolume, Refusal> {
    let least = image.least_gib();
    let plain = BlockDevice {
        device: image.root_device.clone(),
        gib: None,
        kind: None,
        iops: None,
        throughput: None,
        delete_on_termination: None,
    };
    let device = mapping.unwrap_or(&plain);
    let gib = device.gib.unwrap_or(least);
    if gib < least {
        let text = format!(
            "Volume of size {gib}GB is smaller than the image '{}', expect size >= {least}GB",
            image.id
        );
        return Err(Refusal::new(Reason::InvalidBlockDeviceMapping, text));
    }
    new_volume(device, gib, VolumeKind::Gp3, Some(image.id))
}

fn new_volume(
    device: &BlockDevice,
    gib: u32,
    default_kind: VolumeKind,
    base: Option<ImageId>,
) -> Result<NewVolume, Refusal> {
    let kind = device.kind.unwrap_or(default_kind);
    let performance = check_performance(kind, gib, device.iops, device.throughput)?;
    Ok(NewVolume {
        device: device.device.clone(),
        gib,
        kind,
        iops: performance.0,
        throughput: performance.1,
        base,
        delete_on_termination: device.delete_on_termination.unwrap_or(true),
    })
}

/// The IOPS and MiB a second of a volume, checked against its type's limits, or the type's own where they are not said
/// (AWS, *Amazon EBS volume types*).
fn check_performance(
    kind: VolumeKind,
    gib: u32,
    iops: Option<u32>,
    throughput: Option<u32>,
) -> Result<(Option<u32>, Option<u32>), Refusal> {
    use VolumeKind::*;
    let limits = match kind {
        Gp2 | Gp3 => (1, 16 * 1024),
        Io1 => (4, 16 * 1024),
        Io2 => (4, 64 * 1024),
        St1 | Sc1 => (125, 16 * 1024),
        Standard => (1, 1024),
    };
    let name = format!("{kind:?}").to_lowercase();
    within(&format!("The size in GiB of a {name} volume"), gib, limits)?;
    let refuse = |what: &str| {
        let text = format!("The parameter {what} is not supported for {name} volumes.");
        Err(Refusal::new(Reason::InvalidCombination, text))
    };
    if throughput.is_some() && kind != Gp3 {
        return refuse("throughput");
    }
    match (kind, iops) {
        (Gp3, iops) => {
            let (iops, throughput) = (iops.unwrap_or(3000), throughput.unwrap_or(125));
            within("The iops of a gp3 volume", iops, (3000, 16_000))?;
            within("The throughput of a gp3 volume in MiB/s", throughput, (125, 1000))?;
            Ok((Some(iops), Some(throughput)))
        }
        (Io1 | Io2, Some(iops)) => {
            within(&format!("The iops of a {name} volume"), iops, (100, 64_000))?;
            Ok((Some(iops), None))
        }
        (Io1 | Io2, None) => {
            let text = format!("The parameter iops must be specified for {name} volumes.");
            Err(Refusal::new(Reason::InvalidCombination, text))
        }
        (_, Some(_)) => refuse("iops"),
        (Gp2, None) => Ok((Some((3 * gib).clamp(100, 16_000)), None)),
        (Standard | St1 | Sc1, None) => Ok((None, None)),
    }
}

fn within(what: &str, value: u32, (least, most): (u32, u32)) -> Result<(), Refusal> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Refusal::new(Reason::InvalidValue, format!("{what} must be from {least} to {most}; {value} is not")))
}

/// `/dev/sdf`, `/dev/xvdba`, `/dev/sda1`: as AWS's *Device names for volumes* has them.
fn is_device_name(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("/dev/sd").or_else(|| name.strip_prefix("/dev/xvd")) else {
        return false;
    };
    let letters = rest.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = &rest[letters.len()..];
    (1..=2).contains(&letters.len()) && letters.bytes().all(|b| b.is_ascii_lowercase()) && digits.len() <= 2
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

fn write_volumes(tx: &mut Tx<'_>, volumes: &[NewVolume], zone: &str, instance: InstanceId, tags: &Tags) {
    for volume in volumes {
        let id = VolumeId::from_random(tx.random());
        tx.put(Volume {
            id,
            gib: volume.gib,
            zone: zone.to_owned(),
            kind: volume.kind,
            iops: volume.iops,
            throughput: volume.throughput,
            base: volume.base,
            created: tx.now,
            attachment: Some(VolumeAttachment {
                instance,
                device: volume.device.clone(),
                delete_on_termination: volume.delete_on_termination,
                since: tx.now,
            }),
            doomed: false,
            tags: tags.clone(),
        });
    }
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
        }),
        created: tx.now,
        doomed: false,
        tags: launch.interface_tags.clone(),
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names() {
        for name in ["/dev/sdf", "/dev/sda1", "/dev/xvda", "/dev/xvdba"] {
            assert!(is_device_name(name), "{name}");
        }
        for name in [
            "",
            "sdf",
            "/dev/sd",
            "/dev/nvme0n1",
            "/dev/sdabc",
            "/dev/sdf123",
            "/dev/sdF",
            "/dev/sd1",
            "/dev/sdf/..",
        ] {
            assert!(!is_device_name(name), "{name}");
        }
    }

    #[test]
    fn performance_follows_the_type() {
        use VolumeKind::*;
        let check = |kind, gib, iops, throughput| {
            check_performance(kind, gib, iops, throughput).map_err(|refusal| refusal.reason)
        };
        assert_eq!(check(Gp3, 8, None, None), Ok((Some(3000), Some(125))));
        assert_eq!(check(Gp2, 8, None, None), Ok((Some(100), None)));
        assert_eq!(check(Gp2, 100, None, None), Ok((Some(300), None)));
        assert_eq!(check(Io2, 8, Some(500), None), Ok((Some(500), None)));
        assert_eq!(check(St1, 125, None, None), Ok((None, None)));
        assert_eq!(check(Io1, 8, None, None), Err(Reason::InvalidCombination));
        assert_eq!(check(Gp2, 8, Some(500), None), Err(Reason::InvalidCombination));
        assert_eq!(check(Gp2, 8, None, Some(200)), Err(Reason::InvalidCombination));
        assert_eq!(check(Gp3, 8, Some(100), None), Err(Reason::InvalidValue));
        assert_eq!(check(St1, 8, None, None), Err(Reason::InvalidValue));
    }
}
