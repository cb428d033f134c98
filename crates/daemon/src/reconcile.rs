//! The loop: observe, settle, plan, do; again whenever something may have changed.
//!
//! A wake carries resources to look at, never facts. Wakes come from commits, from the host's hints,
//! from steps that ended, and from the clock; everything is looked at at the start and every [`PERIOD`].
//! Steps run side by side on threads of their own, one for each resource at a time; while one runs,
//! nothing is concluded about its resource.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cloud::model::Key;
use cloud::plan::{Look, Plan};
use cloud::settle::{Trouble, Troubles};
use cloud::{Timestamp, World, plan, settle};
use host::{Error, ErrorKind, Host};
use spec::observed::{Observed, Scope};
use spec::steps::{Resource, Step};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use crate::store::{Store, StoreError, TransactError, now};

/// How often everything is looked at though nothing hints at a change.
pub const PERIOD: Duration = Duration::from_secs(30);
/// The longest wait before a failed step is tried again.
const MAX_BACKOFF_SECONDS: u64 = 60;

/// The loop and what it remembers between rounds; all of it may be forgotten without harm.
pub struct Reconciler {
    store: Store,
    host: Arc<dyn Host>,
    wakes: UnboundedReceiver<BTreeSet<Resource>>,
    hints: UnboundedReceiver<Resource>,
    done: UnboundedReceiver<Done>,
    report: UnboundedSender<Done>,
    /// What to look at next.
    dirty: Scope,
    /// What steps are working on.
    busy: BTreeSet<Resource>,
    /// Failed steps, until they succeed.
    troubles: Troubles,
    /// When to try a resource again after failures, and how many there were in a row.
    backoff: BTreeMap<Resource, (Timestamp, u32)>,
    /// When to look again in any case.
    wake_at: Option<Timestamp>,
    looked_at_everything: Timestamp,
}

/// A step that ended, and the scope in which it was planned, which is to be looked at again.
struct Done {
    step: Step,
    scope: Arc<Scope>,
    result: Result<(), Error>,
}

impl Reconciler {
    /// A loop over that store and host; `wakes` is what [`Store::open`] returned.
    pub fn new(store: Store, host: Arc<dyn Host>, wakes: UnboundedReceiver<BTreeSet<Resource>>) -> Self {
        let (report, done) = unbounded_channel();
        Self {
            hints: forward_hints(&*host),
            store,
            host,
            wakes,
            done,
            report,
            dirty: Scope::Everything,
            busy: BTreeSet::new(),
            troubles: Troubles::new(),
            backoff: BTreeMap::new(),
            wake_at: None,
            looked_at_everything: Timestamp(0),
        }
    }

    /// Runs until the store closes.
    pub async fn run(mut self) -> StoreError {
        loop {
            if let Err(error) = self.round().await {
                return error;
            }
            self.wait().await;
        }
    }

    /// One round. When it returns, the statuses in the store are as true as the host could say.
    pub async fn round(&mut self) -> Result<(), StoreError> {
        let scope = Arc::new(std::mem::replace(&mut self.dirty, nothing()));
        let scope = if *scope == Scope::Everything { scope } else { Arc::new(self.widened(&scope)) };
        let busy = self.busy.clone();
        let (host, looked) = (Arc::clone(&self.host), Arc::clone(&scope));
        match blocking(move || host.observe(&looked)).await {
            Ok(observed) => self.conclude(scope, Arc::new(observed), Arc::new(busy)).await,
            Err(error) => {
                warn!("could not look at the host, trying again soon: {}", error.chain());
                self.look_again(&scope);
                self.wake_by(now().plus_seconds(1));
                Ok(())
            }
        }
    }

    async fn conclude(
        &mut self,
        scope: Arc<Scope>,
        observed: Arc<Observed>,
        busy: Arc<BTreeSet<Resource>>,
    ) -> Result<(), StoreError> {
        if *scope == Scope::Everything {
            self.looked_at_everything = now();
            self.wake_at = None;
        }
        let troubles = self.troubles.clone();
        // Each failure of a machine counts once.
        self.troubles.retain(|resource, _| !matches!(resource, Resource::Machine(_)));
        let seen = (Arc::clone(&scope), Arc::clone(&observed), Arc::clone(&busy));
        let settled = self.store.transact(move |tx| {
            let look = Look { scope: &seen.0, observed: &seen.1, busy: &seen.2 };
            settle(tx, look, &troubles);
            Ok::<_, std::convert::Infallible>(())
        });
        let world = match settled.await {
            Ok(((), world)) => world,
            Err(TransactError::Store(error)) => return Err(error),
            Err(TransactError::Refused(never)) => match never {},
        };
        let Plan { steps, wakes } =
            plan(&world, Look { scope: &scope, observed: &observed, busy: &busy }, now());
        wakes.into_values().for_each(|at| self.wake_by(at));
        steps.into_iter().for_each(|step| self.start(step, &scope));
        Ok(())
    }

    /// Starts a step, unless its resource is busy or has to wait after a failure.
    fn start(&mut self, step: Step, scope: &Arc<Scope>) {
        let resource = step.resource();
        if let Some((not_before, _)) = self.backoff.get(&resource).copied().filter(|(at, _)| *at > now()) {
            return self.wake_by(not_before);
        }
        if !self.busy.insert(resource) {
            return;
        }
        debug!("{step}");
        let (host, report, scope) = (Arc::clone(&self.host), self.report.clone(), Arc::clone(scope));
        spawn_blocking(move || {
            let result = host.perform(&step);
            // Nobody listens any more when the daemon is on its way out.
            let _ = report.send(Done { step, scope, result });
        });
    }

    fn finish(&mut self, done: Done) {
        let resource = done.step.resource();
        self.busy.remove(&resource);
        self.look_again(&done.scope);
        match done.result {
            Ok(()) => {
                info!("{}: done", done.step);
                self.troubles.remove(&resource);
                self.backoff.remove(&resource);
            }
            Err(error) => self.note_failure(&done.step, &error),
        }
    }

    fn note_failure(&mut self, step: &Step, error: &Error) {
        let resource = step.resource();
        let message = error.chain();
        warn!("could not {step}: {message}");
        let lasting = matches!(error.kind, ErrorKind::Lasting | ErrorKind::Unsupported);
        self.troubles.insert(resource, Trouble { lasting, message });
        // A machine's own waiting time is kept in the store, where a restart does not forget it.
        if !matches!(step, Step::StartMachine(_)) {
            let failures = self.backoff.get(&resource).map_or(1, |(_, failures)| failures.saturating_add(1));
            let seconds = (1_u64 << failures.min(7)).min(MAX_BACKOFF_SECONDS) / 2;
            self.backoff.insert(resource, (now().plus_seconds(seconds), failures));
        }
    }

    /// Waits for the steps that run, and takes in what arrived; true when nothing is left to look at before some
    /// clock strikes.
    pub async fn is_quiet(&mut self) -> bool {
        while !self.busy.is_empty() {
            match self.done.recv().await {
                Some(done) => self.finish(done),
                None => break,
            }
        }
        self.drain();
        self.dirty == nothing()
    }

    /// Waits until there is something to look at.
    async fn wait(&mut self) {
        self.drain();
        let something = self.dirty != nothing();
        let pause = if something { Duration::ZERO } else { self.pause() };
        let Self { wakes, hints, done, .. } = self;
        tokio::select! {
            biased;
            Some(done) = done.recv() => self.finish(done),
            Some(touched) = wakes.recv() => self.look_at(touched),
            Some(resource) = hints.recv() => self.look_at([resource].into()),
            () = sleep(pause) => self.alarm(something),
        }
        self.drain();
    }

    /// Takes in all that has arrived meanwhile, so that one look serves it.
    fn drain(&mut self) {
        while let Ok(done) = self.done.try_recv() {
            self.finish(done);
        }
        while let Ok(touched) = self.wakes.try_recv() {
            self.look_at(touched);
        }
        while let Ok(resource) = self.hints.try_recv() {
            self.look_at([resource].into());
        }
    }

    fn pause(&self) -> Duration {
        let now = now();
        let period = self.looked_at_everything.plus_seconds(PERIOD.as_secs());
        let next = self.wake_at.map_or(period, |at| at.min(period));
        Duration::from_millis(next.millis_since(now))
    }

    /// The time has come: a deadline may concern anything, so everything is looked at.
    fn alarm(&mut self, something: bool) {
        if !something {
            self.dirty = Scope::Everything;
        }
    }

    fn wake_by(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    fn look_at(&mut self, resources: BTreeSet<Resource>) {
        if let Scope::Resources(dirty) = &mut self.dirty {
            dirty.extend(resources);
        }
    }

    fn look_again(&mut self, scope: &Scope) {
        match scope {
            Scope::Everything => self.dirty = Scope::Everything,
            Scope::Resources(resources) => self.look_at(resources.clone()),
        }
    }

    /// The scope with all that belongs together: a machine with its volumes and interfaces.
    fn widened(&self, scope: &Scope) -> Scope {
        let Scope::Resources(resources) = scope else { return Scope::Everything };
        let world: Arc<World> = self.store.world();
        let mut wide = world.resources_of(resources.iter().map(|resource| key_of(*resource)));
        wide.extend(resources);
        Scope::Resources(wide)
    }
}

fn nothing() -> Scope {
    Scope::Resources(BTreeSet::new())
}

/// The row that decides about a resource.
fn key_of(resource: Resource) -> Key {
    match resource {
        Resource::Network(id) => Key::Vpc(id),
        Resource::Group(_, id) => Key::SecurityGroup(id),
        Resource::Interface(_, id) => Key::Interface(id),
        Resource::Volume(id) => Key::Volume(id),
        Resource::Image(id) => Key::Image(id),
        Resource::Machine(id) => Key::Instance(id),
    }
}

/// Brings the host's hints, which arrive on a blocking channel, to the loop.
fn forward_hints(host: &dyn Host) -> UnboundedReceiver<Resource> {
    let (to, hints) = unbounded_channel();
    if let Some(from) = host.hints() {
        std::thread::spawn(move || from.into_iter().take_while(|hint| to.send(*hint).is_ok()).count());
    }
    hints
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    spawn_blocking(work)
        .await
        .unwrap_or_else(|panic| Err(Error::passing("A look at the host broke off", panic)))
}
