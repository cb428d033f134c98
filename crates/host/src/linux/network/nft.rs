//! Writing nftables: one [`Transaction`] is one JSON document for one `nft` process, and all of it happens or
//! nothing.
//!
//! What must hold: everything is done in the calling thread's namespace.

use std::io::Write;
use std::process::{Command, Stdio};

use nftables::helper::NftablesError;
use nftables::schema::{Chain, FlushObject, NfCmd, NfListObject, Rule, Set, SetType, SetTypeValue, Table};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};
use serde_json::{Value, json};
use spec::names;

use super::words::Word;
use crate::Error;

/// Commands that take effect together.
#[derive(Default)]
pub(super) struct Transaction(Vec<Value>);

/// Where a base chain sits: its kind, its hook, its priority there, and what becomes of a packet that no rule
/// decided about.
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
    /// among them, so that a listing tells whether all are there, see [`super::listing::ListedChain::seal`].
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_one_line() {
        let stderr =
            "internal:0:0-0: Error: Could not process rule: File exists\n\n{\"nftables\": []}\n^^^^\n";
        assert_eq!(first_complaint(stderr), "internal:0:0-0: Error: Could not process rule: File exists");
        assert_eq!(first_complaint(""), "no reason given");
    }
}
