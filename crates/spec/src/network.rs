//! What should be of a network: VPCs with their subnets, security groups, interfaces.
//!
//! A VPC is a network namespace that routes, a subnet a bridge in it with isolated ports, an
//! interface a TAP on that bridge. Each of the three kinds below is ensured and removed by itself;
//! a [`Fingerprint`](crate::Fingerprint) of it is left on what was made, so that a changed wish is seen.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::ids::{GroupId, InterfaceId, SubnetId, VpcId};
use crate::machine::Mac;

/// A VPC: a namespace, its bridges, its routes and its way out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Network {
    /// Which VPC.
    pub vpc: VpcId,
    /// The VPC's own addresses.
    pub cidrs: Vec<Ipv4Net>,
    /// Its subnets.
    pub subnets: Vec<Subnet>,
    /// The way to the outside; none without an internet gateway.
    pub uplink: Option<Uplink>,
}

/// A subnet: a bridge with the router's address on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Subnet {
    /// Which subnet.
    pub id: SubnetId,
    /// Its addresses. The first after the network's own is the router's, the second the
    /// resolver's, the third is reserved, and so is the last (AWS, *Subnet CIDR blocks*).
    pub cidr: Ipv4Net,
    /// Where packets from this subnet go, besides the VPC's own addresses.
    pub routes: Vec<Route>,
}

impl Subnet {
    /// The address of the VPC's router in this subnet.
    pub fn router(&self) -> Ipv4Addr {
        self.nth(1)
    }

    /// The address of the resolver in this subnet.
    pub fn resolver(&self) -> Ipv4Addr {
        self.nth(2)
    }

    fn nth(&self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.cidr.network()).wrapping_add(n))
    }
}

/// One route of a subnet; the longest prefix wins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Route {
    /// Packets to these addresses …
    pub destination: Ipv4Net,
    /// … go there.
    pub target: Target,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The VPC's uplink.
    Uplink,
    /// Nowhere: what the route led to is gone.
    Blackhole,
}

/// A VPC's way out: a veth pair between its namespace and the host's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Uplink {
    /// The two addresses of the pair, a /31 (RFC 3021): the first is the host's end.
    pub link: Ipv4Net,
    /// The public addresses this cloud may give out; what leaves the host with one of them is
    /// masqueraded.
    pub pool: Ipv4Net,
}

/// A security group: its rules. Who is in it, each interface says for itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SecurityGroup {
    /// Which group.
    pub id: GroupId,
    /// In which VPC.
    pub vpc: VpcId,
    /// What it lets in.
    pub ingress: BTreeSet<Rule>,
    /// What it lets out.
    pub egress: BTreeSet<Rule>,
}

/// One thing a security group allows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rule {
    /// Which packets.
    pub traffic: Traffic,
    /// From whom (ingress) or to whom (egress).
    pub peer: Peer,
}

/// Which packets a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Traffic {
    /// All of them.
    All,
    /// TCP to a port from the first to the second, both included.
    Tcp(u16, u16),
    /// UDP to a port from the first to the second, both included.
    Udp(u16, u16),
    /// ICMP of a type and a code; none means every one.
    Icmp(Option<u8>, Option<u8>),
    /// ICMP for IPv6 of a type and a code; none means every one.
    Icmp6(Option<u8>, Option<u8>),
    /// Another protocol, by its number (IANA, *Protocol Numbers*).
    Protocol(u8),
}

/// The other side of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// IPv4 addresses.
    Ipv4(Ipv4Net),
    /// IPv6 addresses.
    Ipv6(Ipv6Net),
    /// The members of a group of the same VPC.
    Group(GroupId),
}

/// A network interface: a TAP on its subnet's bridge.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Interface {
    /// Which interface.
    pub id: InterfaceId,
    /// In which VPC.
    pub vpc: VpcId,
    /// In which subnet.
    pub subnet: SubnetId,
    /// The guest's address on the link; frames with another source are dropped.
    pub mac: Mac,
    /// The guest's private addresses, the primary one first; packets with another source are
    /// dropped while `source_dest_check` is on.
    pub addresses: Vec<Ipv4Addr>,
    /// Public addresses, each translated one to one to one of `addresses`.
    pub public: Vec<PublicAddress>,
    /// The security groups whose rules hold for it, at least one. Where a rule names one of them, it means this
    /// interface's private addresses too.
    pub groups: BTreeSet<GroupId>,
    /// Whether it may only send and receive under its own addresses.
    pub source_dest_check: bool,
    /// Whether its TAP is one with several queues. One that is in use stays as it is.
    pub several_queues: bool,
}

/// A public address and the private one it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublicAddress {
    /// The address seen from outside the VPC.
    pub public: Ipv4Addr,
    /// The address the guest has.
    pub private: Ipv4Addr,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn router_and_resolver_are_the_first_two_addresses() {
        let subnet = Subnet {
            id: SubnetId::from_random(1),
            cidr: "172.31.16.0/20".parse().unwrap(),
            routes: Vec::new(),
        };
        assert_eq!(subnet.router(), Ipv4Addr::new(172, 31, 16, 1));
        assert_eq!(subnet.resolver(), Ipv4Addr::new(172, 31, 16, 2));
    }
}
