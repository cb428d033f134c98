//! Network interfaces.

use cloud::World;
use cloud::model::{Interface, InterfaceAttachment};
use ec2::shapes::common::AttachmentStatus;
use ec2::shapes::network_interfaces as wire;
use ec2::{Error, Handler};

use super::Api;
use super::common::{group_identifiers, private_name, public_name, tag_set, time};
use super::ids::ids;
use crate::filters::Fields;
use crate::pages::{Listed, MAX_RESULTS};

static LISTED: Listed = Listed {
    fields: Fields {
        paths: &[
            ("addresses.association.allocation-id", "privateIpAddressesSet.association.allocationId"),
            ("addresses.association.association-id", "privateIpAddressesSet.association.associationId"),
            ("addresses.association.owner-id", "privateIpAddressesSet.association.ipOwnerId"),
            ("addresses.association.public-ip", "privateIpAddressesSet.association.publicIp"),
            ("addresses.primary", "privateIpAddressesSet.primary"),
            ("addresses.private-ip-address", "privateIpAddressesSet.privateIpAddress"),
            ("association.allocation-id", "association.allocationId"),
            ("association.association-id", "association.associationId"),
            ("association.ip-owner-id", "association.ipOwnerId"),
            ("association.public-dns-name", "association.publicDnsName"),
            ("association.public-ip", "association.publicIp"),
            ("attachment.attach-time", "attachment.attachTime"),
            ("attachment.attachment-id", "attachment.attachmentId"),
            ("attachment.delete-on-termination", "attachment.deleteOnTermination"),
            ("attachment.device-index", "attachment.deviceIndex"),
            ("attachment.instance-id", "attachment.instanceId"),
            ("attachment.instance-owner-id", "attachment.instanceOwnerId"),
            ("attachment.status", "attachment.status"),
            ("availability-zone", "availabilityZone"),
            ("availability-zone-id", "availabilityZoneId"),
            ("description", "description"),
            ("group-id", "groupSet.groupId"),
            ("group-name", "groupSet.groupName"),
            ("interface-type", "interfaceType"),
            ("ipv6-addresses.ipv6-address", "ipv6AddressesSet.ipv6Address"),
            ("mac-address", "macAddress"),
            ("network-interface-id", "networkInterfaceId"),
            ("operator.managed", ""),
            ("operator.principal", ""),
            ("owner-id", "ownerId"),
            ("private-dns-name", "privateDnsName"),
            ("private-ip-address", "privateIpAddress"),
            ("requester-id", "requesterId"),
            ("requester-managed", "requesterManaged"),
            ("source-dest-check", "sourceDestCheck"),
            ("status", "status"),
            ("subnet-id", "subnetId"),
            ("vpc-id", "vpcId"),
        ],
        tags: Some("tagSet"),
    },
    results: MAX_RESULTS,
    not_with: Some("networkInterfaceIdSet"),
};

impl Handler<wire::DescribeNetworkInterfacesRequest> for Api {
    async fn handle(
        &self,
        request: wire::DescribeNetworkInterfacesRequest,
    ) -> Result<wire::DescribeNetworkInterfacesResponse, Error> {
        let wire::DescribeNetworkInterfacesRequest { network_interface_id, filter, max_results, next_token } =
            request;
        let ids = ids(&network_interface_id)?;
        let listing = LISTED.read(ids.len(), &filter, max_results, next_token)?;
        let (network_interface_set, next_token) = self.list::<Interface, _>(&ids, &listing, show)?;
        Ok(wire::DescribeNetworkInterfacesResponse { network_interface_set, next_token })
    }
}

fn show(world: &World, row: &Interface) -> wire::NetworkInterface {
    let association = world.public_address(row).map(|address| wire::NetworkInterfaceAssociation {
        public_ip: address.to_string(),
        public_dns_name: public_name(world, row, address),
        ip_owner_id: "amazon".into(),
        allocation_id: None,
        association_id: None,
    });
    let private = wire::NetworkInterfacePrivateIpAddress {
        private_ip_address: row.address.to_string(),
        private_dns_name: Some(private_name(world, row)),
        primary: true,
        association: association.clone(),
    };
    let zone = world.subnets.get(&row.subnet).map(|subnet| subnet.zone.clone()).unwrap_or_default();
    wire::NetworkInterface {
        network_interface_id: row.id.to_string(),
        subnet_id: row.subnet.to_string(),
        vpc_id: row.vpc.to_string(),
        availability_zone_id: Some(world.settings.zone_id(&zone)),
        availability_zone: zone,
        description: row.description.clone(),
        owner_id: world.settings.account.clone(),
        requester_id: None,
        requester_managed: false,
        status: match row.attachment {
            Some(_) => wire::NetworkInterfaceStatus::InUse,
            None => wire::NetworkInterfaceStatus::Available,
        },
        mac_address: row.mac.to_string(),
        private_ip_address: row.address.to_string(),
        private_dns_name: Some(private_name(world, row)),
        source_dest_check: row.source_dest_check,
        group_set: group_identifiers(world, &row.groups),
        attachment: row.attachment.as_ref().map(|at| show_attachment(world, at)),
        association,
        private_ip_addresses_set: vec![private],
        ipv6_addresses_set: Vec::new(),
        interface_type: "interface".into(),
        tag_set: tag_set(&row.tags),
    }
}

fn show_attachment(world: &World, at: &InterfaceAttachment) -> wire::NetworkInterfaceAttachment {
    wire::NetworkInterfaceAttachment {
        attachment_id: at.id.to_string(),
        instance_id: Some(at.instance.to_string()),
        instance_owner_id: world.settings.account.clone(),
        device_index: at.device_index,
        network_card_index: 0,
        status: AttachmentStatus::Attached,
        attach_time: time(at.since),
        delete_on_termination: at.delete_on_termination,
    }
}

#[cfg(test)]
#[test]
fn filters_find_their_elements() {
    assert_eq!(crate::filters::lost_paths::<wire::NetworkInterface>(&LISTED.fields), [""; 0]);
}
