//! How a device leaves a running machine: what its operator does, looking at the port. Pure.
//!
//! ```text
//!   asked to leave             lamp on: press the button; blinking: wait; off: pull it out
//!   made to leave              close what stands behind it: every request fails from here on;
//!                              tell the guest that the disk has no room left; a moment later, pull it out
//!   pulled out                 wait for its thread, close what stands behind it
//! ```
//!
//! A guest takes the button for "in five seconds, unless it is pressed again". So it is pressed only while
//! the lamp shines steadily, and not again before the guest noticed it: pressing twice would take it back. A guest that
//! has no driver for its ports yet misses it, hence the pressing again, like the power button's.
//!
//! Who is made to leave fails first, for Linux's sake: its disks' driver waits for ever for requests that
//! were under way when the card was gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use devices::pci::Lamp;

/// Between two presses of a port's button.
const PRESS_AGAIN: Duration = Duration::from_secs(10);
/// From the moment the guest is told that a disk has failed to pulling it out: time for the requests under way
/// to fail, and for nobody to notice.
const LAST_MOMENT: Duration = Duration::from_millis(500);

/// How far a device is.
#[derive(Debug)]
pub(crate) enum Leaving {
    /// The guest is asked to let go.
    Asked {
        /// When the button was last pressed.
        pressed: Option<Instant>,
    },
    /// It fails.
    Failing {
        /// When the guest was told.
        told: Option<Instant>,
    },
    /// It is out of its port; set when it is cleared away.
    Out(Arc<AtomicBool>),
}

/// What the operator sees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight {
    /// The port's lamp.
    pub(crate) lamp: Lamp,
    /// The guest has not noticed the button yet.
    pub(crate) unheard: bool,
    /// What stood behind the device is closed.
    pub(crate) closed: bool,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Nothing yet.
    Wait,
    /// Press the button.
    Press,
    /// Tell the guest that the device has changed.
    Tell,
    /// Pull it out.
    Pull,
    /// Forget it: nothing of it is left.
    Forget,
}

impl Leaving {
    /// Somebody wants it gone, or still does; `force` without asking the guest.
    pub(crate) fn insist(leaving: Option<Self>, force: bool) -> Self {
        match leaving {
            Some(Self::Asked { .. }) | None if force => Self::Failing { told: None },
            Some(leaving) => leaving,
            None => Self::Asked { pressed: None },
        }
    }

    /// What to do now.
    pub(crate) fn next(&mut self, sight: Sight, now: Instant) -> Act {
        match self {
            Self::Asked { pressed } => match sight.lamp {
                Lamp::Off => Act::Pull,
                Lamp::Blinking => Act::Wait,
                Lamp::On if sight.unheard || pressed.is_some_and(|at| now < at + PRESS_AGAIN) => Act::Wait,
                Lamp::On => {
                    *pressed = Some(now);
                    Act::Press
                }
            },
            Self::Failing { .. } if !sight.closed => Act::Wait,
            Self::Failing { told: Some(at) } if now < *at + LAST_MOMENT => Act::Wait,
            Self::Failing { told: Some(_) } => Act::Pull,
            Self::Failing { told } => {
                *told = Some(now);
                Act::Tell
            }
            Self::Out(done) if sight.closed && done.load(Ordering::Acquire) => Act::Forget,
            Self::Out(_) => Act::Wait,
        }
    }

    /// When to look again though nothing has happened.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        let due = match self {
            Self::Asked { pressed: Some(at) } => *at + PRESS_AGAIN,
            Self::Failing { told: Some(at) } => *at + LAST_MOMENT,
            Self::Asked { pressed: None } | Self::Failing { told: None } | Self::Out(_) => return None,
        };
        // What is past waits for an event: the guest has to do something first.
        Some(due).filter(|due| *due > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn see(lamp: Lamp) -> Sight {
        Sight { lamp, unheard: false, closed: false }
    }

    #[test]
    fn the_button_is_pressed_once_and_again_only_while_the_lamp_shines() {
        let (mut leaving, now) = (Leaving::insist(None, false), Instant::now());
        assert_eq!(leaving.next(see(Lamp::On), now), Act::Press);
        let unheard = Sight { unheard: true, ..see(Lamp::On) };
        assert_eq!(leaving.next(unheard, now + 100 * SECOND), Act::Wait);
        assert_eq!(leaving.next(see(Lamp::On), now + 9 * SECOND), Act::Wait);
        assert_eq!(leaving.due(now + 9 * SECOND), Some(now + 10 * SECOND));
        // A guest that blinks for ever is waited for for ever.
        assert_eq!(leaving.next(see(Lamp::Blinking), now + 100 * SECOND), Act::Wait);
        assert_eq!(leaving.due(now + 100 * SECOND), None);
        // It was taken back, or the guest has only now come up.
        assert_eq!(leaving.next(see(Lamp::On), now + 100 * SECOND), Act::Press);
        let mut leaving = Leaving::insist(Some(leaving), false);
        assert_eq!(leaving.next(see(Lamp::On), now + 101 * SECOND), Act::Wait);
        assert_eq!(leaving.next(see(Lamp::Off), now + 101 * SECOND), Act::Pull);
    }

    #[test]
    fn what_the_guest_does_not_use_is_pulled_out_at_once() {
        assert_eq!(Leaving::insist(None, false).next(see(Lamp::Off), Instant::now()), Act::Pull);
    }

    #[test]
    fn who_must_go_fails_first_whatever_the_lamp_says() {
        let now = Instant::now();
        let asked = Leaving::Asked { pressed: Some(now) };
        let mut leaving = Leaving::insist(Some(asked), true);
        for lamp in [Lamp::On, Lamp::Blinking, Lamp::Off] {
            assert_eq!(leaving.next(see(lamp), now), Act::Wait); // not closed yet
        }
        let closed = Sight { closed: true, ..see(Lamp::On) };
        assert_eq!(leaving.next(closed, now), Act::Tell);
        assert_eq!(leaving.next(closed, now + SECOND / 4), Act::Wait);
        assert_eq!(leaving.due(now), Some(now + SECOND / 2));
        let mut leaving = Leaving::insist(Some(leaving), true); // again changes nothing
        assert_eq!(leaving.next(closed, now + SECOND / 2), Act::Pull);
        let done = Arc::new(AtomicBool::new(false));
        let mut leaving = Leaving::insist(Some(Leaving::Out(done.clone())), true);
        assert_eq!(leaving.next(closed, now), Act::Wait);
        done.store(true, Ordering::Release);
        assert_eq!(leaving.next(see(Lamp::Off), now), Act::Wait); // another thread is closing it
        assert_eq!(leaving.next(closed, now), Act::Forget);
    }
}
