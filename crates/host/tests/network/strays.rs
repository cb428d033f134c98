//! What nobody wants any more, what never was, and what is done side by side.

use spec::Fingerprint;
use spec::network::{SecurityGroup, Traffic};
use spec::observed::{Observed, Scope};
use spec::steps::Resource;

use crate::snapshot;
use crate::wish::{Wish, same, whole};
use crate::world::{
    begin, group, group_id, interface, network, network_with_gateway, observe, open_group, sh, sh_in, vpc_id,
    with_public,
};

#[test]
fn strays_are_reported_and_removed() {
    let (networks, wish, fresh) = whole();
    let other = network(2);
    networks.ensure_network(&other).unwrap();
    let stray = with_public(interface(&wish.network, 0, 99, &[1, 9]), 99);
    networks.ensure_interface(&stray).unwrap(); // with a group that there is only a chain of
    let found = observe(&networks);
    assert!(found.networks.contains_key(&vpc_id(2)));
    assert_eq!(found.interfaces[&(stray.vpc, stray.id)], Some(Fingerprint::of(&stray)));
    assert_eq!(found.groups[&(stray.vpc, group_id(9))], None);
    // And ones that were cut short before anything told whose they are.
    sh_in(
        wish.network.vpc,
        &format!("ip tuntap add {} mode tap", spec::names::tap("eni-1234abcd".parse().unwrap())),
    );
    sh(&format!("touch /run/netns/{}", spec::names::namespace(vpc_id(3))));
    sh(&format!("ip link add {} type veth peer name other", spec::names::uplink_host(vpc_id(4))));
    wish.fulfil(&networks);
    same(&fresh, "removing strays");
}

#[test]
fn what_was_never_there_is_removed_without_complaint() {
    let (networks, wish) = (begin(), Wish::new());
    let before = snapshot::take();
    wish.remove(&networks);
    wish.fulfil(&networks);
    wish.remove(&networks);
    wish.remove(&networks);
    assert_eq!(observe(&networks), Observed::default());
    // Our table on the host stays until teardown.
    let table = |fact: &String| fact.contains("cumulet") || fact.contains("ip_forward");
    let left: Vec<_> = snapshot::take().difference(&before).cloned().collect();
    assert!(left.iter().all(table), "{left:#?}");
}

#[test]
fn a_group_can_go_while_others_name_it() {
    let networks = begin();
    networks.ensure_network(&network(1)).unwrap();
    let naming =
        SecurityGroup { ingress: [crate::world::allow_group(Traffic::All, 2)].into(), ..group(1, 1) };
    networks.ensure_group(&naming).unwrap();
    networks.ensure_group(&open_group(1, 2)).unwrap();
    networks.remove_group(vpc_id(1), group_id(2)).unwrap();
    let groups: Vec<_> = observe(&networks).groups.into_iter().collect();
    assert_eq!(groups, [((vpc_id(1), group_id(1)), Some(Fingerprint::of(&naming)))]);
}

#[test]
fn a_look_is_kept_to_what_was_asked() {
    let (networks, wish, _) = whole();
    networks.ensure_network(&network(2)).unwrap();
    let (vpc, id) = (wish.network.vpc, wish.interfaces[0].id);
    let absent = Resource::Group(vpc, group_id(77));
    let scope = Scope::Resources([Resource::Interface(vpc, id), absent, Resource::Network(vpc_id(5))].into());
    let mut found = Observed::default();
    networks.observe(&scope, &mut found).unwrap();
    let mark = Some(Fingerprint::of(&wish.interfaces[0]));
    assert_eq!(found, Observed { interfaces: [((vpc, id), mark)].into(), ..Observed::default() });
}

#[test]
fn calls_side_by_side_on_one_vpc_do_not_disturb_each_other() {
    let networks = begin();
    let network = network_with_gateway(1);
    networks.ensure_network(&network).unwrap();
    let numbers = 10..26;
    std::thread::scope(|scope| {
        for number in numbers.clone() {
            let (networks, network) = (&networks, &network);
            scope.spawn(move || {
                networks.ensure_group(&open_group(1, number)).unwrap();
                networks
                    .ensure_interface(&with_public(interface(network, 0, number, &[number]), number))
                    .unwrap();
                networks.ensure_network(network).unwrap();
                observe(networks);
                if number % 2 == 0 {
                    networks.remove_interface(network.vpc, interface(network, 0, number, &[]).id).unwrap();
                    networks.remove_group(network.vpc, group_id(number)).unwrap();
                }
            });
        }
    });
    let found = observe(&networks);
    assert_eq!((found.interfaces.len(), found.groups.len()), (numbers.len() / 2, numbers.len() / 2));
    let marks = found.networks.values().chain(found.groups.values()).chain(found.interfaces.values());
    assert!(marks.into_iter().all(Option::is_some), "{found:?}");
}
