//! How much a device may do: so many operations, so many bytes a second.
//!
//! A [`Bucket`] is arithmetic on moments that it is handed. It lets everything pass while anything is left in it and
//! counts afterwards, so that nobody has to know beforehand how large the next packet is; what went too far is waited
//! for. A [`Limiter`] is what a device asks: some buckets, a clock, and a timer that wakes the device when it may go
//! on, or when somebody has changed what it may.

use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vmm_sys_util::timerfd::TimerFd;

use crate::lock;

const SECOND: u128 = 1_000_000_000;

/// So much a second, of whatever is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In the long run.
    pub per_second: NonZeroU64,
    /// How much may be saved up for later.
    pub burst: u64,
    /// At most so much a second even out of what was saved up.
    pub peak: Option<NonZeroU64>,
}

/// What a device may do in one direction. What is not named is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// A disk's requests, a network interface's packets.
    pub operations: Option<Rate>,
    /// Bytes of them.
    pub bytes: Option<Rate>,
}

/// One rate's account. Moments are since any beginning, always the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    per_second: NonZeroU64,
    burst: u64,
    /// When it will be full again, in nanoseconds, if nothing more is taken.
    full_at: u128,
}

impl Bucket {
    /// A full one.
    pub fn new(per_second: NonZeroU64, burst: u64) -> Self {
        Self { per_second, burst, full_at: 0 }
    }

    /// How long it takes until something is in it; none where there is.
    pub fn wait(&self, now: Duration) -> Option<Duration> {
        let left =
            self.full_at.saturating_sub(now.as_nanos()).checked_sub(self.time_for(self.burst.into()))?;
        // What is left of nothing is nothing: an empty bucket lets the next one pass.
        let left = u64::try_from(left).unwrap_or(u64::MAX);
        (left > 0).then(|| Duration::from_nanos(left))
    }

    /// Takes so much out, whether it is there or not.
    pub fn take(&mut self, now: Duration, amount: u64) {
        self.full_at = self.full_at.max(now.as_nanos()).saturating_add(self.time_for(amount.into()));
    }

    /// Fills at another rate from now on. What went too far is still to be waited for; of what had been saved up as much
    /// stays taken as could be saved up now.
    pub fn change(&mut self, now: Duration, per_second: NonZeroU64, burst: u64) {
        let missing =
            self.full_at.saturating_sub(now.as_nanos()).saturating_mul(self.per_second.get().into()) / SECOND;
        let spent = missing.min(self.burst.into());
        let debt = missing - spent;
        *self = Self::new(per_second, burst);
        let missing = spent.min(burst.into()).saturating_add(debt);
        self.full_at = now.as_nanos().saturating_add(self.time_for(missing));
    }

    /// Nanoseconds in which so much flows in.
    fn time_for(&self, amount: u128) -> u128 {
        amount.saturating_mul(SECOND) / u128::from(self.per_second.get())
    }
}

/// A rate's buckets: for the long run, and for the peak.
#[derive(Clone, Copy, Debug)]
struct Meter {
    long: Bucket,
    peak: Option<Bucket>,
}

/// A peak is kept over a hundredth of a second.
const PEAK_PARTS: u64 = 100;

impl Meter {
    fn new(rate: Rate) -> Self {
        let peak = rate.peak.map(|peak| Bucket::new(peak, peak.get() / PEAK_PARTS));
        Self { long: Bucket::new(rate.per_second, rate.burst), peak }
    }

    /// The meter for another rate, after what this one has counted.
    fn changed(self, now: Duration, rate: Rate) -> Self {
        let mut changed = self;
        changed.long.change(now, rate.per_second, rate.burst);
        changed.peak = Self::new(rate).peak;
        changed
    }

    fn wait(&self, now: Duration) -> Option<Duration> {
        self.long.wait(now).max(self.peak.and_then(|peak| peak.wait(now)))
    }

    fn take(&mut self, now: Duration, amount: u64) {
        self.long.take(now, amount);
        if let Some(peak) = &mut self.peak {
            peak.take(now, amount);
        }
    }
}

/// What a device asks before it does something, and tells afterwards. Others may change the limits at any time.
pub struct Limiter {
    state: Mutex<State>,
    /// Whether there is any limit: who has none pays no lock and no look at the clock.
    limited: AtomicBool,
    timer: RawFd,
    beginning: Instant,
}

struct State {
    limits: Limits,
    operations: Option<Meter>,
    bytes: Option<Meter>,
    timer: TimerFd,
}

impl Limiter {
    /// One with everything saved up that may be.
    pub fn new(limits: Limits) -> io::Result<Self> {
        let timer = TimerFd::new()?;
        let fd = timer.as_raw_fd();
        let none = State { limits: Limits::default(), operations: None, bytes: None, timer };
        let limiter = Self {
            state: Mutex::new(none),
            limited: AtomicBool::new(false),
            timer: fd,
            beginning: Instant::now(),
        };
        if limits != Limits::default() {
            limiter.change(limits);
        }
        Ok(limiter)
    }

    /// What happens, as an edge, when the device should ask again.
    pub fn event(&self) -> RawFd {
        self.timer
    }

    /// What holds now.
    pub fn limits(&self) -> Limits {
        lock(&self.state).limits
    }

    /// Sets other limits. What the device has done under the old ones counts, where there were any.
    pub fn change(&self, limits: Limits) {
        let now = self.now();
        let mut state = lock(&self.state);
        let change = |meter: Option<Meter>, rate: Option<Rate>| {
            rate.map(|rate| meter.map_or_else(|| Meter::new(rate), |meter| meter.changed(now, rate)))
        };
        state.operations = change(state.operations, limits.operations);
        state.bytes = change(state.bytes, limits.bytes);
        state.limits = limits;
        self.limited.store(limits != Limits::default(), Ordering::Release);
        // A device that waits asks again at once.
        wake_in(&mut state.timer, Duration::ZERO);
    }

    /// Whether the device may do the next thing. Where not, the event comes when it may.
    pub fn admits(&self) -> bool {
        if !self.limited.load(Ordering::Acquire) {
            return true;
        }
        let now = self.now();
        let mut state = lock(&self.state);
        let wait = [state.operations, state.bytes].iter().flatten().filter_map(|meter| meter.wait(now)).max();
        if let Some(wait) = wait {
            wake_in(&mut state.timer, wait);
        }
        wait.is_none()
    }

    /// Counts what the device has done.
    pub fn count(&self, operations: u64, bytes: u64) {
        if !self.limited.load(Ordering::Acquire) {
            return;
        }
        let now = self.now();
        let mut state = lock(&self.state);
        if let Some(meter) = &mut state.operations {
            meter.take(now, operations);
        }
        if let Some(meter) = &mut state.bytes {
            meter.take(now, bytes);
        }
    }

    fn now(&self) -> Duration {
        self.beginning.elapsed()
    }
}

/// A timer of zero would be none.
fn wake_in(timer: &mut TimerFd, wait: Duration) {
    // The kernel refuses only times that are none.
    let _ = timer.reset(wait.max(Duration::from_nanos(1)), None);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    fn rate(number: u64) -> NonZeroU64 {
        NonZeroU64::new(number).unwrap()
    }

    /// Takes as much as it may, in parts, until this moment; how much.
    fn greedy(bucket: &mut Bucket, now: &mut Duration, until: Duration, part: u64) -> u64 {
        let mut taken = 0;
        while *now < until {
            match bucket.wait(*now) {
                Some(wait) => *now += wait,
                None => {
                    bucket.take(*now, part);
                    taken += part;
                }
            }
        }
        taken
    }

    #[test]
    fn the_burst_goes_at_once_and_the_rest_at_the_rate() {
        let mut bucket = Bucket::new(rate(100), 50);
        let mut now = Duration::from_secs(7);
        let first = now + Duration::from_nanos(1);
        // The last one may go too far by itself.
        assert_eq!(greedy(&mut bucket, &mut now, first, 1), 51);
        let until = now + Duration::from_secs(10);
        assert_eq!(greedy(&mut bucket, &mut now, until, 1), 1000);
        // A rest fills it, and no more than full.
        now += Duration::from_secs(1000);
        let until = now + Duration::from_nanos(1);
        assert_eq!(greedy(&mut bucket, &mut now, until, 1), 51);
    }

    #[test]
    fn what_went_too_far_is_waited_for() {
        let mut bucket = Bucket::new(rate(1000), 100);
        let now = Duration::from_secs(1);
        bucket.take(now, 5100);
        assert_eq!(bucket.wait(now), Some(Duration::from_secs(5)));
        assert_eq!(bucket.wait(now + Duration::from_secs(5)), None);
        bucket.change(now, rate(2000), 100);
        assert_eq!(bucket.wait(now), Some(Duration::from_millis(2500)));
        bucket.change(now, rate(2000), 10_000);
        assert_eq!(bucket.wait(now), None);
    }

    #[test]
    fn spent_savings_are_no_debt_under_a_limit_without_any() {
        // A volume of type gp2 has lived on its credits for a quarter of an hour, and becomes one of type gp3.
        let mut bucket = Bucket::new(rate(100), 5_400_000);
        let now = Duration::from_secs(1);
        bucket.take(now, 2_700_000);
        bucket.change(now, rate(3000), 300);
        assert_eq!(bucket.wait(now), None);
        bucket.take(now, 300);
        assert_eq!(bucket.wait(now), Some(Duration::from_millis(100)));
    }

    #[test]
    fn nothing_overflows_and_the_rate_holds_whatever_is_asked() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut any = || rate(random.edge().max(1));
            let (per_second, other) = (any(), any());
            let burst = random.edge();
            let mut bucket = Bucket::new(per_second, burst);
            let now = Duration::new(random.edge() >> 1, 0);
            for _ in 0..20 {
                bucket.take(now, random.edge());
                bucket.wait(now);
                bucket.change(now, if random.below(2) == 0 { per_second } else { other }, random.edge());
            }
            let (per_second, burst) = (1 + random.below(1_000_000), random.below(1_000_000));
            let part = 1 + random.below(4096);
            let mut bucket = Bucket::new(rate(per_second), burst);
            let mut now = Duration::ZERO;
            let taken = greedy(&mut bucket, &mut now, Duration::from_secs(5), part);
            let fair = burst + 5 * per_second;
            // One part too far at the end, and a nanosecond's rounding for each.
            assert!(taken <= fair + 2 * part + taken / 100, "seed {seed}: {taken} of {fair}");
            assert!(taken + part >= fair, "seed {seed}: {taken} of {fair}");
        }
    }

    #[test]
    fn a_peak_holds_while_there_are_savings() {
        let mut meter = Meter::new(Rate { per_second: rate(10), burst: 1_000_000, peak: Some(rate(3000)) });
        let (mut now, mut taken) = (Duration::ZERO, 0);
        while now < Duration::from_secs(2) {
            match meter.wait(now) {
                Some(wait) => now += wait,
                None => {
                    meter.take(now, 1);
                    taken += 1;
                }
            }
        }
        assert!((6000..6100).contains(&taken), "{taken}");
    }

    #[test]
    fn a_limiter_says_when_to_go_on_and_is_changed_meanwhile() {
        use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
        let limits =
            Limits { operations: Some(Rate { per_second: rate(1), burst: 0, peak: None }), bytes: None };
        let limiter = Limiter::new(Limits::default()).unwrap();
        let epoll = Epoll::new().unwrap();
        let edges = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, 0);
        epoll.ctl(ControlOperation::Add, limiter.event(), edges).unwrap();
        let happened = || epoll.wait(20, &mut [EpollEvent::default()]).unwrap() == 1;
        limiter.count(1_000_000, 1);
        assert!(limiter.admits() && !happened());
        limiter.change(limits);
        assert_eq!(limiter.limits(), limits);
        assert!(happened() && limiter.admits());
        limiter.count(3600, 1);
        assert!(!limiter.admits() && !happened());
        // Nobody waits an hour for what was changed.
        limiter.change(Limits::default());
        assert!(happened() && limiter.admits());
        let fast = Rate { per_second: rate(1000), ..limits.operations.unwrap() };
        limiter.change(Limits { operations: Some(fast), bytes: None });
        assert!(happened());
        limiter.count(5, 0);
        assert!(!limiter.admits() && happened() && limiter.admits());
    }
}
