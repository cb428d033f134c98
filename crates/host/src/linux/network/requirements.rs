//! What the driver needs of a machine: tried once, in a namespace of its own that ends with the trial.

use ipnet::Ipv4Net;
use spec::ids::{SubnetId, VpcId};
use spec::machine::Mac;
use spec::names;
use spec::network::{Network, Subnet};

use super::inside;
use super::listing::Listing;
use super::netlink::Netlink;
use super::rules;
use crate::linux::sys::netns::Namespace;
use crate::linux::sys::tap;
use crate::{Error, ErrorKind};

const NO_FILTER: &str = "The kernel does not load a VPC's packet filter: it needs nf_tables with inet, bridge, nat, ct \
                         and reject";

/// Makes one of everything, or says what is missing and what to do about it.
pub(super) fn check() -> Result<(), Error> {
    let trial = Namespace::unnamed().map_err(|error| {
        unsupported(
            "Network namespaces cannot be made here: run as root, on a kernel with CONFIG_NET_NS",
            error,
        )
    })?;
    inside(&trial, || {
        check_version()?;
        let network = sample();
        rules::base(&network).commit(NO_FILTER)?;
        let bridge = names::bridge(SubnetId::from_random(0));
        Netlink::here()?.put_bridge(&bridge, Mac::from_random(0))?;
        tap::create("cumulet-trial", true).map_err(|error| {
            unsupported("TAP devices cannot be made here: /dev/net/tun is needed (modprobe tun)", error)
        })
    })
    .map_err(|error| Error { kind: ErrorKind::Unsupported, ..error })
}

/// nft speaks JSON since 0.9, but adds what we use, in the way that we use it, since 1.0.
fn check_version() -> Result<(), Error> {
    let version = Listing::here()?.version.unwrap_or_default();
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major >= 1) {
        return Ok(());
    }
    let what =
        format!("nft is of version {version:?}; 1.0 or newer is needed (Debian 12 has it in \"nftables\")");
    Err(Error::new(ErrorKind::Unsupported, what))
}

fn unsupported(what: &str, error: std::io::Error) -> Error {
    Error { kind: ErrorKind::Unsupported, ..Error::passing(what, error) }
}

fn sample() -> Network {
    let cidr = Ipv4Net::new_assert([10, 0, 0, 0].into(), 24);
    Network {
        vpc: VpcId::from_random(0),
        cidrs: vec![cidr],
        subnets: vec![Subnet { id: SubnetId::from_random(0), cidr, routes: Vec::new() }],
        uplink: None,
    }
}
