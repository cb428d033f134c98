//! Everything that the kernel holds of our networks, in words that are equal when it is equal: without
//! handles, indexes and order, where these say nothing.

use std::collections::{BTreeMap, BTreeSet};

use host::linux::sys::netns::Namespace;
use serde_json::Value;

use crate::world::sh;

/// The facts of the host and of each of our namespaces.
pub(crate) fn take() -> BTreeSet<String> {
    let mut facts = of_namespace("host");
    for name in Namespace::names().unwrap().iter().filter(|name| name.starts_with("cumulet-")) {
        let namespace = Namespace::open(name).unwrap().expect("not half made");
        facts.extend(namespace.run(|| of_namespace(name)).unwrap());
    }
    facts
}

fn of_namespace(name: &str) -> BTreeSet<String> {
    let rules = json("ip -4 -j rule");
    let mut facts = Vec::new();
    facts.extend(json("ip -j -d link").iter().map(link));
    for link in json("ip -j -4 address") {
        for address in link["addr_info"].as_array().unwrap() {
            facts.push(format!("{} has {}/{}", link["ifname"], address["local"], address["prefixlen"]));
        }
    }
    facts.extend(json("ip -4 -j route show table all").iter().map(|route| self::route(route, &rules)));
    facts.extend(
        rules.iter().map(|r| format!("rule {} {} {}", r["priority"], r["iif"], r["suppress_prefixlen"])),
    );
    let neighbours = json("ip -4 -j neighbour show nud permanent");
    facts.extend(neighbours.iter().map(|n| format!("neighbour {} {} {}", n["dst"], n["dev"], n["lladdr"])));
    let ports = json("bridge -j fdb");
    let fixed = ports.iter().filter(|port| port["state"] == "static");
    facts.extend(fixed.map(|port| format!("port {} {}", port["mac"], port["ifname"])));
    let settings =
        "conf/*/proxy_arp_pvlan conf/*/rp_filter conf/*/send_redirects neigh/*/proxy_delay ip_forward";
    facts.extend(sh(&format!("cd /proc/sys/net/ipv4; grep -H . {settings}")).lines().map(str::to_owned));
    facts.extend(filter(&serde_json::from_str(&sh("nft -j list ruleset")).unwrap()));
    facts.into_iter().map(|fact| format!("{name}: {fact}")).collect()
}

fn json(command: &str) -> Vec<Value> {
    let text = sh(command);
    if text.trim().is_empty() { Vec::new() } else { serde_json::from_str(&text).unwrap() }
}

fn link(link: &Value) -> String {
    let name = link["ifname"].as_str().unwrap();
    let up = link["flags"].as_array().unwrap().iter().any(|flag| flag == "UP");
    let alias = link["ifalias"].as_str().unwrap_or_default();
    // The loopback's seal has the digest of facts that need not be the same: indexes.
    let alias = if name == "lo" { alias.split(':').next().unwrap_or_default() } else { alias };
    let mac = if name.starts_with("cub") { link["address"].to_string() } else { String::new() };
    let info = &link["linkinfo"];
    format!(
        "link {name} {up} {} {} {alias} {mac} {}",
        link["mtu"],
        link["master"],
        port(&info["info_slave_data"])
    )
}

fn port(data: &Value) -> String {
    format!("isolated {} learning {} flood {}", data["isolated"], data["learning"], data["flood"])
}

/// A route, with the link that chooses its table for the table's number.
fn route(route: &Value, rules: &[Value]) -> String {
    let table = &route["table"];
    let chosen_by = rules.iter().find(|rule| rule["table"] == *table).map(|rule| rule["iif"].clone());
    let Value::Object(mut fields) = route.clone() else { panic!("{route}") };
    fields.remove("table");
    fields.remove("flags");
    format!("route {chosen_by:?} {}", Value::Object(fields))
}

/// Counters of packets in others' rules.
fn forget_counts(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(forget_counts),
        Value::Object(fields) => {
            fields.retain(|key, _| key != "packets" && key != "bytes");
            fields.values_mut().for_each(forget_counts);
        }
        _ => {}
    }
}

fn filter(document: &Value) -> Vec<String> {
    let mut facts = Vec::new();
    let mut rules = BTreeMap::<String, u32>::new();
    for object in document["nftables"].as_array().unwrap() {
        let (kind, fields) = object.as_object().unwrap().iter().next().unwrap();
        let of = |key: &str| fields[key].as_str().unwrap_or_default();
        // The order of rules says something, that of other things nothing.
        let place =
            rules.entry(format!("{kind} {} {} {}", of("family"), of("table"), of("chain"))).or_default();
        *place += u32::from(kind == "rule");
        let name = format!("{kind} {place} {} {}", of("family"), of("name"));
        let elements = fields["elem"].as_array().into_iter().flatten();
        facts.extend(elements.map(|element| format!("{name} holds {element}")));
        let mut fields = fields.as_object().unwrap().clone();
        fields.retain(|key, _| !matches!(key.as_str(), "handle" | "elem"));
        let mut fields = Value::Object(fields);
        forget_counts(&mut fields);
        facts.push(format!("{name} {fields}"));
    }
    facts
}
