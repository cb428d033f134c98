//! A security group: two chains that interfaces jump to, and a set of its members that other groups' rules
//! name.
//!
//! All of a group is replaced in one transaction. Its seal is on every rule.

use nftables::types::NfFamily::INet;
use serde_json::Value;
use spec::Fingerprint;
use spec::ids::GroupId;
use spec::network::SecurityGroup;

use super::listing::Listing;
use super::nft::Transaction;
use super::rules::{self, egress, ingress};
use super::seal::Seal;
use crate::Error;

/// Makes a group be so, in the calling thread's namespace.
pub(super) fn ensure(group: &SecurityGroup) -> Result<(), Error> {
    let mut members: Vec<_> = group.members.iter().map(ToString::to_string).collect();
    members.sort();
    rules::group(group, Seal::of(group, &members)).commit(format!("Could not load the rules of {}", group.id))
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

/// The groups of which a listing has a chain.
pub(super) fn listed(listing: &Listing) -> impl Iterator<Item = GroupId> {
    rules::owners(listing)
}

/// The mark of the wish that a group was made from, if it is still whole.
pub(super) fn mark(id: GroupId, listing: &Listing) -> Option<Fingerprint> {
    let seal = listing.chain(INet, &ingress(id))?.seal();
    let mut members: Vec<_> =
        listing.elements(INet, &id.to_string())?.iter().filter_map(Value::as_str).collect();
    members.sort_unstable();
    let mark = Seal::holds(seal, &members)?;
    (listing.chain(INet, &egress(id))?.seal() == seal).then_some(mark)
}
