//! What is asked of the world again and again, kept up to date so that no answer takes a walk over its rows.
//!
//! Every row is entered under what it refers to and what it takes up: an address, a user id, room on the host. Some
//! of that depends on other rows too (an instance takes up processors while it is up, its interfaces are needed as
//! long), so a change of a row first withdraws all entries that lean on it and then makes them anew.
//!
//! What must hold: the entries follow from the rows alone, whatever the order in which these were put in.

use std::net::Ipv4Addr;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use spec::ids::*;

use crate::catalog;
use crate::model::*;
use crate::world::{Table, World};

/// The entries, with what they sum up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    entries: OrdSet<Entry>,
    /// How many addresses of each subnet are taken.
    on_subnet: OrdMap<SubnetId, u32>,
    taken: Taken,
}

/// One answer to a question. The question comes first, so that all of its answers lie side by side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Entry {
    /// Who refers to this row?
    Reference(Key, Key),
    /// Which instances were launched by this call?
    Launched(ReservationId, InstanceId),
    /// What was made with this client token?
    Token(String, Key),
    /// Who has this user id?
    User(u32, InstanceId),
    /// Who has this address of a subnet?
    Address(SubnetId, Ipv4Addr, InterfaceId),
    /// Which interface is attached by this attachment?
    Attachment(InterfaceAttachmentId, InterfaceId),
    /// Who has this public address now?
    Public(Ipv4Addr, InterfaceId),
    /// Which interfaces of this VPC, or in this security group, should the host have?
    Needed(Key, InterfaceId),
    /// How much of the host does this instance take up now?
    Up(InstanceId, u8, u32),
    /// How large is this volume?
    Size(VolumeId, u32),
}

/// What of the host is given out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Virtual CPUs of the instances that are up or coming up.
    pub vcpus: u64,
    /// Their memory, in MiB.
    pub memory_mib: u64,
    /// The size of all volumes together, in GiB.
    pub volume_gib: u64,
}

impl Index {
    fn enter(&mut self, entry: Entry) {
        if self.entries.insert(entry.clone()).is_some() {
            return;
        }
        match entry {
            Entry::Up(_, vcpus, memory_mib) => {
                self.taken.vcpus += u64::from(vcpus);
                self.taken.memory_mib += u64::from(memory_mib);
            }
            Entry::Size(_, gib) => self.taken.volume_gib += u64::from(gib),
            Entry::Address(subnet, ..) => *self.on_subnet.entry(subnet).or_default() += 1,
            _ => {}
        }
    }

    fn withdraw(&mut self, entry: &Entry) {
        if self.entries.remove(entry).is_none() {
            return;
        }
        match entry {
            Entry::Up(_, vcpus, memory_mib) => {
                self.taken.vcpus -= u64::from(*vcpus);
                self.taken.memory_mib -= u64::from(*memory_mib);
            }
            Entry::Size(_, gib) => self.taken.volume_gib -= u64::from(*gib),
            Entry::Address(subnet, ..) => {
                let left = self.on_subnet.get(subnet).map_or(0, |count| count - 1);
                match left {
                    0 => self.on_subnet.remove(subnet),
                    _ => self.on_subnet.insert(*subnet, left),
                };
            }
            _ => {}
        }
    }

    /// The answers from `first` on, as long as `is` takes them.
    fn answers<T>(&self, first: Entry, is: impl Fn(&Entry) -> Option<T>) -> impl Iterator<Item = T> {
        self.entries.range(first..).map_while(is)
    }
}

impl World {
    /// Makes the entries follow a change of the row of that name.
    pub(crate) fn reindex(&mut self, key: Key, change: impl FnOnce(&mut Self)) {
        for entry in self.entries_leaning_on(key) {
            self.index.withdraw(&entry);
        }
        change(self);
        for entry in self.entries_leaning_on(key) {
            self.index.enter(entry);
        }
    }

    fn entries_leaning_on(&self, key: Key) -> Vec<Entry> {
        let mut entries = self.entries_of_row(key);
        match key {
            Key::Instance(id) | Key::InstanceStatus(id) => {
                entries.extend(self.room_of(id));
                let interfaces = self.referring::<Interface>(Key::Instance(id));
                interfaces.for_each(|interface| self.add_needs(interface, &mut entries));
            }
            Key::Interface(id) => {
                self.interfaces.get(&id).into_iter().for_each(|row| self.add_needs(row, &mut entries));
            }
            _ => {}
        }
        entries
    }

    /// What the row says by itself.
    fn entries_of_row(&self, key: Key) -> Vec<Entry> {
        let Some(row) = self.row(key) else { return Vec::new() };
        let mut entries: Vec<_> =
            row.refers_to().into_iter().map(|referred| Entry::Reference(referred, key)).collect();
        entries.extend(row.client_token().map(|had| Entry::Token(had.token.clone(), key)));
        match row {
            Row::Instance(row) => {
                entries.push(Entry::Launched(row.reservation, row.id));
                entries.push(Entry::User(row.user, row.id));
            }
            Row::Interface(row) => {
                entries.push(Entry::Address(row.subnet, row.address, row.id));
                entries.extend(row.attachment.map(|at| Entry::Attachment(at.id, row.id)));
            }
            Row::Volume(row) => entries.push(Entry::Size(row.id, row.gib)),
            _ => {}
        }
        entries
    }

    fn room_of(&self, id: InstanceId) -> Option<Entry> {
        let instance = self.instances.get(&id).filter(|instance| self.occupies(instance))?;
        catalog::find(&instance.instance_type).map(|kind| Entry::Up(id, kind.vcpus, kind.memory_mib))
    }

    fn add_needs(&self, interface: &Interface, entries: &mut Vec<Entry>) {
        if self.wants_interface(interface) {
            entries.push(Entry::Needed(Key::Vpc(interface.vpc), interface.id));
            let groups = interface.groups.iter();
            entries.extend(groups.map(|group| Entry::Needed(Key::SecurityGroup(*group), interface.id)));
        }
        entries.extend(self.public_address(interface).map(|address| Entry::Public(address, interface.id)));
    }

    /// The names of the rows that refer to this one.
    pub fn referrers(&self, to: Key) -> impl Iterator<Item = Key> + '_ {
        self.index.answers(Entry::Reference(to, LEAST), move |entry| match entry {
            Entry::Reference(referred, who) if *referred == to => Some(*who),
            _ => None,
        })
    }

    /// The rows of one kind that refer to this one.
    pub fn referring<T: Table + 'static>(&self, to: Key) -> impl Iterator<Item = &Arc<T>> {
        let ids = self.index.answers(Entry::Reference(to, T::LEAST), move |entry| match entry {
            Entry::Reference(referred, who) if *referred == to => T::id(*who),
            _ => None,
        });
        ids.filter_map(|id| self.get::<T>(id))
    }

    /// The interfaces of this VPC, or in this security group, that the host should have.
    pub fn needed_interfaces(&self, of: Key) -> impl Iterator<Item = &Arc<Interface>> {
        let ids = self.index.answers(Entry::Needed(of, LEAST_INTERFACE), move |entry| match entry {
            Entry::Needed(had, id) if *had == of => Some(*id),
            _ => None,
        });
        ids.filter_map(|id| self.interfaces.get(&id))
    }

    /// The instances that one call launched.
    pub fn launched(&self, by: ReservationId) -> impl Iterator<Item = &Arc<Instance>> {
        let ids = self.index.answers(Entry::Launched(by, LEAST_INSTANCE), move |entry| match entry {
            Entry::Launched(had, id) if *had == by => Some(*id),
            _ => None,
        });
        ids.filter_map(|id| self.instances.get(&id))
    }

    /// A row of one kind that was made with this client token.
    pub fn made_with<T: Table>(&self, token: &str) -> Option<&Arc<T>> {
        let first = Entry::Token(token.to_owned(), T::LEAST);
        let mut ids = self.index.answers(first, |entry| match entry {
            Entry::Token(had, key) if had == token => T::id(*key),
            _ => None,
        });
        self.get::<T>(ids.next()?)
    }

    /// The interface that is attached by this attachment.
    pub fn attached_by(&self, attachment: InterfaceAttachmentId) -> Option<&Arc<Interface>> {
        let mut ids =
            self.index.answers(Entry::Attachment(attachment, LEAST_INTERFACE), |entry| match entry {
                Entry::Attachment(had, id) if *had == attachment => Some(*id),
                _ => None,
            });
        self.interfaces.get(&ids.next()?)
    }

    /// Whether an instance has this user id.
    pub fn has_user(&self, user: u32) -> bool {
        let is = |entry: &Entry| matches!(entry, Entry::User(had, _) if *had == user).then_some(());
        self.index.answers(Entry::User(user, LEAST_INSTANCE), is).next().is_some()
    }

    /// Whether an interface has this address of a subnet.
    pub fn has_address(&self, subnet: SubnetId, address: Ipv4Addr) -> bool {
        let is = |entry: &Entry| {
            matches!(entry, Entry::Address(on, had, _) if (*on, *had) == (subnet, address)).then_some(())
        };
        self.index.answers(Entry::Address(subnet, address, LEAST_INTERFACE), is).next().is_some()
    }

    /// How many addresses of a subnet are taken.
    pub fn addresses_taken(&self, subnet: SubnetId) -> u32 {
        self.index.on_subnet.get(&subnet).copied().unwrap_or_default()
    }

    /// Whether an interface has this public address now.
    pub fn has_public_address(&self, address: Ipv4Addr) -> bool {
        let is = |entry: &Entry| matches!(entry, Entry::Public(had, _) if *had == address).then_some(());
        self.index.answers(Entry::Public(address, LEAST_INTERFACE), is).next().is_some()
    }

    /// What of the host is given out.
    pub fn taken(&self) -> Taken {
        self.index.taken
    }
}

/// No key is smaller: it is one of the first kind of row.
const LEAST: Key = Image::LEAST;
const LEAST_INTERFACE: InterfaceId = InterfaceId::from_random(0);
const LEAST_INSTANCE: InstanceId = InstanceId::from_random(0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_follow_a_row_as_it_changes() {
        let mut world = World::empty(Arc::default());
        let (vpc, other) = (VpcId::from_random(1), VpcId::from_random(2));
        let id = InternetGatewayId::from_random(3);
        let gateway = |vpc| InternetGateway { id, vpc, tags: Tags::new() };
        world.put(gateway(Some(vpc)).into());
        assert_eq!(world.referrers(Key::Vpc(vpc)).collect::<Vec<_>>(), [Key::InternetGateway(id)]);
        world.put(gateway(Some(other)).into());
        assert_eq!(world.referrers(Key::Vpc(vpc)).count(), 0);
        assert_eq!(world.referrers(Key::Vpc(other)).count(), 1);
        assert_eq!(world.referring::<InternetGateway>(Key::Vpc(other)).count(), 1);
        assert_eq!(world.referring::<RouteTable>(Key::Vpc(other)).count(), 0);
        world.remove(Key::InternetGateway(id));
        assert_eq!(world.index, Index::default());
        assert_eq!(world.rows().count(), 0);
    }

    #[test]
    fn the_least_key_is_least() {
        let last_image = Key::Image("ami-ffffffff".parse().unwrap());
        for least in [Instance::LEAST, Volume::LEAST, Interface::LEAST, SecurityGroup::LEAST] {
            assert!(LEAST < last_image && last_image < least);
        }
    }
}
