//! Sets of DHCP options. Until sets can be made, there is EC2's default one for each VPC's guests.

use cloud::World;
use cloud::model::DhcpOptions;
use ec2::shapes::dhcp_options as wire;
use ec2::{Error, Handler};

use super::Api;
use super::common::tag_set;
use super::ids::ids;
use crate::filters::Fields;
use crate::pages::{Listed, MAX_RESULTS};

static LISTED: Listed = Listed {
    fields: Fields {
        paths: &[
            ("dhcp-options-id", "dhcpOptionsId"),
            ("key", "dhcpConfigurationSet.key"),
            ("owner-id", "ownerId"),
            ("value", "dhcpConfigurationSet.valueSet.value"),
        ],
        tags: Some("tagSet"),
    },
    results: MAX_RESULTS,
    not_with: None,
};

impl Handler<wire::DescribeDhcpOptionsRequest> for Api {
    async fn handle(
        &self,
        request: wire::DescribeDhcpOptionsRequest,
    ) -> Result<wire::DescribeDhcpOptionsResponse, Error> {
        let wire::DescribeDhcpOptionsRequest { dhcp_options_id, filter, max_results, next_token } = request;
        let ids = ids(&dhcp_options_id)?;
        let listing = LISTED.read(ids.len(), &filter, max_results, next_token)?;
        let (dhcp_options_set, next_token) = self.list::<DhcpOptions, _>(&ids, &listing, show)?;
        Ok(wire::DescribeDhcpOptionsResponse { dhcp_options_set, next_token })
    }
}

fn show(world: &World, row: &DhcpOptions) -> wire::DhcpOptions {
    let option = |key: &str, value: &str| wire::DhcpConfiguration {
        key: key.into(),
        value_set: vec![wire::DhcpOptionValue { value: value.into() }],
    };
    wire::DhcpOptions {
        dhcp_options_id: row.id.to_string(),
        owner_id: world.settings.account.clone(),
        dhcp_configuration_set: vec![
            option("domain-name", &row.domain_name),
            option("domain-name-servers", "AmazonProvidedDNS"),
        ],
        tag_set: tag_set(&row.tags),
    }
}

#[cfg(test)]
#[test]
fn filters_find_their_elements() {
    assert_eq!(crate::filters::lost_paths::<wire::DhcpOptions>(&LISTED.fields), [""; 0]);
}
