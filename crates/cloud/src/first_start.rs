//! What exists before anyone asks: a default VPC with a subnet in each zone, its route and gateway.
//!
//! As in a new AWS account (AWS, *Default VPCs*): 172.31.0.0/16, a /20 for each zone, an internet gateway
//! with a route to it, the default security group, network ACL and DHCP options.

use ipnet::Ipv4Net;
use spec::ids::*;
use spec::network::{Peer, Traffic};

use crate::model::*;
use crate::tx::Tx;

/// Makes what is missing of the default VPC; nothing where there is a VPC already.
pub fn first_start(tx: &mut Tx<'_>) {
    if !tx.world().vpcs.is_empty() {
        return;
    }
    let vpc = default_vpc(tx);
    let subnets = default_subnets(tx, vpc);
    default_route(tx, vpc);
    default_acl(tx, vpc, &subnets);
    default_group(tx, vpc);
}

fn default_vpc(tx: &mut Tx<'_>) -> VpcId {
    let settings = tx.settings();
    let dhcp_options = DhcpOptionsId::from_random(tx.random());
    tx.put(DhcpOptions { id: dhcp_options, domain_name: settings.private_domain(), tags: Tags::new() });
    let id = VpcId::from_random(tx.random());
    let cidr_association = VpcCidrAssociationId::from_random(tx.random());
    tx.put(Vpc {
        id,
        cidr: Ipv4Net::new_assert([172, 31, 0, 0].into(), 16),
        cidr_association,
        is_default: true,
        number: 0,
        dhcp_options,
        dns_support: true,
        dns_hostnames: true,
        tags: Tags::new(),
    });
    id
}

fn default_subnets(tx: &mut Tx<'_>, vpc: VpcId) -> Vec<SubnetId> {
    let settings = tx.settings();
    // A /16 holds sixteen /20s; the configuration allows no more zones than that.
    let third_bytes = (0..=240_u8).step_by(16);
    let make = |(zone, third)| {
        let id = SubnetId::from_random(tx.random());
        tx.put(Subnet {
            id,
            vpc,
            cidr: Ipv4Net::new_assert([172, 31, third, 0].into(), 20),
            zone,
            is_default: true,
            map_public_ip_on_launch: true,
            tags: Tags::new(),
        });
        id
    };
    settings.zone_names().zip(third_bytes).map(make).collect()
}

fn default_route(tx: &mut Tx<'_>, vpc: VpcId) {
    let gateway = InternetGatewayId::from_random(tx.random());
    tx.put(InternetGateway { id: gateway, vpc: Some(vpc), tags: Tags::new() });
    let id = RouteTableId::from_random(tx.random());
    let main = Some(RouteTableAssociationId::from_random(tx.random()));
    let routes = vec![TableRoute { destination: Ipv4Net::default(), gateway }];
    tx.put(RouteTable { id, vpc, main, routes, tags: Tags::new() });
}

fn default_acl(tx: &mut Tx<'_>, vpc: VpcId, subnets: &[SubnetId]) {
    let id = NetworkAclId::from_random(tx.random());
    let associations =
        subnets.iter().map(|subnet| (*subnet, NetworkAclAssociationId::from_random(tx.random())));
    let associations = associations.collect();
    tx.put(NetworkAcl { id, vpc, is_default: true, associations, tags: Tags::new() });
}

/// The group of instances that name none: its members may talk to each other, and to everyone.
fn default_group(tx: &mut Tx<'_>, vpc: VpcId) {
    let id = GroupId::from_random(tx.random());
    let rule = |direction, peer| GroupRule {
        direction,
        traffic: Traffic::All,
        peer,
        description: None,
        tags: Tags::new(),
    };
    let among = rule(Direction::Ingress, Peer::Group(id));
    let out = rule(Direction::Egress, Peer::Ipv4(Ipv4Net::default()));
    let rules = [among, out].map(|rule| (RuleId::from_random(tx.random()), rule)).into();
    tx.put(SecurityGroup {
        id,
        vpc,
        name: "default".into(),
        description: "default VPC security group".into(),
        rules,
        tags: Tags::new(),
    });
}
