//! What is in force in a namespace's nftables.
//!
//! Listings are read as plain JSON: a namespace or a host may hold rules of others, and what we cannot read
//! there must not keep us from seeing our own.

use std::collections::BTreeMap;
use std::fmt;

use nftables::helper::{self, DEFAULT_ARGS, DEFAULT_NFT};
use nftables::types::NfFamily;
use serde_json::Value;
use spec::ids::GroupId;
use spec::names;

use super::nft::Refused;
use crate::Error;

/// What is in force in a namespace: chains and elements, by family, table and name.
#[derive(Default)]
pub(super) struct Listing {
    /// nft's own version.
    pub version: Option<String>,
    pub chains: BTreeMap<Place, ListedChain>,
    /// Sets have elements; maps have pairs of element and value, as arrays of two.
    pub sets: BTreeMap<Place, Vec<Value>>,
}

/// Family, table and name of a chain, a set or a map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub family: String,
    pub table: String,
    pub name: String,
}

impl Place {
    pub(super) fn is_ours(&self) -> bool {
        self.table == names::PREFIX
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family, self.table, self.name)
    }
}

/// A chain and its rules in order.
#[derive(Default)]
pub(super) struct ListedChain {
    /// The hook by name, where it is a base chain.
    pub hook: Option<String>,
    /// Whether packets that no rule decided about are dropped.
    pub drops: bool,
    pub rules: Vec<ListedRule>,
}

/// A rule.
pub(super) struct ListedRule {
    pub handle: Option<u32>,
    pub comment: Option<String>,
    pub words: Vec<Value>,
}

impl Listing {
    /// Lists the calling thread's namespace.
    pub(super) fn here() -> Result<Self, Error> {
        let what = "Could not list the nftables rules";
        let text = helper::get_current_ruleset_raw(DEFAULT_NFT, DEFAULT_ARGS)
            .map_err(|error| Error::passing(what, Refused::from(error)))?;
        Self::read(&text).map_err(|error| Error::passing(what, Refused::Unreadable(error)))
    }

    pub(super) fn read(text: &str) -> Result<Self, serde_json::Error> {
        let document: Value = serde_json::from_str(text)?;
        let mut listing = Self::default();
        for object in document["nftables"].as_array().into_iter().flatten() {
            listing.take(object);
        }
        Ok(listing)
    }

    fn take(&mut self, object: &Value) {
        let Some((kind, fields)) = object.as_object().and_then(|object| object.iter().next()) else { return };
        let text = |key: &str| fields[key].as_str().unwrap_or_default().to_owned();
        let place = |name| Place { family: text("family"), table: text("table"), name: text(name) };
        match kind.as_str() {
            "chain" => {
                let chain = self.chains.entry(place("name")).or_default();
                chain.hook = fields["hook"].as_str().map(str::to_owned);
                chain.drops = fields["policy"] == "drop";
            }
            "rule" => self.chains.entry(place("chain")).or_default().rules.push(ListedRule {
                handle: fields["handle"].as_u64().and_then(|handle| handle.try_into().ok()),
                comment: fields["comment"].as_str().map(str::to_owned),
                words: fields["expr"].as_array().cloned().unwrap_or_default(),
            }),
            "set" | "map" => {
                let elements = fields["elem"].as_array().cloned().unwrap_or_default();
                self.sets.insert(place("name"), elements);
            }
            "metainfo" => self.version = fields["version"].as_str().map(str::to_owned),
            _ => {}
        }
    }

    /// One of our chains.
    pub(super) fn chain(&self, family: NfFamily, name: &str) -> Option<&ListedChain> {
        self.chains.get(&ours(family, name))
    }

    /// The elements of one of our sets or maps; nothing where there is no such set.
    pub(super) fn elements(&self, family: NfFamily, name: &str) -> Option<&[Value]> {
        self.sets.get(&ours(family, name)).map(Vec::as_slice)
    }

    /// The names of the sets of groups' members.
    pub(super) fn groups_of_members(&self) -> impl Iterator<Item = &str> {
        let ours = self.sets.keys().filter(|place| place.is_ours() && place.family == "inet");
        ours.map(|place| place.name.as_str()).filter(|name| name.parse::<GroupId>().is_ok())
    }

    /// Whether a rule of ours in another chain than `except` names this set.
    pub(super) fn names_set(&self, set: &str, except: [&str; 2]) -> bool {
        let reference = format!("@{set}");
        let others = self.chains.iter().filter(|(place, _)| !except.contains(&place.name.as_str()));
        others
            .flat_map(|(_, chain)| &chain.rules)
            .any(|rule| rule.words.iter().any(|word| mentions(word, &reference)))
    }
}

impl ListedChain {
    /// The seal that all rules bear, if none is missing and none was put between: see
    /// [`Transaction::fill_chain`].
    pub(super) fn seal(&self) -> Option<&str> {
        let count = self.rules.len();
        let mut seals = (1..).zip(&self.rules).map(|(place, rule)| {
            let (seal, number) = rule.comment.as_deref()?.rsplit_once(' ')?;
            (number == format!("{place}/{count}")).then_some(seal)
        });
        let first = seals.next()??;
        seals.all(|seal| seal == Some(first)).then_some(first)
    }
}

/// Whether a text stands somewhere in a word of a rule, as a whole string.
pub(super) fn mentions(word: &Value, text: &str) -> bool {
    match word {
        Value::String(string) => string == text,
        Value::Array(items) => items.iter().any(|item| mentions(item, text)),
        Value::Object(fields) => fields.values().any(|field| mentions(field, text)),
        _ => false,
    }
}

fn ours(family: NfFamily, name: &str) -> Place {
    let family = if family == NfFamily::Bridge { "bridge" } else { "inet" };
    Place { family: family.to_owned(), table: names::PREFIX.to_owned(), name: name.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chain_of(comments: &[Option<&str>]) -> ListedChain {
        let rule = |comment: &Option<&str>| ListedRule {
            handle: None,
            comment: comment.map(str::to_owned),
            words: vec![],
        };
        ListedChain { rules: comments.iter().map(rule).collect(), ..ListedChain::default() }
    }

    #[test]
    fn a_seal_is_found_only_on_a_whole_chain() {
        assert_eq!(chain_of(&[Some("a 1/2"), Some("a 2/2")]).seal(), Some("a"));
        assert_eq!(chain_of(&[Some("a b 1/1")]).seal(), Some("a b"));
        let broken: [&[Option<&str>]; 7] = [
            &[],
            &[Some("a 1/2")],
            &[Some("a 2/2")],
            &[Some("a 2/2"), Some("a 1/2")],
            &[Some("a 1/2"), None],
            &[Some("a 1/2"), Some("b 2/2")],
            &[Some("a 1/2"), Some("a 2/2"), Some("a 2/2")],
        ];
        for comments in broken {
            assert_eq!(chain_of(comments).seal(), None, "{comments:?}");
        }
    }

    #[test]
    fn listings_are_read_around_what_is_foreign() {
        let text = r#"{"nftables": [{"metainfo": {}}, {"flowtable": {"family": "inet"}},
            {"chain": {"family": "inet", "table": "cumulet", "name": "forward", "hook": "forward", "policy": "drop"}},
            {"rule": {"family": "inet", "table": "cumulet", "chain": "forward", "handle": 7, "comment": "x 1/1",
                      "expr": [{"xt": null}, {"match": {"left": 1, "right": "@sg-1"}}]}},
            {"set": {"family": "inet", "table": "cumulet", "name": "sg-1", "elem": ["10.0.0.4"]}}]}"#;
        let listing = Listing::read(text).unwrap();
        let chain = listing.chain(NfFamily::INet, "forward").unwrap();
        assert!(chain.drops);
        assert_eq!((chain.seal(), chain.rules[0].handle), (Some("x"), Some(7)));
        assert_eq!(listing.elements(NfFamily::INet, "sg-1"), Some(&[json!("10.0.0.4")][..]));
        assert!(listing.names_set("sg-1", ["a", "b"]));
        assert!(!listing.names_set("sg-1", ["forward", "b"]));
        assert!(!listing.names_set("sg", ["a", "b"]));
    }
}
