//! Internet gateways.

use cloud::World;
use cloud::model::InternetGateway;
use ec2::shapes::internet_gateways as wire;
use ec2::{Error, Handler};

use super::Api;
use super::common::tag_set;
use super::ids::ids;
use crate::filters::Fields;
use crate::pages::{Listed, MAX_RESULTS};

static LISTED: Listed = Listed {
    fields: Fields {
        paths: &[
            ("attachment.state", "attachmentSet.state"),
            ("attachment.vpc-id", "attachmentSet.vpcId"),
            ("internet-gateway-id", "internetGatewayId"),
            ("owner-id", "ownerId"),
        ],
        tags: Some("tagSet"),
    },
    results: MAX_RESULTS,
    not_with: None,
};

impl Handler<wire::DescribeInternetGatewaysRequest> for Api {
    async fn handle(
        &self,
        request: wire::DescribeInternetGatewaysRequest,
    ) -> Result<wire::DescribeInternetGatewaysResponse, Error> {
        let wire::DescribeInternetGatewaysRequest { internet_gateway_id, filter, max_results, next_token } =
            request;
        let ids = ids(&internet_gateway_id)?;
        let listing = LISTED.read(ids.len(), &filter, max_results, next_token)?;
        let (internet_gateway_set, next_token) = self.list::<InternetGateway, _>(&ids, &listing, show)?;
        Ok(wire::DescribeInternetGatewaysResponse { internet_gateway_set, next_token })
    }
}

fn show(world: &World, row: &InternetGateway) -> wire::InternetGateway {
    let attachment = row
        .vpc
        .map(|vpc| wire::InternetGatewayAttachment { vpc_id: vpc.to_string(), state: "available".into() });
    wire::InternetGateway {
        internet_gateway_id: row.id.to_string(),
        owner_id: world.settings.account.clone(),
        attachment_set: attachment.into_iter().collect(),
        tag_set: tag_set(&row.tags),
    }
}

#[cfg(test)]
#[test]
fn filters_find_their_elements() {
    assert_eq!(crate::filters::lost_paths::<wire::InternetGateway>(&LISTED.fields), [""; 0]);
}
