//! A machine at rest: on its way there, standing still, written down, and on its way back.
//!
//! ```text
//!          wanted                 all devices idle            (written down)
//!   going ────────▶ stopping ──────────────────────▶ still ─────────────────▶ still, or the end
//!     ▲                                                │
//!     └────────────────────────────────────────────────┘ not wanted any more
//! ```
//!
//! It rests because somebody asked for that, or as long as it takes to write it down. vCPUs stop at once, a device when
//! its request under way has ended; that, and the writing, is not waited for but looked after in each round of the
//! supervisor, which so goes on answering.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use devices::virtio::block::Backend as _;
use spec::control::{EndReason, Save, Status};
use spec::machine::DeviceId;

use crate::attachments::Attachments;
use crate::backend::{Removable, Store};
use crate::descriptors::{Descriptors, InheritError};
use crate::events::{Event, Events};
use crate::exit::chain;
use crate::launch::{Held, SavedFiles};
use crate::lifecycle::Next;
use crate::machine::Machine;
use crate::saved::{SaveError, State};

/// Between two looks at whether all devices have stopped.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Where a machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Going,
    Stopping,
    Still,
}

/// A machine is being written down.
struct Saving {
    /// Until the writing begins.
    files: Option<SavedFiles>,
    end: bool,
    result: Arc<Mutex<Option<Result<(), SaveError>>>>,
}

/// Looks after it.
pub(crate) struct Rest {
    stage: Stage,
    paused: bool,
    saving: Option<Saving>,
    save: Option<Save>,
}

/// Why a machine is not written down, or for the sake of that does not do something else.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestError {
    #[error(transparent)]
    Files(#[from] InheritError),
    #[error("The machine is being saved already")]
    Twice,
    #[error("The machine is being saved: its devices stay as they are")]
    Saving,
    #[error("The device {0} is on its way out: the machine cannot be saved before it is gone")]
    Leaving(DeviceId),
    #[error("The files to save the machine in were not named")]
    NoFiles,
}

impl Rest {
    pub(crate) fn new() -> Self {
        Self { stage: Stage::Going, paused: false, saving: None, save: None }
    }

    /// The machine was built anew: it goes.
    pub(crate) fn begins_anew(&mut self) {
        self.stage = Stage::Going;
    }

    /// Whether its guest can do something.
    pub(crate) fn is_going(&self) -> bool {
        self.stage == Stage::Going
    }

    /// The refusal while it is being written down: its devices stay as they are.
    pub(crate) fn check_not_saving(&self) -> Result<(), RestError> {
        if self.saving.is_some() { Err(RestError::Saving) } else { Ok(()) }
    }

    /// Writes into a status how it is.
    pub(crate) fn describe(&self, status: &mut Status) {
        status.paused = self.paused;
        status.save.clone_from(&self.save);
    }

    /// It is to stand still, or not any more.
    pub(crate) fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// It is to be written down, and to end after that or not.
    pub(crate) fn save(
        &mut self,
        attachments: &Attachments,
        end: bool,
        mut given: Descriptors,
    ) -> Result<(), RestError> {
        if self.saving.is_some() {
            return Err(RestError::Twice);
        }
        if let Some(device) = attachments.leaving() {
            return Err(RestError::Leaving(device));
        }
        let files = SavedFiles::take(&mut given)?.ok_or(RestError::NoFiles)?;
        self.saving = Some(Saving { files: Some(files), end, result: Arc::default() });
        self.save = Some(Save::UnderWay);
        Ok(())
    }

    /// When to look again though nothing has happened.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        let begins = self.saving.as_ref().is_some_and(|saving| saving.files.is_some());
        match self.stage {
            Stage::Stopping => Some(now + LOOK_AGAIN),
            Stage::Still if begins => Some(now),
            Stage::Going | Stage::Still => None,
        }
    }

    /// Does what there is to do. Everything that the guest did before it stopped was heard before this.
    pub(crate) fn tend(
        &mut self,
        machine: &mut Machine,
        held: &Held,
        events: &Arc<Events>,
    ) -> io::Result<Next> {
        let is_wanted = self.paused || self.saving.is_some();
        match self.stage {
            Stage::Going if is_wanted => {
                machine.pause();
                self.stage = Stage::Stopping;
            }
            Stage::Stopping if machine.is_still() => self.stage = Stage::Still,
            Stage::Still if self.saving.is_some() => return Ok(self.go_on_saving(machine, held, events)),
            Stage::Still if !is_wanted => {
                machine.resume()?;
                self.stage = Stage::Going;
            }
            Stage::Going | Stage::Stopping | Stage::Still => {}
        }
        Ok(Next::Run)
    }

    fn go_on_saving(&mut self, machine: &Machine, held: &Held, events: &Arc<Events>) -> Next {
        let Some(saving) = &mut self.saving else { return Next::Run };
        if let Some(files) = saving.files.take() {
            begin(machine, held, files, saving.result.clone(), events);
        }
        let Some(result) = saving.result.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Next::Run;
        };
        let end = saving.end;
        self.saving = None;
        match result {
            Ok(()) if end => {
                self.save = Some(Save::Done);
                Next::End(EndReason::Saved, "The machine was saved, to go on later".to_owned())
            }
            Ok(()) => {
                self.save = Some(Save::Done);
                Next::Run
            }
            Err(error) => {
                self.save = Some(Save::Failed(chain(&error)));
                Next::Run
            }
        }
    }
}

/// Has a machine that stands still written down, on a thread of its own; the result is left, and the supervisor called.
fn begin(
    machine: &Machine,
    held: &Held,
    files: SavedFiles,
    result: Arc<Mutex<Option<Result<(), SaveError>>>>,
    events: &Arc<Events>,
) {
    let (memory, state, events) = (machine.memory.clone(), State::of(machine, held), events.clone());
    let (there, stores) = (result.clone(), held.attachments.stores());
    let write = move || {
        // What the guest has written and not flushed is on its disks as far as it knows, and this process may be their last.
        let flush = |(id, store): &(_, Arc<Removable<dyn Store>>)| {
            store.flush().map_err(|error| SaveError::Flush(*id, error))
        };
        let flushed = stores.iter().try_for_each(flush);
        let written = flushed.and(state).and_then(|state| state.write(&memory, &files));
        *there.lock().unwrap_or_else(PoisonError::into_inner) = Some(written);
        events.push(Event::Devices);
    };
    if let Err(error) = std::thread::Builder::new().name("saving".to_owned()).spawn(write) {
        let failed = Err(SaveError::WriteState(error));
        *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(failed);
    }
}
