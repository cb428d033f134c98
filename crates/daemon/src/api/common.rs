//! What many families read and show: tags, moments, names of resources, groups.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use cloud::model::{Interface, Tags};
use cloud::state::AttachmentState;
use cloud::{Settings, World};
use ec2::Error;
use ec2::shapes::common::{AttachmentStatus, GroupIdentifier, Tag, TagSpecification};
use guest_services::names;
use spec::ids::GroupId;

/// Characters of a client token at most (AWS, *Ensuring idempotency in Amazon EC2 API requests*).
const MAX_CLIENT_TOKEN: usize = 64;

/// The client token that a request says; an empty one is none.
pub(super) fn read_token(token: Option<String>) -> Result<Option<String>, Error> {
    let Some(token) = token.filter(|token| !token.is_empty()) else { return Ok(None) };
    if token.len() <= MAX_CLIENT_TOKEN && token.is_ascii() {
        return Ok(Some(token));
    }
    let start: String = token.chars().take(MAX_CLIENT_TOKEN).collect();
    let why = format!("A client token has at most {MAX_CLIENT_TOKEN} ASCII characters.");
    Err(Error::invalid_parameter_value("ClientToken", &start, &why))
}

/// The private address that a request says.
pub(super) fn read_address(text: &str) -> Result<Ipv4Addr, Error> {
    text.parse().map_err(|_| {
        let text: String = text.chars().take(64).collect();
        Error::invalid_parameter_value("PrivateIpAddress", &text, "Expected an IPv4 address.")
    })
}

/// A moment as EC2 shows it.
pub(super) fn time(at: cloud::Timestamp) -> ec2::Timestamp {
    ec2::Timestamp::from_unix(at.0 / 1000)
}

/// How far an attachment is, as EC2 shows it.
pub(super) fn attachment_status(state: AttachmentState) -> AttachmentStatus {
    match state {
        AttachmentState::Attaching => AttachmentStatus::Attaching,
        AttachmentState::Attached => AttachmentStatus::Attached,
        AttachmentState::Detaching => AttachmentStatus::Detaching,
    }
}

/// Tags as EC2 shows them, by key.
pub(super) fn tag_set(tags: &Tags) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag { key: key.clone(), value: value.clone() }).collect()
}

/// The tags that a request says; a key may come once.
pub(super) fn read_tags(tags: impl IntoIterator<Item = Tag>) -> Result<Tags, Error> {
    let mut read = Tags::new();
    for Tag { key, value } in tags {
        if read.insert(key.clone(), value).is_some() {
            let text =
                format!("Duplicate tag key '{}' specified.", key.chars().take(128).collect::<String>());
            return Err(Error::new(400, "InvalidParameterValue", text));
        }
    }
    Ok(read)
}

/// The tags of a request for what it makes, by EC2's names of the kinds. Only `kinds` are made, each named once.
pub(super) fn read_tag_specifications(
    specifications: Vec<TagSpecification>,
    kinds: &[&'static str],
) -> Result<BTreeMap<&'static str, Tags>, Error> {
    let mut read = BTreeMap::new();
    for TagSpecification { resource_type, tag } in specifications {
        let bad =
            |why: &str| Error::invalid_parameter_value("TagSpecification.ResourceType", &resource_type, why);
        let kind = kinds.iter().find(|kind| **kind == resource_type);
        let kind = kind.ok_or_else(|| bad(&format!("This action can tag: {}.", kinds.join(", "))))?;
        if read.insert(*kind, read_tags(tag)?).is_some() {
            return Err(bad("It is named twice."));
        }
    }
    Ok(read)
}

/// The tags of a request for the one kind of thing it makes.
pub(super) fn read_tags_for(
    kind: &'static str,
    specifications: Vec<TagSpecification>,
) -> Result<Tags, Error> {
    Ok(read_tag_specifications(specifications, &[kind])?.remove(kind).unwrap_or_default())
}

/// `arn:aws:ec2:us-east-1:123456789012:subnet/subnet-…`.
pub(super) fn arn(settings: &Settings, kind: &str, id: impl std::fmt::Display) -> String {
    let Settings { region, account, .. } = settings;
    format!("arn:{}:ec2:{region}:{account}:{kind}/{id}", names::partition(region))
}

/// Groups with their names; one that is gone meanwhile is left out.
pub(super) fn group_identifiers(world: &World, groups: &BTreeSet<GroupId>) -> Vec<GroupIdentifier> {
    let rows = groups.iter().filter_map(|id| world.security_groups.get(id));
    rows.map(|row| GroupIdentifier { group_id: row.id.to_string(), group_name: row.name.clone() }).collect()
}

/// `ip-172-31-0-5.ec2.internal`.
pub(super) fn private_name(world: &World, interface: &Interface) -> String {
    names::private_hostname(interface.address, &world.settings.region)
}

/// The public name of an address; empty where the VPC gives none.
pub(super) fn public_name(world: &World, interface: &Interface, address: Ipv4Addr) -> String {
    let named = world.vpcs.get(&interface.vpc).is_some_and(|vpc| vpc.dns_hostnames && vpc.dns_support);
    if named { names::public_hostname(address, &world.settings.region) } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specification(kind: &str, keys: &[&str]) -> TagSpecification {
        let tag = keys.iter().map(|key| Tag { key: (*key).into(), value: "v".into() }).collect();
        TagSpecification { resource_type: kind.into(), tag }
    }

    #[test]
    fn tags_go_to_the_kind_they_are_for() {
        let read = read_tag_specifications(
            vec![specification("volume", &["a"]), specification("instance", &["b", "c"])],
            &["instance", "volume"],
        );
        let read = read.unwrap();
        assert_eq!((read["volume"].len(), read["instance"].len()), (1, 2));
    }

    #[test]
    fn a_wrong_kind_a_kind_twice_and_a_key_twice_are_refused() {
        let refused = |specifications| read_tag_specifications(specifications, &["volume"]).unwrap_err();
        for specifications in [
            vec![specification("vpc", &[])],
            vec![specification("volume", &[]), specification("volume", &[])],
            vec![specification("volume", &["a", "a"])],
        ] {
            assert_eq!(refused(specifications).code(), "InvalidParameterValue");
        }
    }
}
