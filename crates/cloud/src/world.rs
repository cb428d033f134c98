//! All rows, with an index, as one persistent value.
//!
//! Cloning a world costs nothing, changing one row costs what that row costs; a reader keeps the
//! world it has while the next one is made. The tables are ordered by id, so listings are stable.

use std::sync::Arc;

use imbl::OrdMap;
use spec::ids::*;

use crate::index::Index;
use crate::model::*;
use crate::settings::Settings;

macro_rules! world {
    ($($variant:ident($id:ident) $field:ident $(tags $tags:ident)?;)*) => {
        /// Everything the cloud knows at one moment.
        #[derive(Clone, Debug, PartialEq)]
        pub struct World {
            /// The operator's decisions.
            pub settings: Arc<Settings>,
            $(#[doc = concat!("Rows of [`", stringify!($variant), "`].")] pub $field: OrdMap<$id, Arc<$variant>>,)*
            pub(crate) index: Index,
        }

        impl World {
            /// A world without rows.
            pub fn empty(settings: Arc<Settings>) -> Self {
                Self { settings, $($field: OrdMap::new(),)* index: Index::default() }
            }

            /// The row of that name.
            pub fn row(&self, key: Key) -> Option<Row> {
                match key {
                    $(Key::$variant(id) => self.$field.get(&id).map(|row| Row::$variant((**row).clone())),)*
                }
            }

            /// Every row.
            pub fn rows(&self) -> impl Iterator<Item = Row> + '_ {
                std::iter::empty()$(.chain(self.$field.values().map(|row| Row::$variant((**row).clone()))))*
            }

            fn insert(&mut self, row: Row) {
                match row {
                    $(Row::$variant(row) => { self.$field.insert(row.id, Arc::new(row)); })*
                }
            }

            fn take(&mut self, key: Key) {
                match key {
                    $(Key::$variant(id) => { self.$field.remove(&id); })*
                }
            }
        }

        $(impl Table for $variant {
            type Id = $id;
            const LEAST: Key = Key::$variant($id::from_random(0));

            fn table(world: &World) -> &OrdMap<$id, Arc<Self>> {
                &world.$field
            }

            fn key(id: $id) -> Key {
                Key::$variant(id)
            }

            fn id(key: Key) -> Option<$id> {
                match key {
                    Key::$variant(id) => Some(id),
                    _ => None,
                }
            }
        })*
    };
}

/// A kind of row: where to find it.
pub trait Table: Sized + Clone {
    /// Its id's type.
    type Id: Copy + Ord;

    /// No key of this kind of row is smaller.
    const LEAST: Key;

    /// Its table.
    fn table(world: &World) -> &OrdMap<Self::Id, Arc<Self>>;

    /// The name of the row with that id.
    fn key(id: Self::Id) -> Key;

    /// The id in such a name; none where it is that of another kind of row.
    fn id(key: Key) -> Option<Self::Id>;
}

for_all_tables!(world);

impl World {
    /// The row with that id.
    pub fn get<T: Table>(&self, id: T::Id) -> Option<&Arc<T>> {
        T::table(self).get(&id)
    }

    /// Puts a row in, in place of the one of the same name.
    pub fn put(&mut self, row: Row) {
        self.reindex(row.key(), |world| world.insert(row));
    }

    /// Takes a row out; nothing where it is not there.
    pub fn remove(&mut self, key: Key) {
        self.reindex(key, |world| world.take(key));
    }

    /// The interfaces attached to an instance, by device index.
    pub fn interfaces_of(&self, instance: InstanceId) -> Vec<&Arc<Interface>> {
        let mut interfaces: Vec<_> = self.referring::<Interface>(Key::Instance(instance)).collect();
        interfaces.sort_by_key(|row| row.attachment.as_ref().map(|at| at.device_index));
        interfaces
    }

    /// The volumes attached to an instance, by device name.
    pub fn volumes_of(&self, instance: InstanceId) -> Vec<&Arc<Volume>> {
        let mut volumes: Vec<_> = self.referring::<Volume>(Key::Instance(instance)).collect();
        volumes.sort_by(|a, b| device(a).cmp(&device(b)));
        volumes
    }

    /// The default VPC.
    pub fn default_vpc(&self) -> Option<&Arc<Vpc>> {
        self.vpcs.values().find(|vpc| vpc.is_default)
    }

    /// The instance's root device's name: its image's, or the usual one where the image is gone.
    pub fn root_device(&self, instance: &Instance) -> String {
        self.images
            .get(&instance.image)
            .map_or_else(|| "/dev/xvda".to_owned(), |image| image.root_device.clone())
    }
}

fn device(volume: &Volume) -> Option<&str> {
    volume.attachment.as_ref().map(|at| at.device.as_str())
}
