//! The loop over a host whose looks take their time: a slow one holds up nobody else, no two steps work on one
//! resource at once, and nothing is looked at twice at once that has a status.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{SocketAddrV4, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloud::rules::instances as rules;
use cloud::rules::launch::{Launch, run_instances};
use cloud::state::InstanceState;
use cloud::{Settings, Tx, World};
use cumuletd::reconcile::Reconciler;
use cumuletd::store::Store;
use host::simulated::Simulated;
use host::{Capacity, Error, GuestSockets, Host};
use spec::ids::{ImageId, InstanceId, VpcId};
use spec::network::Network;
use spec::observed::{Observed, Scope};
use spec::steps::{Resource, Step};
use spec::storage::ImageFacts;
use tempfile::TempDir;
use tests::small_world::{chance, first_image, launch, settings};

/// A simulated host that takes its time, and watches over who asks what at once.
struct Slow {
    host: Simulated,
    watch: Mutex<Watch>,
}

#[derive(Default)]
struct Watch {
    /// The machine at which nobody can look.
    stuck: Option<InstanceId>,
    /// Somebody tried.
    is_held: bool,
    looks: Vec<Scope>,
    steps: BTreeSet<Resource>,
    seed: u64,
    broken: Vec<String>,
}

impl Slow {
    fn new(host: &Simulated) -> Arc<Self> {
        Arc::new(Self { host: host.clone(), watch: Mutex::default() })
    }

    fn set_stuck(&self, stuck: Option<InstanceId>) {
        self.watch.lock().unwrap().stuck = stuck;
    }

    /// Takes up to five milliseconds, never the same.
    fn dawdle(&self) {
        let micros = chance(&mut self.watch.lock().unwrap().seed)() % 5000;
        std::thread::sleep(Duration::from_micros(micros));
    }

    fn begin_look(&self, scope: &Scope) {
        let mut watch = self.watch.lock().unwrap();
        if let Scope::Resources(resources) = scope {
            let narrow = |look: &&Scope| **look != Scope::Everything;
            let twice = |resource: &&Resource| {
                matches!(resource, Resource::Machine(_) | Resource::Volume(_) | Resource::Interface(..))
                    && watch.looks.iter().filter(narrow).any(|look| look.covers(**resource))
            };
            let twice: Vec<_> =
                resources.iter().filter(twice).map(|resource| format!("look at {resource}")).collect();
            watch.broken.extend(twice);
        } else if watch.looks.contains(&Scope::Everything) {
            watch.broken.push("look at everything".into());
        }
        watch.looks.push(scope.clone());
    }

    fn end_look(&self, scope: &Scope) {
        let mut watch = self.watch.lock().unwrap();
        let at = watch.looks.iter().position(|look| look == scope).unwrap();
        watch.looks.swap_remove(at);
    }
}

impl Host for Slow {
    fn observe(&self, scope: &Scope) -> Result<Observed, Error> {
        self.begin_look(scope);
        while let Scope::Resources(resources) = scope {
            let mut watch = self.watch.lock().unwrap();
            if !watch.stuck.is_some_and(|id| resources.contains(&Resource::Machine(id))) {
                break;
            }
            watch.is_held = true;
            drop(watch);
            std::thread::sleep(Duration::from_millis(5));
        }
        let observed = self.host.observe(scope);
        self.dawdle();
        self.end_look(scope);
        observed
    }

    fn perform(&self, step: &Step) -> Result<(), Error> {
        let resource = step.resource();
        let mut watch = self.watch.lock().unwrap();
        if !watch.steps.insert(resource) {
            watch.broken.push(step.to_string());
        }
        drop(watch);
        self.dawdle();
        let done = self.host.perform(step);
        self.dawdle();
        self.watch.lock().unwrap().steps.remove(&resource);
        done
    }

    fn capacity(&self) -> Result<Capacity, Error> {
        self.host.capacity()
    }

    fn hints(&self) -> Option<Receiver<Resource>> {
        self.host.hints()
    }

    fn console_output(&self, instance: InstanceId) -> Result<Vec<u8>, Error> {
        self.host.console_output(instance)
    }

    fn attach_console(&self, instance: InstanceId) -> Result<UnixStream, Error> {
        self.host.attach_console(instance)
    }

    fn connect(&self, vpc: VpcId, to: SocketAddrV4, patience: Duration) -> Result<TcpStream, Error> {
        self.host.connect(vpc, to, patience)
    }

    fn guest_sockets(&self, network: &Network) -> Result<GuestSockets, Error> {
        self.host.guest_sockets(network)
    }

    fn guest_services(&self) -> Result<UnixStream, Error> {
        self.host.guest_services()
    }

    fn guard_guest_services(&self) -> Result<(), Error> {
        self.host.guard_guest_services()
    }

    fn end_guest_services(&self) -> Result<(), Error> {
        self.host.end_guest_services()
    }

    fn network_identity(&self, vpc: VpcId) -> Option<u64> {
        self.host.network_identity(vpc)
    }

    fn staging_file(&self) -> Result<File, Error> {
        self.host.staging_file()
    }

    fn import_image(
        &self,
        image: ImageId,
        disk: File,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<ImageFacts, Error> {
        self.host.import_image(image, disk, progress)
    }
}

/// A cloud with its loop running, and its host.
struct Site {
    store: Store,
    simulated: Simulated,
    slow: Arc<Slow>,
    image: ImageId,
    _folder: TempDir,
}

impl Site {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let simulated = Simulated::new(Capacity { processors: 64, memory_mib: 1 << 20 });
        let slow = Slow::new(&simulated);
        let settings = Settings { vcpus: 200, memory_mib: 1 << 20, ..settings() };
        let (store, wakes) = Store::open(&folder.path().join("store.sqlite"), settings).unwrap();
        let (image, _) = store.transact(first_image).await.unwrap();
        simulated.add_image(image);
        let host: Arc<dyn Host> = slow.clone();
        tokio::spawn(Reconciler::new(store.clone(), host, wakes).run());
        Self { store, simulated, slow, image, _folder: folder }
    }

    async fn launch(&self, count: u32) -> Vec<InstanceId> {
        let command = Launch { least: count, most: count, ..launch(self.image) };
        let (reservation, world) =
            self.store.transact(move |tx: &mut Tx<'_>| run_instances(tx, &command)).await.unwrap();
        world.launched(reservation).map(|row| row.id).collect()
    }

    async fn until(&self, what: &str, holds: impl Fn(&World) -> bool) {
        // A minute: other tests may have the processors.
        for _ in 0..12_000 {
            if holds(&self.store.world()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("never: {what}");
    }

    async fn until_all(&self, ids: &[InstanceId], state: InstanceState) {
        self.until(state.name(), |world| ids.iter().all(|id| world.state_of(*id) == state)).await;
    }

    fn check(&self) {
        assert_eq!(self.slow.watch.lock().unwrap().broken, Vec::<String>::new(), "at once");
    }
}

impl Drop for Site {
    /// A test that fails ends, though its runtime waits for every look.
    fn drop(&mut self) {
        self.slow.set_stuck(None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_that_is_stuck_holds_up_nobody_else() {
    let site = Site::new().await;
    let stuck = site.launch(1).await;
    site.until_all(&stuck, InstanceState::Running).await;
    site.slow.set_stuck(Some(stuck[0]));
    site.simulated.kill_outside(stuck[0]);
    // A look of before may still be on its way back: what comes to be looked at meanwhile shares the next.
    site.until("a look at it", |_| site.slow.watch.lock().unwrap().is_held).await;
    let others = site.launch(3).await;
    site.until_all(&others, InstanceState::Running).await;
    site.store.transact(move |tx: &mut Tx<'_>| rules::terminate(tx, &others).map(|_| others)).await.unwrap();
    site.until("two left", |world| world.volumes.len() == 1).await;
    let attempts = |world: &World| world.instance_statuses[&stuck[0]].run.attempt;
    assert_eq!(attempts(&site.store.world()), 1, "nobody has seen it yet");
    site.slow.set_stuck(None);
    site.until("brought up again", |world| attempts(world) == 2 && world.is_up(stuck[0])).await;
    site.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_end_where_they_should() {
    let site = Site::new().await;
    let mut seed = 7;
    let mut random = chance(&mut seed);
    let mut all = Vec::new();
    for round in 0..12 {
        all.extend(site.launch(1 + u32::try_from(random() % 3).unwrap()).await);
        let one = all[usize::try_from(random() % all.len() as u64).unwrap()];
        // Refused where it does not fit the state; that is a command too.
        let _ = match round % 4 {
            0 => {
                site.store.transact(move |tx: &mut Tx<'_>| rules::stop(tx, &[one], rules::Stop::Asked)).await
            }
            1 => site.store.transact(move |tx: &mut Tx<'_>| rules::start(tx, &[one])).await,
            2 => site.store.transact(move |tx: &mut Tx<'_>| rules::terminate(tx, &[one])).await,
            _ => {
                site.simulated.kill_outside(one);
                continue;
            }
        };
        tokio::time::sleep(Duration::from_millis(random() % 20)).await;
    }
    let settled = |world: &World| {
        let found = site.simulated.found();
        world.instances.values().all(|row| match world.instance_state(row) {
            InstanceState::Running => world.is_up(row.id) && found.machines.contains_key(&row.id),
            InstanceState::Stopped | InstanceState::Terminated => !found.machines.contains_key(&row.id),
            _ => false,
        })
    };
    site.until("at rest", settled).await;
    let gone = all.clone();
    site.store.transact(move |tx: &mut Tx<'_>| rules::terminate(tx, &gone)).await.unwrap();
    site.until_all(&all, InstanceState::Terminated).await;
    site.until("nothing left", |_| {
        let found = site.simulated.found();
        found.machines.is_empty() && found.networks.is_empty() && found.volumes.is_empty()
    })
    .await;
    site.check();
}
