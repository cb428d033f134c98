//! What a machine does next: a pure answer to what was asked of it, what its guest did, and what time it is.
//!
//! ```text
//!   asked \ the guest   off                 reset            crashes   (time)
//!   nothing             end                 build anew       end
//!   power off           end                 build anew       end       press again every few seconds
//!   reboot              build anew: done    build anew: done end       press again; patience over: build anew, done
//! ```
//!
//! Who is asked to power off and to reboot powers off. A guest that is still booting has no driver for
//! its button and misses the press, hence the pressing again; a system that is shutting down ignores more
//! of it.

use std::time::{Duration, Instant};

use spec::control::{EndReason, Request, Status};
use spec::machine::Run;

use crate::events::Guest;

/// Between two presses of the power button.
const PRESS_AGAIN: Duration = Duration::from_secs(3);

/// What somebody asked for and the guest has not done yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Nothing,
    PowerOff,
    Reboot { count: u64, deadline: Instant },
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Go on.
    Run,
    /// Press the power button, and go on.
    Press,
    /// Build the machine anew; why, for the log.
    Rebuild(&'static str),
    /// End, with this reason and sentence.
    End(EndReason, String),
}

/// Decides.
pub(crate) struct Lifecycle {
    status: Status,
    asked: Asked,
    press_at: Option<Instant>,
}

impl Lifecycle {
    pub(crate) fn new(run: Run, reboots: u64) -> Self {
        Self { status: Status::new(run, reboots), asked: Asked::Nothing, press_at: None }
    }

    /// How the machine's life is; its devices are not known here.
    pub(crate) fn status(&self) -> &Status {
        &self.status
    }

    /// When [`Self::tick`] has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        let deadline = match self.asked {
            Asked::Reboot { deadline, .. } => Some(deadline),
            Asked::Nothing | Asked::PowerOff => None,
        };
        self.press_at.into_iter().chain(deadline).min()
    }

    /// Somebody asked.
    pub(crate) fn ask(&mut self, request: &Request, now: Instant) {
        let asked = match (request, self.asked) {
            (Request::PowerOff, Asked::Nothing | Asked::Reboot { .. }) => Asked::PowerOff,
            (&Request::Reboot { count, patience_ms }, Asked::Nothing) if count > self.status.reboots => {
                let patience = Duration::from_millis(patience_ms);
                // A patience beyond the clock's end is one without an end; a day will do.
                let deadline = now.checked_add(patience).unwrap_or(now + Duration::from_secs(86_400));
                Asked::Reboot { count, deadline }
            }
            (&Request::Reboot { count, .. }, Asked::Reboot { count: before, deadline }) => {
                Asked::Reboot { count: count.max(before), deadline }
            }
            _ => self.asked,
        };
        if self.asked == Asked::Nothing && asked != Asked::Nothing {
            self.press_at = Some(now);
        }
        self.asked = asked;
        self.say_what_is_asked();
    }

    fn say_what_is_asked(&mut self) {
        self.status.powering_off = self.asked == Asked::PowerOff;
        self.status.rebooting = match self.asked {
            Asked::Reboot { count, .. } => Some(count),
            Asked::Nothing | Asked::PowerOff => None,
        };
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Instant) -> Next {
        match self.asked {
            Asked::Reboot { deadline, .. } if deadline <= now => {
                self.rebuild("the guest did not power off in time for its reboot")
            }
            Asked::PowerOff | Asked::Reboot { .. } if self.press_at.is_some_and(|at| at <= now) => {
                self.press_at = Some(now + PRESS_AGAIN);
                Next::Press
            }
            _ => Next::Run,
        }
    }

    /// The guest did something.
    pub(crate) fn guest(&mut self, did: Guest) -> Next {
        match did {
            Guest::Panicked => {
                self.status.panicked = true;
                Next::Run
            }
            Guest::Off => match self.asked {
                Asked::Reboot { .. } => self.rebuild("the guest powered off for its reboot"),
                Asked::PowerOff => {
                    Next::End(EndReason::PoweredOff, "The guest powered off, as asked".to_owned())
                }
                Asked::Nothing => Next::End(EndReason::PoweredOff, "The guest powered itself off".to_owned()),
            },
            Guest::Reset => self.rebuild("the guest reset itself"),
            Guest::Crashed(what) => Next::End(EndReason::Crashed, what),
            Guest::Failed(what) => Next::End(EndReason::Failed, what),
        }
    }

    fn rebuild(&mut self, why: &'static str) -> Next {
        if let Asked::Reboot { count, .. } = self.asked {
            self.status.reboots = count;
            self.asked = Asked::Nothing;
            self.press_at = None;
        }
        self.say_what_is_asked();
        self.status.resets += 1;
        self.status.panicked = false;
        Next::Rebuild(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn lifecycle() -> (Lifecycle, Instant) {
        (Lifecycle::new(Run { incarnation: 1, attempt: 1 }, 4), Instant::now())
    }

    fn reboot(count: u64) -> Request {
        Request::Reboot { count, patience_ms: 10_000 }
    }

    #[test]
    fn a_guest_decides_for_itself() {
        let (mut life, _) = lifecycle();
        assert_eq!(life.due(), None);
        assert!(matches!(life.guest(Guest::Reset), Next::Rebuild(_)));
        assert_eq!((life.status().resets, life.status().reboots), (1, 4));
        assert_eq!(life.guest(Guest::Panicked), Next::Run);
        assert!(life.status().panicked);
        assert!(matches!(life.guest(Guest::Reset), Next::Rebuild(_)));
        assert!(!life.status().panicked);
        assert!(matches!(life.guest(Guest::Off), Next::End(EndReason::PoweredOff, _)));
        assert!(
            matches!(life.guest(Guest::Crashed("x".into())), Next::End(EndReason::Crashed, x) if x == "x")
        );
    }

    #[test]
    fn the_button_is_pressed_again_and_again() {
        let (mut life, now) = lifecycle();
        life.ask(&Request::PowerOff, now);
        assert!(life.status().powering_off);
        assert_eq!(life.due(), Some(now));
        assert_eq!(life.tick(now), Next::Press);
        assert_eq!(life.tick(now + SECOND), Next::Run);
        life.ask(&Request::PowerOff, now + SECOND);
        assert_eq!(life.tick(now + 2 * SECOND), Next::Run);
        assert_eq!(life.tick(now + PRESS_AGAIN), Next::Press);
        // A guest that reboots instead is built anew and pressed again.
        assert!(matches!(life.guest(Guest::Reset), Next::Rebuild(_)));
        assert_eq!(life.tick(now + 2 * PRESS_AGAIN), Next::Press);
        assert!(matches!(life.guest(Guest::Off), Next::End(EndReason::PoweredOff, _)));
    }

    #[test]
    fn a_reboot_is_done_once() {
        let (mut life, now) = lifecycle();
        life.ask(&reboot(4), now); // done in an earlier life
        assert_eq!(life.due(), None);
        life.ask(&reboot(5), now);
        life.ask(&reboot(5), now + SECOND);
        assert_eq!(life.tick(now), Next::Press);
        assert!(matches!(life.guest(Guest::Off), Next::Rebuild(_)));
        assert_eq!((life.status().reboots, life.status().resets, life.due()), (5, 1, None));
        life.ask(&reboot(5), now);
        assert_eq!(life.due(), None);
        // Off without being asked again ends it.
        assert!(matches!(life.guest(Guest::Off), Next::End(EndReason::PoweredOff, _)));
    }

    #[test]
    fn patience_ends() {
        let (mut life, now) = lifecycle();
        life.ask(&reboot(6), now);
        assert_eq!(life.tick(now + 9 * SECOND), Next::Press);
        assert_eq!(life.due(), Some(now + 10 * SECOND));
        assert!(matches!(life.tick(now + 10 * SECOND), Next::Rebuild(_)));
        assert_eq!(life.status().reboots, 6);
        life.ask(&Request::Reboot { count: 7, patience_ms: u64::MAX }, now);
        assert_eq!(life.tick(now), Next::Press);
    }

    #[test]
    fn who_is_to_be_off_is_not_rebooted() {
        let (mut life, now) = lifecycle();
        life.ask(&reboot(5), now);
        life.ask(&Request::PowerOff, now);
        life.ask(&reboot(6), now);
        assert!(matches!(life.guest(Guest::Off), Next::End(EndReason::PoweredOff, _)));
    }
}
