//! A security group: two chains that interfaces jump to, and a set of its members that groups' rules name.
//!
//! The rules are replaced in one transaction; the seal is on every one. The members are pieces of the
//! interfaces, which come and go without a change of the group: what is the group's is that nobody else is in
//! the set.

use std::collections::BTreeSet;

use nftables::types::NfFamily::INet;
use serde_json::Value;
use spec::Fingerprint;
use spec::ids::GroupId;
use spec::network::SecurityGroup;

use super::listing::Listing;
use super::nft::Transaction;
use super::pieces::addresses;
use super::rules::{self, egress, ingress};
use super::seal::Seal;
use crate::Error;

/// Makes a group be so, in the calling thread's namespace.
pub(super) fn ensure(group: &SecurityGroup) -> Result<(), Error> {
    let listing = Listing::here()?;
    let mut transaction = rules::group(group, Seal::of(group, &()));
    let set = group.id.to_string();
    let strangers = strangers(&set, &listing, &addresses(&listing)).cloned().collect();
    transaction.remove_elements(INet, &set, strangers);
    transaction.commit(format!("Could not load the rules of {}", group.id))
}

/// The members that are no interface's address.
fn strangers<'a>(
    set: &str,
    listing: &'a Listing,
    addresses: &'a BTreeSet<&str>,
) -> impl Iterator<Item = &'a Value> {
    let members = listing.elements(INet, set).unwrap_or_default();
    members.iter().filter(|member| member.as_str().is_none_or(|address| !addresses.contains(address)))
}

/// Takes a group away, in the calling thread's namespace. Its set stays, empty, while other groups' rules
/// name it.
pub(super) fn remove(id: GroupId) -> Result<(), Error> {
    let listing = Listing::here()?;
    let (set, chains) = (id.to_string(), [ingress(id), egress(id)]);
    let mut transaction = Transaction::default();
    for chain in chains.iter().filter(|chain| listing.chain(INet, chain).is_some()) {
        transaction.remove_chain(chain);
    }
    if listing.elements(INet, &set).is_some() {
        transaction.empty_set(&set);
        if !listing.names_set(&set, [&chains[0], &chains[1]]) {
            transaction.remove_set(&set);
        }
    }
    transaction.commit(format!("Could not remove the rules of {id}"))
}

/// The groups of which a listing has a chain, each with the mark of the wish that it was made from, if it is still
/// whole.
pub(super) fn listed(listing: &Listing) -> Vec<(GroupId, Option<Fingerprint>)> {
    let addresses = addresses(listing);
    let groups = rules::owners(listing);
    groups.map(|id| (id, mark(id, listing, &addresses))).collect()
}

fn mark(id: GroupId, listing: &Listing, addresses: &BTreeSet<&str>) -> Option<Fingerprint> {
    let seal = listing.chain(INet, &ingress(id))?.seal();
    let mark = Seal::holds(seal, &())?;
    let whole = listing.chain(INet, &egress(id))?.seal() == seal
        && listing.elements(INet, &id.to_string()).is_some()
        && strangers(&id.to_string(), listing, addresses).next().is_none();
    whole.then_some(mark)
}
