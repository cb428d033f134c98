//! One of everything, as it should be, and a planner of a few lines that makes it so.

use std::collections::BTreeSet;

use host::linux::network::Networks;
use spec::Fingerprint;
use spec::network::{Interface, Network, Peer, Rule, SecurityGroup, Traffic};
use spec::observed::Observed;

use crate::snapshot;
use crate::world::{
    add_internet, allow, begin, group, group_id, interface, network_with_gateway, observe, open_group, sh,
    with_public,
};

/// All that should be, small but with one of everything.
pub(crate) struct Wish {
    pub(crate) network: Network,
    pub(crate) groups: Vec<SecurityGroup>,
    pub(crate) interfaces: Vec<Interface>,
}

impl Wish {
    pub(crate) fn new() -> Self {
        let network = network_with_gateway(1);
        let peers = Rule { traffic: Traffic::Tcp(80, 90), peer: Peer::Group(group_id(2)) };
        let ingress = [peers, allow(Traffic::Icmp(Some(8), None), "10.0.0.0/8")].into();
        let unchecked = Interface { source_dest_check: false, ..interface(&network, 1, 10, &[2]) };
        Self {
            groups: vec![SecurityGroup { ingress, ..group(1, 1) }, open_group(1, 2)],
            interfaces: vec![with_public(interface(&network, 0, 10, &[1, 2]), 7), unchecked],
            network,
        }
    }

    /// What a host reports when all is as it should be.
    pub(crate) fn observed(&self) -> Observed {
        let vpc = self.network.vpc;
        let group = |group: &SecurityGroup| ((vpc, group.id), Some(Fingerprint::of(group)));
        let interface = |interface: &Interface| ((vpc, interface.id), Some(Fingerprint::of(interface)));
        Observed {
            networks: [(vpc, Some(Fingerprint::of(&self.network)))].into(),
            groups: self.groups.iter().map(group).collect(),
            interfaces: self.interfaces.iter().map(interface).collect(),
            ..Observed::default()
        }
    }

    /// Does what a planner would, until nothing is left to do: removes strays and ensures what is not as it
    /// should be.
    pub(crate) fn fulfil(&self, networks: &Networks) {
        let wanted = self.observed();
        for _ in 0..4 {
            let found = observe(networks);
            if found == wanted {
                return;
            }
            self.remove_strays(networks, &found);
            if found.networks != wanted.networks {
                networks.ensure_network(&self.network).unwrap();
            }
            for group in &self.groups {
                if found.groups.get(&(group.vpc, group.id)) != Some(&Some(Fingerprint::of(group))) {
                    networks.ensure_group(group).unwrap();
                }
            }
            for interface in &self.interfaces {
                if found.interfaces.get(&(interface.vpc, interface.id))
                    != Some(&Some(Fingerprint::of(interface)))
                {
                    networks.ensure_interface(interface).unwrap();
                }
            }
        }
        panic!("never done: {:?}", observe(networks));
    }

    fn remove_strays(&self, networks: &Networks, found: &Observed) {
        let wanted = self.observed();
        for (vpc, id) in found.interfaces.keys().filter(|key| !wanted.interfaces.contains_key(key)) {
            networks.remove_interface(*vpc, *id).unwrap();
        }
        for (vpc, id) in found.groups.keys().filter(|key| !wanted.groups.contains_key(key)) {
            networks.remove_group(*vpc, *id).unwrap();
        }
        for vpc in found.networks.keys().filter(|key| !wanted.networks.contains_key(key)) {
            networks.remove_network(*vpc).unwrap();
        }
    }

    pub(crate) fn remove(&self, networks: &Networks) {
        for interface in &self.interfaces {
            networks.remove_interface(interface.vpc, interface.id).unwrap();
        }
        for group in &self.groups {
            networks.remove_group(group.vpc, group.id).unwrap();
        }
        networks.remove_network(self.network.vpc).unwrap();
    }
}

/// A world with a foreign firewall and the wish fulfilled, and its snapshot.
pub(crate) fn whole() -> (Networks, Wish, BTreeSet<String>) {
    let (networks, wish) = (begin(), Wish::new());
    add_internet();
    sh("nft add table inet firewall
        nft add chain inet firewall forward '{ type filter hook forward priority 0; policy drop; }'");
    wish.fulfil(&networks);
    (networks, wish, snapshot::take())
}

/// Whether everything is as it was.
pub(crate) fn same(fresh: &BTreeSet<String>, after: &str) {
    let now = snapshot::take();
    let (lost, new) = (fresh.difference(&now).collect::<Vec<_>>(), now.difference(fresh).collect::<Vec<_>>());
    assert!(lost.is_empty() && new.is_empty(), "after {after}: lost {lost:#?}, new {new:#?}");
}
