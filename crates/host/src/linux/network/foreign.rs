//! Other people's forward chains: Docker's, a firewall's.
//!
//! A packet that is forwarded passes every base chain at that hook, and each may drop it; an accept in our
//! own chain cannot overrule another's drop. So where one lets nothing pass that it does not know, rules that
//! let our uplinks pass are put before its others: in `DOCKER-USER` where Docker keeps that chain for the
//! purpose (Docker, *Packet filtering and firewalls*), else in the chain itself. A rule of ours is known by
//! the uplinks' name in it, which others' tools keep when they save and restore their rules.
//!
//! Rules of the old iptables, which the kernel keeps beside nftables, cannot be seen; see [`unseen`].

use std::fs;

use nftables::expr::MetaKey;
use nftables::types::NfFamily;
use serde_json::Value;
use spec::names;

use super::listing::{ListedChain, ListedRule, Listing, Place, mentions};
use super::nft::Transaction;
use super::words::{accept, is, meta, text};

/// All our uplinks on the host.
pub(super) fn any_uplink() -> String {
    format!("{}*", names::UPLINK_HOST)
}

/// The chains in which our uplinks have to be let pass and are not.
pub(super) fn closed(listing: &Listing) -> Vec<Place> {
    let others = listing.chains.iter().filter(|(place, _)| family(place).is_some() && !place.is_ours());
    let closing =
        others.filter(|(_, chain)| chain.hook.as_deref() == Some("forward") && drops_the_rest(chain));
    let mut places: Vec<_> = closing.map(|(place, _)| door(place, listing)).collect();
    places
        .retain(|place| listing.chains.get(place).is_none_or(|chain| !chain.rules.iter().any(names_uplinks)));
    places.dedup();
    places
}

/// Whether anybody else has a forward chain, and so relies on forwarding.
pub(super) fn forwards(listing: &Listing) -> bool {
    listing.chains.iter().any(|(place, chain)| !place.is_ours() && chain.hook.as_deref() == Some("forward"))
}

/// Whether there are filter rules of the old iptables, of which nftables shows nothing.
pub(super) fn unseen() -> bool {
    let tables = fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default();
    tables.lines().any(|table| table == "filter")
}

/// Lets our uplinks pass, both ways, before any other rule of these chains.
pub(super) fn open(places: &[Place]) -> Transaction {
    let mut transaction = Transaction::default();
    for place in places {
        for key in [MetaKey::Iifname, MetaKey::Oifname] {
            let words = vec![is(meta(key), text(any_uplink())), accept()];
            transaction.insert_rule(family(place).unwrap_or(NfFamily::IP), &place.table, &place.name, words);
        }
    }
    transaction
}

/// Takes away what [`open`] put, wherever it is, and tells from which chains.
pub(super) fn close(listing: &Listing) -> (Transaction, Vec<Place>) {
    let (mut transaction, mut places) = (Transaction::default(), Vec::new());
    for (place, chain) in listing.chains.iter().filter(|(place, _)| !place.is_ours()) {
        let (Some(family), true) = (family(place), chain.rules.iter().any(names_uplinks)) else { continue };
        for handle in chain.rules.iter().filter(|rule| names_uplinks(rule)).filter_map(|rule| rule.handle) {
            transaction.remove_rule(family, &place.table, &place.name, handle);
        }
        places.push(place.clone());
    }
    (transaction, places)
}

/// Where to let something pass that a chain would drop.
fn door(place: &Place, listing: &Listing) -> Place {
    let docker = Place { name: "DOCKER-USER".to_owned(), ..place.clone() };
    if listing.chains.contains_key(&docker) { docker } else { place.clone() }
}

/// Whether a chain ends by dropping or rejecting what no rule before decided about.
fn drops_the_rest(chain: &ListedChain) -> bool {
    let plain = |word: &&Value| word.get("counter").is_none() && word.get("log").is_none();
    let ends = chain.rules.last().is_some_and(|rule| {
        let mut words = rule.words.iter().filter(plain);
        let verdict =
            words.next().is_some_and(|word| word.get("drop").is_some() || word.get("reject").is_some());
        verdict && words.next().is_none()
    });
    chain.drops || ends
}

fn names_uplinks(rule: &ListedRule) -> bool {
    rule.words.iter().any(|word| mentions(word, &any_uplink()))
}

/// The families whose forward hook IPv4 packets pass.
fn family(place: &Place) -> Option<NfFamily> {
    match place.family.as_str() {
        "ip" => Some(NfFamily::IP),
        "inet" => Some(NfFamily::INet),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(objects: &str) -> Listing {
        Listing::read(&format!(r#"{{"nftables": [{objects}]}}"#)).unwrap()
    }

    fn chain(table: &str, name: &str, hook: &str, policy: &str) -> String {
        format!(
            r#"{{"chain": {{"family": "ip", "table": "{table}", "name": "{name}", "hook": "{hook}", "policy": "{policy}"}}}}"#
        )
    }

    fn rule(name: &str, words: &str) -> String {
        format!(
            r#"{{"rule": {{"family": "ip", "table": "filter", "chain": "{name}", "handle": 9, "expr": [{words}]}}}}"#
        )
    }

    fn names(places: &[Place]) -> Vec<&str> {
        places.iter().map(|place| place.name.as_str()).collect()
    }

    #[test]
    fn only_chains_that_drop_the_rest_are_closed() {
        let accepting = chain("filter", "FORWARD", "forward", "accept");
        assert!(closed(&listing(&accepting)).is_empty());
        assert_eq!(names(&closed(&listing(&chain("filter", "FORWARD", "forward", "drop")))), ["FORWARD"]);
        assert!(closed(&listing(&chain("filter", "INPUT", "input", "drop"))).is_empty());
        assert!(closed(&listing(&chain("cumulet", "forward", "forward", "drop"))).is_empty());
        for (last, shut) in [
            (r#"{"counter": {}}, {"reject": {}}"#, true),
            (r#"{"drop": null}"#, true),
            (r#"{"match": {}}, {"drop": null}"#, false),
            (r#"{"accept": null}"#, false),
        ] {
            let found = listing(&format!("{accepting}, {}", rule("FORWARD", last)));
            assert_eq!(closed(&found).is_empty(), !shut, "{last}");
        }
    }

    #[test]
    fn dockers_own_door_is_used_and_an_open_one_left_alone() {
        let docker = [
            chain("filter", "FORWARD", "forward", "drop"),
            r#"{"chain": {"family": "ip", "table": "filter", "name": "DOCKER-USER"}}"#.to_owned(),
        ]
        .join(",");
        assert_eq!(names(&closed(&listing(&docker))), ["DOCKER-USER"]);
        let open = rule("DOCKER-USER", r#"{"match": {"op": "==", "right": "cuh*"}}, {"accept": null}"#);
        let opened = listing(&format!("{docker}, {open}"));
        assert!(closed(&opened).is_empty());
        assert_eq!(names(&close(&opened).1), ["DOCKER-USER"]);
        assert!(close(&listing(&docker)).1.is_empty());
    }
}
