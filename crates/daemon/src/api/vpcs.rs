//! VPCs.

use cloud::World;
use cloud::model::Vpc;
use ec2::shapes::instance_attributes::AttributeFlag;
use ec2::shapes::vpcs as wire;
use ec2::{Error, Handler};

use super::Api;
use super::common::tag_set;
use super::ids::{id, ids, the};
use crate::filters::Fields;
use crate::pages::{Listed, MAX_RESULTS};

static LISTED: Listed = Listed {
    fields: Fields {
        paths: &[
            ("cidr", "cidrBlock"),
            ("cidr-block", "cidrBlock"),
            ("cidrBlock", "cidrBlock"),
            ("cidr-block-association.association-id", "cidrBlockAssociationSet.associationId"),
            ("cidr-block-association.cidr-block", "cidrBlockAssociationSet.cidrBlock"),
            ("cidr-block-association.state", "cidrBlockAssociationSet.cidrBlockState.state"),
            ("dhcp-options-id", "dhcpOptionsId"),
            ("ipv6-cidr-block-association.association-id", "ipv6CidrBlockAssociationSet.associationId"),
            ("ipv6-cidr-block-association.ipv6-cidr-block", "ipv6CidrBlockAssociationSet.ipv6CidrBlock"),
            ("ipv6-cidr-block-association.ipv6-pool", ""),
            ("ipv6-cidr-block-association.state", "ipv6CidrBlockAssociationSet.ipv6CidrBlockState.state"),
            ("is-default", "isDefault"),
            ("isDefault", "isDefault"),
            ("owner-id", "ownerId"),
            ("state", "state"),
            ("vpc-id", "vpcId"),
        ],
        tags: Some("tagSet"),
    },
    results: MAX_RESULTS,
    not_with: None,
};

impl Handler<wire::DescribeVpcsRequest> for Api {
    async fn handle(&self, request: wire::DescribeVpcsRequest) -> Result<wire::DescribeVpcsResponse, Error> {
        let wire::DescribeVpcsRequest { vpc_id, filter, max_results, next_token } = request;
        let ids = ids(&vpc_id)?;
        let listing = LISTED.read(ids.len(), &filter, max_results, next_token)?;
        let (vpc_set, next_token) = self.list::<Vpc, _>(&ids, &listing, show)?;
        Ok(wire::DescribeVpcsResponse { vpc_set, next_token })
    }
}

fn show(world: &World, row: &Vpc) -> wire::Vpc {
    let association = wire::CidrBlockAssociation {
        association_id: row.cidr_association.to_string(),
        cidr_block: row.cidr.to_string(),
        cidr_block_state: wire::CidrBlockState { state: "associated".into() },
    };
    wire::Vpc {
        vpc_id: row.id.to_string(),
        owner_id: world.settings.account.clone(),
        state: "available".into(),
        cidr_block: row.cidr.to_string(),
        cidr_block_association_set: vec![association],
        ipv6_cidr_block_association_set: Vec::new(),
        dhcp_options_id: row.dhcp_options.to_string(),
        instance_tenancy: "default".into(),
        is_default: row.is_default,
        tag_set: tag_set(&row.tags),
    }
}

impl Handler<wire::DescribeVpcAttributeRequest> for Api {
    async fn handle(
        &self,
        request: wire::DescribeVpcAttributeRequest,
    ) -> Result<wire::DescribeVpcAttributeResponse, Error> {
        let wire::DescribeVpcAttributeRequest { attribute, vpc_id } = request;
        let vpc = id(&vpc_id)?;
        self.look(|world| {
            let row = the::<Vpc>(world, vpc)?;
            let mut answer =
                wire::DescribeVpcAttributeResponse { vpc_id: row.id.to_string(), ..Default::default() };
            let flag = |value| Some(AttributeFlag { value });
            match attribute {
                wire::VpcAttributeName::EnableDnsSupport => answer.enable_dns_support = flag(row.dns_support),
                wire::VpcAttributeName::EnableDnsHostnames => {
                    answer.enable_dns_hostnames = flag(row.dns_hostnames);
                }
                wire::VpcAttributeName::EnableNetworkAddressUsageMetrics => {
                    answer.enable_network_address_usage_metrics = flag(false);
                }
            }
            Ok(answer)
        })
    }
}

#[cfg(test)]
#[test]
fn filters_find_their_elements() {
    assert_eq!(crate::filters::lost_paths::<wire::Vpc>(&LISTED.fields), [""; 0]);
}
