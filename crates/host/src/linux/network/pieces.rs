//! The pieces of an interface: what stands for it in the sets and maps of a VPC's packet filter.
//!
//! Each piece tells by itself whose it is: a sender by its TAP, a receiver by its chain, a public
//! address and a member of a security group by the private one. So an interface's pieces are found in a listing, with no record of what was
//! once put there, and a digest of them tells whether any is missing, changed or too many.
//!
//! What must hold: a piece is written here as `nft -j` lists it, letter by letter.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::Ipv4Addr;

use nftables::types::NfFamily::{self, Bridge, INet};
use serde_json::{Value, json};
use spec::ids::InterfaceId;
use spec::machine::Mac;
use spec::names;
use spec::network::Interface;

use super::listing::Listing;
use super::nft::Transaction;
use super::rules::{
    ANY_SOURCE, EGRESS_BY_MAC, INGRESS_BY_ADDRESS, PRIVATE_TO_PUBLIC, PUBLIC_TO_PRIVATE, SENDERS,
    TRANSLATIONS, egress, ingress,
};
use super::unname::interface_of_tap;

/// The sets and maps with pieces, besides the members of each group. Receivers come first: they say whose the
/// private addresses are.
const SETS: [&str; 7] = [
    INGRESS_BY_ADDRESS,
    EGRESS_BY_MAC,
    SENDERS,
    ANY_SOURCE,
    PUBLIC_TO_PRIVATE,
    PRIVATE_TO_PUBLIC,
    TRANSLATIONS,
];

/// An element of one of [`SETS`], or of the set of a group's members, which is named by the group's id.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Piece {
    set: String,
    /// An element of a set, or a map's pair of key and value.
    element: Value,
}

/// What the pieces of an interface say of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Pieces(Vec<Piece>);

impl Pieces {
    /// The pieces that an interface should have.
    pub(super) fn of(interface: &Interface) -> Self {
        let (tap, mac) = (names::tap(interface.id), interface.mac.to_string());
        let mut pieces = Vec::new();
        let mut put = |set: &str, element| pieces.push(Piece { set: set.to_owned(), element });
        put(EGRESS_BY_MAC, json!([mac, { "jump": { "target": egress(interface.id) } }]));
        put(SENDERS, json!({ "concat": [tap, mac, Ipv4Addr::UNSPECIFIED] }));
        if !interface.source_dest_check {
            put(ANY_SOURCE, json!({ "concat": [tap, mac] }));
        }
        for address in &interface.addresses {
            put(SENDERS, json!({ "concat": [tap, mac, address] }));
            put(INGRESS_BY_ADDRESS, json!([address, { "jump": { "target": ingress(interface.id) } }]));
        }
        for group in &interface.groups {
            interface.addresses.iter().for_each(|address| put(&group.to_string(), json!(address)));
        }
        for translation in &interface.public {
            let (public, private) = (translation.public, translation.private);
            put(PUBLIC_TO_PRIVATE, json!([public, private]));
            put(PRIVATE_TO_PUBLIC, json!([private, public]));
            put(TRANSLATIONS, json!({ "concat": [public, private] }));
        }
        Self(pieces)
    }

    /// All pieces of a listing, by the interface they belong to.
    pub(super) fn listed(listing: &Listing) -> BTreeMap<InterfaceId, Self> {
        let mut owners = BTreeMap::<InterfaceId, Self>::new();
        let mut by_address = BTreeMap::<&str, InterfaceId>::new();
        for (set, element) in all(listing) {
            let private = |text: Option<&str>| by_address.get(text?).copied();
            let owner = match set {
                INGRESS_BY_ADDRESS => target(element, "-in"),
                EGRESS_BY_MAC => target(element, "-out"),
                SENDERS | ANY_SOURCE => part(element, 0).and_then(interface_of_tap),
                PRIVATE_TO_PUBLIC => private(part(element, 0)),
                PUBLIC_TO_PRIVATE | TRANSLATIONS => private(part(element, 1)),
                _ => private(element.as_str()), // a group's member
            };
            let Some(owner) = owner else { continue };
            if let (INGRESS_BY_ADDRESS, Some(address)) = (set, part(element, 0)) {
                by_address.insert(address, owner);
            }
            owners.entry(owner).or_default().0.push(Piece { set: set.to_owned(), element: element.clone() });
        }
        owners
    }

    /// Those of a listing that stand where one of these should, whoever's they are.
    pub(super) fn in_the_way(&self, listing: &Listing) -> Self {
        let places: HashSet<_> = self.0.iter().map(|piece| place(&piece.set, &piece.element)).collect();
        let taken = all(listing).filter(|(set, element)| places.contains(&place(set, element)));
        Self(taken.map(|(set, element)| Piece { set: set.to_owned(), element: element.clone() }).collect())
    }

    /// With the pieces of `other` that are not among these.
    pub(super) fn and(mut self, other: Self) -> Self {
        let new: Vec<_> = other.0.into_iter().filter(|piece| !self.0.contains(piece)).collect();
        self.0.extend(new);
        self
    }

    pub(super) fn add(&self, transaction: &mut Transaction) {
        self.each_set(|family, set, elements| transaction.add_elements(family, set, elements));
    }

    pub(super) fn remove(&self, transaction: &mut Transaction) {
        self.each_set(|family, set, elements| transaction.remove_elements(family, set, elements));
    }

    fn each_set(&self, mut with: impl FnMut(NfFamily, &str, Vec<Value>)) {
        let mut sets = BTreeMap::<&str, Vec<Value>>::new();
        for piece in &self.0 {
            sets.entry(&piece.set).or_default().push(piece.element.clone());
        }
        sets.into_iter().for_each(|(set, elements)| with(family(set), set, elements));
    }

    /// The same for the same pieces in whatever order, to be digested.
    pub(super) fn facts(&self) -> Vec<String> {
        let mut facts: Vec<_> =
            self.0.iter().map(|piece| format!("{} {}", piece.set, piece.element)).collect();
        facts.sort();
        facts
    }

    /// The private addresses.
    pub(super) fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.keys(INGRESS_BY_ADDRESS).filter_map(|text| text.parse().ok())
    }

    /// The public addresses.
    pub(super) fn public(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.keys(PUBLIC_TO_PRIVATE).filter_map(|text| text.parse().ok())
    }

    /// The link address.
    pub(super) fn mac(&self) -> Option<Mac> {
        self.keys(EGRESS_BY_MAC).find_map(|text| text.parse().ok())
    }

    fn keys(&self, set: &'static str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |piece| piece.set == set).filter_map(|piece| part(&piece.element, 0))
    }
}

/// The private addresses that are some interface's.
pub(super) fn addresses(listing: &Listing) -> BTreeSet<&str> {
    let receivers = listing.elements(INet, INGRESS_BY_ADDRESS).unwrap_or_default();
    receivers.iter().filter_map(|receiver| part(receiver, 0)).collect()
}

/// Every element that may be a piece, with its set.
fn all(listing: &Listing) -> impl Iterator<Item = (&str, &Value)> {
    SETS.into_iter().chain(listing.groups_of_members()).flat_map(|set| {
        let elements = listing.elements(family(set), set).unwrap_or_default();
        elements.iter().map(move |element| (set, element))
    })
}

fn family(set: &str) -> NfFamily {
    if matches!(set, SENDERS | ANY_SOURCE) { Bridge } else { INet }
}

/// A text of an element: of a concatenation or of a pair.
fn part(element: &Value, place: usize) -> Option<&str> {
    element.get("concat").unwrap_or(element).get(place)?.as_str()
}

/// Where an element stands: of those that stand in one place only one can be. A pair stands where its key is.
fn place<'a>(set: &'a str, element: &'a Value) -> (&'a str, &'a Value) {
    (set, element.as_array().and_then(|pair| pair.first()).unwrap_or(element))
}

/// The interface whose chain a verdict map's element leads to.
fn target(element: &Value, suffix: &str) -> Option<InterfaceId> {
    element.get(1)?.get("jump")?.get("target")?.as_str()?.strip_suffix(suffix)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use spec::ids::{GroupId, SubnetId, VpcId};
    use spec::network::PublicAddress;

    use super::*;

    fn interface(number: u8) -> Interface {
        let private = Ipv4Addr::new(10, 0, 0, number);
        Interface {
            id: InterfaceId::from_random(number.into()),
            vpc: VpcId::from_random(1),
            subnet: SubnetId::from_random(1),
            mac: Mac([2, 0, 0, 0, 0, number]),
            addresses: vec![private, Ipv4Addr::new(10, 0, 1, number)],
            public: vec![PublicAddress { public: Ipv4Addr::new(198, 18, 0, number), private }],
            groups: [1, 2 + u64::from(number)].map(GroupId::from_random).into(),
            source_dest_check: number.is_multiple_of(2),
            several_queues: false,
        }
    }

    /// A listing as nft would print it, of everyone's pieces.
    fn listing(pieces: &[Pieces]) -> Listing {
        let all: Vec<_> = pieces.iter().flat_map(|pieces| &pieces.0).collect();
        let names: BTreeSet<_> = all.iter().map(|piece| &piece.set).collect();
        let sets = names.into_iter().map(|name| {
            let elements: Vec<_> =
                all.iter().filter(|piece| piece.set == *name).map(|piece| &piece.element).collect();
            json!({ "set": { "family": family(name), "table": "cumulet", "name": name, "elem": elements } })
        });
        Listing::read(&json!({ "nftables": sets.collect::<Vec<_>>() }).to_string()).unwrap()
    }

    #[test]
    fn pieces_are_found_again_each_with_its_owner() {
        let wanted = [1, 2, 3].map(|number| Pieces::of(&interface(number)));
        let found = Pieces::listed(&listing(&wanted));
        assert_eq!(found.len(), 3);
        for (pieces, found) in wanted.iter().zip(found.values()) {
            assert_eq!(pieces.facts(), found.facts());
        }
        let one = &found[&InterfaceId::from_random(1)];
        assert_eq!(one.mac(), Some(interface(1).mac));
        assert_eq!(one.addresses().collect::<Vec<_>>(), interface(1).addresses);
        assert_eq!(one.public().collect::<Vec<_>>(), [Ipv4Addr::new(198, 18, 0, 1)]);
    }

    #[test]
    fn an_address_that_another_has_is_in_the_way() {
        let (mine, mut other) = (interface(1), interface(2));
        other.addresses.push(mine.addresses[0]);
        let taken = Pieces::of(&mine).in_the_way(&listing(&[Pieces::of(&other)]));
        let key = json!([mine.addresses[0], { "jump": { "target": ingress(other.id) } }]);
        let member = json!(mine.addresses[0]); // of the group that both are in
        let both = [(INGRESS_BY_ADDRESS.to_owned(), key), (GroupId::from_random(1).to_string(), member)];
        assert_eq!(taken, Pieces(both.map(|(set, element)| Piece { set, element }).into()));
    }

    #[test]
    fn a_missing_piece_changes_the_facts() {
        let whole = Pieces::of(&interface(1));
        for place in 0..whole.0.len() {
            let mut rest = whole.clone();
            rest.0.remove(place);
            assert_ne!(rest.facts(), whole.facts());
        }
    }
}
