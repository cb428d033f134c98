//! A cloud to command, made by the rules that the daemon's API goes through.

use std::sync::Arc;

use cloud::model::Interface;
use cloud::rules::instances;
use cloud::rules::launch::{Launch, run_instances};
use cloud::{Refusal, Timestamp, Tx, World};
use spec::ids::{ImageId, InstanceId};
use tests::small_world::{self, chance, first_image, settings};

pub(crate) struct Cloud {
    pub(crate) world: World,
    pub(crate) now: Timestamp,
    image: ImageId,
    seed: u64,
}

impl Cloud {
    /// A cloud after its first start, with one image.
    pub(crate) fn new() -> Self {
        let world = World::empty(Arc::new(settings()));
        let now = Timestamp(1_800_000_000_000);
        let mut cloud = Self { world, now, image: ImageId::from_random(0), seed: 1 };
        cloud.image = cloud.command(first_image);
        cloud
    }

    pub(crate) fn command<T>(&mut self, command: impl FnOnce(&mut Tx<'_>) -> Result<T, Refusal>) -> T {
        let mut random = chance(&mut self.seed);
        let mut tx = Tx::new(&self.world, self.now, &mut random);
        let answer = command(&mut tx).expect("the command is allowed");
        self.world = tx.finish().1;
        answer
    }

    /// A launch of one small instance in the first zone that says nothing else.
    pub(crate) fn usual(&self) -> Launch {
        Launch { zone: Some("us-east-1a".into()), ..small_world::launch(self.image) }
    }

    pub(crate) fn launch(&mut self, launch: Launch) -> InstanceId {
        let reservation = self.command(|tx| run_instances(tx, &launch));
        self.world.launched(reservation).next().expect("an instance was launched").id
    }

    pub(crate) fn launch_usual(&mut self) -> InstanceId {
        self.launch(self.usual())
    }

    pub(crate) fn terminate(&mut self, id: InstanceId) {
        self.command(|tx| instances::terminate(tx, &[id]));
    }

    /// The primary interface of an instance.
    pub(crate) fn interface(&self, id: InstanceId) -> Interface {
        let row = self.world.primary_interface(id).expect("an instance has an interface");
        Interface::clone(row)
    }
}
