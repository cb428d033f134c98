//! The daemon is killed after every single effect on its host, restarted, and must end where the
//! run ended that nobody killed.
//!
//! The simulated host outlives the daemon, as a real one does. It goes dead after the k-th effect: what
//! was done is done, and the daemon never hears of it. A new daemon on the same store and host
//! then goes on. This stands in for a shelf of tests of recovery, one for each moment.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use cloud::model::{Interface, Tags, VolumeKind};
use cloud::rules::block_devices::BlockDevice;
use cloud::rules::launch::{Launch, run_instances};
use cloud::rules::network_interfaces::{self, NewInterface};
use cloud::rules::performance::Performance;
use cloud::rules::volumes::{self, Change, NewVolume};
use cloud::rules::{images, instances};
use cloud::{Refusal, Tx, World};
use cumuletd::reconcile::Reconciler;
use cumuletd::store::{Store, TransactError};
use host::simulated::Simulated;
use host::{Capacity, Host};
use spec::ids::{ImageId, InstanceId};
use spec::observed::{MachineState, Observed};
use tests::small_world::{self, first_image, settings};

/// A daemon, or what of it decides anything: its store and its loop.
struct Daemon {
    store: Store,
    reconciler: Reconciler,
}

/// A host and a state folder, which outlive daemons.
struct Site<'a> {
    host: Simulated,
    state: &'a Path,
    deaths: u32,
    daemon: Daemon,
}

type Command = Box<dyn FnOnce(&mut Tx<'_>) -> Result<(), Refusal> + Send>;

impl<'a> Site<'a> {
    async fn new(state: &'a Path) -> Self {
        let host = Simulated::new(Capacity { processors: 4, memory_mib: 8192 });
        let daemon = start(&host, state);
        let mut site = Self { host, state, deaths: 0, daemon };
        let made = site.daemon.store.transact(first_image).await;
        let (image, _) = made.expect("an image can be announced");
        site.host.add_image(image);
        site.settle_down().await;
        site
    }

    /// Commits a command, and lets everything come to rest, over as many daemons as it takes.
    async fn command(&mut self, command: Command) {
        let committed = self.daemon.store.transact(command).await;
        if let Err(TransactError::Store(error)) = &committed {
            panic!("{error}");
        }
        committed.expect("the command is allowed");
        self.settle_down().await;
    }

    async fn settle_down(&mut self) {
        for _ in 0..200 {
            self.daemon.reconciler.round().await.expect("the store works");
            let quiet = self.daemon.reconciler.is_quiet().await.expect("the store works");
            if self.host.is_cut() {
                self.deaths += 1;
                self.host.cut_after(None);
                self.daemon = start(&self.host, self.state);
            } else if quiet {
                return;
            }
        }
        panic!("no rest after 200 rounds");
    }

    fn world(&self) -> Arc<World> {
        self.daemon.store.world()
    }
}

fn start(host: &Simulated, state: &Path) -> Daemon {
    let (store, wakes) = Store::open(&state.join("store.sqlite"), settings()).expect("the store opens");
    let reconciler = Reconciler::new(store.clone(), Arc::new(host.clone()) as Arc<dyn Host>, wakes);
    Daemon { store, reconciler }
}

fn launch(image: ImageId) -> Launch {
    let data = BlockDevice {
        device: "/dev/sdf".into(),
        gib: Some(1),
        delete_on_termination: Some(false),
        ..BlockDevice::default()
    };
    let usual = small_world::launch(image);
    Launch {
        least: 2,
        most: 2,
        volumes: vec![data],
        client_token: Some("once".into()),
        hibernation: true,
        ..usual
    }
}

/// The instances by their number in the launch.
fn ids(world: &World) -> Vec<InstanceId> {
    let by_index: BTreeMap<u32, InstanceId> =
        world.instances.values().map(|row| (row.launch_index, row.id)).collect();
    by_index.into_values().collect()
}

/// Devices come to a running instance, change and go.
async fn devices(site: &mut Site<'_>, story: &mut Vec<String>) {
    let instance = ids(&site.world())[0];
    let subnet = site.world().instances[&instance].subnet;
    let zone = site.world().subnets[&subnet].zone.clone();
    let token = Some("once".to_owned());
    let performance = Performance::default();
    let (kind, client_token) = (VolumeKind::Gp2, token.clone());
    let volume = NewVolume { zone, gib: 2, kind, performance, tags: Tags::new(), client_token };
    site.command(Box::new(move |tx| volumes::create(tx, &volume).map(|_| ()))).await;
    let volume = site.world().made_with::<cloud::model::Volume>("once").expect("it was made").id;
    let interface = NewInterface {
        subnet,
        description: String::new(),
        address: None,
        groups: Default::default(),
        tags: Tags::new(),
        client_token: token,
    };
    site.command(Box::new(move |tx| network_interfaces::create(tx, &interface).map(|_| ()))).await;
    let interface = site.world().made_with::<Interface>("once").expect("it was made").id;
    site.command(Box::new(move |tx| {
        network_interfaces::attach(tx, interface, instance, 1)?;
        volumes::attach(tx, volume, instance, "/dev/sdg")
    }))
    .await;
    story.push(portrait(site));
    let performance = Performance { iops: Some(3500), throughput: Some(250) };
    let change = Change { gib: Some(7), kind: Some(VolumeKind::Gp3), performance };
    site.command(Box::new(move |tx| volumes::modify(tx, volume, change))).await;
    let row = site.world().volumes[&volume].clone();
    assert!(site.world().modification_end(&row).is_some());
    let attachment = site.world().interfaces[&interface].attachment.clone().expect("it is attached").id;
    site.command(Box::new(move |tx| {
        network_interfaces::detach(tx, attachment, false)?;
        volumes::detach(tx, volume, Some(instance), None, true)
    }))
    .await;
    story.push(portrait(site));
    site.command(Box::new(move |tx| {
        network_interfaces::delete(tx, interface)?;
        volumes::delete(tx, volume)
    }))
    .await;
    story.push(portrait(site));
}

/// A life with everything in it: two instances launched, one given devices and deprived of them, stopped and started
/// again, hibernated and started again, one rebooted and killed, then one terminated and the other stopped. After each
/// part, what there is.
async fn life(site: &mut Site<'_>) -> Vec<String> {
    let mut story = Vec::new();
    let image = *site.world().images.keys().next().expect("there is an image");
    site.command(Box::new(move |tx| run_instances(tx, &launch(image)).map(|_| ()))).await;
    // The client saw the daemon die, and asks again with the same token.
    site.command(Box::new(move |tx| run_instances(tx, &launch(image)).map(|_| ()))).await;
    story.push(portrait(site));
    devices(site, &mut story).await;
    let [first, second] = ids(&site.world())[..] else { panic!("two instances were launched") };
    site.command(Box::new(move |tx| instances::stop(tx, &[first], instances::Stop::Asked).map(|_| ()))).await;
    story.push(portrait(site));
    site.command(Box::new(move |tx| instances::reboot(tx, &[second]))).await;
    site.command(Box::new(move |tx| instances::start(tx, &[first]).map(|_| ()))).await;
    story.push(portrait(site));
    site.command(Box::new(move |tx| instances::stop(tx, &[first], instances::Stop::Hibernated).map(|_| ())))
        .await;
    story.push(portrait(site));
    site.command(Box::new(move |tx| instances::start(tx, &[first]).map(|_| ()))).await;
    story.push(portrait(site));
    site.host.power_off_inside(first);
    // Word of it takes a moment to arrive; a daemon that died meanwhile looks by itself.
    while matches!(site.host.found().machines.get(&first), Some(MachineState::Ended(_))) {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        site.settle_down().await;
    }
    story.push(portrait(site));
    site.command(Box::new(move |tx| instances::terminate(tx, &[second]).map(|_| ()))).await;
    story.push(portrait(site));
    site.command(Box::new(move |tx| images::deregister(tx, image))).await;
    site.command(Box::new(move |tx| instances::terminate(tx, &[first]).map(|_| ()))).await;
    story.push(portrait(site));
    story
}

/// What there is, without ids and addresses, which differ from run to run.
fn portrait(site: &Site<'_>) -> String {
    let (world, found) = (site.world(), site.host.found());
    let states: Vec<&str> = ids(&world).iter().map(|id| world.state_of(*id).name()).collect();
    let Observed { networks, groups, interfaces, volumes, images, memories, machines } = &found;
    let machines: Vec<String> = ids(&world).iter().filter_map(|id| machines.get(id)).map(describe).collect();
    let counts = [networks.len(), groups.len(), interfaces.len(), volumes.len(), images.len()];
    let rows = [world.volumes.len(), world.interfaces.len(), world.images.len()];
    format!("{states:?}; on the host {counts:?} {machines:?}, {} saved; rows {rows:?}", memories.len())
}

fn describe(machine: &MachineState) -> String {
    match machine {
        MachineState::Running { run: Some(run), status: Some(status) } => {
            let disks: u64 = status.disks.values().map(|disk| disk.bytes >> 30).sum();
            let limits = status.disks.values().filter_map(|disk| disk.limits.operations);
            let operations: u64 = limits.map(|rate| rate.per_second.get()).sum();
            let (reboots, interfaces) = (status.reboots, status.nics.len());
            format!(
                "{run} after {reboots} reboots, {disks} GiB of {operations} IOPS, {interfaces} interfaces"
            )
        }
        other => format!("{other:?}"),
    }
}

async fn run(cut: Option<u64>) -> (Vec<String>, u64, u32) {
    let state = tempfile::tempdir().expect("a folder can be made");
    let mut site = Site::new(state.path()).await;
    site.host.cut_after(cut);
    let story = life(&mut site).await;
    (story, site.host.effects(), site.deaths)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_killed_after_any_effect_ends_where_the_unkilled_one_did() {
    let (expected, effects, deaths) = run(None).await;
    assert_eq!(deaths, 0);
    assert!(effects > 20, "the life has only {effects} effects");
    assert!(
        expected[0].starts_with(r#"["running", "running"]; on the host [1, 1, 2, 4, 1]"#),
        "{}",
        expected[0]
    );
    let last = expected.last().expect("the story has an end");
    assert!(last.starts_with(r#"["terminated", "terminated"]; on the host [0, 0, 0, 2, 0] []"#), "{last}");
    for cut in 1..=effects {
        let (story, _, deaths) = run(Some(cut)).await;
        assert_eq!(deaths, 1, "cut after effect {cut}");
        assert_eq!(story, expected, "cut after effect {cut} of {effects}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_switched_off_and_on_starts_what_should_run() {
    let state = tempfile::tempdir().expect("a folder can be made");
    let mut site = Site::new(state.path()).await;
    let image = *site.world().images.keys().next().expect("there is an image");
    site.command(Box::new(move |tx| run_instances(tx, &launch(image)).map(|_| ()))).await;
    site.host.switch_off_and_on();
    site.daemon = start(&site.host, site.state);
    site.settle_down().await;
    let found = site.host.found();
    assert_eq!((found.machines.len(), found.interfaces.len(), found.networks.len()), (2, 2, 1));
    let runs = found.machines.values().map(describe).collect::<Vec<_>>();
    let again = "1.2 after 0 reboots, 2 GiB of 3100 IOPS, 1 interfaces";
    assert_eq!(runs, [again, again], "a second attempt of the same life");
}
