//! Elastic addresses. None can be allocated yet, so there are none to describe.

use ec2::shapes::addresses::{Address, DescribeAddressesRequest, DescribeAddressesResponse};
use ec2::{Error, Handler};
use spec::ids::AllocationId;

use super::Api;
use super::ids::{Id, ids};
use crate::filters::{Fields, Filters};

const FIELDS: Fields = Fields {
    paths: &[
        ("allocation-id", "allocationId"),
        ("association-id", "associationId"),
        ("domain", "domain"),
        ("instance-id", "instanceId"),
        ("network-border-group", "networkBorderGroup"),
        ("network-interface-id", "networkInterfaceId"),
        ("network-interface-owner-id", "networkInterfaceOwnerId"),
        ("private-ip-address", "privateIpAddress"),
        ("public-ip", "publicIp"),
    ],
    tags: Some("tagSet"),
};

impl Handler<DescribeAddressesRequest> for Api {
    async fn handle(&self, request: DescribeAddressesRequest) -> Result<DescribeAddressesResponse, Error> {
        let DescribeAddressesRequest { allocation_id, public_ip, filter } = request;
        let ids = ids::<AllocationId>(&allocation_id)?;
        let filters = Filters::read(&FIELDS, &filter)?;
        if let Some(id) = ids.first() {
            return Err(Error::not_found(AllocationId::RESOURCE, &id.to_string()));
        }
        if let Some(address) = public_ip.first() {
            let address: String = address.chars().take(40).collect();
            return Err(Error::new(
                400,
                "InvalidAddress.NotFound",
                format!("Address '{address}' not found."),
            ));
        }
        let mut addresses_set: Vec<Address> = Vec::new();
        addresses_set.retain(|address| filters.pass(address));
        self.look(|_| Ok(DescribeAddressesResponse { addresses_set }))
    }
}

#[cfg(test)]
#[test]
fn filters_find_their_elements() {
    assert_eq!(crate::filters::lost_paths::<Address>(&FIELDS), [""; 0]);
}
