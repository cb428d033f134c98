//! Reading ids: one that is malformed is refused as its kind is, one that nobody has is named.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use cloud::World;
use cloud::model::*;
use cloud::world::Table;
use ec2::{Error, Resource};
use spec::ids::*;

/// An id type, and EC2's kind of resource that it is for.
pub(super) trait Id: FromStr<Err = Malformed> + Copy + Ord + Display {
    /// The kind, which decides about codes and words of refusals.
    const RESOURCE: Resource;
}

macro_rules! resources {
    ($($id:ident $resource:ident;)*) => {$(
        impl Id for $id {
            const RESOURCE: Resource = Resource::$resource;
        }
    )*};
}

resources! {
    AllocationId Address;
    DhcpOptionsId DhcpOptions;
    GroupId SecurityGroup;
    ImageId Image;
    InstanceId Instance;
    InterfaceAttachmentId NetworkInterfaceAttachment;
    InterfaceId NetworkInterface;
    InternetGatewayId InternetGateway;
    KeyPairId KeyPair;
    NetworkAclId NetworkAcl;
    RouteTableId RouteTable;
    RuleId SecurityGroupRule;
    SnapshotId Snapshot;
    SubnetId Subnet;
    VolumeId Volume;
    VpcId Vpc;
}

/// The id that a request says.
pub(super) fn id<I: Id>(text: &str) -> Result<I, Error> {
    text.parse().map_err(|malformed: Malformed| Error::malformed_id(I::RESOURCE, &malformed.text))
}

/// The ids that a request says, each once, in the order of first mention.
pub(super) fn ids<I: Id>(texts: &[String]) -> Result<Vec<I>, Error> {
    let mut found = Vec::with_capacity(texts.len());
    let mut seen = std::collections::BTreeSet::new();
    for text in texts {
        let id = id::<I>(text)?;
        if seen.insert(id) {
            found.push(id);
        }
    }
    Ok(found)
}

/// A kind of row that users see.
pub(super) trait Seen: Table<Id: Id> {
    /// Whether they still do: what is only left until the host has let go of it does not exist for them.
    fn is_seen(&self) -> bool {
        true
    }
}

impl Seen for DhcpOptions {}
impl Seen for Instance {}
impl Seen for InternetGateway {}
impl Seen for NetworkAcl {}
impl Seen for RouteTable {}
impl Seen for SecurityGroup {}
impl Seen for Subnet {}
impl Seen for Volume {}
impl Seen for Vpc {}

impl Seen for Image {
    fn is_seen(&self) -> bool {
        !self.doomed
    }
}

impl Seen for Interface {
    fn is_seen(&self) -> bool {
        !self.doomed
    }
}

/// A row with its id.
pub(super) type Found<'w, T> = (<T as Table>::Id, &'w Arc<T>);

/// The rows with these ids, or all where none is named, in the order of their ids.
pub(super) fn chosen<'w, T: Seen>(world: &'w World, ids: &[T::Id]) -> Result<Vec<Found<'w, T>>, Error> {
    if ids.is_empty() {
        return Ok(T::table(world)
            .iter()
            .filter(|(_, row)| row.is_seen())
            .map(|(id, row)| (*id, row))
            .collect());
    }
    let mut found = Vec::with_capacity(ids.len());
    let mut missing = Vec::new();
    for id in ids {
        match world.get::<T>(*id).filter(|row| row.is_seen()) {
            Some(row) => found.push((*id, row)),
            None => missing.push(id.to_string()),
        }
    }
    if missing.is_empty() {
        found.sort_unstable_by_key(|(id, _)| *id);
        return Ok(found);
    }
    let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
    Err(Error::none_found(T::Id::RESOURCE, &missing))
}

/// The row with that id.
pub(super) fn the<T: Seen>(world: &World, id: T::Id) -> Result<&Arc<T>, Error> {
    let row = world.get::<T>(id).filter(|row| row.is_seen());
    row.ok_or_else(|| Error::not_found(T::Id::RESOURCE, &id.to_string()))
}
