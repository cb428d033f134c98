//! Where a start's time goes: with `CUMULET_LOG=debug` each phase is printed to standard error as it ends.
//!
//! ```text
//! cumulet-vmm: debug:    1.523 ms  +0.611  kernel and initrd loaded
//! ```

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::exit::say;

struct Timeline {
    begin: Instant,
    last_micros: AtomicU64,
}

static TIMELINE: OnceLock<Timeline> = OnceLock::new();

/// Begins, where it is wanted.
pub(crate) fn begin() {
    if std::env::var_os("CUMULET_LOG").is_some_and(|level| level == "debug") {
        // Begun once, by `main`.
        let _ = TIMELINE.set(Timeline { begin: Instant::now(), last_micros: AtomicU64::new(0) });
    }
}

/// This phase has ended.
pub(crate) fn mark(phase: &str) {
    let Some(timeline) = TIMELINE.get() else { return };
    let now = u64::try_from(timeline.begin.elapsed().as_micros()).unwrap_or(u64::MAX);
    let phase_micros = now.saturating_sub(timeline.last_micros.swap(now, Ordering::Relaxed));
    let millis = |micros: u64| format!("{}.{:03}", micros / 1000, micros % 1000);
    say(&format!("debug: {:>8} ms  +{}  {phase}", millis(now), millis(phase_micros)));
}
