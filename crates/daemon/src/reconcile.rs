//! The loop: observe, settle, plan, do; again whenever something may have changed.
//!
//! A wake carries resources to look at, never facts. Wakes come from commits, from the host's hints,
//! from steps that ended, and from the clock; everything is looked at at the start and every [`PERIOD`].
//! Looks and steps run on threads of their own: a slow look holds up only what it looks at ([`looks`]), and of the steps
//! one works on a resource at a time. While one does, nothing is concluded about its resource.

mod looks;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cloud::plan::{Look, Plan};
use cloud::settle::{Trouble, Troubles};
use cloud::{Timestamp, plan, settle};
use host::{Error, ErrorKind, Host};
use spec::observed::{Observed, Scope};
use spec::steps::{Resource, Step};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use self::looks::{Landed, Looks, Wanted, has_status};
use crate::store::{Store, StoreError, TransactError, now};

/// How often everything is looked at though nothing hints at a change.
pub const PERIOD: Duration = Duration::from_secs(30);
/// Seconds until a look that failed is tried again.
const LOOK_AGAIN: u64 = 1;
/// The longest wait before a failed step is tried again.
const MAX_BACKOFF_SECONDS: u64 = 60;

/// The loop and what it remembers between rounds; all of it may be forgotten without harm.
pub struct Reconciler {
    store: Store,
    host: Arc<dyn Host>,
    wakes: UnboundedReceiver<BTreeSet<Resource>>,
    hints: UnboundedReceiver<Resource>,
    reports: UnboundedReceiver<Report>,
    report: UnboundedSender<Report>,
    looks: Looks,
    /// What steps are working on.
    busy: BTreeSet<Resource>,
    /// What is to be looked at when a step on this resource, which is shared, has ended.
    waiting: BTreeMap<Resource, Wanted>,
    /// Failed steps, until they succeed.
    troubles: Troubles,
    /// When to try a resource again after failures, and how many there were in a row.
    backoff: BTreeMap<Resource, (Timestamp, u32)>,
    /// When to look at something again in any case.
    deadlines: BTreeMap<Resource, Timestamp>,
    look_at_everything: Timestamp,
}

/// What comes back from the threads.
enum Report {
    Look { number: u64, result: Result<Observed, Error> },
    Step { step: Step, result: Result<(), Error> },
}

/// What the loop wakes for.
enum Event {
    Report(Report),
    Touched(BTreeSet<Resource>),
    Clock,
}

impl Reconciler {
    /// A loop over that store and host; `wakes` is what [`Store::open`] returned.
    pub fn new(store: Store, host: Arc<dyn Host>, wakes: UnboundedReceiver<BTreeSet<Resource>>) -> Self {
        let (report, reports) = unbounded_channel();
        Self {
            hints: forward_hints(&*host),
            store,
            host,
            wakes,
            reports,
            report,
            looks: Looks::default(),
            busy: BTreeSet::new(),
            waiting: BTreeMap::new(),
            troubles: Troubles::new(),
            backoff: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            look_at_everything: Timestamp(0),
        }
    }

    /// Runs until the store closes.
    pub async fn run(mut self) -> StoreError {
        loop {
            self.look();
            if let Err(error) = self.wait().await {
                return error;
            }
        }
    }

    /// One round: looks at all there is to look at, and begins the steps that come of it. When it returns, the statuses
    /// in the store are as true as the host could say.
    pub async fn round(&mut self) -> Result<(), StoreError> {
        self.drain().await?;
        self.look();
        while self.looks.any_under_way() {
            self.wait().await?;
        }
        Ok(())
    }

    /// Waits for the steps that run, and takes in what arrived; true when nothing is left to look at before some
    /// clock strikes.
    pub async fn is_quiet(&mut self) -> Result<bool, StoreError> {
        while !self.busy.is_empty() {
            match self.reports.recv().await {
                Some(report) => self.take(report).await?,
                None => break,
            }
        }
        self.drain().await?;
        Ok(self.looks.is_quiet())
    }

    /// Begins the looks that are due.
    fn look(&mut self) {
        let moment = now();
        if self.look_at_everything <= moment {
            self.looks.want_everything();
            self.look_at_everything = moment.plus_seconds(PERIOD.as_secs());
        }
        let due = self.deadlines.iter().filter(|(_, at)| **at <= moment).map(|(resource, _)| *resource);
        for resource in due.collect::<Vec<_>>() {
            self.deadlines.remove(&resource);
            self.looks.want([resource]);
        }
        let world = self.store.world();
        while let Some((number, scope)) = self.looks.begin(&world, &self.busy, Instant::now()) {
            let host = Arc::clone(&self.host);
            self.beside(
                "A look",
                move || host.observe(&scope),
                move |result| Report::Look { number, result },
            );
        }
    }

    /// Works on a thread of its own, and reports.
    fn beside<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
        into_report: impl FnOnce(Result<T, Error>) -> Report + Send + 'static,
    ) {
        let report = self.report.clone();
        tokio::spawn(async move {
            let broke_off = |panic| Err(Error::passing(format!("{what} broke off"), panic));
            let result = spawn_blocking(work).await.unwrap_or_else(broke_off);
            // Nobody listens any more when the daemon is on its way out.
            let _ = report.send(into_report(result));
        });
    }

    /// Takes in what a look found.
    async fn land(&mut self, number: u64, result: Result<Observed, Error>) -> Result<(), StoreError> {
        let Some(landed) = self.looks.land(number, &self.busy) else { return Ok(()) };
        match result {
            Ok(observed) => self.conclude(landed, observed).await,
            Err(error) => {
                warn!("could not look at the host, trying again soon: {}", error.chain());
                let again = now().plus_seconds(LOOK_AGAIN);
                match &*landed.scope {
                    Scope::Everything => self.look_at_everything = again,
                    Scope::Resources(resources) => resources.iter().for_each(|one| self.wake_by(*one, again)),
                }
                Ok(())
            }
        }
    }

    async fn conclude(&mut self, landed: Landed, observed: Observed) -> Result<(), StoreError> {
        self.wait_for_shared(&landed);
        let Landed { scope, unsure } = landed;
        let sure = |resource: Resource| scope.covers(resource) && !unsure.contains(&resource);
        let troubles = self.troubles.clone();
        // Each failure of a machine counts once.
        self.troubles.retain(|resource, _| !matches!(resource, Resource::Machine(_)) || !sure(*resource));
        self.deadlines.retain(|resource, _| !sure(*resource));
        let seen = Arc::new((Arc::clone(&scope), observed, unsure));
        let to_settle = Arc::clone(&seen);
        let settled = self.store.transact(move |tx| {
            let (scope, observed, busy) = &*to_settle;
            Ok::<_, std::convert::Infallible>(settle(tx, Look { scope, observed, busy }, &troubles))
        });
        let world = match settled.await {
            Ok((news, world)) => {
                news.iter().for_each(|news| warn!("{news}"));
                world
            }
            Err(TransactError::Store(error)) => return Err(error),
            Err(TransactError::Refused(never)) => match never {},
        };
        let (scope, observed, busy) = &*seen;
        let Plan { steps, wakes } = plan(&world, Look { scope, observed, busy }, now());
        wakes.into_iter().for_each(|(resource, at)| self.wake_by(resource, at));
        steps.into_iter().for_each(|step| self.start(step, scope));
        Ok(())
    }

    /// What stands on something shared that is being changed is looked at again after that. (A look at everything comes
    /// again anyway.)
    fn wait_for_shared(&mut self, landed: &Landed) {
        if *landed.scope == Scope::Everything {
            return;
        }
        for resource in landed.unsure.iter().filter(|resource| !has_status(**resource)) {
            if self.busy.contains(resource) {
                self.waiting.entry(*resource).or_default().add(&landed.scope);
            } else {
                self.looks.want_scope(&landed.scope);
            }
        }
    }

    /// Starts a step, unless its resource is busy or has to wait after a failure.
    fn start(&mut self, step: Step, scope: &Scope) {
        let resource = step.resource();
        if !has_status(resource) {
            self.waiting.entry(resource).or_default().add(scope);
        }
        if let Some((not_before, _)) = self.backoff.get(&resource).copied().filter(|(at, _)| *at > now()) {
            return self.wake_by(resource, not_before);
        }
        if !self.busy.insert(resource) {
            return;
        }
        debug!("{step}");
        self.looks.touch(resource);
        let (host, doing) = (Arc::clone(&self.host), step.clone());
        self.beside("A step", move || host.perform(&doing), move |result| Report::Step { step, result });
    }

    fn finish(&mut self, step: &Step, result: Result<(), Error>) {
        let resource = step.resource();
        self.busy.remove(&resource);
        self.looks.touch(resource);
        self.looks.want([resource]);
        self.looks.want_all(self.waiting.remove(&resource).unwrap_or_default());
        match result {
            Ok(()) => {
                info!("{step}: done");
                self.troubles.remove(&resource);
                self.backoff.remove(&resource);
            }
            Err(error) => self.note_failure(step, &error),
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

    /// Waits until there is something to do, and does it with all that has arrived meanwhile.
    async fn wait(&mut self) -> Result<(), StoreError> {
        let pause = self.pause();
        let Self { wakes, hints, reports, .. } = self;
        let event = tokio::select! {
            biased;
            Some(report) = reports.recv() => Event::Report(report),
            Some(touched) = wakes.recv() => Event::Touched(touched),
            Some(resource) = hints.recv() => Event::Touched([resource].into()),
            () = sleep(pause) => Event::Clock,
        };
        match event {
            Event::Report(report) => self.take(report).await?,
            Event::Touched(resources) => self.looks.want(resources),
            Event::Clock => {}
        }
        self.drain().await
    }

    async fn take(&mut self, report: Report) -> Result<(), StoreError> {
        match report {
            Report::Look { number, result } => self.land(number, result).await,
            Report::Step { step, result } => {
                self.finish(&step, result);
                Ok(())
            }
        }
    }

    /// Takes in all that has arrived, so that one look serves it.
    async fn drain(&mut self) -> Result<(), StoreError> {
        while let Ok(report) = self.reports.try_recv() {
            self.take(report).await?;
        }
        while let Ok(touched) = self.wakes.try_recv() {
            self.looks.want(touched);
        }
        while let Ok(resource) = self.hints.try_recv() {
            self.looks.want([resource]);
        }
        Ok(())
    }

    fn pause(&self) -> Duration {
        let next = self.deadlines.values().copied().fold(self.look_at_everything, Timestamp::min);
        let pause = Duration::from_millis(next.millis_since(now()));
        self.looks.patience(Instant::now()).map_or(pause, |patience| pause.min(patience))
    }

    fn wake_by(&mut self, resource: Resource, at: Timestamp) {
        let deadline = self.deadlines.entry(resource).or_insert(at);
        *deadline = at.min(*deadline);
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
