//! Network ACLs. Until entries can be changed, every one is EC2's default: all is allowed.

use cloud::World;
use cloud::model::NetworkAcl;
use ec2::shapes::network_acls as wire;
use ec2::{Error, Handler};

use super::Api;
use super::common::tag_set;
use super::ids::ids;
use crate::filters::Fields;
use crate::pages::{Listed, MAX_RESULTS};

/// The number of the rule that allows all.
const ALLOW: u32 = 100;
/// The number of the last rule, which denies what no other allows; EC2 shows it as `*`.
const DENY: u32 = 32_767;

static LISTED: Listed = Listed {
    fields: Fields {
        paths: &[
            ("association.association-id", "associationSet.networkAclAssociationId"),
            ("association.network-acl-id", "associationSet.networkAclId"),
            ("association.subnet-id", "associationSet.subnetId"),
            ("default", "default"),
            ("entry.cidr", "entrySet.cidrBlock"),
            ("entry.egress", "entrySet.egress"),
            ("entry.icmp.code", "entrySet.icmpTypeCode.code"),
            ("entry.icmp.type", "entrySet.icmpTypeCode.type"),
            ("entry.ipv6-cidr", "entrySet.ipv6CidrBlock"),
            ("entry.port-range.from", "entrySet.portRange.from"),
            ("entry.port-range.to", "entrySet.portRange.to"),
            ("entry.protocol", "entrySet.protocol"),
            ("entry.rule-action", "entrySet.ruleAction"),
            ("entry.rule-number", "entrySet.ruleNumber"),
            ("network-acl-id", "networkAclId"),
            ("owner-id", "ownerId"),
            ("vpc-id", "vpcId"),
        ],
        tags: Some("tagSet"),
    },
    results: MAX_RESULTS,
    not_with: None,
};

impl Handler<wire::DescribeNetworkAclsRequest> for Api {
    async fn handle(
        &self,
        request: wire::DescribeNetworkAclsRequest,
    ) -> Result<wire::DescribeNetworkAclsResponse, Error> {
        let wire::DescribeNetworkAclsRequest { network_acl_id, filter, max_results, next_token } = request;
        let ids = ids(&network_acl_id)?;
        let listing = LISTED.read(ids.len(), &filter, max_results, next_token)?;
        let (network_acl_set, next_token) = self.list::<NetworkAcl, _>(&ids, &listing, show)?;
        Ok(wire::DescribeNetworkAclsResponse { network_acl_set, next_token })
    }
}

fn show(world: &World, row: &NetworkAcl) -> wire::NetworkAcl {
    let associations = row.associations.iter().map(|(subnet, association)| wire::NetworkAclAssociation {
        network_acl_association_id: association.to_string(),
        network_acl_id: row.id.to_string(),
        subnet_id: subnet.to_string(),
    });
    let entries = [true, false].into_iter().flat_map(|egress| {
        [(ALLOW, wire::RuleAction::Allow), (DENY, wire::RuleAction::Deny)].map(
            |(rule_number, rule_action)| wire::NetworkAclEntry {
                rule_number,
                protocol: "-1".into(),
                rule_action,
                egress,
                cidr_block: Some("0.0.0.0/0".into()),
                ..Default::default()
            },
        )
    });
    wire::NetworkAcl {
        network_acl_id: row.id.to_string(),
        vpc_id: row.vpc.to_string(),
        owner_id: world.settings.account.clone(),
        default: row.is_default,
        entry_set: entries.collect(),
        association_set: associations.collect(),
        tag_set: tag_set(&row.tags),
    }
}

#[cfg(test)]
#[test]
fn filters_find_their_elements() {
    assert_eq!(crate::filters::lost_paths::<wire::NetworkAcl>(&LISTED.fields), [""; 0]);
}
