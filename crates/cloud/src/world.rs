//! All rows, with "who refers to whom", as one persistent value.
//!
//! Cloning a world costs nothing, changing one row costs what that row costs; a reader keeps the
//! world it has while the next one is made. The tables are ordered by id, so listings are stable.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use spec::ids::*;

use crate::model::*;
use crate::settings::Settings;

macro_rules! world {
    ($($variant:ident($id:ident) $field:ident $(tags $tags:ident)?;)*) => {
        /// Everything the cloud knows at one moment.
        #[derive(Clone, Debug)]
        pub struct World {
            /// The operator's decisions.
            pub settings: Arc<Settings>,
            $(#[doc = concat!("Rows of [`", stringify!($variant), "`].")] pub $field: OrdMap<$id, Arc<$variant>>,)*
            /// (referred to, who refers), for every reference of every row.
            references: OrdSet<(Key, Key)>,
        }

        impl World {
            /// A world without rows.
            pub fn empty(settings: Arc<Settings>) -> Self {
                Self { settings, $($field: OrdMap::new(),)* references: OrdSet::new() }
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

            fn table(world: &World) -> &OrdMap<$id, Arc<Self>> {
                &world.$field
            }

            fn key(id: $id) -> Key {
                Key::$variant(id)
            }
        })*
    };
}

/// A kind of row: where to find it.
pub trait Table: Sized + Clone {
    /// Its id's type.
    type Id: Copy + Ord;

    /// Its table.
    fn table(world: &World) -> &OrdMap<Self::Id, Arc<Self>>;

    /// The name of the row with that id.
    fn key(id: Self::Id) -> Key;
}

for_all_tables!(world);

impl World {
    /// The row with that id.
    pub fn get<T: Table>(&self, id: T::Id) -> Option<&Arc<T>> {
        T::table(self).get(&id)
    }

    /// Puts a row in, in place of the one of the same name.
    pub fn put(&mut self, row: Row) {
        self.remove(row.key());
        for referred in row.refers_to() {
            self.references.insert((referred, row.key()));
        }
        self.insert(row);
    }

    /// Takes a row out; nothing where it is not there.
    pub fn remove(&mut self, key: Key) {
        let Some(row) = self.row(key) else { return };
        for referred in row.refers_to() {
            self.references.remove(&(referred, key));
        }
        self.take(key);
    }

    /// The names of the rows that refer to this one.
    pub fn referrers(&self, to: Key) -> impl Iterator<Item = Key> + '_ {
        // No key is smaller than the image with id 0, the first variant of `Key`.
        let least = Key::Image(ImageId::from_random(0));
        self.references
            .range((to, least)..)
            .take_while(move |(referred, _)| *referred == to)
            .map(|(_, who)| *who)
    }

    /// The interfaces attached to an instance, by device index.
    pub fn interfaces_of(&self, instance: InstanceId) -> Vec<&Arc<Interface>> {
        let mut interfaces: Vec<_> = self
            .referrers(Key::Instance(instance))
            .filter_map(|key| if let Key::Interface(id) = key { self.interfaces.get(&id) } else { None })
            .collect();
        interfaces.sort_by_key(|row| row.attachment.as_ref().map(|at| at.device_index));
        interfaces
    }

    /// The volumes attached to an instance, by device name.
    pub fn volumes_of(&self, instance: InstanceId) -> Vec<&Arc<Volume>> {
        let mut volumes: Vec<_> = self
            .referrers(Key::Instance(instance))
            .filter_map(|key| if let Key::Volume(id) = key { self.volumes.get(&id) } else { None })
            .collect();
        volumes.sort_by(|a, b| device(a).cmp(&device(b)));
        volumes
    }

    /// The interfaces in a security group.
    pub fn interfaces_in(&self, group: GroupId) -> impl Iterator<Item = &Arc<Interface>> {
        self.interfaces_referring(Key::SecurityGroup(group))
    }

    /// The interfaces of a subnet.
    pub fn interfaces_on(&self, subnet: SubnetId) -> impl Iterator<Item = &Arc<Interface>> {
        self.interfaces_referring(Key::Subnet(subnet))
    }

    fn interfaces_referring(&self, to: Key) -> impl Iterator<Item = &Arc<Interface>> {
        self.referrers(to)
            .filter_map(|key| if let Key::Interface(id) = key { self.interfaces.get(&id) } else { None })
    }

    /// The subnets of a VPC.
    pub fn subnets_of(&self, vpc: VpcId) -> impl Iterator<Item = &Arc<Subnet>> {
        self.referrers(Key::Vpc(vpc))
            .filter_map(|key| if let Key::Subnet(id) = key { self.subnets.get(&id) } else { None })
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
        world.remove(Key::InternetGateway(id));
        assert_eq!(world.referrers(Key::Vpc(other)).count(), 0);
        assert_eq!(world.rows().count(), 0);
    }

    #[test]
    fn the_least_key_is_least() {
        assert!(Key::Image(ImageId::from_random(0)) <= Key::Image(ImageId::from_random(1)));
        assert!(Key::Image(ImageId::from_random(u64::MAX)) < Key::Instance(InstanceId::from_random(0)));
    }
}
