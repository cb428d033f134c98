//! The names of host objects, made from ids.
//!
//! Because every name follows from an id, nothing has to be noted after it is made, and
//! whatever carries our prefix but no living id can be taken away. A link's name has at most 15
//! characters (`IFNAMSIZ` less the final zero): a prefix of three and twelve base-62 digits.

use crate::ids::{InterfaceId, SubnetId, VpcId};

/// Every namespace, nftables table and cgroup that is ours begins with this.
pub const PREFIX: &str = "cumulet";

/// Prefix of TAP devices; each serves one network interface.
pub const TAP: &str = "cut";
/// Prefix of bridges; each is one subnet.
pub const BRIDGE: &str = "cub";
/// Prefix of a VPC's uplink, at its end in the host's own namespace.
pub const UPLINK_HOST: &str = "cuh";
/// Prefix of a VPC's uplink, at its end in the VPC's namespace.
pub const UPLINK_VPC: &str = "cuv";

/// The TAP that carries a network interface.
pub fn tap(interface: InterfaceId) -> String {
    format!("{TAP}{}", interface.base62())
}

/// The bridge that is a subnet.
pub fn bridge(subnet: SubnetId) -> String {
    format!("{BRIDGE}{}", subnet.base62())
}

/// The host's end of a VPC's uplink.
pub fn uplink_host(vpc: VpcId) -> String {
    format!("{UPLINK_HOST}{}", vpc.base62())
}

/// The VPC's end of its uplink.
pub fn uplink_vpc(vpc: VpcId) -> String {
    format!("{UPLINK_VPC}{}", vpc.base62())
}

/// The namespace that is a VPC, as `ip netns` lists it.
pub fn namespace(vpc: VpcId) -> String {
    format!("{PREFIX}-{vpc}")
}

/// The VPC that a namespace is, where its name is one of ours.
pub fn vpc_of_namespace(name: &str) -> Option<VpcId> {
    name.strip_prefix(PREFIX)?.strip_prefix('-')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_fit_and_namespaces_are_read_back() {
        let vpc: VpcId = "vpc-fffffffffffffffff".parse().unwrap();
        assert_eq!(tap("eni-fffffffffffffffff".parse().unwrap()).len(), 15);
        assert_eq!(uplink_host(vpc).len(), 15);
        assert_eq!(vpc_of_namespace(&namespace(vpc)), Some(vpc));
        assert_eq!(vpc_of_namespace("cumulet-test"), None);
    }
}
