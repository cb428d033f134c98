//! Reading and writing nftables: one [`Transaction`] is one JSON document for one `nft` process, and
//! all of it happens or nothing. A [`Listing`] is what is in force.
//!
//! Rules are written in the types of the `nftables` crate, with the short words at the end of this
//! file. Listings are read as plain JSON: a namespace or a host may hold rules of others, and what we
//! cannot read there must not keep us from seeing our own.
//!
//! What must hold: everything is done in the calling thread's namespace.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::process::{Command, Stdio};

use nftables::expr::{
    CT, CTDir, Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField, Prefix, Range, SetItem,
};
use nftables::helper::{self, DEFAULT_ARGS, DEFAULT_NFT, NftablesError};
use nftables::schema::{Chain, FlushObject, NfCmd, NfListObject, Rule, Set, SetType, SetTypeValue, Table};
use nftables::stmt::{JumpTarget, Match, Operator, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};
use serde_json::{Value, json};
use spec::names;

use crate::Error;

/// A test or a deed within a rule.
pub(super) type Word = Statement<'static>;
/// A value, or the place in a packet where one is read.
pub(super) type Term = Expression<'static>;

/// Commands that take effect together.
#[derive(Default)]
pub(super) struct Transaction(Vec<Value>);

/// Where a base chain sits: its kind, its hook, its priority there, and what becomes of a packet that no rule decided about.
#[derive(Clone, Copy)]
pub(super) struct Hook(pub NfChainType, pub NfHook, pub i32, pub NfChainPolicy);

impl Transaction {
    pub(super) fn put_table(&mut self, family: NfFamily) {
        self.command(&NfCmd::Add(table(family)));
    }

    /// Removes a table with all in it, whether or not it is there.
    pub(super) fn remove_table(&mut self, family: NfFamily) {
        self.put_table(family);
        self.command(&NfCmd::Delete(table(family)));
    }

    pub(super) fn put_set(&mut self, family: NfFamily, name: &str, types: &[SetType]) {
        self.command(&NfCmd::Add(NfListObject::Set(Box::new(set(family, name, types)))));
    }

    /// A map from one address to another.
    pub(super) fn put_address_map(&mut self, name: &'static str) {
        self.map(name, "ipv4_addr", "ipv4_addr");
    }

    /// A map from `key` to the chain where the packet goes on. (The crate's types know no verdict maps.)
    pub(super) fn put_verdict_map(&mut self, name: &'static str, key: &'static str) {
        self.map(name, key, "verdict");
    }

    fn map(&mut self, name: &str, key: &str, data: &str) {
        let map = json!({"family": "inet", "table": names::PREFIX, "name": name, "type": key, "map": data});
        self.0.push(json!({"add": {"map": map}}));
    }

    pub(super) fn remove_set(&mut self, name: &str) {
        self.command(&NfCmd::Delete(NfListObject::Set(Box::new(set(
            NfFamily::INet,
            name,
            &[SetType::Ipv4Addr],
        )))));
    }

    pub(super) fn empty_set(&mut self, name: &str) {
        let set = set(NfFamily::INet, name, &[SetType::Ipv4Addr]);
        self.command(&NfCmd::Flush(FlushObject::Set(Box::new(set))));
    }

    /// Adds elements, written as a listing shows them.
    pub(super) fn add_elements(&mut self, family: NfFamily, set: &str, elements: Vec<Value>) {
        self.elements("add", family, set, elements);
    }

    /// Removes elements, all of which must be there.
    pub(super) fn remove_elements(&mut self, family: NfFamily, set: &str, elements: Vec<Value>) {
        self.elements("delete", family, set, elements);
    }

    fn elements(&mut self, verb: &str, family: NfFamily, set: &str, elements: Vec<Value>) {
        if !elements.is_empty() {
            let element = json!({"family": family, "table": names::PREFIX, "name": set, "elem": elements});
            self.0.push(json!({verb: {"element": element}}));
        }
    }

    pub(super) fn put_chain(&mut self, family: NfFamily, name: &str, hook: Option<Hook>) {
        self.command(&NfCmd::Add(NfListObject::Chain(chain(family, name, hook))));
    }

    /// Like [`Transaction::put_chain`] for a chain without hook, but the transaction fails where it exists.
    pub(super) fn create_chain(&mut self, name: &str) {
        self.command(&NfCmd::Create(NfListObject::Chain(chain(NfFamily::INet, name, None))));
    }

    pub(super) fn remove_chain(&mut self, name: &str) {
        self.empty_chain(NfFamily::INet, name);
        self.command(&NfCmd::Delete(NfListObject::Chain(chain(NfFamily::INet, name, None))));
    }

    fn empty_chain(&mut self, family: NfFamily, name: &str) {
        self.command(&NfCmd::Flush(FlushObject::Chain(chain(family, name, None))));
    }

    /// Makes a chain that exists consist of these rules. Each rule's comment is the seal and its place
    /// among them, so that a listing tells whether all are there, see [`ListedChain::seal`].
    pub(super) fn fill_chain(&mut self, family: NfFamily, name: &str, seal: &str, rules: Vec<Vec<Word>>) {
        self.empty_chain(family, name);
        let count = rules.len();
        for (place, words) in (1..).zip(rules) {
            self.command(&NfCmd::Add(NfListObject::Rule(Rule {
                comment: Some(format!("{seal} {place}/{count}").into()),
                ..rule(family, names::PREFIX, name, words)
            })));
        }
    }

    /// Puts a rule before all others of somebody else's chain.
    pub(super) fn insert_rule(&mut self, family: NfFamily, table: &str, chain: &str, words: Vec<Word>) {
        let rule = Rule { comment: Some(names::PREFIX.into()), ..rule(family, table, chain, words) };
        self.command(&NfCmd::Insert(NfListObject::Rule(rule)));
    }

    /// Removes the rule of this handle from somebody else's chain.
    pub(super) fn remove_rule(&mut self, family: NfFamily, table: &str, chain: &str, handle: u32) {
        let rule = Rule { handle: Some(handle), ..rule(family, table, chain, Vec::new()) };
        self.command(&NfCmd::Delete(NfListObject::Rule(rule)));
    }

    /// These commands, and then those.
    pub(super) fn and(mut self, then: Self) -> Self {
        self.0.extend(then.0);
        self
    }

    fn command(&mut self, command: &NfCmd<'_>) {
        self.0.push(
            serde_json::to_value(command).expect("the crate's types hold nothing that JSON cannot say"),
        );
    }

    /// Does it, in the calling thread's namespace.
    pub(super) fn commit(&self, what: impl Into<String>) -> Result<(), Error> {
        if self.0.is_empty() {
            return Ok(());
        }
        let document = json!({ "nftables": self.0 }).to_string();
        apply(&document).map_err(|refused| Error::passing(what, refused))
    }
}

/// Gives a document to `nft`. (The crate's own function would leave nft's complaints on our standard error.)
fn apply(document: &str) -> Result<(), Refused> {
    let mut nft = Command::new("nft")
        .args(["-j", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Refused::NotRun)?;
    let written = nft.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(document.as_bytes()));
    let output = nft.wait_with_output().map_err(Refused::NotRun)?;
    match written {
        _ if !output.status.success() => {
            Err(Refused::Said(first_complaint(&String::from_utf8_lossy(&output.stderr))))
        }
        other => other.map_err(Refused::NotRun),
    }
}

/// Why `nft` did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("nft could not be run; Debian has it in the package \"nftables\"")]
    NotRun(#[source] std::io::Error),
    #[error("nft refused: {0}")]
    Said(String),
    #[error("nft answered something that is not JSON")]
    Unreadable(#[source] serde_json::Error),
}

impl From<NftablesError> for Refused {
    fn from(error: NftablesError) -> Self {
        match error {
            NftablesError::NftExecution { inner, .. } => Self::NotRun(inner),
            NftablesError::NftFailed { stderr, .. } => Self::Said(first_complaint(&stderr)),
            NftablesError::NftInvalidJson(error) => Self::Unreadable(error),
            NftablesError::NftOutputEncoding { inner, .. } => Self::Said(inner.to_string()),
        }
    }
}

/// The line with the reason, without the copy of the document that nft prints below it.
fn first_complaint(stderr: &str) -> String {
    let line = stderr.lines().find(|line| line.contains("Error:")).or_else(|| stderr.lines().next());
    line.unwrap_or("no reason given").chars().take(300).collect()
}

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

fn table(family: NfFamily) -> NfListObject<'static> {
    NfListObject::Table(Table { family, name: names::PREFIX.into(), handle: None })
}

fn chain(family: NfFamily, name: &str, hook: Option<Hook>) -> Chain<'static> {
    let mut chain =
        Chain { family, table: names::PREFIX.into(), name: name.to_owned().into(), ..Chain::default() };
    if let Some(Hook(kind, hook, priority, policy)) = hook {
        chain._type = Some(kind);
        chain.hook = Some(hook);
        chain.prio = Some(priority);
        chain.policy = Some(policy);
    }
    chain
}

fn rule(family: NfFamily, table: &str, chain: &str, words: Vec<Word>) -> Rule<'static> {
    let (table, chain) = (table.to_owned().into(), chain.to_owned().into());
    Rule { family, table, chain, expr: words.into(), ..Rule::default() }
}

fn set(family: NfFamily, name: &str, types: &[SetType]) -> Set<'static> {
    let set_type = match types {
        [one] => SetTypeValue::Single(*one),
        several => SetTypeValue::Concatenated(several.to_vec().into()),
    };
    Set { family, table: names::PREFIX.into(), name: name.to_owned().into(), set_type, ..Set::default() }
}

// The words of rules.

pub(super) fn field(protocol: &'static str, field: &'static str) -> Term {
    let field = PayloadField { protocol: protocol.into(), field: field.into() };
    Term::Named(NamedExpression::Payload(Payload::PayloadField(field)))
}

pub(super) fn meta(key: MetaKey) -> Term {
    Term::Named(NamedExpression::Meta(Meta { key }))
}

/// An address of a connection's first packet, or of the answers to it.
pub(super) fn connection(key: &'static str, dir: CTDir) -> Term {
    Term::Named(NamedExpression::CT(CT { key: key.into(), family: None, dir: Some(dir) }))
}

pub(super) fn text(text: impl ToString) -> Term {
    Term::String(text.to_string().into())
}

pub(super) fn number(number: impl Into<u32>) -> Term {
    Term::Number(number.into())
}

pub(super) fn range(first: u16, last: u16) -> Term {
    Term::Range(Box::new(Range { range: [number(first), number(last)] }))
}

pub(super) fn prefix(net: ipnet::Ipv4Net) -> Term {
    let prefix = Prefix { addr: Box::new(text(net.network())), len: net.prefix_len().into() };
    Term::Named(NamedExpression::Prefix(prefix))
}

pub(super) fn any_of(terms: impl IntoIterator<Item = Term>) -> Term {
    Term::Named(NamedExpression::Set(terms.into_iter().map(SetItem::Element).collect()))
}

pub(super) fn together(terms: impl IntoIterator<Item = Term>) -> Term {
    Term::Named(NamedExpression::Concat(terms.into_iter().collect()))
}

pub(super) fn is(left: Term, right: Term) -> Word {
    Word::Match(Match { left, right, op: Operator::EQ })
}

pub(super) fn is_not(left: Term, right: Term) -> Word {
    Word::Match(Match { left, right, op: Operator::NEQ })
}

/// Of a connection that is in one of these states.
pub(super) fn connection_is(states: &[&'static str]) -> Word {
    let left = Term::Named(NamedExpression::CT(CT { key: "state".into(), family: None, dir: None }));
    Word::Match(Match { left, right: Term::List(states.iter().map(text).collect()), op: Operator::IN })
}

pub(super) fn jump(chain: &str) -> Word {
    Word::Jump(JumpTarget { target: chain.to_owned().into() })
}

pub(super) fn accept() -> Word {
    Word::Accept(None)
}

pub(super) fn drop() -> Word {
    Word::Drop(None)
}

#[cfg(test)]
mod tests {
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
    fn a_complaint_is_one_line() {
        let stderr =
            "internal:0:0-0: Error: Could not process rule: File exists\n\n{\"nftables\": []}\n^^^^\n";
        assert_eq!(first_complaint(stderr), "internal:0:0-0: Error: Could not process rule: File exists");
        assert_eq!(first_complaint(""), "no reason given");
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
