//! Which names are ours, and what they stand for.

use std::net::Ipv4Addr;

use hickory_proto::rr::Name;

use crate::names::{self, METADATA_ADDRESS, METADATA_HOST};

/// What a resolver must know of the VPC that asks.
pub trait VpcNames {
    /// The region, as in `us-east-1`.
    fn region(&self) -> &str;

    /// Whether one of the VPC's blocks holds the address: nobody else can say whose it is.
    fn covers(&self, address: Ipv4Addr) -> bool;

    /// Whether the address is the private one of an interface in the VPC.
    fn is_private(&self, address: Ipv4Addr) -> bool;

    /// What the public host name of this public address stands for here: the private address behind it
    /// if that is in this VPC, the same public address if it is given to anybody else in this cloud, and
    /// none if it is not ours (AWS, *DNS attributes for your VPC*).
    fn public_target(&self, public: Ipv4Addr) -> Option<Ipv4Addr>;
}

/// A name that we answer for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// The zone it is in.
    pub(super) zone: Name,
    /// What is there.
    pub(super) content: Content,
}

/// What is at a name of ours.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// No such name.
    Missing,
    /// The zone itself.
    Apex,
    /// A host.
    Address(Ipv4Addr),
    /// An address whose host has this name.
    Host(Name),
}

/// Looks a name up; none if it is not ours to answer.
pub(super) fn look_up(name: &Name, vpc: &impl VpcNames) -> Option<Known> {
    private_host(name, vpc)
        .or_else(|| metadata_host(name))
        .or_else(|| public_host(name, vpc))
        .or_else(|| reverse(name, vpc))
}

/// All below the private domain: hosts of the VPC, and the metadata service.
fn private_host(name: &Name, vpc: &impl VpcNames) -> Option<Known> {
    let zone = parse(&names::private_domain(vpc.region()))?;
    let content = match &labels_below(&zone, name)?[..] {
        [] => Content::Apex,
        [host] if is_metadata_host(host) => Content::Address(METADATA_ADDRESS),
        [host] => text(host)
            .and_then(names::address_of_private_host)
            .filter(|address| vpc.is_private(*address))
            .map_or(Content::Missing, Content::Address),
        _ => Content::Missing,
    };
    Some(Known { zone, content })
}

/// `instance-data.ec2.internal`: EC2 knows this one in all regions.
fn metadata_host(name: &Name) -> Option<Known> {
    let zone = parse(&names::private_domain("us-east-1"))?;
    let [host] = labels_below(&zone, name)?[..] else { return None };
    is_metadata_host(host).then_some(Known { zone, content: Content::Address(METADATA_ADDRESS) })
}

fn is_metadata_host(label: &[u8]) -> bool {
    label.eq_ignore_ascii_case(METADATA_HOST.as_bytes())
}

/// Public host names of this cloud. Others in the same domain are Amazon's own: not ours.
fn public_host(name: &Name, vpc: &impl VpcNames) -> Option<Known> {
    let zone = parse(&names::public_domain(vpc.region()))?;
    let [host] = labels_below(&zone, name)?[..] else { return None };
    let public = names::address_of_public_host(text(host)?)?;
    Some(Known { zone, content: Content::Address(vpc.public_target(public)?) })
}

/// `5.0.31.172.in-addr.arpa` for addresses of the VPC, public ones of this cloud, the metadata service.
fn reverse(name: &Name, vpc: &impl VpcNames) -> Option<Known> {
    let labels = labels_below(&parse("in-addr.arpa")?, name)?;
    let [d, c, b, a] = labels[..] else { return None };
    let address = Ipv4Addr::new(octet(a)?, octet(b)?, octet(c)?, octet(d)?);
    let host = |name: &str| parse(name).map(Content::Host);
    let content = if address == METADATA_ADDRESS {
        host(&format!("{METADATA_HOST}.{}", names::private_domain(vpc.region())))?
    } else if vpc.is_private(address) {
        host(&names::private_hostname(address, vpc.region()))?
    } else if vpc.covers(address) {
        Content::Missing
    } else {
        vpc.public_target(address)?;
        host(&names::public_hostname(address, vpc.region()))?
    };
    Some(Known { zone: name.base_name(), content })
}

/// The labels of a name that is in a zone, without the zone's own.
fn labels_below<'a>(zone: &Name, name: &'a Name) -> Option<Vec<&'a [u8]>> {
    let count = name.iter().count().checked_sub(zone.iter().count())?;
    zone.zone_of(name).then(|| name.iter().take(count).collect())
}

/// An octet as reverse names spell it: no leading zeros.
fn octet(label: &[u8]) -> Option<u8> {
    let octet: u8 = text(label)?.parse().ok()?;
    octet.to_string().as_bytes().eq(label).then_some(octet)
}

fn text(label: &[u8]) -> Option<&str> {
    str::from_utf8(label).ok()
}

fn parse(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}
