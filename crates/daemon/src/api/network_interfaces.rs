//! Network interfaces: making, attaching, changing and deleting them, and describing them.

use std::net::Ipv4Addr;

use cloud::World;
use cloud::model::{Interface, InterfaceAttachment};
use cloud::rules::network_interfaces::{self, Attribute, NewInterface};
use ec2::shapes::common::Done;
use ec2::shapes::instance_attributes::{AttributeFlag, AttributeText};
use ec2::shapes::network_interfaces as wire;
use ec2::{Error, Handler};
use spec::ids::{InstanceId, InterfaceAttachmentId, InterfaceId};

use super::Api;
use super::common::{
    attachment_status, group_identifiers, private_name, public_name, read_address, read_tags_for, read_token,
    tag_set, time,
};
use super::ids::{id, ids, the};
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

impl Handler<wire::CreateNetworkInterfaceRequest> for Api {
    async fn handle(
        &self,
        request: wire::CreateNetworkInterfaceRequest,
    ) -> Result<wire::CreateNetworkInterfaceResponse, Error> {
        let wire::CreateNetworkInterfaceRequest {
            client_token,
            description,
            private_ip_address,
            private_ip_addresses,
            security_group_id,
            subnet_id,
            tag_specification,
        } = request;
        let client_token = read_token(client_token)?;
        let new = NewInterface {
            subnet: id(&subnet_id)?,
            description: description.unwrap_or_default(),
            address: the_address(private_ip_address, private_ip_addresses)?,
            groups: ids(&security_group_id)?.into_iter().collect(),
            tags: read_tags_for("network-interface", tag_specification)?,
            client_token: client_token.clone(),
        };
        let (id, world) = self.change(move |tx| network_interfaces::create(tx, &new)).await?;
        let network_interface = show(&world, the::<Interface>(&world, id)?);
        Ok(wire::CreateNetworkInterfaceResponse { network_interface, client_token })
    }
}

/// The one private address that an interface can have so far.
fn the_address(
    single: Option<String>,
    mut listed: Vec<wire::PrivateIpAddressSpecification>,
) -> Result<Option<Ipv4Addr>, Error> {
    let (first, more) = (listed.pop(), !listed.is_empty());
    if single.is_some() && first.is_some() {
        let text = "The parameters PrivateIpAddress and PrivateIpAddresses cannot be used together";
        return Err(Error::invalid_parameter_combination(text));
    }
    if more || first.as_ref().is_some_and(|first| first.primary == Some(false)) {
        let text = "A network interface has one private address here; secondary ones are not supported yet";
        return Err(Error::unsupported_operation(text));
    }
    let address = single.or(first.map(|first| first.private_ip_address));
    address.as_deref().map(read_address).transpose()
}

impl Handler<wire::DeleteNetworkInterfaceRequest> for Api {
    async fn handle(&self, request: wire::DeleteNetworkInterfaceRequest) -> Result<Done, Error> {
        let wire::DeleteNetworkInterfaceRequest { network_interface_id } = request;
        let id = id(&network_interface_id)?;
        self.change(move |tx| network_interfaces::delete(tx, id)).await?;
        Ok(Done::default())
    }
}

impl Handler<wire::AttachNetworkInterfaceRequest> for Api {
    async fn handle(
        &self,
        request: wire::AttachNetworkInterfaceRequest,
    ) -> Result<wire::AttachNetworkInterfaceResponse, Error> {
        let wire::AttachNetworkInterfaceRequest { device_index, instance_id, network_interface_id } = request;
        let (interface, instance): (InterfaceId, InstanceId) =
            (id(&network_interface_id)?, id(&instance_id)?);
        let index = u32::try_from(device_index).map_err(|_| {
            Error::invalid_parameter_value("DeviceIndex", &device_index.to_string(), "Expected 1 or more.")
        })?;
        let attach = move |tx: &mut cloud::Tx<'_>| network_interfaces::attach(tx, interface, instance, index);
        let (attachment, _) = self.change(attach).await?;
        let attachment_id = attachment.to_string();
        Ok(wire::AttachNetworkInterfaceResponse { attachment_id, network_card_index: 0 })
    }
}

impl Handler<wire::DetachNetworkInterfaceRequest> for Api {
    async fn handle(&self, request: wire::DetachNetworkInterfaceRequest) -> Result<Done, Error> {
        let wire::DetachNetworkInterfaceRequest { attachment_id, force } = request;
        let attachment: InterfaceAttachmentId = id(&attachment_id)?;
        let force = force.unwrap_or(false);
        self.change(move |tx| network_interfaces::detach(tx, attachment, force)).await?;
        Ok(Done::default())
    }
}

impl Handler<wire::ModifyNetworkInterfaceAttributeRequest> for Api {
    async fn handle(&self, request: wire::ModifyNetworkInterfaceAttributeRequest) -> Result<Done, Error> {
        let wire::ModifyNetworkInterfaceAttributeRequest {
            attachment,
            description,
            network_interface_id,
            security_group_id,
            source_dest_check,
        } = request;
        let interface: InterfaceId = id(&network_interface_id)?;
        let mut said = Vec::new();
        if let Some(change) = attachment {
            let wire::NetworkInterfaceAttachmentChanges { attachment_id, delete_on_termination } = change;
            said.push(Attribute::DeleteOnTermination(id(&attachment_id)?, delete_on_termination));
        }
        said.extend(description.map(|text| Attribute::Description(text.value.unwrap_or_default())));
        if !security_group_id.is_empty() {
            said.push(Attribute::Groups(ids(&security_group_id)?.into_iter().collect()));
        }
        said.extend(source_dest_check.map(|flag| Attribute::SourceDestCheck(flag.value)));
        let (Some(attribute), None) = (said.pop(), said.pop()) else {
            let text = "Exactly one attribute of a network interface can be modified at a time";
            return Err(Error::invalid_parameter_combination(text));
        };
        self.change(move |tx| network_interfaces::modify(tx, interface, &attribute)).await?;
        Ok(Done::default())
    }
}

impl Handler<wire::DescribeNetworkInterfaceAttributeRequest> for Api {
    async fn handle(
        &self,
        request: wire::DescribeNetworkInterfaceAttributeRequest,
    ) -> Result<wire::DescribeNetworkInterfaceAttributeResponse, Error> {
        use wire::NetworkInterfaceAttribute as Name;
        let wire::DescribeNetworkInterfaceAttributeRequest { attribute, network_interface_id } = request;
        let id: InterfaceId = id(&network_interface_id)?;
        let attribute = attribute.ok_or_else(|| Error::missing_parameter("Attribute"))?;
        self.look(|world| {
            let row = the::<Interface>(world, id)?;
            let mut answer = wire::DescribeNetworkInterfaceAttributeResponse {
                network_interface_id: row.id.to_string(),
                ..Default::default()
            };
            match attribute {
                Name::Description => {
                    answer.description = Some(AttributeText { value: Some(row.description.clone()) });
                }
                Name::GroupSet => answer.group_set = Some(group_identifiers(world, &row.groups)),
                Name::SourceDestCheck => {
                    answer.source_dest_check = Some(AttributeFlag { value: row.source_dest_check });
                }
                Name::Attachment => {
                    answer.attachment = row.attachment.as_ref().map(|at| show_attachment(world, row, at));
                }
                Name::AssociatePublicIpAddress => {
                    answer.associate_public_ip_address = Some(row.auto_public.is_some());
                }
            }
            Ok(answer)
        })
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
        attachment: row.attachment.as_ref().map(|at| show_attachment(world, row, at)),
        association,
        private_ip_addresses_set: vec![private],
        ipv6_addresses_set: Vec::new(),
        interface_type: "interface".into(),
        tag_set: tag_set(&row.tags),
    }
}

fn show_attachment(
    world: &World,
    row: &Interface,
    at: &InterfaceAttachment,
) -> wire::NetworkInterfaceAttachment {
    wire::NetworkInterfaceAttachment {
        attachment_id: at.id.to_string(),
        instance_id: Some(at.instance.to_string()),
        instance_owner_id: world.settings.account.clone(),
        device_index: at.device_index,
        network_card_index: 0,
        status: attachment_status(world.interface_attachment_state(row.id, at)),
        attach_time: time(at.since),
        delete_on_termination: at.delete_on_termination,
    }
}

#[cfg(test)]
#[test]
fn filters_find_their_elements() {
    assert_eq!(crate::filters::lost_paths::<wire::NetworkInterface>(&LISTED.fields), [""; 0]);
}
