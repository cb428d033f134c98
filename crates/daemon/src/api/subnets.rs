//! Subnets.

use cloud::model::Subnet;
use cloud::{World, subnet_space};
use ec2::shapes::instances::PrivateDnsNameOptions;
use ec2::shapes::subnets as wire;
use ec2::{Error, Handler};

use super::Api;
use super::common::{arn, tag_set};
use super::ids::ids;
use crate::filters::Fields;
use crate::pages::{Listed, MAX_RESULTS};

static LISTED: Listed = Listed {
    fields: Fields {
        paths: &[
            ("availability-zone", "availabilityZone"),
            ("availabilityZone", "availabilityZone"),
            ("availability-zone-id", "availabilityZoneId"),
            ("availabilityZoneId", "availabilityZoneId"),
            ("available-ip-address-count", "availableIpAddressCount"),
            ("cidr", "cidrBlock"),
            ("cidr-block", "cidrBlock"),
            ("cidrBlock", "cidrBlock"),
            ("customer-owned-ipv4-pool", ""),
            ("default-for-az", "defaultForAz"),
            ("defaultForAz", "defaultForAz"),
            ("enable-dns64", "enableDns64"),
            ("enable-lni-at-device-index", ""),
            ("ipv6-cidr-block-association.association-id", "ipv6CidrBlockAssociationSet.associationId"),
            ("ipv6-cidr-block-association.ipv6-cidr-block", "ipv6CidrBlockAssociationSet.ipv6CidrBlock"),
            ("ipv6-cidr-block-association.state", "ipv6CidrBlockAssociationSet.ipv6CidrBlockState.state"),
            ("ipv6-native", "ipv6Native"),
            ("map-customer-owned-ip-on-launch", "mapCustomerOwnedIpOnLaunch"),
            ("map-public-ip-on-launch", "mapPublicIpOnLaunch"),
            ("outpost-arn", ""),
            ("owner-id", "ownerId"),
            (
                "private-dns-name-options-on-launch.enable-resource-name-dns-a-record",
                "privateDnsNameOptionsOnLaunch.enableResourceNameDnsARecord",
            ),
            (
                "private-dns-name-options-on-launch.enable-resource-name-dns-aaaa-record",
                "privateDnsNameOptionsOnLaunch.enableResourceNameDnsAAAARecord",
            ),
            (
                "private-dns-name-options-on-launch.hostname-type",
                "privateDnsNameOptionsOnLaunch.hostnameType",
            ),
            ("state", "state"),
            ("subnet-arn", "subnetArn"),
            ("subnet-id", "subnetId"),
            ("vpc-id", "vpcId"),
        ],
        tags: Some("tagSet"),
    },
    results: MAX_RESULTS,
    not_with: None,
};

impl Handler<wire::DescribeSubnetsRequest> for Api {
    async fn handle(
        &self,
        request: wire::DescribeSubnetsRequest,
    ) -> Result<wire::DescribeSubnetsResponse, Error> {
        let wire::DescribeSubnetsRequest { subnet_id, filter, max_results, next_token } = request;
        let ids = ids(&subnet_id)?;
        let listing = LISTED.read(ids.len(), &filter, max_results, next_token)?;
        let (subnet_set, next_token) = self.list::<Subnet, _>(&ids, &listing, show)?;
        Ok(wire::DescribeSubnetsResponse { subnet_set, next_token })
    }
}

fn show(world: &World, row: &Subnet) -> wire::Subnet {
    wire::Subnet {
        subnet_id: row.id.to_string(),
        subnet_arn: arn(&world.settings, "subnet", row.id),
        vpc_id: row.vpc.to_string(),
        owner_id: world.settings.account.clone(),
        state: "available".into(),
        cidr_block: row.cidr.to_string(),
        available_ip_address_count: subnet_space::free_in(world, row),
        availability_zone: row.zone.clone(),
        availability_zone_id: world.settings.zone_id(&row.zone),
        default_for_az: row.is_default,
        map_public_ip_on_launch: row.map_public_ip_on_launch,
        map_customer_owned_ip_on_launch: false,
        assign_ipv6_address_on_creation: false,
        ipv6_cidr_block_association_set: Vec::new(),
        ipv6_native: false,
        enable_dns64: false,
        private_dns_name_options_on_launch: private_dns_name_options(),
        tag_set: tag_set(&row.tags),
    }
}

/// Names follow from addresses, and only from them.
pub(super) fn private_dns_name_options() -> PrivateDnsNameOptions {
    PrivateDnsNameOptions {
        hostname_type: "ip-name".into(),
        enable_resource_name_dns_a_record: false,
        enable_resource_name_dns_aaaa_record: false,
    }
}

#[cfg(test)]
#[test]
fn filters_find_their_elements() {
    assert_eq!(crate::filters::lost_paths::<wire::Subnet>(&LISTED.fields), [""; 0]);
}
