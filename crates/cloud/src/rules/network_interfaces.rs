//! Network interfaces: making and deleting them, giving them to instances and taking them back, changing them.
//!
//! The primary interface of an instance comes and goes with it; the others are one's own.
//! Source: AWS API reference, *CreateNetworkInterface*, *AttachNetworkInterface* and their neighbours.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use spec::ids::*;
use spec::machine::Mac;

use crate::catalog;
use crate::model::*;
use crate::refusal::{Kind, Reason, Refusal};
use crate::rules::attachments::{check_not_saved, check_places, how, receiver};
use crate::rules::client_tokens::{earlier, mark};
use crate::rules::launch::{check_groups, group_by_name};
use crate::rules::tags::check_tags;
use crate::subnet_space;
use crate::tx::Tx;

/// Characters of a description at most.
const MAX_DESCRIPTION: usize = 255;

/// A network interface to make.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NewInterface {
    /// In which subnet.
    pub subnet: SubnetId,
    /// What it says of itself.
    pub description: String,
    /// With which private address.
    pub address: Option<Ipv4Addr>,
    /// In which security groups; the VPC's default one where none is said.
    pub groups: BTreeSet<GroupId>,
    /// Its tags.
    pub tags: Tags,
    /// Calls with the same token make one interface.
    pub client_token: Option<String>,
}

/// Makes a network interface.
pub fn create(tx: &mut Tx<'_>, new: &NewInterface) -> Result<InterfaceId, Refusal> {
    let client_token = mark(new.client_token.as_ref(), new);
    if let Some(interface) = earlier::<Interface>(tx, client_token.as_ref())? {
        return Ok(interface.id);
    }
    check_tags(&new.tags)?;
    check_description(&new.description)?;
    let subnet = tx.require::<Subnet>(new.subnet, Kind::Subnet, "subnet ID")?;
    let mut groups = new.groups.clone();
    if groups.is_empty() {
        groups.insert(group_by_name(tx.world(), subnet.vpc, "default")?);
    }
    check_groups(tx, &groups, &subnet)?;
    let random = tx.random();
    let address = subnet_space::choose(tx.world(), &subnet, new.address, random)?;
    let (id, mac) = (InterfaceId::from_random(tx.random()), Mac::from_random(tx.random()));
    tx.put(Interface {
        id,
        vpc: subnet.vpc,
        subnet: subnet.id,
        description: new.description.clone(),
        mac,
        address,
        auto_public: None,
        groups,
        source_dest_check: true,
        attachment: None,
        created: tx.now,
        client_token,
        doomed: false,
        tags: new.tags.clone(),
    });
    Ok(id)
}

/// Deletes an interface that is attached nowhere.
pub fn delete(tx: &mut Tx<'_>, id: InterfaceId) -> Result<(), Refusal> {
    let interface = require(tx, id)?;
    if interface.attachment.is_some() {
        let text = format!("Network interface '{id}' is currently in use.");
        return Err(Refusal::new(Reason::InvalidValue, text));
    }
    tx.put(Interface { doomed: true, ..(*interface).clone() });
    Ok(())
}

/// Attaches an interface to an instance, as the one with this index.
pub fn attach(
    tx: &mut Tx<'_>,
    id: InterfaceId,
    instance: InstanceId,
    device_index: u32,
) -> Result<InterfaceAttachmentId, Refusal> {
    let interface = require(tx, id)?;
    let receiver = receiver(tx, instance)?;
    if interface.attachment.is_some() {
        return Err(Refusal::new(Reason::InterfaceInUse, format!("Interface: [{id}] in use.")));
    }
    check_neighbourhood(tx, &interface, &receiver)?;
    check_index(tx, &receiver, device_index)?;
    check_places(tx.world(), &receiver)?;
    let attachment = InterfaceAttachmentId::from_random(tx.random());
    tx.put(Interface {
        attachment: Some(InterfaceAttachment {
            id: attachment,
            instance,
            device_index,
            delete_on_termination: false,
            since: tx.now,
            detach: None,
        }),
        ..(*interface).clone()
    });
    Ok(attachment)
}

fn check_neighbourhood(tx: &Tx<'_>, interface: &Interface, instance: &Instance) -> Result<(), Refusal> {
    let subnets = (tx.get::<Subnet>(interface.subnet), tx.get::<Subnet>(instance.subnet));
    let (Some(own), Some(its)) = subnets else { return Ok(()) };
    if own.zone != its.zone {
        let text = "You may not attach a network interface to an instance if they are not in the same availability zone";
        return Err(Refusal::new(Reason::InvalidCombination, text));
    }
    if own.vpc != its.vpc {
        let text = format!(
            "The network interface '{}' is in another VPC than instance '{}', which is not supported yet",
            interface.id, instance.id
        );
        return Err(Refusal::new(Reason::Unsupported, text));
    }
    Ok(())
}

fn check_index(tx: &Tx<'_>, instance: &Instance, device_index: u32) -> Result<(), Refusal> {
    let there = tx.world().interfaces_of(instance.id);
    let indices = there.iter().filter_map(|row| row.attachment.as_ref()).map(|at| at.device_index);
    if indices.clone().any(|index| index == device_index) {
        let text = format!(
            "Instance '{}' already has an interface attached at device index '{device_index}'.",
            instance.id
        );
        return Err(Refusal::new(Reason::InvalidValue, text));
    }
    let Some(kind) = catalog::find(&instance.instance_type) else { return Ok(()) };
    let count = u32::try_from(indices.count()).unwrap_or(u32::MAX);
    if count >= kind.max_interfaces {
        let text = format!("Interface count {} exceeds the limit for {}", count + 1, kind.name);
        return Err(Refusal::new(Reason::LimitExceeded(Kind::Attachment), text));
    }
    if device_index > catalog::PORTS.into() {
        let most = catalog::PORTS;
        let text = format!("Invalid value '{device_index}' for deviceIndex. It can be from 1 to {most}");
        return Err(Refusal::new(Reason::InvalidValue, text));
    }
    Ok(())
}

/// Takes an interface back from its instance.
pub fn detach(tx: &mut Tx<'_>, attachment: InterfaceAttachmentId, force: bool) -> Result<(), Refusal> {
    let interface = tx.world().attached_by(attachment).filter(|row| !row.doomed).cloned();
    let (Some(interface), Some(at)) =
        (&interface, interface.as_ref().and_then(|row| row.attachment.as_ref()))
    else {
        return Err(no_attachment(attachment));
    };
    if at.device_index == 0 {
        let text = "The network interface at device index 0 cannot be detached.";
        return Err(Refusal::new(Reason::OperationNotPermitted, text));
    }
    check_not_saved(tx.world(), at.instance)?;
    let changed = InterfaceAttachment { detach: Some(how(force, at.detach)), ..at.clone() };
    tx.put_if_changed(interface.id, Interface { attachment: Some(changed), ..(**interface).clone() });
    Ok(())
}

/// A new value for one attribute of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// What it says of itself.
    Description(String),
    /// Its security groups.
    Groups(BTreeSet<GroupId>),
    /// It may only send and receive under its own addresses.
    SourceDestCheck(bool),
    /// Its attachment, which must be this one, goes with the instance, and the interface with it.
    DeleteOnTermination(InterfaceAttachmentId, bool),
}

/// Changes one attribute of an interface, from this moment on.
pub fn modify(tx: &mut Tx<'_>, id: InterfaceId, attribute: &Attribute) -> Result<(), Refusal> {
    let row = require(tx, id)?;
    let mut interface = (*row).clone();
    match attribute {
        Attribute::Description(text) => {
            check_description(text)?;
            interface.description.clone_from(text);
        }
        Attribute::Groups(groups) => {
            let subnet = tx.require::<Subnet>(row.subnet, Kind::Subnet, "subnet ID")?;
            check_groups(tx, groups, &subnet)?;
            interface.groups.clone_from(groups);
        }
        Attribute::SourceDestCheck(check) => interface.source_dest_check = *check,
        Attribute::DeleteOnTermination(attachment, goes) => {
            let at = interface.attachment.as_mut().filter(|at| at.id == *attachment);
            at.ok_or_else(|| no_attachment(*attachment))?.delete_on_termination = *goes;
        }
    }
    tx.put_if_changed(id, interface);
    Ok(())
}

fn check_description(text: &str) -> Result<(), Refusal> {
    if text.chars().count() <= MAX_DESCRIPTION {
        return Ok(());
    }
    let text = format!("The description of a network interface can have {MAX_DESCRIPTION} characters");
    Err(Refusal::new(Reason::InvalidValue, text))
}

fn require(tx: &Tx<'_>, id: InterfaceId) -> Result<Arc<Interface>, Refusal> {
    let interface = tx.get::<Interface>(id).filter(|row| !row.doomed);
    interface.ok_or_else(|| Refusal::not_found(Kind::Interface, "networkInterface ID", id))
}

fn no_attachment(id: InterfaceAttachmentId) -> Refusal {
    Refusal::not_found(Kind::InterfaceAttachment, "networkInterface attachment ID", id)
}
