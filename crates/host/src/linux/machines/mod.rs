//! Machines as detached processes, each with its run directory and control group.
//!
//! [`Machines`] is the way in. `launch` starts a process, `folder` is what it shares with us, `control` talks with it,
//! `attach` gives it devices while it runs, `hints` listens to it, `logs` keeps what it and its guest said.
//!
//! What must hold:
//! - A process is nobody's child and needs nobody: "started by me" and "found running" are one case.
//! - A machine runs exactly while its folder's lock is held. Asking does not disturb.
//! - It is ended through its control group, never by a process id.
//! - Whatever is found half made or left over, a start clears first.

mod attach;
pub(super) mod control;
mod folder;
mod hints;
mod launch;
mod logs;

use std::collections::BTreeSet;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use spec::control::{EndReason, Request, Status};
use spec::ids::InstanceId;
use spec::machine::{Machine, Run, descriptors as names};
use spec::observed::{MachineState, Observed, Scope};
use spec::steps::Resource;

use self::control::AskError;
use self::folder::Folder;
use self::hints::Hints;
use self::launch::Ground;
pub use self::launch::OpenTap;
use self::logs::Logs;
use super::storage::{Memories, Saved, Storage};
use super::sys::cgroup::Cgroups;
use super::sys::files;
use crate::{Error, ErrorKind};

/// How long a machine may take to say how it is when everything is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How long it may take to answer what it is asked to do.
const ANSWER: Duration = Duration::from_secs(2);
/// How long a guest has for a reboot of its own before it is reset, as EC2 gives it: four minutes (RebootInstances).
const REBOOT: Duration = Duration::from_secs(240);
/// How long the kernel may take to free the lock of a process that was killed.
const DEATH: Duration = Duration::from_secs(10);

/// Where machines live.
#[derive(Clone, Debug)]
pub struct Places {
    /// The folder of run directories, emptied by a reboot of the host.
    pub machines: PathBuf,
    /// The folder of consoles' and monitors' words.
    pub logs: PathBuf,
    /// The monitor's program.
    pub program: PathBuf,
    /// KVM's device.
    pub kvm: PathBuf,
    /// The name of the control group that holds the machines'.
    pub group: String,
}

/// The machines of this host.
pub struct Machines {
    places: Places,
    cgroups: Cgroups,
    logs: Logs,
    hints: Hints,
}

impl Machines {
    /// The machines in these places. What is found running is listened to from the first look on.
    pub fn open(places: Places) -> Result<Self, Error> {
        let what = || format!("Could not prepare {}", places.machines.display());
        files::prepare_folder(&places.machines).map_err(|error| Error::passing(what(), error))?;
        let cgroups = Cgroups::find(&places.group).map_err(|error| match error.kind() {
            io::ErrorKind::Unsupported => Error::new(ErrorKind::Unsupported, error.to_string()),
            _ => Error::passing("Could not look for control groups", error),
        })?;
        let logs = Logs::open(places.logs.clone())
            .map_err(|error| Error::passing(format!("Could not prepare {}", places.logs.display()), error))?;
        let machines = Self { places, cgroups, logs, hints: Hints::new() };
        machines.clear_unlaunched()?;
        machines.forget_words()?;
        Ok(machines)
    }

    /// Adds the machines within `scope` to `observed`, also those of which only a control group is left. Who looks at
    /// everything, as is done by period, also has the words forgotten whose time is over.
    pub fn observe(&self, scope: &Scope, observed: &mut Observed) -> Result<(), Error> {
        if *scope == Scope::Everything {
            self.forget_words()?;
        }
        let covered: BTreeSet<InstanceId> = match scope {
            Scope::Everything => {
                self.all().map_err(|error| Error::passing("Could not look for machines", error))?
            }
            Scope::Resources(resources) => resources.iter().filter_map(machine).collect(),
        };
        for instance in covered {
            let state = self
                .state(instance)
                .map_err(|error| Error::passing(format!("Could not look at machine {instance}"), error))?;
            if matches!(state, Some(MachineState::Running { .. })) {
                self.hints.watch(instance, &self.places.machines);
            }
            observed.machines.extend(state.map(|state| (instance, state)));
        }
        Ok(())
    }

    /// Launches a machine. Where the same run runs already, nothing; what is left of one that ended is cleared.
    pub fn start(&self, machine: &Machine, storage: &Storage, open_tap: OpenTap<'_>) -> Result<(), Error> {
        let id = machine.instance;
        let folder = self.folder(id);
        let failed = |error| Error::passing(format!("Could not look at machine {id}"), error);
        if folder.is_locked().map_err(failed)? {
            return match folder.run().map_err(failed)? {
                Some(run) if run == machine.run => Ok(()),
                other => Err(Error::new(ErrorKind::Passing, still_runs(id, other))),
            };
        }
        self.settle_saved(id, &storage.memories)?;
        self.clear(id)?;
        let Places { program, kvm, .. } = &self.places;
        let ground = Ground { program, kvm, cgroups: &self.cgroups, logs: &self.logs, storage, open_tap };
        match launch::launch(machine, &folder, &ground) {
            Ok(()) => {
                self.hints.watch(id, &self.places.machines);
                Ok(())
            }
            Err(error) => {
                // Should this fail too, the next start or removal clears what is left; the first error is the one to tell.
                let _ = self.clear(id);
                Err(error)
            }
        }
    }

    /// Presses a machine's power button. One that ends before it answers has obeyed.
    pub fn power_off(&self, instance: InstanceId) -> Result<(), Error> {
        match self.ask(instance, &Request::PowerOff) {
            Err(AskError::Silent(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            answer => answer.map(|_| ()).map_err(|error| self.failed(instance, "power off", error)),
        }
    }

    /// Reboots a machine; `count` is the number of reboots the user has asked for.
    pub fn reboot(&self, instance: InstanceId, count: u64) -> Result<(), Error> {
        let patience_ms = u64::try_from(REBOOT.as_millis()).unwrap_or(u64::MAX);
        self.ask(instance, &Request::Reboot { count, patience_ms })
            .map(|_| ())
            .map_err(|error| self.failed(instance, "reboot", error))
    }

    /// Has a machine write itself down and end. One that does so already goes on with that.
    pub fn save(&self, instance: InstanceId, memories: &Memories) -> Result<(), Error> {
        let status =
            self.ask(instance, &Request::Status).map_err(|error| self.failed(instance, "save", error))?;
        if status.save.is_some() {
            return Ok(());
        }
        let Saved { state, memory } = memories.make(instance)?;
        let descriptors = [names::SAVED_STATE, names::SAVED_MEMORY].map(str::to_owned).to_vec();
        let request = Request::Save { end: true, descriptors };
        control::ask(&self.folder(instance).control(), &request, &[state.into(), memory.into()], ANSWER)
            .map(|_| ())
            .map_err(|error| self.failed(instance, "save", error))
    }

    /// Keeps what a machine saved that has ended by that; what any other one began to save is nothing.
    fn settle_saved(&self, instance: InstanceId, memories: &Memories) -> Result<(), Error> {
        let ending = self
            .folder(instance)
            .ending()
            .map_err(|error| Error::passing(format!("Could not look at machine {instance}"), error))?;
        match ending {
            Some(ending) if ending.reason == EndReason::Saved => memories.keep(instance),
            _ => Ok(()),
        }
    }

    /// Kills every process of a machine and returns when they are gone.
    pub fn kill(&self, instance: InstanceId) -> Result<(), Error> {
        let failed = |error| Error::passing(format!("Could not kill machine {instance}"), error);
        self.cgroups.kill(&instance.to_string()).map_err(failed)?;
        let (folder, deadline) = (self.folder(instance), Instant::now() + DEATH);
        while folder.is_locked().map_err(failed)? {
            if Instant::now() > deadline {
                return Err(failed(io::Error::other("Its lock is still held")));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Takes away what is left of a machine that has ended; what it saved stays.
    pub fn remove(&self, instance: InstanceId, memories: &Memories) -> Result<(), Error> {
        let folder = self.folder(instance);
        let failed = |error| Error::passing(format!("Could not clear away machine {instance}"), error);
        if folder.is_locked().map_err(failed)? {
            return Err(Error::new(ErrorKind::Passing, still_runs(instance, folder.run().map_err(failed)?)));
        }
        self.settle_saved(instance, memories)?;
        self.clear(instance)?;
        self.forget_words()
    }

    /// See [`crate::Host::hints`].
    pub fn hints(&self) -> Option<Receiver<Resource>> {
        self.hints.receiver()
    }

    /// See [`crate::Host::console_output`].
    pub fn console_output(&self, instance: InstanceId) -> Result<Vec<u8>, Error> {
        self.logs
            .console(instance)
            .map_err(|error| Error::passing(format!("Could not read the console of {instance}"), error))
    }

    /// See [`crate::Host::attach_console`].
    pub fn attach_console(&self, instance: InstanceId) -> Result<UnixStream, Error> {
        let folder = self.folder(instance);
        control::connect_at_once(&folder.console())
            .map_err(|error| self.failed(instance, "attach to the console of", AskError::Silent(error)))
    }

    /// Kills all machines and takes away all that is theirs but their words. Returns what was done, and the first failure.
    pub fn teardown(&self) -> (Vec<String>, Result<(), Error>) {
        let mut done = Vec::new();
        let all = match self.all() {
            Ok(all) => all,
            Err(error) => return (done, Err(Error::passing("Could not look for machines", error))),
        };
        let mut first = Ok(());
        for instance in all {
            match self.kill(instance).and_then(|()| self.clear(instance)) {
                Ok(()) => done.push(format!("Removed machine {instance}")),
                Err(error) => first = first.and(Err(error)),
            }
        }
        let group = || {
            self.cgroups
                .remove_all()
                .map_err(|error| Error::passing("Could not remove our control group", error))
        };
        (done, first.and_then(|()| group()))
    }

    /// How a machine is; none where there is nothing of it.
    fn state(&self, instance: InstanceId) -> io::Result<Option<MachineState>> {
        let folder = self.folder(instance);
        if folder.is_locked()? {
            let status = control::ask(&folder.control(), &Request::Status, &[], LOOK).ok();
            return Ok(Some(MachineState::Running { run: folder.run()?, status }));
        }
        if let Some(ending) = folder.ending()? {
            return Ok(Some(MachineState::Ended(ending)));
        }
        let is_there = folder.exists() || self.cgroups.exists(&instance.to_string());
        Ok(if is_there { Some(MachineState::Lost { run: folder.run()? }) } else { None })
    }

    /// All machines of which there is anything.
    fn all(&self) -> io::Result<BTreeSet<InstanceId>> {
        let names = files::names(&self.places.machines)?.into_iter().chain(self.cgroups.names()?);
        Ok(names.filter_map(|name| name.parse().ok()).collect())
    }

    fn ask(&self, instance: InstanceId, request: &Request) -> Result<Status, AskError> {
        control::ask(&self.folder(instance).control(), request, &[], ANSWER)
    }

    fn failed(&self, instance: InstanceId, verb: &str, error: AskError) -> Error {
        if self.folder(instance).is_locked().unwrap_or(true) {
            return Error::passing(format!("Could not {verb} machine {instance}"), error);
        }
        Error::new(ErrorKind::NotFound, format!("Could not {verb} machine {instance}: it does not run"))
    }

    /// Takes away all that is left of a machine without a lock: strays in its group first, its folder last, so that what is cut
    /// short is still seen.
    fn clear(&self, instance: InstanceId) -> Result<(), Error> {
        let name = instance.to_string();
        self.cgroups
            .kill(&name)
            .and_then(|()| self.cgroups.remove(&name))
            .and_then(|()| self.folder(instance).remove())
            .map_err(|error| Error::passing(format!("Could not clear away machine {instance}"), error))
    }

    /// Clears what a launcher left that was killed before there was a spec. Nothing ran in it, so no run is lost.
    fn clear_unlaunched(&self) -> Result<(), Error> {
        let unlaunched = |instance: &InstanceId| {
            let folder = self.folder(*instance);
            Ok(folder.exists()
                && !folder.is_locked()?
                && folder.run()?.is_none()
                && folder.ending()?.is_none())
        };
        let failed = |error: io::Error| Error::passing("Could not look for machines", error);
        for instance in self.all().map_err(failed)? {
            if unlaunched(&instance).map_err(failed)? {
                self.clear(instance)?;
            }
        }
        Ok(())
    }

    fn forget_words(&self) -> Result<(), Error> {
        let forgotten = self.logs.forget(&|id| self.folder(id).exists());
        forgotten
            .map_err(|error| Error::passing(format!("Could not tidy {}", self.places.logs.display()), error))
    }

    fn folder(&self, instance: InstanceId) -> Folder {
        Folder::of(&self.places.machines, instance)
    }
}

fn machine(resource: &Resource) -> Option<InstanceId> {
    match resource {
        Resource::Machine(instance) => Some(*instance),
        _ => None,
    }
}

fn still_runs(instance: InstanceId, run: Option<Run>) -> String {
    let run = run.map_or_else(|| "an unknown run".to_owned(), |run| format!("run {run}"));
    format!("Machine {instance} still runs, {run}")
}
