//! Tags, on whatever has an id.
//!
//! Source: AWS, *Tag your Amazon EC2 resources*: at most 50 tags, keys to 128 characters and values to
//! 256, no key that begins with `aws:`.

use std::str::FromStr;

use spec::ids::*;

use crate::model::*;
use crate::refusal::{Kind, Reason, Refusal};
use crate::tx::Tx;
use crate::world::World;

/// Tags of a thing at most.
const MAX_TAGS: usize = 50;
/// Characters of a key at most.
const MAX_KEY: usize = 128;
/// Characters of a value at most.
const MAX_VALUE: usize = 256;

/// A thing that can have tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tagged {
    /// A row.
    Row(Key),
    /// A rule of a security group.
    Rule(RuleId),
}

macro_rules! tagged {
    ($($id:ident $variant:ident $kind:ident $name:literal;)*) => {
        impl FromStr for Tagged {
            type Err = Malformed;

            /// Reads the id of anything that can have tags.
            fn from_str(id: &str) -> Result<Self, Malformed> {
                match id.rsplit_once('-').map(|(prefix, _)| prefix) {
                    $(Some($id::PREFIX) => id.parse().map(|id| Self::Row(Key::$variant(id))),)*
                    Some(RuleId::PREFIX) => id.parse().map(Self::Rule),
                    _ => Err(Malformed { prefix: "i", text: id.chars().take(64).collect() }),
                }
            }
        }

        impl Tagged {
            /// The thing's kind, and EC2's name for that in DescribeTags and TagSpecifications.
            pub fn kind(self) -> (Kind, &'static str) {
                match self {
                    $(Self::Row(Key::$variant(_)) => (Kind::$kind, $name),)*
                    Self::Row(_) => (Kind::Other, "other"),
                    Self::Rule(_) => (Kind::Rule, "security-group-rule"),
                }
            }
        }

        /// Every tag there is: the thing's id, EC2's name for its kind, key and value.
        pub fn all(world: &World) -> Vec<(String, &'static str, String, String)> {
            let mut found = Vec::new();
            let mut add = |id: String, kind, tags: &Tags| {
                found.extend(tags.iter().map(|(key, value)| (id.clone(), kind, key.clone(), value.clone())));
            };
            for row in world.rows().filter(is_seen) {
                match &row {
                    $(Row::$variant(row) => add(row.id.to_string(), $name, &row.tags),)*
                    _ => {}
                }
                if let Row::SecurityGroup(group) = &row {
                    group.rules.iter().for_each(|(id, rule)| add(id.to_string(), "security-group-rule", &rule.tags));
                }
            }
            found
        }
    };
}

tagged! {
    ImageId Image Image "image";
    InstanceId Instance Instance "instance";
    VolumeId Volume Volume "volume";
    InterfaceId Interface Interface "network-interface";
    KeyPairId KeyPair KeyPair "key-pair";
    VpcId Vpc Vpc "vpc";
    SubnetId Subnet Subnet "subnet";
    RouteTableId RouteTable RouteTable "route-table";
    InternetGatewayId InternetGateway InternetGateway "internet-gateway";
    NetworkAclId NetworkAcl NetworkAcl "network-acl";
    DhcpOptionsId DhcpOptions DhcpOptions "dhcp-options";
    GroupId SecurityGroup Group "security-group";
}

/// Users see it. What is only left until the host has let go of it cannot be tagged, and its tags are gone.
fn is_seen(row: &Row) -> bool {
    !matches!(row, Row::Image(Image { doomed: true, .. }) | Row::Interface(Interface { doomed: true, .. }))
}

/// Adds tags to things, in place of those with the same keys.
pub fn create(tx: &mut Tx<'_>, things: &[Tagged], tags: &Tags) -> Result<(), Refusal> {
    check_tags(tags)?;
    for thing in things {
        change(tx, *thing, |had| {
            had.extend(tags.clone());
            check_count(had.len())
        })?;
    }
    Ok(())
}

/// Which tags to take away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The tag with that key, if it has that value where one is given.
    Key(String, Option<String>),
    /// All of them.
    All,
}

/// Takes tags away; those that are not there are none the worse.
pub fn delete(tx: &mut Tx<'_>, things: &[Tagged], selectors: &[Selector]) -> Result<(), Refusal> {
    let goes = |key: &str, value: &str| {
        selectors.iter().any(|selector| match selector {
            Selector::All => true,
            Selector::Key(wanted, only) => key == wanted && only.as_ref().is_none_or(|only| only == value),
        })
    };
    for thing in things {
        change(tx, *thing, |had| {
            had.retain(|key, value| !goes(key, value));
            Ok(())
        })?;
    }
    Ok(())
}

fn change(
    tx: &mut Tx<'_>,
    thing: Tagged,
    change: impl FnOnce(&mut Tags) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let missing =
        |id: String| Refusal::new(Reason::NotFound(thing.kind().0), format!("The ID '{id}' does not exist"));
    match thing {
        Tagged::Row(key) => {
            let text = key.text();
            let id = text.rsplit_once('/').map_or(text.as_str(), |(_, id)| id).to_owned();
            let row = tx.world().row(key).filter(is_seen);
            let mut row = row.ok_or_else(|| missing(id.clone()))?;
            change(row.tags_mut().ok_or_else(|| missing(id))?)?;
            tx.put(row);
        }
        Tagged::Rule(rule) => {
            let group = tx.world().security_groups.values().find(|group| group.rules.contains_key(&rule));
            let mut group = (**group.ok_or_else(|| missing(rule.to_string()))?).clone();
            if let Some(rule) = group.rules.get_mut(&rule) {
                change(&mut rule.tags)?;
            }
            tx.put(group);
        }
    }
    Ok(())
}

/// The refusal where tags break EC2's rules for their form or number.
pub fn check_tags(tags: &Tags) -> Result<(), Refusal> {
    let bad = |text: String| Err(Refusal::new(Reason::InvalidValue, text));
    for (key, value) in tags {
        if key.is_empty() || key.chars().count() > MAX_KEY {
            return bad(format!("Tag keys must have 1 to {MAX_KEY} characters"));
        }
        if key.to_ascii_lowercase().starts_with("aws:") {
            return bad(format!("Tag keys starting with 'aws:' are reserved for internal use: '{key}'"));
        }
        if value.chars().count() > MAX_VALUE {
            return bad(format!("The value of the tag '{key}' has more than {MAX_VALUE} characters"));
        }
    }
    check_count(tags.len())
}

fn check_count(count: usize) -> Result<(), Refusal> {
    if count <= MAX_TAGS {
        return Ok(());
    }
    Err(Refusal::new(
        Reason::LimitExceeded(Kind::Tag),
        format!("A resource can have {MAX_TAGS} tags, not {count}"),
    ))
}
