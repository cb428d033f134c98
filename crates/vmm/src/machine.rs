//! A machine, assembled.
//!
//! Built from what is held, run until it is dropped. Dropping ends its threads, vCPUs first, then the
//! devices', and gives its memory back; nothing of it is left for the next one.

use std::io;
use std::sync::Arc;

use devices::bus::Bus;
use devices::memory::Memory;
use devices::saved::Unfit;
use kvm_ioctls::VmFd;
use spec::control::EndReason;

use crate::arch::memory_map::ram;
use crate::arch::{self, InterruptController, Processors, TablesError};
use crate::boot::kernel::{self, LoadError};
use crate::console::Output;
use crate::events::Events;
use crate::launch::{Held, SavedFiles};
use crate::memory::{self, MemoryError, Pages};
use crate::pci::{Pci, PciError};
use crate::platform::{Platform, PlatformError};
use crate::saved::{RestoreError, State};
use crate::timeline;
use crate::vcpu::{Buses, Vcpus};

/// A running machine. The order of the fields is the order in which it ends.
pub(crate) struct Machine {
    pub(crate) vcpus: Vcpus,
    /// Serial port and power button.
    pub(crate) platform: Platform,
    /// What sits on PCI.
    pub(crate) pci: Pci,
    pub(crate) controller: InterruptController,
    pub(crate) vm: Arc<VmFd>,
    pub(crate) memory: Memory,
}

/// Why a machine could not be built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    #[error("KVM does not {0}")]
    Kvm(&'static str, #[source] kvm_ioctls::Error),
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error("The machine's memory would end at {0:#x}, and this host's processors address {1:#x}")]
    TooMuchMemory(u64, u64),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Tables(#[from] TablesError),
    #[error("Cannot make the machine's fixed devices")]
    Platform(#[from] PlatformError),
    #[error(transparent)]
    Pci(#[from] PciError),
    #[error("Cannot start the vCPUs")]
    Vcpus(#[source] io::Error),
    #[error("Cannot go on from the saved machine")]
    Restore(#[from] RestoreError),
}

impl BuildError {
    /// Whose fault it is: the spec's and its files', or the host's.
    pub(crate) fn reason(&self) -> EndReason {
        match self {
            Self::Load(_) | Self::Tables(_) | Self::TooMuchMemory(..) => EndReason::Unbuildable,
            Self::Restore(_) => EndReason::Unrestorable,
            _ => EndReason::Failed,
        }
    }
}

impl Machine {
    /// Builds it and sets it going: from its kernel, or where a saved one stood, for once.
    pub(crate) fn start(held: &mut Held, output: Output, events: &Arc<Events>) -> Result<Self, BuildError> {
        let saved = held.saved.take().map(|files| read_saved(files, held)).transpose()?;
        let mut machine = Self::build(held, saved.as_ref(), output, events)?;
        match &saved {
            None => machine.load(held)?,
            Some((state, _)) => machine.restore(state)?,
        }
        machine.vcpus.start().map_err(BuildError::Vcpus)?;
        timeline::mark("vCPUs running");
        Ok(machine)
    }

    /// Memory, vCPUs and devices; everything stands still.
    fn build(
        held: &Held,
        saved: Option<&(State, SavedFiles)>,
        output: Output,
        events: &Arc<Events>,
    ) -> Result<Self, BuildError> {
        let refused = |what| move |error| BuildError::Kvm(what, error);
        let vm = Arc::new(arch::create_vm(&held.kvm).map_err(refused("make a virtual machine"))?);
        timeline::mark("virtual machine made");

        let processors = Processors::new(&held.kvm, held.machine.vcpus)
            .map_err(refused("say what processors it offers"))?;
        let memory = guest_memory(held, saved.map(|(_, files)| files), &vm, &processors)?;
        timeline::mark("memory mapped");
        let vcpus = (0..held.machine.vcpus).map(|index| processors.create(&vm, index));
        let vcpus: Vec<_> = vcpus.collect::<Result<_, _>>().map_err(refused("make the vCPUs"))?;
        let controller = arch::add_interrupt_controller(&vm, held.machine.vcpus)
            .map_err(refused("make an interrupt controller"))?;
        timeline::mark("vCPUs made");

        let mut buses = Buses { ports: Bus::default(), memory: Bus::default() };
        let saved_platform = saved.map(|(state, _)| &state.platform);
        let platform = Platform::new(&vm, &mut buses, output, events, saved_platform)?;
        let pci = Pci::new(&vm, &memory, held, &mut buses, events)?;
        timeline::mark("devices made");
        let vcpus = Vcpus::new(vcpus, Arc::new(buses), events);
        Ok(Self { vcpus, platform, pci, controller, vm, memory })
    }

    /// The kernel into memory, the first vCPU at its entry.
    fn load(&self, held: &Held) -> Result<(), BuildError> {
        let loaded = kernel::load(&self.memory, &held.kernel, held.initrd.as_ref())?;
        timeline::mark("kernel and initrd loaded");
        arch::write_tables(&self.memory, &held.machine, &held.command_line, &loaded)?;
        timeline::mark("tables written");
        let begun = self.vcpus.still().first().map_or(Ok(()), |first| arch::begin(first, &loaded.entry));
        begun.map_err(|error| BuildError::Kvm("set the first vCPU", error))
    }

    /// Everything where it was.
    fn restore(&self, state: &State) -> Result<(), RestoreError> {
        self.pci.restore(&state.pci)?;
        state.restore_kvm(self)?;
        self.pci.resume();
        timeline::mark("saved state taken over");
        Ok(())
    }

    /// It has booted: from now on it is about work.
    pub(crate) fn has_booted(&self) {
        memory::prefer(&self.memory, Pages::Huge);
    }

    /// Stops the vCPUs, and tells the devices to stop.
    pub(crate) fn pause(&mut self) {
        self.vcpus.stop();
        self.pci.pause();
    }

    /// Whether everything has stopped.
    pub(crate) fn is_still(&self) -> bool {
        self.pci.is_still()
    }

    /// Everything goes on.
    pub(crate) fn resume(&mut self) -> io::Result<()> {
        self.pci.resume();
        self.vcpus.still().iter().for_each(arch::was_away);
        self.vcpus.start()
    }
}

/// The state of the machine that is gone on from, its devices sitting where they sat.
fn read_saved(files: SavedFiles, held: &mut Held) -> Result<(State, SavedFiles), RestoreError> {
    let state = State::read(&files, &held.machine)?;
    if !held.attachments.sit(&state.places) {
        return Err(Unfit("it had other disks or network interfaces").into());
    }
    timeline::mark("saved state read");
    Ok((state, files))
}

fn guest_memory(
    held: &Held,
    saved: Option<&SavedFiles>,
    vm: &VmFd,
    processors: &Processors,
) -> Result<Memory, BuildError> {
    let ranges = ram(held.machine.memory_mib);
    let end = ranges.iter().map(|(start, bytes)| start.0 + bytes).max().unwrap_or_default();
    if end > processors.address_end() {
        return Err(BuildError::TooMuchMemory(end, processors.address_end()));
    }
    let memory = match saved {
        None => memory::map(&ranges)?,
        Some(files) => memory::map_saved(&ranges, &files.memory)?,
    };
    memory::register(vm, &memory)?;
    Ok(memory)
}
