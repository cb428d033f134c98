//! How much one guest may ask of its services at a time, so that no guest takes them from another.
//!
//! Each asker has a rate of its own and a number of conversations of its own; what all guests together may hold open is
//! bounded too, by what one process may have open. The rate is EC2's for link-local services: 1024 packets a second for each
//! interface (AWS, *DNS attributes for your VPC*); here a question counts as one.
//!
//! These bounds hold for what reaches us. What fills a socket's own queue before that is the packet filter's affair.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

/// Questions a second from one asker.
const RATE: u32 = 1024;
/// Connections that one asker may have open.
const STREAMS: usize = 16;
/// Questions of one asker that the host's resolver may be thinking about.
const QUESTIONS: usize = 32;
/// Connections of all guests together. With two descriptors each, and those of the questions, they fit into the 1024 that
/// a process may have open by default.
const ALL_STREAMS: usize = 256;
/// Questions of all guests together, each with one descriptor.
const ALL_QUESTIONS: usize = 256;

/// A token bucket that holds a second's worth.
#[derive(Debug)]
pub(super) struct Bucket {
    interval: Duration,
    /// When it will be full again, or since when it is.
    full_at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        Self { interval: Duration::from_secs(1) / per_second, full_at: now }
    }

    /// Takes a token, or says how long to wait for one.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let full_at = self.full_at.max(now) + self.interval;
        let wait = full_at.saturating_duration_since(now + Duration::from_secs(1));
        if !wait.is_zero() {
            return Err(wait);
        }
        self.full_at = full_at;
        Ok(())
    }
}

/// What one asker may still use.
#[derive(Debug)]
pub(super) struct Guest {
    bucket: Mutex<Bucket>,
    streams: Arc<Semaphore>,
    questions: Arc<Semaphore>,
}

impl Default for Guest {
    fn default() -> Self {
        Self {
            bucket: Mutex::new(Bucket::new(RATE, Instant::now())),
            streams: Arc::new(Semaphore::new(STREAMS)),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
        }
    }
}

impl Guest {
    /// Whether one more question is within the rate.
    pub(super) fn may_ask(&self) -> bool {
        self.take().is_ok()
    }

    /// Waits until one more question is within the rate.
    pub(super) async fn wait_to_ask(&self) {
        while let Err(wait) = self.take() {
            sleep(wait).await;
        }
    }

    fn take(&self) -> Result<(), Duration> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now())
    }
}

/// What all guests together may still use.
#[derive(Debug)]
pub(super) struct Altogether {
    streams: Arc<Semaphore>,
    questions: Arc<Semaphore>,
}

impl Default for Altogether {
    fn default() -> Self {
        Self {
            streams: Arc::new(Semaphore::new(ALL_STREAMS)),
            questions: Arc::new(Semaphore::new(ALL_QUESTIONS)),
        }
    }
}

/// One use of something bounded; it ends with this.
#[derive(Debug)]
pub(super) struct Place(#[expect(dead_code, reason = "held for their end")] [OwnedSemaphorePermit; 2]);

impl Altogether {
    /// A place for a connection of that guest.
    pub(super) fn stream(&self, guest: &Guest) -> Option<Place> {
        place(&guest.streams, &self.streams)
    }

    /// A place for a question of that guest to the host's resolver.
    pub(super) fn question(&self, guest: &Guest) -> Option<Place> {
        place(&guest.questions, &self.questions)
    }
}

fn place(own: &Arc<Semaphore>, all: &Arc<Semaphore>) -> Option<Place> {
    let own = Arc::clone(own).try_acquire_owned().ok()?;
    let all = Arc::clone(all).try_acquire_owned().ok()?;
    Some(Place([own, all]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_a_seconds_worth_at_once_and_then_its_rate() {
        let mut now = Instant::now();
        let mut bucket = Bucket::new(100, now);
        let take_all = |bucket: &mut Bucket, now| (0..1000).take_while(|_| bucket.take(now).is_ok()).count();
        assert_eq!(take_all(&mut bucket, now), 100);
        now += bucket.take(now).unwrap_err();
        assert_eq!(take_all(&mut bucket, now), 1, "it says how long to wait");
        now += Duration::from_millis(500);
        assert_eq!(take_all(&mut bucket, now), 50);
        now += Duration::from_secs(3600);
        assert_eq!(take_all(&mut bucket, now), 100, "it holds no more than it holds");
    }

    #[test]
    fn one_guest_cannot_take_anothers_places() {
        let (altogether, greedy, modest) = (Altogether::default(), Guest::default(), Guest::default());
        let held: Vec<Place> = std::iter::from_fn(|| altogether.stream(&greedy)).collect();
        assert_eq!(held.len(), STREAMS);
        assert!(altogether.stream(&modest).is_some());
        drop(held);
        assert!(altogether.stream(&greedy).is_some());
    }
}
