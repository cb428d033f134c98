//! Security groups and their rules.

use cloud::model::{Direction, GroupRule, SecurityGroup, Tags};
use cloud::refusal::Kind;
use cloud::rules::launch::group_by_name;
use cloud::rules::security_groups::{self, NewGroup};
use cloud::{Reason, Refusal, Settings, Tx, World};
use ec2::shapes::security_groups as wire;
use ec2::{Error, Handler, Resource};
use spec::ids::{GroupId, RuleId};

use super::Api;
use super::common::{arn, read_tags_for, tag_set};
use super::ids::{id, ids};
use super::permissions::{self, Asked, Shown, read_old_form, show_rule};
use crate::filters::Fields;
use crate::pages::{Listed, MAX_RESULTS};

static GROUPS: Listed = Listed {
    fields: Fields {
        paths: &[
            ("description", "groupDescription"),
            ("egress.ip-permission.cidr", "ipPermissionsEgress.ipRanges.cidrIp"),
            ("egress.ip-permission.from-port", "ipPermissionsEgress.fromPort"),
            ("egress.ip-permission.group-id", "ipPermissionsEgress.groups.groupId"),
            ("egress.ip-permission.group-name", "ipPermissionsEgress.groups.groupName"),
            ("egress.ip-permission.ipv6-cidr", "ipPermissionsEgress.ipv6Ranges.cidrIpv6"),
            ("egress.ip-permission.prefix-list-id", "ipPermissionsEgress.prefixListIds.prefixListId"),
            ("egress.ip-permission.protocol", "ipPermissionsEgress.ipProtocol"),
            ("egress.ip-permission.to-port", "ipPermissionsEgress.toPort"),
            ("egress.ip-permission.user-id", "ipPermissionsEgress.groups.userId"),
            ("group-id", "groupId"),
            ("group-name", "groupName"),
            ("ip-permission.cidr", "ipPermissions.ipRanges.cidrIp"),
            ("ip-permission.from-port", "ipPermissions.fromPort"),
            ("ip-permission.group-id", "ipPermissions.groups.groupId"),
            ("ip-permission.group-name", "ipPermissions.groups.groupName"),
            ("ip-permission.ipv6-cidr", "ipPermissions.ipv6Ranges.cidrIpv6"),
            ("ip-permission.prefix-list-id", "ipPermissions.prefixListIds.prefixListId"),
            ("ip-permission.protocol", "ipPermissions.ipProtocol"),
            ("ip-permission.to-port", "ipPermissions.toPort"),
            ("ip-permission.user-id", "ipPermissions.groups.userId"),
            ("owner-id", "ownerId"),
            ("vpc-id", "vpcId"),
        ],
        tags: Some("tagSet"),
    },
    results: MAX_RESULTS,
    not_with: None,
};

static RULES: Listed = Listed {
    fields: Fields {
        paths: &[("group-id", "groupId"), ("security-group-rule-id", "securityGroupRuleId")],
        tags: Some("tagSet"),
    },
    results: MAX_RESULTS,
    not_with: None,
};

impl Handler<wire::CreateSecurityGroupRequest> for Api {
    async fn handle(
        &self,
        request: wire::CreateSecurityGroupRequest,
    ) -> Result<wire::CreateSecurityGroupResponse, Error> {
        let wire::CreateSecurityGroupRequest { group_description, group_name, vpc_id, tag_specification } =
            request;
        let tags = read_tags_for("security-group", tag_specification)?;
        let vpc = vpc_id.as_deref().map(id).transpose()?;
        let new = NewGroup { name: group_name, description: group_description, vpc, tags: tags.clone() };
        let (id, world) = self.change(move |tx| security_groups::create(tx, new)).await?;
        Ok(wire::CreateSecurityGroupResponse {
            group_id: id.to_string(),
            security_group_arn: Some(arn(&world.settings, "security-group", id)),
            tag_set: tag_set(&tags),
        })
    }
}

impl Handler<wire::DeleteSecurityGroupRequest> for Api {
    async fn handle(
        &self,
        request: wire::DeleteSecurityGroupRequest,
    ) -> Result<wire::DeleteSecurityGroupResponse, Error> {
        let wire::DeleteSecurityGroupRequest { group_id, group_name } = request;
        let named = Named::read(group_id, group_name)?;
        let delete = move |tx: &mut Tx<'_>| {
            let group = named.find(tx)?;
            security_groups::delete(tx, group).map(|()| group)
        };
        let (group, _) = self.change(delete).await?;
        Ok(wire::DeleteSecurityGroupResponse { done: true, group_id: Some(group.to_string()) })
    }
}

impl Handler<wire::DescribeSecurityGroupsRequest> for Api {
    async fn handle(
        &self,
        request: wire::DescribeSecurityGroupsRequest,
    ) -> Result<wire::DescribeSecurityGroupsResponse, Error> {
        let wire::DescribeSecurityGroupsRequest { group_id, group_name, filter, max_results, next_token } =
            request;
        let mut ids = ids(&group_id)?;
        let listing = GROUPS.read(ids.len() + group_name.len(), &filter, max_results, next_token)?;
        if !group_name.is_empty() {
            let world = self.store.world();
            for name in &group_name {
                let id = in_default_vpc(&world, name).map_err(super::errors::refused)?;
                if !ids.contains(&id) {
                    ids.push(id);
                }
            }
        }
        let (security_group_info, next_token) = self.list::<SecurityGroup, _>(&ids, &listing, show)?;
        Ok(wire::DescribeSecurityGroupsResponse { security_group_info, next_token })
    }
}

fn show(world: &World, row: &SecurityGroup) -> wire::SecurityGroup {
    let account = &world.settings.account;
    wire::SecurityGroup {
        group_id: row.id.to_string(),
        group_name: row.name.clone(),
        group_description: row.description.clone(),
        owner_id: account.clone(),
        vpc_id: row.vpc.to_string(),
        security_group_arn: Some(arn(&world.settings, "security-group", row.id)),
        ip_permissions: permissions::show(row, Direction::Ingress, account),
        ip_permissions_egress: permissions::show(row, Direction::Egress, account),
        tag_set: tag_set(&row.tags),
    }
}

impl Handler<wire::DescribeSecurityGroupRulesRequest> for Api {
    async fn handle(
        &self,
        request: wire::DescribeSecurityGroupRulesRequest,
    ) -> Result<wire::DescribeSecurityGroupRulesResponse, Error> {
        let wire::DescribeSecurityGroupRulesRequest {
            security_group_rule_id,
            filter,
            max_results,
            next_token,
        } = request;
        let ids = ids::<RuleId>(&security_group_rule_id)?;
        let listing = RULES.read(ids.len(), &filter, max_results, next_token)?;
        self.look(|world| {
            let groups = world.security_groups.values();
            let mut rules: Vec<_> = groups
                .flat_map(|group| group.rules.iter().map(move |(id, rule)| (*id, &**group, rule)))
                .filter(|(id, ..)| ids.is_empty() || ids.contains(id))
                .collect();
            let missing: Vec<String> = ids
                .iter()
                .filter(|id| rules.iter().all(|(found, ..)| found != *id))
                .map(RuleId::to_string)
                .collect();
            if !missing.is_empty() {
                let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
                return Err(Error::none_found(Resource::SecurityGroupRule, &missing));
            }
            rules.sort_unstable_by_key(|(id, ..)| *id);
            let (security_group_rule_set, next_token) = listing.of(
                rules,
                |(id, ..)| id.to_string(),
                |(id, group, rule)| show_one(&world.settings, group, *id, rule),
            );
            Ok(wire::DescribeSecurityGroupRulesResponse { security_group_rule_set, next_token })
        })
    }
}

fn show_one(
    settings: &Settings,
    group: &SecurityGroup,
    id: RuleId,
    rule: &GroupRule,
) -> wire::SecurityGroupRule {
    let Shown { is_egress, ip_protocol, from_port, to_port, cidr_ipv4, cidr_ipv6, group: peer } =
        show_rule(rule);
    wire::SecurityGroupRule {
        security_group_rule_id: id.to_string(),
        group_id: group.id.to_string(),
        group_owner_id: settings.account.clone(),
        is_egress,
        ip_protocol,
        from_port,
        to_port,
        cidr_ipv4,
        cidr_ipv6,
        referenced_group_info: peer.map(|peer| wire::ReferencedSecurityGroup {
            group_id: peer.to_string(),
            user_id: settings.account.clone(),
            // A rule can only mean groups of its own VPC.
            vpc_id: Some(group.vpc.to_string()),
        }),
        description: rule.description.clone(),
        security_group_rule_arn: Some(arn(settings, "security-group-rule", id)),
        tag_set: tag_set(&rule.tags),
    }
}

impl Handler<wire::AuthorizeSecurityGroupIngressRequest> for Api {
    async fn handle(
        &self,
        request: wire::AuthorizeSecurityGroupIngressRequest,
    ) -> Result<wire::AuthorizeSecurityGroupResponse, Error> {
        let wire::AuthorizeSecurityGroupIngressRequest {
            group_id,
            group_name,
            mut ip_permissions,
            tag_specification,
            cidr_ip,
            from_port,
            ip_protocol,
            source_security_group_name,
            source_security_group_owner_id,
            to_port,
        } = request;
        let named = Named::read(group_id, group_name)?;
        let tags = read_tags_for("security-group-rule", tag_specification)?;
        ip_permissions.extend(read_old_form(
            cidr_ip,
            from_port,
            ip_protocol,
            source_security_group_name,
            source_security_group_owner_id,
            to_port,
        )?);
        self.authorize(named, Direction::Ingress, ip_permissions, tags).await
    }
}

impl Handler<wire::AuthorizeSecurityGroupEgressRequest> for Api {
    async fn handle(
        &self,
        request: wire::AuthorizeSecurityGroupEgressRequest,
    ) -> Result<wire::AuthorizeSecurityGroupResponse, Error> {
        let wire::AuthorizeSecurityGroupEgressRequest { group_id, ip_permissions, tag_specification } =
            request;
        let named = Named::Id(id(&group_id)?);
        let tags = read_tags_for("security-group-rule", tag_specification)?;
        self.authorize(named, Direction::Egress, ip_permissions, tags).await
    }
}

impl Handler<wire::RevokeSecurityGroupIngressRequest> for Api {
    async fn handle(
        &self,
        request: wire::RevokeSecurityGroupIngressRequest,
    ) -> Result<wire::RevokeSecurityGroupResponse, Error> {
        let wire::RevokeSecurityGroupIngressRequest {
            group_id,
            group_name,
            mut ip_permissions,
            security_group_rule_id,
            cidr_ip,
            from_port,
            ip_protocol,
            source_security_group_name,
            source_security_group_owner_id,
            to_port,
        } = request;
        let named = Named::read(group_id, group_name)?;
        ip_permissions.extend(read_old_form(
            cidr_ip,
            from_port,
            ip_protocol,
            source_security_group_name,
            source_security_group_owner_id,
            to_port,
        )?);
        self.revoke(named, Direction::Ingress, ip_permissions, &security_group_rule_id).await
    }
}

impl Handler<wire::RevokeSecurityGroupEgressRequest> for Api {
    async fn handle(
        &self,
        request: wire::RevokeSecurityGroupEgressRequest,
    ) -> Result<wire::RevokeSecurityGroupResponse, Error> {
        let wire::RevokeSecurityGroupEgressRequest { group_id, ip_permissions, security_group_rule_id } =
            request;
        let named = Named::Id(id(&group_id)?);
        self.revoke(named, Direction::Egress, ip_permissions, &security_group_rule_id).await
    }
}

impl Api {
    async fn authorize(
        &self,
        named: Named,
        direction: Direction,
        permissions: Vec<wire::IpPermission>,
        tags: Tags,
    ) -> Result<wire::AuthorizeSecurityGroupResponse, Error> {
        let asked = permissions::read(permissions, &self.store.world().settings.account)?;
        let authorize = move |tx: &mut Tx<'_>| {
            let group = named.find(tx)?;
            let rules = rules(tx, group, direction, asked, &tags)?;
            security_groups::authorize(tx, group, rules).map(|added| (group, added))
        };
        let ((group, added), world) = self.change(authorize).await?;
        let shown = world.security_groups.get(&group).map_or_else(Vec::new, |group| {
            let rule = |id: &RuleId| Some(show_one(&world.settings, group, *id, group.rules.get(id)?));
            added.iter().filter_map(rule).collect()
        });
        Ok(wire::AuthorizeSecurityGroupResponse { done: true, security_group_rule_set: shown })
    }

    async fn revoke(
        &self,
        named: Named,
        direction: Direction,
        permissions: Vec<wire::IpPermission>,
        rule_ids: &[String],
    ) -> Result<wire::RevokeSecurityGroupResponse, Error> {
        let ids = ids::<RuleId>(rule_ids)?;
        let asked = match (permissions.is_empty(), ids.is_empty()) {
            (true, true) => {
                let text = "Either 'ipPermissions' or 'securityGroupRuleIds' should be provided.";
                return Err(Error::new(400, "MissingParameter", text));
            }
            (false, false) => {
                let text =
                    "The parameter ipPermissions cannot be used with the parameter securityGroupRuleIds";
                return Err(Error::invalid_parameter_combination(text));
            }
            (true, false) => Vec::new(),
            (false, true) => permissions::read(permissions, &self.store.world().settings.account)?,
        };
        let revoke = move |tx: &mut Tx<'_>| {
            let group = named.find(tx)?;
            let revoked = if ids.is_empty() {
                let rules = rules(tx, group, direction, asked, &Tags::new())?;
                security_groups::revoke(tx, group, &rules)?
            } else {
                security_groups::revoke_ids(tx, group, direction, &ids)?
            };
            Ok((group, revoked))
        };
        let ((group, revoked), _) = self.change(revoke).await?;
        Ok(wire::RevokeSecurityGroupResponse {
            done: true,
            unknown_ip_permission_set: Vec::new(),
            revoked_security_group_rule_set: revoked
                .iter()
                .map(|(id, rule)| show_revoked(group, *id, rule))
                .collect(),
        })
    }
}

fn show_revoked(group: GroupId, id: RuleId, rule: &GroupRule) -> wire::RevokedSecurityGroupRule {
    let Shown { is_egress, ip_protocol, from_port, to_port, cidr_ipv4, cidr_ipv6, group: peer } =
        show_rule(rule);
    wire::RevokedSecurityGroupRule {
        security_group_rule_id: id.to_string(),
        group_id: group.to_string(),
        is_egress,
        ip_protocol,
        from_port,
        to_port,
        cidr_ipv4,
        cidr_ipv6,
        referenced_group_id: peer.map(|peer| peer.to_string()),
        description: rule.description.clone(),
    }
}

/// The rules that are asked for, as rules of that group.
fn rules(
    tx: &Tx<'_>,
    group: GroupId,
    direction: Direction,
    asked: Vec<Asked>,
    tags: &Tags,
) -> Result<Vec<GroupRule>, Refusal> {
    let vpc = tx.require::<SecurityGroup>(group, Kind::Group, "security group")?.vpc;
    asked.into_iter().map(|one| one.rule(tx.world(), vpc, direction, tags)).collect()
}

/// How a request names its group: by id, or by the name it has in the default VPC.
enum Named {
    Id(GroupId),
    Name(String),
}

impl Named {
    fn read(group_id: Option<String>, group_name: Option<String>) -> Result<Self, Error> {
        match (group_id, group_name) {
            (Some(text), None) => id(&text).map(Self::Id),
            (None, Some(name)) => Ok(Self::Name(name)),
            (None, None) => Err(Error::missing_parameter("groupName or groupId")),
            (Some(_), Some(_)) => {
                let text = "The parameter groupName cannot be used with the parameter groupId";
                Err(Error::invalid_parameter_combination(text))
            }
        }
    }

    fn find(self, tx: &Tx<'_>) -> Result<GroupId, Refusal> {
        match self {
            Self::Id(id) => Ok(id),
            Self::Name(name) => in_default_vpc(tx.world(), &name),
        }
    }
}

fn in_default_vpc(world: &World, name: &str) -> Result<GroupId, Refusal> {
    let vpc = world.default_vpc().ok_or_else(|| {
        Refusal::new(Reason::NoDefaultVpc, "No default VPC for this user; name the group by its id")
    })?;
    group_by_name(world, vpc.id, name)
}

#[cfg(test)]
#[test]
fn filters_find_their_elements() {
    assert_eq!(crate::filters::lost_paths::<wire::SecurityGroup>(&GROUPS.fields), [""; 0]);
    assert_eq!(crate::filters::lost_paths::<wire::SecurityGroupRule>(&RULES.fields), [""; 0]);
}
