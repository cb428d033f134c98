//! Whatever was damaged, by others or by being cut short, is seen and made whole again.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use host::linux::network::Networks;
use serde_json::Value;
use spec::Fingerprint;
use spec::network::{Interface, Network, Peer, Rule, SecurityGroup, Traffic};
use spec::observed::{Observed, Scope};
use spec::steps::Resource;

use crate::snapshot;
use crate::world::{
    STATE, add_internet, allow, begin, group, group_id, interface, network, network_with_gateway, observe,
    open_group, sh, sh_in, vpc_id, with_public,
};

/// All that should be, small but with one of everything.
struct Wish {
    network: Network,
    groups: Vec<SecurityGroup>,
    interfaces: Vec<Interface>,
}

impl Wish {
    fn new() -> Self {
        let network = network_with_gateway(1);
        let peers = Rule { traffic: Traffic::Tcp(80, 90), peer: Peer::Group(group_id(2)) };
        let ingress = [peers, allow(Traffic::Icmp(Some(8), None), "10.0.0.0/8")].into();
        let members = [[10, 0, 0, 10].into(), [10, 0, 1, 10].into()].into();
        let unchecked = Interface { source_dest_check: false, ..interface(&network, 1, 10, &[2]) };
        Self {
            groups: vec![SecurityGroup { ingress, members, ..group(1, 1) }, open_group(1, 2)],
            interfaces: vec![with_public(interface(&network, 0, 10, &[1, 2]), 7), unchecked],
            network,
        }
    }

    /// What a host reports when all is as it should be.
    fn observed(&self) -> Observed {
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

    /// Does what a planner would, until nothing is left to do: removes strays and ensures what is not as it should be.
    fn fulfil(&self, networks: &Networks) {
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

    fn remove(&self, networks: &Networks) {
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
fn whole() -> (Networks, Wish, BTreeSet<String>) {
    let (networks, wish) = (begin(), Wish::new());
    add_internet();
    sh("nft add table inet firewall
        nft add chain inet firewall forward '{ type filter hook forward priority 0; policy drop; }'");
    wish.fulfil(&networks);
    (networks, wish, snapshot::take())
}

/// A command that damages something: on the host, or inside the VPC.
enum Damage {
    Host(String),
    Vpc(String),
}
use Damage::{Host, Vpc};

/// Does each damage, sees that it is noticed, repairs it, and compares with how it was.
fn repairs(damages: impl Fn(&Wish) -> Vec<Damage>, at_least: usize) {
    let (networks, wish, fresh) = whole();
    // Handles and indexes change with each repair, so the damages are listed anew each time.
    let count = damages(&wish).len();
    assert!(count >= at_least, "only {count} damages");
    for place in 0..count {
        let damage = damages(&wish).swap_remove(place);
        let command = match &damage {
            Host(command) => command,
            Vpc(command) => &format!("{command} # in the VPC"),
        };
        match &damage {
            Host(command) => sh(command),
            Vpc(command) => sh_in(wish.network.vpc, command),
        };
        assert_ne!(observe(&networks), wish.observed(), "unnoticed: {command}");
        wish.fulfil(&networks);
        same(&fresh, command);
    }
}

/// Whether everything is as it was.
fn same(fresh: &BTreeSet<String>, after: &str) {
    let now = snapshot::take();
    let (lost, new) = (fresh.difference(&now).collect::<Vec<_>>(), now.difference(fresh).collect::<Vec<_>>());
    assert!(lost.is_empty() && new.is_empty(), "after {after}: lost {lost:#?}, new {new:#?}");
}

/// What a command inside the VPC prints, one command made of each line.
fn each_line(wish: &Wish, list: &str, damage: impl Fn(&[&str]) -> Vec<String>) -> Vec<Damage> {
    let text = sh_in(wish.network.vpc, list);
    let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    words.flat_map(|words| damage(&words)).map(Vpc).collect()
}

#[test]
fn damaged_links_are_repaired() {
    let of_link = |words: &[&str]| -> Vec<String> {
        let name = words[0].split('@').next().unwrap();
        let mut commands = vec![format!("ip link set {name} down")];
        if name != "lo" {
            commands.push(format!("ip link del {name}"));
            commands.push(format!("ip link set {name} mtu 1400"));
        }
        if name.starts_with("cub") {
            commands.push(format!("ip link set {name} address 02:11:22:33:44:55"));
        }
        if name.starts_with("cut") {
            commands.push(format!("ip link set {name} nomaster"));
            commands.push(format!("ip link set {name} type bridge_slave isolated off"));
            commands.push(format!("ip link set {name} alias changed"));
            commands.push(format!("ip link del {name}; ip tuntap add {name} mode tap"));
        }
        commands
    };
    repairs(|wish| each_line(wish, "ip -br link", of_link), 20);
}

#[test]
fn damaged_addresses_and_neighbours_are_repaired() {
    repairs(
        |wish| {
            let mut damages = each_line(wish, "ip -o -4 address", |words| match words[3] {
                "127.0.0.1/8" => Vec::new(),
                address => vec![format!("ip address del {address} dev {}", words[1])],
            });
            damages.extend(each_line(wish, "ip neighbour show nud permanent", |words| {
                let (address, link) = (words[0], words[2]);
                let replace = format!("ip neighbour replace {address} dev {link} lladdr 02:11:22:33:44:55");
                vec![format!("ip neighbour del {address} dev {link}"), replace]
            }));
            damages.extend(each_line(wish, "bridge fdb | grep static", |words| {
                vec![format!("bridge fdb del {} dev {} master", words[0], words[2])]
            }));
            damages.push(Vpc(
                "ip address add 10.9.9.9/24 dev $(ls /proc/sys/net/ipv4/conf | grep cub | head -1)".into(),
            ));
            damages
        },
        13,
    );
}

#[test]
fn damaged_routes_are_repaired() {
    repairs(
        |wish| {
            let mut damages = each_line(wish, "ip route show table all proto static", |words| {
                let words: Vec<_> = words.iter().filter(|word| **word != "linkdown").copied().collect();
                vec![format!("ip route del {}", words.join(" "))]
            });
            damages.extend(each_line(wish, "ip rule", |words| {
                let input = words.iter().skip_while(|word| **word != "iif").take(2).copied();
                vec![format!(
                    "ip rule del priority {} {}",
                    words[0].trim_end_matches(':'),
                    input.collect::<Vec<_>>().join(" ")
                )]
            }));
            damages.push(Vpc("ip route add 8.8.8.8 dev lo proto static".into()));
            damages.push(Vpc("ip rule add priority 50 lookup 77".into()));
            damages
        },
        12,
    );
}

#[test]
fn changed_settings_are_repaired() {
    repairs(
        |wish| {
            let set = |path: &str, value| Vpc(format!("echo {value} > /proc/sys/net/ipv4/{path}"));
            let mut damages =
                vec![set("ip_forward", 0), set("conf/all/send_redirects", 1), set("conf/all/rp_filter", 1)];
            for subnet in &wish.network.subnets {
                let bridge = spec::names::bridge(subnet.id);
                damages.push(set(&format!("conf/{bridge}/proxy_arp_pvlan"), 0));
                damages.push(set(&format!("neigh/{bridge}/proxy_delay"), 80));
            }
            damages.push(Host("echo 0 > /proc/sys/net/ipv4/ip_forward".into()));
            damages
        },
        8,
    );
}

/// Commands that take away, or add to, each thing in the packet filter of a namespace.
fn filter_damages(ruleset: &str) -> Vec<String> {
    let document: Value = serde_json::from_str(ruleset).unwrap();
    let mut commands = Vec::new();
    for object in document["nftables"].as_array().unwrap() {
        let (kind, fields) = object.as_object().unwrap().iter().next().unwrap();
        let text = |key: &str| fields[key].as_str().unwrap_or_default();
        let place = format!("{} {}", text("family"), text("table"));
        if text("table") != "cumulet" {
            continue;
        }
        match kind.as_str() {
            "chain" if fields["type"] != "nat" => {
                commands.push(format!("nft insert rule {place} {} accept", text("name")));
                commands.push(format!("nft flush chain {place} {}", text("name")));
                if fields["policy"] == "drop" {
                    commands.push(format!("nft chain {place} {} \"{{ policy accept; }}\"", text("name")));
                }
            }
            "rule" => commands.push(format!(
                "nft delete rule {place} {} handle {}",
                text("chain"),
                fields["handle"]
            )),
            "set" | "map" => {
                commands.extend(fields["elem"].as_array().into_iter().flatten().map(|element| {
                    let key = element.get("concat").or(element.get(0)).unwrap_or(element);
                    let parts = key.as_array().cloned().unwrap_or(vec![key.clone()]);
                    let key = parts.iter().map(|part| part.as_str().unwrap()).collect::<Vec<_>>().join(" . ");
                    format!("nft delete element {place} {} {{ {key} }}", text("name"))
                }))
            }
            _ => {}
        }
    }
    commands
}

#[test]
fn a_damaged_packet_filter_is_repaired() {
    repairs(
        |wish| {
            let listing = sh_in(wish.network.vpc, "nft -j list ruleset");
            let mut damages: Vec<_> = filter_damages(&listing).into_iter().map(Vpc).collect();
            let tap = spec::names::tap(wish.interfaces[0].id);
            let more = [
                "nft flush ruleset".to_owned(),
                "nft delete table inet cumulet".to_owned(),
                "nft delete table bridge cumulet".to_owned(),
                // A set of another type, so that the chains cannot be loaded over it.
                "nft delete table bridge cumulet; nft add table bridge cumulet
                 nft add set bridge cumulet senders \"{ type ipv4_addr; }\""
                    .to_owned(),
                format!("nft add element bridge cumulet senders {{ {tap} . 02:00:00:00:00:0a . 8.8.8.8 }}"),
                format!("nft add element bridge cumulet any-source {{ {tap} . 02:00:00:00:00:0a }}"),
                format!("nft add element inet cumulet {} {{ 8.8.8.8 }}", wish.groups[0].id),
            ];
            damages.extend(more.map(Vpc));
            damages
        },
        80,
    );
}

#[test]
fn damage_on_the_host_is_repaired() {
    repairs(
        |wish| {
            let uplink = spec::names::uplink_host(wish.network.vpc);
            let namespace = spec::names::namespace(wish.network.vpc);
            let mut commands = filter_damages(&sh("nft -j list ruleset"));
            commands.extend([
                format!("ip link del {uplink}"),
                format!("ip link set {uplink} down"),
                format!("ip address flush dev {uplink}"),
                "ip route del 198.18.0.7".to_owned(),
                "nft delete table inet cumulet".to_owned(),
                "nft flush chain inet firewall forward".to_owned(),
                format!("ip netns del {namespace}"),
                format!("umount /run/netns/{namespace}"), // its name is left
                // And its uplink's name is somebody else's.
                format!(
                    "umount /run/netns/{namespace}; ip link del {uplink} || true
                     ip link add {uplink} type veth peer name other"
                ),
            ]);
            commands.into_iter().map(Host).collect()
        },
        20,
    );
}

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

/// Set for the process that is to be killed, to what it is to do.
const KILLED: &str = "CUMULET_TEST_KILLED";
/// How often it is killed, each time a little later.
const KILLS: u32 = 25;

/// Not a test by itself: what [`what_was_cut_short_is_completed`] kills, inside the world of that test.
#[test]
fn the_killed_one() {
    let Ok(task) = std::env::var(KILLED) else { return };
    let (networks, wish) = (Networks::new(STATE).unwrap(), Wish::new());
    println!("now");
    match task.as_str() {
        "make" => wish.fulfil(&networks),
        _ => wish.remove(&networks),
    }
}

/// Runs [`the_killed_one`] and kills it so long after it began, if it has not ended by then. Returns how long it took.
fn run_and_kill(task: &str, after: Duration) -> Duration {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["repair::the_killed_one", "--exact", "--nocapture"])
        .env(KILLED, task)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(output.any(|line| line.unwrap().ends_with("now")), "it did not begin");
    let begin = Instant::now();
    while begin.elapsed() < after && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_micros(200));
    }
    let took = begin.elapsed();
    let _ = child.kill();
    child.wait().unwrap();
    took
}

#[test]
fn what_was_cut_short_is_completed() {
    let (networks, wish, fresh) = whole();
    for task in ["make", "remove"] {
        let prepare = || if task == "make" { wish.remove(&networks) } else { wish.fulfil(&networks) };
        prepare();
        let whole_task = run_and_kill(task, Duration::from_secs(60));
        for kill in 0..KILLS {
            prepare();
            run_and_kill(task, whole_task * kill / KILLS);
            wish.fulfil(&networks);
            same(&fresh, &format!("{task}, killed at {kill}/{KILLS}"));
        }
    }
}
