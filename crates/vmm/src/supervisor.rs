//! The one thread that decides: builds the machine, watches it, builds it anew, ends it.
//!
//! Everything that happens comes here: guest events through a queue, requests and console through
//! sockets, time. What follows is [`Lifecycle`]'s pure answer; here it is only done.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use spec::control::{Answer, EndReason, Request, Status};
use spec::machine::DeviceId;

use crate::console::Console;
use crate::control::Control;
use crate::descriptors::Descriptors;
use crate::events::{Event, Events};
use crate::exit::{chain, say};
use crate::hotplug::{self, HotplugError};
use crate::launch::{Held, Outside};
use crate::lifecycle::{Lifecycle, Next};
use crate::machine::Machine;
use crate::poll::Poll;
use crate::rest::{Rest, RestError};
use crate::timeline;

/// After so long a machine counts as booted.
const BOOT: Duration = Duration::from_secs(30);

/// The supervisor.
pub(crate) struct Supervisor {
    events: Arc<Events>,
    console: Console,
    control: Control,
    life: Lifecycle,
    rest: Rest,
    /// What everybody was last told.
    told: Status,
}

impl Supervisor {
    /// One for the machine that is to be built from `held`.
    pub(crate) fn new(held: &Held, outside: Outside) -> io::Result<Self> {
        let events = Arc::new(Events::new()?);
        let output = crate::console::Output::new(events.clone());
        let mut console = Console::new(output, outside.console, outside.ring)?;
        if outside.standard_console {
            console.attach_standard()?;
        }
        let life = Lifecycle::new(held.machine.run, held.machine.reboots);
        let told = life.status().clone();
        Ok(Self { events, console, control: Control::new(outside.control)?, life, rest: Rest::new(), told })
    }

    /// Runs the machine, as often as it is built anew, to its end: why, and a sentence.
    pub(crate) fn run(mut self, held: &mut Held) -> (EndReason, String) {
        loop {
            let mut machine = match Machine::start(held, self.console.output(), &self.events) {
                Ok(machine) => machine,
                Err(error) => return (error.reason(), chain(&error)),
            };
            self.rest.begins_anew();
            let next = self.watch(&mut machine, held);
            timeline::mark("machine ran");
            drop(machine);
            hotplug::let_go(&mut held.attachments, &self.events);
            timeline::mark("machine taken apart");
            // What it said after its end is about a machine that is no more; only what it printed still
            // counts.
            self.events.take();
            self.console.gather();
            match next {
                Ok(Next::End(reason, message)) => {
                    self.console.finish();
                    return (reason, message);
                }
                // Only in the debug log: a guest may reset itself as often as it likes, and the log must
                // not grow by that.
                Ok(Next::Rebuild(why)) => timeline::mark(&format!("building anew: {why}")),
                Ok(Next::Run | Next::Press) => {}
                Err(error) => return (EndReason::Failed, format!("Cannot watch over the machine: {error}")),
            }
        }
    }

    /// Watches a machine until it is to be taken apart.
    fn watch(&mut self, machine: &mut Machine, held: &mut Held) -> io::Result<Next> {
        let mut booted_at = Instant::now().checked_add(BOOT);
        loop {
            let now = Instant::now();
            if booted_at.take_if(|at| *at <= now).is_some() {
                machine.has_booted();
            }
            let devices_due = hotplug::tend(&mut machine.pci, &mut held.attachments, &self.events, now);
            match self.rest.tend(machine, held, &self.events)? {
                Next::Run | Next::Press => {}
                next => return Ok(next),
            }
            let status = status_of(&self.life, &self.rest, held);
            if self.told != status {
                new_failures(&self.told, &status).for_each(|failure| say(&failure));
                self.control.tell_all(&status);
                self.told = status;
            }
            let mut poll = Poll::default();
            poll.add(self.events.wake(), true, false);
            self.console.wait(&mut poll);
            self.control.wait(&mut poll);
            // A guest that stands still hears no button.
            let life_due = self.life.due().filter(|_| self.rest.is_going());
            let dues = [self.console.due(), life_due, self.rest.due(now), devices_due, booted_at];
            poll.wait(dues.into_iter().flatten().min())?;

            let receive = |typed: &[u8]| machine.platform.serial.receive(typed);
            for event in self.events.take() {
                match event {
                    Event::ConsoleOutput => self.console.gather(),
                    Event::ConsoleDrained => self.console.feed(receive),
                    Event::Devices => {} // they are looked after in every round
                    Event::Guest(did) => match self.life.guest(did) {
                        Next::Run | Next::Press => {}
                        next => return Ok(next),
                    },
                }
            }
            self.console.serve(&poll, receive);
            let (life, rest, events) = (&mut self.life, &mut self.rest, &self.events);
            self.control.serve(&poll, |request, descriptors| {
                life.ask(&request, Instant::now());
                match ask_of_machine(machine, held, rest, events, &request, descriptors) {
                    Ok(()) => Answer::Status(status_of(life, rest, held)),
                    Err(error) => Answer::Refused { refused: chain(&error) },
                }
            });
            match self.life.tick(Instant::now()) {
                _ if !self.rest.is_going() => {}
                Next::Run => {}
                Next::Press => machine.platform.power.press_power_button()?,
                next => return Ok(next),
            }
        }
    }
}

/// How the machine is.
fn status_of(life: &Lifecycle, rest: &Rest, held: &Held) -> Status {
    let mut status = life.status().clone();
    rest.describe(&mut status);
    held.attachments.describe(&mut status);
    status
}

/// What disks did not do for the first time, for the log: once for each, whatever its guest goes on to try.
fn new_failures(before: &Status, now: &Status) -> impl Iterator<Item = String> {
    now.disks.iter().filter_map(|(volume, disk)| {
        let known = before.disks.get(volume).is_some_and(|disk| disk.failure.is_some());
        let failure = disk.failure.as_ref().filter(|_| !known)?;
        Some(format!("{volume}: {failure}. The guest got an I/O error"))
    })
}

/// Why a machine does not do what it is asked.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error(transparent)]
    Rest(#[from] RestError),
    #[error(transparent)]
    Hotplug(#[from] HotplugError),
}

/// Does what is asked about devices, and about rest.
fn ask_of_machine(
    machine: &mut Machine,
    held: &mut Held,
    rest: &mut Rest,
    events: &Arc<Events>,
    request: &Request,
    descriptors: Descriptors,
) -> Result<(), RequestError> {
    let (pci, attachments) = (&mut machine.pci, &mut held.attachments);
    match request {
        Request::Status | Request::PowerOff | Request::Reboot { .. } => {}
        Request::Pause => rest.pause(true),
        Request::Resume => rest.pause(false),
        Request::Save { end, .. } => rest.save(attachments, *end, descriptors)?,
        Request::Attach { device, .. } => {
            rest.check_not_saving()?;
            hotplug::attach(pci, attachments, device, descriptors)?;
        }
        Request::Detach { device, force } => {
            rest.check_not_saving()?;
            hotplug::detach(attachments, *device, *force, events)?;
        }
        Request::Resize { volume, bytes } => {
            rest.check_not_saving()?;
            hotplug::resize(pci, attachments, DeviceId::Disk(*volume), *bytes)?;
        }
        Request::Limit { device, limits } => hotplug::limit(attachments, *device, *limits)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use spec::control::{DeviceState, DiskStatus};
    use spec::machine::{Limits, Run};

    use super::*;

    #[test]
    fn a_failure_is_told_once() {
        let volume = "vol-0123456789abcdef0".parse().unwrap();
        let status = |failure: Option<&str>| {
            let mut status = Status::new(Run { incarnation: 1, attempt: 1 }, 0);
            let (state, limits) = (DeviceState::Attached, Limits::default());
            let failure = failure.map(str::to_owned);
            status.disks.insert(volume, DiskStatus { port: None, state, bytes: 512, limits, failure });
            status
        };
        let told = |before: &Status, now: &Status| new_failures(before, now).collect::<Vec<_>>();
        let (none, some) = (status(None), status(Some("A write failed: No space left on device")));
        let nobody = Status::new(none.run, 0);
        let words =
            "vol-0123456789abcdef0: A write failed: No space left on device. The guest got an I/O error";
        assert_eq!(told(&none, &some), [words]);
        assert_eq!(told(&nobody, &some), [words]);
        assert!(
            told(&some, &some).is_empty() && told(&none, &none).is_empty() && told(&some, &nobody).is_empty()
        );
    }
}
