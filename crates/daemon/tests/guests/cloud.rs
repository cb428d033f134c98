//! A cloud to command, made by the rules that the daemon's API goes through.

use std::collections::BTreeSet;
use std::sync::Arc;

use cloud::first_start::first_start;
use cloud::model::{Interface, MetadataOptions, ShutdownBehavior, Tags};
use cloud::rules::launch::{Launch, run_instances};
use cloud::rules::{images, instances};
use cloud::{Refusal, Settings, Timestamp, Tx, World};
use spec::ids::{ImageId, InstanceId};
use spec::storage::{Architecture, ImageFacts};

pub(crate) struct Cloud {
    pub(crate) world: World,
    pub(crate) now: Timestamp,
    image: ImageId,
    seed: u64,
}

impl Cloud {
    /// A cloud after its first start, with one image.
    pub(crate) fn new() -> Self {
        let settings = Settings { architecture: Architecture::X86_64, ..Settings::default() };
        let world = World::empty(Arc::new(settings));
        let now = Timestamp(1_800_000_000_000);
        let mut cloud = Self { world, now, image: ImageId::from_random(0), seed: 1 };
        cloud.image = cloud.command(|tx| {
            first_start(tx);
            let new = images::NewImage { name: "tiny".into(), description: String::new(), tags: Tags::new() };
            let id = images::begin_import(tx, new)?;
            let facts = ImageFacts { bytes: 1 << 28, architecture: Architecture::X86_64, kernel: None };
            images::finish_import(tx, id, &facts)?;
            Ok(id)
        });
        cloud
    }

    pub(crate) fn command<T>(&mut self, command: impl FnOnce(&mut Tx<'_>) -> Result<T, Refusal>) -> T {
        let seed = &mut self.seed;
        let mut random = || {
            *seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            *seed ^ (*seed >> 29)
        };
        let mut tx = Tx::new(&self.world, self.now, &mut random);
        let answer = command(&mut tx).expect("the command is allowed");
        self.world = tx.finish().1;
        answer
    }

    /// A launch of one small instance that says nothing else.
    pub(crate) fn usual(&self) -> Launch {
        Launch {
            image: self.image,
            instance_type: Some("t3.nano".into()),
            least: 1,
            most: 1,
            key_name: None,
            groups: BTreeSet::new(),
            group_names: BTreeSet::new(),
            subnet: None,
            zone: Some("us-east-1a".into()),
            address: None,
            public: None,
            interface_description: String::new(),
            keep_interface: false,
            user_data: None,
            volumes: Vec::new(),
            instance_tags: Tags::new(),
            volume_tags: Tags::new(),
            interface_tags: Tags::new(),
            client_token: None,
            shutdown_behavior: ShutdownBehavior::Stop,
            termination_protection: false,
            stop_protection: false,
            metadata: MetadataOptions { enabled: true, tokens_required: false, hop_limit: 2, tags: false },
        }
    }

    pub(crate) fn launch(&mut self, launch: Launch) -> InstanceId {
        let reservation = self.command(|tx| run_instances(tx, &launch));
        let mut rows = self.world.instances.values().filter(|row| row.reservation == reservation);
        rows.next().expect("an instance was launched").id
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
