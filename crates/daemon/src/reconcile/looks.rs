//! What to look at next, and what may be concluded from what was seen: the loop's bookkeeping, without I/O.
//!
//! Looks at different things run beside each other, but not at once: what comes to be looked at while a look is under
//! way waits for it a little ([`PATIENCE`]) and then shares one look, which costs the host less than many. A look that
//! takes longer holds nobody up.
//!
//! What must hold, so that no older fact is written over a newer one:
//! - A machine, a volume, an interface is in one narrow look at a time. What is shared (networks, groups, images) may be
//!   in several: steps come of it, which may be repeated, but no status.
//! - A look at everything says nothing about what a narrow look under way covers, or one that landed meanwhile covered.
//! - No look says anything about what a step was working on since the look began.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cloud::World;
use cloud::model::Key;
use spec::observed::Scope;
use spec::steps::Resource;

/// How long a look may take before others begin beside it.
const PATIENCE: Duration = Duration::from_millis(100);
/// Narrow looks that are under way at most; a host that keeps them all waiting is not helped by more.
const MOST: usize = 16;

/// What to look at, and the looks under way.
#[derive(Default)]
pub(super) struct Looks {
    wanted: Wanted,
    under_way: BTreeMap<u64, UnderWay>,
    begun: u64,
}

/// What is to be looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub everything: bool,
    pub resources: BTreeSet<Resource>,
}

impl Wanted {
    /// Adds a scope.
    pub(super) fn add(&mut self, scope: &Scope) {
        match scope {
            Scope::Everything => self.everything = true,
            Scope::Resources(resources) => self.resources.extend(resources),
        }
    }

    fn is_nothing(&self) -> bool {
        !self.everything && self.resources.is_empty()
    }
}

/// A look that has not come back.
struct UnderWay {
    scope: Arc<Scope>,
    since: Instant,
    /// What of its scope something happened to since it began.
    touched: BTreeSet<Resource>,
}

/// A look that came back.
pub(super) struct Landed {
    pub scope: Arc<Scope>,
    /// What it says nothing about.
    pub unsure: BTreeSet<Resource>,
}

impl Looks {
    /// Has these looked at.
    pub(super) fn want(&mut self, resources: impl IntoIterator<Item = Resource>) {
        self.wanted.resources.extend(resources);
    }

    /// Has everything looked at.
    pub(super) fn want_everything(&mut self) {
        self.wanted.everything = true;
    }

    /// Has a scope looked at again.
    pub(super) fn want_scope(&mut self, scope: &Scope) {
        self.wanted.add(scope);
    }

    /// Has all of this looked at.
    pub(super) fn want_all(&mut self, wanted: Wanted) {
        self.wanted.everything |= wanted.everything;
        self.wanted.resources.extend(wanted.resources);
    }

    /// Whether nothing is to be looked at, and no look is under way.
    pub(super) fn is_quiet(&self) -> bool {
        self.wanted.is_nothing() && self.under_way.is_empty()
    }

    pub(super) fn any_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Begins a look, if there is something to look at that may be now; `busy` is what steps are working on.
    pub(super) fn begin(
        &mut self,
        world: &World,
        busy: &BTreeSet<Resource>,
        now: Instant,
    ) -> Option<(u64, Arc<Scope>)> {
        let scope = if self.wanted.everything && !self.at_everything() {
            self.wanted.everything = false;
            Scope::Everything
        } else {
            Scope::Resources(self.free(world, now)?)
        };
        let scope = Arc::new(scope);
        let touched = busy.iter().copied().filter(|resource| scope.covers(*resource)).collect();
        self.begun += 1;
        self.under_way.insert(self.begun, UnderWay { scope: Arc::clone(&scope), since: now, touched });
        Some((self.begun, scope))
    }

    /// What is to be looked at and is in no narrow look, with all that belongs together; it is wanted no more.
    fn free(&mut self, world: &World, now: Instant) -> Option<BTreeSet<Resource>> {
        let narrow = || self.under_way.values().filter(|look| *look.scope != Scope::Everything);
        if narrow().count() >= MOST || narrow().any(|look| now < look.since + PATIENCE) {
            return None;
        }
        let taken =
            |resource: &Resource| has_status(*resource) && narrow().any(|look| look.scope.covers(*resource));
        let (mut free, mut waiting) = (BTreeSet::new(), BTreeSet::new());
        for resource in &self.wanted.resources {
            if free.contains(resource) {
                continue;
            }
            let mut together = world.resources_of([key_of(*resource)]);
            together.insert(*resource);
            if together.iter().any(taken) {
                waiting.insert(*resource);
            } else {
                free.extend(together);
            }
        }
        self.wanted.resources = waiting;
        Some(free).filter(|free| !free.is_empty())
    }

    fn at_everything(&self) -> bool {
        self.under_way.values().any(|look| *look.scope == Scope::Everything)
    }

    /// How long what is to be looked at still waits for a look under way to come back.
    pub(super) fn patience(&self, now: Instant) -> Option<Duration> {
        let narrow = self.under_way.values().filter(|look| *look.scope != Scope::Everything);
        let waits = narrow.map(|look| (look.since + PATIENCE).saturating_duration_since(now));
        waits.max().filter(|wait| !wait.is_zero() && !self.wanted.resources.is_empty())
    }

    /// A step began or ended to work on this.
    pub(super) fn touch(&mut self, resource: Resource) {
        for look in self.under_way.values_mut().filter(|look| look.scope.covers(resource)) {
            look.touched.insert(resource);
        }
    }

    /// Ends a look; `busy` is what steps are working on.
    pub(super) fn land(&mut self, number: u64, busy: &BTreeSet<Resource>) -> Option<Landed> {
        let UnderWay { scope, touched: mut unsure, .. } = self.under_way.remove(&number)?;
        unsure.extend(busy.iter().copied().filter(|resource| scope.covers(*resource)));
        match &*scope {
            Scope::Everything => {
                let narrow = self.under_way.values().filter_map(|look| narrow(&look.scope));
                unsure.extend(narrow.flatten());
            }
            Scope::Resources(resources) => {
                let others = self.under_way.values_mut().filter(|look| *look.scope == Scope::Everything);
                others.for_each(|look| look.touched.extend(resources));
            }
        }
        Some(Landed { scope, unsure })
    }
}

fn narrow(scope: &Scope) -> Option<&BTreeSet<Resource>> {
    match scope {
        Scope::Everything => None,
        Scope::Resources(resources) => Some(resources),
    }
}

/// Whether something is written down about the resource itself when it was looked at. The others are shared, and only
/// stood upon.
pub(super) fn has_status(resource: Resource) -> bool {
    match resource {
        Resource::Machine(_) | Resource::Memory(_) | Resource::Volume(_) | Resource::Interface(..) => true,
        Resource::Network(_) | Resource::Group(..) | Resource::Image(_) => false,
    }
}

/// The row that decides about a resource.
fn key_of(resource: Resource) -> Key {
    match resource {
        Resource::Network(id) => Key::Vpc(id),
        Resource::Group(_, id) => Key::SecurityGroup(id),
        Resource::Interface(_, id) => Key::Interface(id),
        Resource::Volume(id) => Key::Volume(id),
        Resource::Image(id) => Key::Image(id),
        Resource::Memory(id) | Resource::Machine(id) => Key::Instance(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spec::ids::{InstanceId, VpcId};

    fn machine(number: u64) -> Resource {
        Resource::Machine(InstanceId::from_random(number))
    }

    fn network() -> Resource {
        Resource::Network(VpcId::from_random(1))
    }

    /// Looks, a world without rows, and a clock.
    struct Stage {
        looks: Looks,
        world: World,
        busy: BTreeSet<Resource>,
        now: Instant,
    }

    impl Stage {
        fn new() -> Self {
            let world = World::empty(Arc::default());
            Self { looks: Looks::default(), world, busy: BTreeSet::new(), now: Instant::now() }
        }

        fn begin(&mut self) -> Option<(u64, Vec<Resource>)> {
            let (number, scope) = self.looks.begin(&self.world, &self.busy, self.now)?;
            Some((number, narrow(&scope).into_iter().flatten().copied().collect()))
        }

        fn land(&mut self, number: u64) -> Vec<Resource> {
            self.looks.land(number, &self.busy).unwrap().unsure.into_iter().collect()
        }
    }

    #[test]
    fn others_wait_for_a_look_a_little_and_then_share_the_next() {
        let mut stage = Stage::new();
        stage.looks.want([machine(1)]);
        let (first, scope) = stage.begin().unwrap();
        assert_eq!(scope, [machine(1)]);
        stage.looks.want([machine(2)]);
        stage.looks.want([machine(3)]);
        assert_eq!((stage.begin(), stage.looks.patience(stage.now)), (None, Some(PATIENCE)));
        stage.now += PATIENCE;
        let (second, scope) = stage.begin().unwrap();
        assert_eq!(scope, [machine(2), machine(3)]);
        assert_eq!(stage.land(second), []);
        stage.looks.want([machine(1), machine(2)]);
        assert_eq!(stage.begin().unwrap().1, [machine(2)], "the first is still looked at");
        assert_eq!(stage.land(first), []);
        stage.now += PATIENCE;
        assert_eq!(stage.begin().unwrap().1, [machine(1)]);
    }

    #[test]
    fn what_is_shared_may_be_in_several_looks() {
        let mut stage = Stage::new();
        stage.looks.want([machine(1), network()]);
        stage.begin().unwrap();
        stage.now += PATIENCE;
        stage.looks.want([machine(2), network()]);
        assert_eq!(stage.begin().unwrap().1, [network(), machine(2)]);
    }

    #[test]
    fn nothing_is_concluded_about_what_was_worked_on() {
        let mut stage = Stage::new();
        stage.busy = [machine(1)].into();
        stage.looks.want([machine(1), machine(2), machine(3), machine(4)]);
        let (number, _) = stage.begin().unwrap();
        stage.busy = [machine(3)].into();
        [machine(2), machine(9)].iter().for_each(|touched| stage.looks.touch(*touched));
        assert_eq!(stage.land(number), [machine(1), machine(2), machine(3)]);
    }

    #[test]
    fn a_look_at_everything_yields_to_narrow_ones() {
        let mut stage = Stage::new();
        stage.looks.want([machine(1)]);
        stage.looks.want_everything();
        let (everything, scope) = stage.begin().unwrap();
        assert_eq!(scope, []);
        let (before, _) = stage.begin().expect("and holds none of them up");
        assert_eq!(stage.land(before), []);
        stage.looks.want([machine(2)]);
        stage.begin().unwrap();
        stage.looks.want_everything();
        stage.now += PATIENCE;
        assert_eq!(stage.begin(), None, "one at a time");
        assert_eq!(stage.land(everything), [machine(1), machine(2)]);
        assert!(stage.begin().is_some());
    }

    #[test]
    fn more_looks_than_help_are_not_begun() {
        let mut stage = Stage::new();
        for number in 0..MOST as u64 {
            stage.looks.want([machine(number)]);
            assert!(stage.begin().is_some());
            stage.now += PATIENCE;
        }
        stage.looks.want([machine(99)]);
        assert_eq!((stage.begin(), stage.looks.patience(stage.now)), (None, None));
        stage.land(3);
        assert_eq!(stage.begin().unwrap().1, [machine(99)]);
    }
}
