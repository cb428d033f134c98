//! Each thing that the driver made is damaged in turn; it is noticed, and made whole again.

use serde_json::Value;

use crate::wish::{Wish, same, whole};
use crate::world::{observe, sh, sh_in};

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
            // The last rule of each chain: rules are listed after their chains, in order.
            "rule" => {
                let delete = format!("nft delete rule {place} {} handle", text("chain"));
                commands.retain(|command| !command.starts_with(&delete));
                commands.push(format!("{delete} {}", fields["handle"]));
            }
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
        70,
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
        15,
    );
}
