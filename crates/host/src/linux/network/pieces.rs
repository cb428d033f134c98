//! The pieces of an interface: what stands for it in the sets and maps of a VPC's packet filter.
//!
//! Each piece tells by itself whose it is: a sender by its TAP, a receiver by its chain, a public
//! address by the private one. So an interface's pieces are found in a listing, with no record of what was
//! once put there, and a digest of them tells whether any is missing, changed or too many.
//!
//! What must hold: a piece is written here as `nft -j` lists it, letter by letter.

use std::collections::{BTreeMap, HashSet};
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

/// The sets and maps with pieces. Receivers come first: they say whose the private addresses are.
const SETS: [(NfFamily, &str); 7] = [
    (INet, INGRESS_BY_ADDRESS),
    (INet, EGRESS_BY_MAC),
    (Bridge, SENDERS),
    (Bridge, ANY_SOURCE),
    (INet, PUBLIC_TO_PRIVATE),
    (INet, PRIVATE_TO_PUBLIC),
    (INet, TRANSLATIONS),
];

/// An element of one of [`SETS`].
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Piece {
    set: &'static str,
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
        let mut put = |set, element| pieces.push(Piece { set, element });
        put(EGRESS_BY_MAC, json!([mac, { "jump": { "target": egress(interface.id) } }]));
        put(SENDERS, json!({ "concat": [tap, mac, Ipv4Addr::UNSPECIFIED] }));
        if !interface.source_dest_check {
            put(ANY_SOURCE, json!({ "concat": [tap, mac] }));
        }
        for address in &interface.addresses {
            put(SENDERS, json!({ "concat": [tap, mac, address] }));
            put(INGRESS_BY_ADDRESS, json!([address, { "jump": { "target": ingress(interface.id) } }]));
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
                _ => private(part(element, 1)),
            };
            let Some(owner) = owner else { continue };
            if let (INGRESS_BY_ADDRESS, Some(address)) = (set, part(element, 0)) {
                by_address.insert(address, owner);
            }
            owners.entry(owner).or_default().0.push(Piece { set, element: element.clone() });
        }
        owners
    }

    /// Those of a listing that stand where one of these should, whoever's they are.
    pub(super) fn in_the_way(&self, listing: &Listing) -> Self {
        let places: HashSet<_> = self.0.iter().map(|piece| place(piece.set, &piece.element)).collect();
        let taken = all(listing).filter(|(set, element)| places.contains(&place(set, element)));
        Self(taken.map(|(set, element)| Piece { set, element: element.clone() }).collect())
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
        for (family, set) in SETS {
            let elements = self.0.iter().filter(|piece| piece.set == set).map(|piece| piece.element.clone());
            with(family, set, elements.collect());
        }
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

fn all(listing: &Listing) -> impl Iterator<Item = (&'static str, &Value)> {
    SETS.into_iter().flat_map(|(family, set)| {
        let elements = listing.elements(family, set).unwrap_or_default();
        elements.iter().map(move |element| (set, element))
    })
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
    use spec::ids::{SubnetId, VpcId};
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
            groups: [].into(),
            source_dest_check: number.is_multiple_of(2),
        }
    }

    /// A listing as nft would print it, of everyone's pieces.
    fn listing(pieces: &[Pieces]) -> Listing {
        let sets = SETS.map(|(family, name)| {
            let elements = pieces.iter().flat_map(|pieces| &pieces.0).filter(|piece| piece.set == name);
            let elements: Vec<_> = elements.map(|piece| piece.element.clone()).collect();
            json!({ "set": { "family": family, "table": "cumulet", "name": name, "elem": elements } })
        });
        Listing::read(&json!({ "nftables": sets }).to_string()).unwrap()
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
        assert_eq!(taken, Pieces(vec![Piece { set: INGRESS_BY_ADDRESS, element: key }]));
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
