//! A machine, assembled.
//!
//! Built from what is held, run until it is dropped. Dropping ends its threads, vCPUs first, then the
//! devices', and gives its memory back; nothing of it is left for the next one.

use std::io;
use std::sync::Arc;

use devices::bus::Bus;
use devices::memory::Memory;
use kvm_ioctls::VmFd;
use spec::control::EndReason;

use crate::arch::memory_map::ram;
use crate::arch::{self, Processors, TablesError};
use crate::boot::kernel::{self, LoadError};
use crate::console::Output;
use crate::events::Events;
use crate::launch::Held;
use crate::memory::{self, MemoryError, Pages};
use crate::pci::{Pci, PciError};
use crate::platform::{Platform, PlatformError};
use crate::timeline;
use crate::vcpu::{Buses, Vcpus};

/// A running machine. The order of the fields is the order in which it ends.
pub(crate) struct Machine {
    _vcpus: Vcpus,
    /// Serial port and power button.
    pub(crate) platform: Platform,
    /// What sits on PCI.
    pub(crate) pci: Pci,
    _buses: Arc<Buses>,
    _vm: Arc<VmFd>,
    memory: Memory,
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
}

impl BuildError {
    /// Whose fault it is: the spec's and its files', or the host's.
    pub(crate) fn reason(&self) -> EndReason {
        match self {
            Self::Load(_) | Self::Tables(_) | Self::TooMuchMemory(..) => EndReason::Unbuildable,
            _ => EndReason::Failed,
        }
    }
}

impl Machine {
    /// Builds it and sets it going.
    pub(crate) fn start(held: &Held, output: Output, events: &Arc<Events>) -> Result<Self, BuildError> {
        let refused = |what| move |error| BuildError::Kvm(what, error);
        let vm = Arc::new(arch::create_vm(&held.kvm).map_err(refused("make a virtual machine"))?);
        timeline::mark("virtual machine made");

        let processors = Processors::new(&held.kvm, held.machine.vcpus)
            .map_err(refused("say what processors it offers"))?;
        let memory = guest_memory(held, &vm, &processors)?;
        timeline::mark("memory mapped");
        let vcpus = (0..held.machine.vcpus).map(|index| processors.create(&vm, index));
        let vcpus: Vec<_> = vcpus.collect::<Result<_, _>>().map_err(refused("make the vCPUs"))?;
        arch::add_interrupt_controller(&vm, held.machine.vcpus)
            .map_err(refused("make an interrupt controller"))?;
        timeline::mark("vCPUs made");

        let mut buses = Buses { ports: Bus::default(), memory: Bus::default() };
        let platform = Platform::new(&vm, &mut buses, output, events)?;
        let pci = Pci::new(&vm, &memory, held, &mut buses, events)?;
        timeline::mark("devices made");

        let loaded = kernel::load(&memory, &held.kernel, held.initrd.as_ref())?;
        timeline::mark("kernel and initrd loaded");
        arch::write_tables(&memory, &held.machine, &held.command_line, &loaded)?;
        timeline::mark("tables written");

        vcpus
            .first()
            .map_or(Ok(()), |first| arch::begin(first, &loaded.entry))
            .map_err(refused("set the first vCPU"))?;
        let buses = Arc::new(buses);
        let vcpus = Vcpus::start(vcpus, &buses, events).map_err(BuildError::Vcpus)?;
        timeline::mark("vCPUs running");
        Ok(Self { _vcpus: vcpus, platform, pci, _buses: buses, _vm: vm, memory })
    }
}

impl Machine {
    /// It has booted: from now on it is about work.
    pub(crate) fn has_booted(&self) {
        memory::prefer(&self.memory, Pages::Huge);
    }
}

fn guest_memory(held: &Held, vm: &VmFd, processors: &Processors) -> Result<Memory, BuildError> {
    let ranges = ram(held.machine.memory_mib);
    let end = ranges.iter().map(|(start, bytes)| start.0 + bytes).max().unwrap_or_default();
    if end > processors.address_end() {
        return Err(BuildError::TooMuchMemory(end, processors.address_end()));
    }
    let memory = memory::map(&ranges)?;
    memory::register(vm, &memory)?;
    Ok(memory)
}
