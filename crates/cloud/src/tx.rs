//! A transaction: a world to change, and the list of what was changed.
//!
//! A rule reads through the transaction and sees its own writes. Nothing outside sees them until the store has
//! committed [`Tx::finish`]'s writes; a dry run is a transaction that is dropped.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Key, Row};
use crate::refusal::{Kind, Refusal};
use crate::settings::Settings;
use crate::time::Timestamp;
use crate::world::{Table, World};

/// What a transaction changed: for each row's name the new row, or none where it was removed.
pub type Writes = BTreeMap<Key, Option<Row>>;

/// A transaction.
pub struct Tx<'a> {
    world: World,
    writes: Writes,
    random: &'a mut dyn FnMut() -> u64,
    /// The moment of the transaction.
    pub now: Timestamp,
}

impl<'a> Tx<'a> {
    /// A transaction on `world` at the moment `now`; `random` gives 64 fresh random bits a call.
    pub fn new(world: &World, now: Timestamp, random: &'a mut dyn FnMut() -> u64) -> Self {
        Self { world: world.clone(), writes: Writes::new(), random, now }
    }

    /// The world as the transaction sees it.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The operator's decisions. They outlive the borrow, so that a rule can write while it reads them.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.world.settings)
    }

    /// 64 random bits, for ids and addresses.
    pub fn random(&mut self) -> u64 {
        (self.random)()
    }

    /// The row with that id, if there is one.
    pub fn get<T: Table>(&self, id: T::Id) -> Option<Arc<T>> {
        self.world.get::<T>(id).cloned()
    }

    /// The row with that id, or the refusal that says it does not exist: `what` is how EC2 calls it, as in
    /// "The instance ID 'i-…' does not exist".
    pub fn require<T: Table>(&self, id: T::Id, kind: Kind, what: &str) -> Result<Arc<T>, Refusal>
    where
        T::Id: std::fmt::Display,
    {
        self.get::<T>(id).ok_or_else(|| Refusal::not_found(kind, what, id))
    }

    /// Writes a row.
    pub fn put(&mut self, row: impl Into<Row>) {
        let row = row.into();
        self.writes.insert(row.key(), Some(row.clone()));
        self.world.put(row);
    }

    /// Writes a row unless it is just as it was.
    pub fn put_if_changed<T: Table + PartialEq + Into<Row>>(&mut self, id: T::Id, row: T) {
        if self.world.get::<T>(id).is_none_or(|old| **old != row) {
            self.put(row);
        }
    }

    /// Removes a row; nothing where it is not there.
    pub fn remove(&mut self, key: Key) {
        if self.world.row(key).is_some() {
            self.world.remove(key);
            self.writes.insert(key, None);
        }
    }

    /// Whether anything was changed.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// What was changed, and the world with it.
    pub fn finish(self) -> (Writes, World) {
        (self.writes, self.world)
    }
}
