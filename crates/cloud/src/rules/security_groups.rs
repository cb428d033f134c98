//! Security groups and their rules.
//!
//! Source: AWS API reference, *CreateSecurityGroup*, *AuthorizeSecurityGroupIngress* and their neighbours; AWS,
//! *Amazon VPC quotas* for the numbers.

use ipnet::Ipv4Net;
use spec::ids::{GroupId, RuleId, VpcId};
use spec::network::{Peer, Traffic};

use crate::model::*;
use crate::refusal::{Kind, Reason, Refusal};
use crate::rules::tags::check_tags;
use crate::tx::Tx;

/// Rules of one direction in a group at most.
const MAX_RULES: usize = 60;
/// Characters of a name or a description at most.
const MAX_TEXT: usize = 255;

/// A group to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewGroup {
    /// Its name.
    pub name: String,
    /// What it says of itself.
    pub description: String,
    /// Its VPC; the default one where it is not said.
    pub vpc: Option<VpcId>,
    /// Its tags.
    pub tags: Tags,
}

/// Makes a group that lets nothing in and everything out.
pub fn create(tx: &mut Tx<'_>, new: NewGroup) -> Result<GroupId, Refusal> {
    check_tags(&new.tags)?;
    check_text("GroupName", &new.name)?;
    check_text("GroupDescription", &new.description)?;
    let vpc = choose_vpc(tx, new.vpc)?;
    check_name(tx, vpc, &new.name)?;
    let id = GroupId::from_random(tx.random());
    let out = GroupRule {
        direction: Direction::Egress,
        traffic: Traffic::All,
        peer: Peer::Ipv4(Ipv4Net::default()),
        description: None,
        tags: Tags::new(),
    };
    let rules = [(RuleId::from_random(tx.random()), out)].into();
    tx.put(SecurityGroup { id, vpc, name: new.name, description: new.description, rules, tags: new.tags });
    Ok(id)
}

fn choose_vpc(tx: &Tx<'_>, vpc: Option<VpcId>) -> Result<VpcId, Refusal> {
    match vpc {
        Some(id) => tx.require::<Vpc>(id, Kind::Vpc, "vpc ID").map(|row| row.id),
        None => tx
            .world()
            .default_vpc()
            .map(|row| row.id)
            .ok_or_else(|| Refusal::new(Reason::NoDefaultVpc, "No default VPC for this user; name a VPC")),
    }
}

fn check_name(tx: &Tx<'_>, vpc: VpcId, name: &str) -> Result<(), Refusal> {
    if name == "default" {
        let text = "Cannot use reserved security group name: default";
        return Err(Refusal::new(Reason::InvalidValue, text));
    }
    if name.starts_with("sg-") {
        let text =
            format!("Invalid value '{name}' for groupName. Group names may not be in the format sg-*.");
        return Err(Refusal::new(Reason::InvalidValue, text));
    }
    if tx.world().referring::<SecurityGroup>(Key::Vpc(vpc)).any(|group| group.name == name) {
        let text = format!("The security group '{name}' already exists for VPC '{vpc}'");
        return Err(Refusal::new(Reason::Duplicate(Kind::Group), text));
    }
    Ok(())
}

/// 1 to 255 letters, digits, spaces and `._-:/()#,@[]+=&;{}!$*`, as EC2 has it for groups in VPCs.
fn check_text(parameter: &str, text: &str) -> Result<(), Refusal> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || " ._-:/()#,@[]+=&;{}!$*".contains(c);
    if (1..=MAX_TEXT).contains(&text.len()) && text.chars().all(allowed) {
        return Ok(());
    }
    let message = format!(
        "Invalid value for {parameter}: 1 to {MAX_TEXT} characters of a-z, A-Z, 0-9, spaces, and ._-:/()#,@[]+=&;{{}}!$*"
    );
    Err(Refusal::new(Reason::InvalidValue, message))
}

/// Deletes a group that nothing needs any more.
pub fn delete(tx: &mut Tx<'_>, id: GroupId) -> Result<(), Refusal> {
    let group = require(tx, id)?;
    if group.name == "default" {
        let text = format!("the specified group: \"{id}\" name: \"default\" cannot be deleted by a user");
        return Err(Refusal::new(Reason::CannotDelete, text));
    }
    if tx.world().referrers(Key::SecurityGroup(id)).next().is_some() {
        let text = format!("resource {id} has a dependent object");
        return Err(Refusal::new(Reason::DependencyViolation, text));
    }
    tx.remove(Key::SecurityGroup(id));
    Ok(())
}

/// Adds rules to a group; returns their ids in the order given.
pub fn authorize(tx: &mut Tx<'_>, id: GroupId, rules: Vec<GroupRule>) -> Result<Vec<RuleId>, Refusal> {
    let mut group = (*require(tx, id)?).clone();
    let mut ids = Vec::with_capacity(rules.len());
    for rule in rules {
        check_rule(tx, &group, &rule)?;
        let rule_id = RuleId::from_random(tx.random());
        group.rules.insert(rule_id, rule);
        ids.push(rule_id);
    }
    tx.put(group);
    Ok(ids)
}

fn check_rule(tx: &Tx<'_>, group: &SecurityGroup, rule: &GroupRule) -> Result<(), Refusal> {
    check_tags(&rule.tags)?;
    if let Some(description) = rule.description.as_ref().filter(|text| !text.is_empty()) {
        check_text("the rule's description", description)?;
    }
    if let Peer::Group(peer) = rule.peer {
        let other = require(tx, peer)?;
        if other.vpc != group.vpc {
            let text = format!(
                "You have specified two resources that belong to different networks: {} and {peer}",
                group.id
            );
            return Err(Refusal::new(Reason::NotFound(Kind::Group), text));
        }
    }
    if group.rules.values().any(|had| same(had, rule)) {
        let text = format!("the specified rule \"{}\" already exists", describe(rule));
        return Err(Refusal::new(Reason::DuplicateRule, text));
    }
    if group.rules.values().filter(|had| had.direction == rule.direction).count() >= MAX_RULES {
        let text = format!("The maximum number of rules per security group has been reached: {MAX_RULES}");
        return Err(Refusal::new(Reason::LimitExceeded(Kind::Rule), text));
    }
    Ok(())
}

/// Takes rules away that are the same but for their descriptions.
pub fn revoke(
    tx: &mut Tx<'_>,
    id: GroupId,
    rules: &[GroupRule],
) -> Result<Vec<(RuleId, GroupRule)>, Refusal> {
    let group = require(tx, id)?;
    let mut ids = Vec::with_capacity(rules.len());
    for rule in rules {
        let found = group.rules.iter().find(|(_, had)| same(had, rule)).map(|(id, _)| *id);
        ids.push(found.ok_or_else(|| {
            let text =
                format!("The specified rule does not exist in this security group: {}", describe(rule));
            Refusal::new(Reason::RuleNotFound, text)
        })?);
    }
    revoke_found(tx, &group, &ids)
}

/// Takes rules away by their ids.
pub fn revoke_ids(
    tx: &mut Tx<'_>,
    id: GroupId,
    direction: Direction,
    ids: &[RuleId],
) -> Result<Vec<(RuleId, GroupRule)>, Refusal> {
    let group = require(tx, id)?;
    for rule in ids {
        if group.rules.get(rule).is_none_or(|had| had.direction != direction) {
            let text = format!("The security group rule ID '{rule}' does not exist");
            return Err(Refusal::new(Reason::NotFound(Kind::Rule), text));
        }
    }
    revoke_found(tx, &group, ids)
}

fn revoke_found(
    tx: &mut Tx<'_>,
    group: &SecurityGroup,
    ids: &[RuleId],
) -> Result<Vec<(RuleId, GroupRule)>, Refusal> {
    let mut group = group.clone();
    let revoked = ids.iter().filter_map(|id| group.rules.remove_entry(id)).collect();
    tx.put(group);
    Ok(revoked)
}

fn require(tx: &Tx<'_>, id: GroupId) -> Result<std::sync::Arc<SecurityGroup>, Refusal> {
    tx.require::<SecurityGroup>(id, Kind::Group, "security group")
}

/// EC2 tells rules apart by direction, packets and peer.
fn same(a: &GroupRule, b: &GroupRule) -> bool {
    (a.direction, a.traffic, a.peer) == (b.direction, b.traffic, b.peer)
}

/// `peer: 0.0.0.0/0, TCP, from port: 22, to port: 22, ALLOW`, as EC2 words it.
fn describe(rule: &GroupRule) -> String {
    let peer = match rule.peer {
        Peer::Ipv4(net) => net.to_string(),
        Peer::Ipv6(net) => net.to_string(),
        Peer::Group(id) => id.to_string(),
    };
    let traffic = match rule.traffic {
        Traffic::All => "ALL".to_owned(),
        Traffic::Tcp(from, to) => format!("TCP, from port: {from}, to port: {to}"),
        Traffic::Udp(from, to) => format!("UDP, from port: {from}, to port: {to}"),
        Traffic::Icmp(kind, code) => format!("ICMP, type: {}, code: {}", number(kind), number(code)),
        Traffic::Icmp6(kind, code) => format!("ICMPv6, type: {}, code: {}", number(kind), number(code)),
        Traffic::Protocol(number) => format!("protocol {number}"),
    };
    format!("peer: {peer}, {traffic}, ALLOW")
}

fn number(value: Option<u8>) -> String {
    value.map_or_else(|| "-1".to_owned(), |value| value.to_string())
}
