//! What there is of networks, groups and interfaces: looked up in the kernel each time.

use std::collections::BTreeSet;

use spec::ids::{InterfaceId, VpcId};
use spec::names;
use spec::observed::{Observed, Scope};
use spec::steps::Resource;

use super::host::{HostSide, HostView};
use super::interface::Surroundings;
use super::netlink::Netlink;
use super::pieces::Pieces;
use super::seal::Seal;
use super::unname::interface_of_tap;
use super::vpc::{self, Found};
use super::{group, inside, rules};
use crate::Error;
use crate::linux::sys::netns::Namespace;

/// Adds to `observed` what is found within `scope`.
pub(super) fn observe(scope: &Scope, host: &HostSide, observed: &mut Observed) -> Result<(), Error> {
    let asked: Option<BTreeSet<VpcId>> = match scope {
        Scope::Everything => None,
        Scope::Resources(resources) => {
            Some(resources.iter().filter_map(|resource| vpc_of(*resource)).collect())
        }
    };
    if asked.as_ref().is_some_and(BTreeSet::is_empty) {
        return Ok(());
    }
    let names =
        Namespace::names().map_err(|error| Error::passing("Could not list the network namespaces", error))?;
    let view = host.look()?;
    let there = names.iter().filter_map(|name| names::vpc_of_namespace(name)).chain(view.vpcs());
    let all: BTreeSet<VpcId> =
        there.filter(|vpc| asked.as_ref().is_none_or(|asked| asked.contains(vpc))).collect();
    for vpc in all {
        let found = look(vpc, &view)?;
        let within = |resource| scope.covers(resource);
        observed
            .networks
            .extend(found.networks.into_iter().filter(|(vpc, _)| within(Resource::Network(*vpc))));
        observed
            .groups
            .extend(found.groups.into_iter().filter(|((vpc, id), _)| within(Resource::Group(*vpc, *id))));
        let interfaces = found.interfaces.into_iter();
        observed
            .interfaces
            .extend(interfaces.filter(|((vpc, id), _)| within(Resource::Interface(*vpc, *id))));
    }
    Ok(())
}

/// The VPC that something is part of.
fn vpc_of(resource: Resource) -> Option<VpcId> {
    match resource {
        Resource::Network(vpc) | Resource::Group(vpc, _) | Resource::Interface(vpc, _) => Some(vpc),
        Resource::Volume(_) | Resource::Image(_) | Resource::Memory(_) | Resource::Machine(_) => None,
    }
}

/// Everything of one VPC. A namespace that is only half made, or only the host's end of an uplink, is a
/// network without a mark.
fn look(vpc: VpcId, host: &HostView) -> Result<Observed, Error> {
    let name = names::namespace(vpc);
    let namespace = Namespace::open(&name)
        .map_err(|error| Error::passing(format!("Could not open namespace {name}"), error))?;
    match namespace {
        Some(namespace) => inside(&namespace, || look_inside(vpc, host)),
        None => Ok(Observed { networks: [(vpc, None)].into(), ..Observed::default() }),
    }
}

fn look_inside(vpc: VpcId, host: &HostView) -> Result<Observed, Error> {
    let netlink = Netlink::here()?;
    let found = Found::here(&netlink)?;
    let network = vpc::facts(vpc, &found, host).and_then(|facts| Seal::holds(found.seal(), &facts));
    let groups = group::listed(&found.listing).into_iter().map(|(id, mark)| ((vpc, id), mark));
    let around = Surroundings {
        vpc,
        host,
        neighbours: netlink.neighbours()?.into_iter().collect(),
        port_addresses: netlink.port_addresses()?.into_iter().collect(),
        found: &found,
    };
    let (pieces, none) = (Pieces::listed(&found.listing), Pieces::default());
    let interfaces = interfaces(&found).chain(pieces.keys().copied()).map(|id| {
        let mark = around.mark(id, pieces.get(&id).unwrap_or(&none));
        ((vpc, id), mark)
    });
    Ok(Observed {
        networks: [(vpc, network)].into(),
        groups: groups.collect(),
        interfaces: interfaces.collect(),
        ..Observed::default()
    })
}

/// The interfaces of which there is a TAP or a chain.
fn interfaces(found: &Found) -> impl Iterator<Item = InterfaceId> {
    let taps = found.links.iter().filter_map(|link| interface_of_tap(&link.name));
    taps.chain(rules::owners(&found.listing))
}
