//! Route tables.

use cloud::World;
use cloud::model::{RouteTable, TableRoute};
use ec2::shapes::route_tables as wire;
use ec2::{Error, Handler};
use spec::network::Target;

use super::Api;
use super::common::tag_set;
use super::ids::ids;
use crate::filters::Fields;
use crate::pages::Listed;

static LISTED: Listed = Listed {
    fields: Fields {
        paths: &[
            ("association.gateway-id", ""),
            ("association.main", "associationSet.main"),
            ("association.route-table-association-id", "associationSet.routeTableAssociationId"),
            ("association.route-table-id", "associationSet.routeTableId"),
            ("association.subnet-id", "associationSet.subnetId"),
            ("owner-id", "ownerId"),
            ("route-table-id", "routeTableId"),
            ("route.destination-cidr-block", "routeSet.destinationCidrBlock"),
            ("route.destination-ipv6-cidr-block", "routeSet.destinationIpv6CidrBlock"),
            ("route.destination-prefix-list-id", ""),
            ("route.egress-only-internet-gateway-id", ""),
            ("route.gateway-id", "routeSet.gatewayId"),
            ("route.instance-id", "routeSet.instanceId"),
            ("route.nat-gateway-id", "routeSet.natGatewayId"),
            ("route.origin", "routeSet.origin"),
            ("route.state", "routeSet.state"),
            ("route.transit-gateway-id", ""),
            ("route.vpc-peering-connection-id", "routeSet.vpcPeeringConnectionId"),
            ("vpc-id", "vpcId"),
        ],
        tags: Some("tagSet"),
    },
    results: 5..=100,
    not_with: None,
};

impl Handler<wire::DescribeRouteTablesRequest> for Api {
    async fn handle(
        &self,
        request: wire::DescribeRouteTablesRequest,
    ) -> Result<wire::DescribeRouteTablesResponse, Error> {
        let wire::DescribeRouteTablesRequest { route_table_id, filter, max_results, next_token } = request;
        let ids = ids(&route_table_id)?;
        let listing = LISTED.read(ids.len(), &filter, max_results, next_token)?;
        let (route_table_set, next_token) = self.list::<RouteTable, _>(&ids, &listing, show)?;
        Ok(wire::DescribeRouteTablesResponse { route_table_set, next_token })
    }
}

fn show(world: &World, row: &RouteTable) -> wire::RouteTable {
    let main = row.main.map(|association| wire::RouteTableAssociation {
        route_table_association_id: association.to_string(),
        route_table_id: row.id.to_string(),
        subnet_id: None,
        main: true,
        association_state: wire::RouteTableAssociationState { state: "associated".into() },
    });
    let local = world.vpcs.get(&row.vpc).map(|vpc| wire::Route {
        destination_cidr_block: Some(vpc.cidr.to_string()),
        gateway_id: Some("local".into()),
        origin: wire::RouteOrigin::CreateRouteTable,
        state: wire::RouteState::Active,
        ..Default::default()
    });
    wire::RouteTable {
        route_table_id: row.id.to_string(),
        vpc_id: row.vpc.to_string(),
        owner_id: world.settings.account.clone(),
        route_set: local
            .into_iter()
            .chain(row.routes.iter().map(|route| show_route(world, row, route)))
            .collect(),
        association_set: main.into_iter().collect(),
        propagating_vgw_set: Vec::new(),
        tag_set: tag_set(&row.tags),
    }
}

fn show_route(world: &World, table: &RouteTable, route: &TableRoute) -> wire::Route {
    let gateway = world.internet_gateways.get(&route.gateway);
    let state = match route.target(gateway.is_some_and(|gateway| gateway.vpc == Some(table.vpc))) {
        Target::Uplink => wire::RouteState::Active,
        Target::Blackhole => wire::RouteState::Blackhole,
    };
    wire::Route {
        destination_cidr_block: Some(route.destination.to_string()),
        gateway_id: Some(route.gateway.to_string()),
        origin: wire::RouteOrigin::CreateRoute,
        state,
        ..Default::default()
    }
}

#[cfg(test)]
#[test]
fn filters_find_their_elements() {
    assert_eq!(crate::filters::lost_paths::<wire::RouteTable>(&LISTED.fields), [""; 0]);
}
