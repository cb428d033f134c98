//! The machine's devices on PCI: those that sit in their slots to the end, and those that come and go.
//!
//! The one place where a virtio device is added. Who sits where and why: [`slots`] for bus 0,
//! [`crate::attachments`] for disks and network interfaces.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use devices::bus::BadRange;
use devices::memory::Memory;
use devices::pci::SavedSlot;
use devices::pci::{self, BUS_BYTES, HostBridge, NoRoom, Port, Root, SlotTaken, slots};
use devices::saved::Unfit;
use devices::virtio::balloon::Balloon;
use devices::virtio::block;
use devices::virtio::device::Device;
use devices::virtio::pci::{Function, MEMORY_BYTES, SavedFunction};
use devices::virtio::rng::Rng;
use devices::virtio::vsock::{self, Vsock};
use kvm_ioctls::VmFd;
use serde::{Deserialize, Serialize};
use spec::machine::DeviceId;

use crate::arch;
use crate::arch::memory_map::{ECAM, PCI_WINDOW};
use crate::attachments::{Attached, Attachments, Place};
use crate::backend::{CallersAt, DropPages, KernelEntropy};
use crate::events::{Event, Events};
use crate::interrupts::Kvm;
use crate::launch::Held;
use crate::sandbox::Confined;
use crate::vcpu::Buses;

/// All of them.
pub(crate) struct Pci {
    kvm: Arc<Kvm>,
    memory: Memory,
    /// Devices with many queues have one for each.
    vcpus: u8,
    ports: Vec<Arc<Port>>,
    /// Disks and network interfaces, wherever they sit.
    functions: BTreeMap<DeviceId, Arc<Function>>,
    /// The other devices, which are there from beginning to end, by slot.
    others: BTreeMap<u8, Arc<Function>>,
    own: arch::OwnDevices,
}

/// What there is to save of all of them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedPci {
    ports: Vec<SavedSlot>,
    functions: Vec<(DeviceId, SavedFunction)>,
    others: BTreeMap<u8, SavedFunction>,
    own: arch::SavedOwnDevices,
}

/// Why a device is not on the bus.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PciError {
    #[error("Two devices share an address")]
    Overlap(#[from] BadRange),
    #[error(transparent)]
    Slot(#[from] SlotTaken),
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    #[error("Cannot start the device {0}")]
    Start(String, #[source] io::Error),
    #[error("There is no free root port {0}")]
    NoPort(u8),
}

impl Pci {
    /// Bus 0 with everything in it and behind it, put on the machine's buses.
    pub(crate) fn new(
        vm: &Arc<VmFd>,
        memory: &Memory,
        held: &Held,
        buses: &mut Buses,
        events: &Arc<Events>,
    ) -> Result<Self, PciError> {
        let kvm = Arc::new(Kvm(vm.clone()));
        let (memory, vcpus) = (memory.clone(), held.machine.vcpus);
        let (ports, functions, others) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        let own = arch::OwnDevices::default();
        let mut pci = Self { kvm, memory, vcpus, ports, functions, others, own };
        let mut root = Root::new(PCI_WINDOW, ECAM);
        root.insert(slots::HOST_BRIDGE, Arc::new(HostBridge::default()))?;
        for (slot, device, name) in other_devices(held) {
            let function = pci.add(&mut root, slot, device, name.to_owned())?;
            pci.others.insert(slot, function);
        }
        let attachments = &held.attachments;
        for attachment in &attachments.all {
            if let Place::Slot(slot) = attachment.place {
                let id = attachment.what.id();
                let function = pci.add(&mut root, slot, attachment.what.make(vcpus), id.to_string())?;
                pci.functions.insert(id, function);
            }
        }
        for port in 0..attachments.ports() {
            pci.add_port(&mut root, port, attachments, events)?;
        }
        let (ecam, window) = root.finish();
        pci.own = arch::add_own_devices(buses, &ecam)?;
        buses.memory.insert(
            u64::from(ECAM),
            BUS_BYTES * (u64::from(slots::last_bus(attachments.ports())) + 1),
            ecam,
        )?;
        buses.memory.insert(u64::from(PCI_WINDOW), u64::from(ECAM - PCI_WINDOW), window)?;
        Ok(pci)
    }

    fn add(
        &self,
        root: &mut Root,
        slot: u8,
        device: Box<dyn Device>,
        name: String,
    ) -> Result<Arc<Function>, PciError> {
        let function = self.start(device, name, Root::requester(slot), root.place(MEMORY_BYTES)?)?;
        root.insert(slot, function.clone())?;
        Ok(function)
    }

    fn add_port(
        &mut self,
        root: &mut Root,
        index: u8,
        attachments: &Attachments,
        events: &Arc<Events>,
    ) -> Result<(), PciError> {
        let slot = slots::port(index).ok_or(PciError::NoPort(index))?;
        let bus = slots::bus_behind(index);
        let window = root.place(Port::WINDOW_BYTES)?;
        let mut card: Option<Arc<dyn pci::Function>> = None;
        let mut there = attachments.all.iter().filter(|one| one.leaving.is_none());
        if let Some(attachment) = there.find(|one| one.place == Place::Port(index)) {
            // At the beginning of the window, where firmware would have put it.
            card = Some(self.start_card(&attachment.what, bus, window)?);
        }
        let events = events.clone();
        let turned = Box::new(move || events.push(Event::Devices));
        let port = Arc::new(Port::new(slot, bus, window, card, self.kvm.clone(), turned));
        root.insert(slot, port.clone())?;
        self.ports.push(port);
        Ok(())
    }

    fn start_card(&mut self, what: &Attached, bus: u8, base: u32) -> Result<Arc<Function>, PciError> {
        let id = what.id();
        let function =
            self.start(what.make(self.vcpus), id.to_string(), Root::requester_behind(bus), base)?;
        self.functions.insert(id, function.clone());
        Ok(function)
    }

    fn start(
        &self,
        device: Box<dyn Device>,
        name: String,
        requester: u16,
        base: u32,
    ) -> Result<Arc<Function>, PciError> {
        let (memory, kvm) = (self.memory.clone(), self.kvm.clone());
        let device = Box::new(Confined::new(device));
        let function = Function::new(device, requester, base, memory, kvm.clone(), kvm);
        function.map(Arc::new).map_err(|error| PciError::Start(name, error))
    }

    /// The root port with this index.
    pub(crate) fn port(&self, index: u8) -> Option<&Port> {
        self.ports.get(usize::from(index)).map(Arc::as_ref)
    }

    /// Puts a device into a free port; the guest hears of it at once, and finds room for its memory.
    pub(crate) fn insert(&mut self, what: &Attached, index: u8) -> Result<(), PciError> {
        let port = self.ports.get(usize::from(index)).ok_or(PciError::NoPort(index))?.clone();
        let card = self.start_card(what, slots::bus_behind(index), 0)?;
        port.insert(card).map_err(|_| PciError::NoPort(index))
    }

    /// Pulls a device out of its port. It answers nobody any more; dropping the last hold on it waits for its
    /// thread.
    pub(crate) fn pull(&mut self, id: DeviceId, index: u8) -> Option<Arc<Function>> {
        let card = self.ports.get(usize::from(index))?.pull();
        let function = self.functions.remove(&id)?;
        function.retire();
        drop(card);
        Some(function)
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Function>> {
        self.functions.values().chain(self.others.values())
    }

    /// Tells all devices to stop for a while; the vCPUs have.
    pub(crate) fn pause(&self) {
        self.all().for_each(|function| function.pause());
    }

    /// Whether all of them have stopped.
    pub(crate) fn is_still(&self) -> bool {
        self.all().all(|function| function.is_still())
    }

    /// They go on.
    pub(crate) fn resume(&self) {
        self.all().for_each(|function| function.resume());
    }

    /// What there is to save; all devices are still.
    pub(crate) fn save(&self) -> SavedPci {
        SavedPci {
            ports: self.ports.iter().map(|port| port.save()).collect(),
            functions: self.functions.iter().map(|(id, function)| (*id, function.save())).collect(),
            others: self.others.iter().map(|(slot, function)| (*slot, function.save())).collect(),
            own: self.own.save(),
        }
    }

    /// As they were when they were saved, and still.
    pub(crate) fn restore(&self, saved: &SavedPci) -> Result<(), Unfit> {
        let are_same = saved.ports.len() == self.ports.len()
            && saved.functions.iter().map(|(id, _)| id).eq(self.functions.keys())
            && saved.others.keys().eq(self.others.keys());
        if !are_same {
            return Err(Unfit("it had other devices"));
        }
        // Ports before cards: what reaches a card is theirs.
        self.ports.iter().zip(&saved.ports).for_each(|(port, saved)| port.restore(saved));
        let saved_functions = saved.functions.iter().map(|(_, saved)| saved).chain(saved.others.values());
        self.all().zip(saved_functions).try_for_each(|(function, saved)| function.restore(saved))?;
        self.own.restore(&saved.own);
        Ok(())
    }

    /// A disk has another size now: its driver is told.
    pub(crate) fn resized(&self, id: DeviceId, bytes: u64) {
        if let Some(function) = self.functions.get(&id) {
            function.change_config(0, &block::capacity(bytes));
        }
    }
}

/// What a machine has besides disks and network interfaces: where, what, and its name in a sentence.
fn other_devices(held: &Held) -> impl Iterator<Item = (u8, Box<dyn Device>, &'static str)> {
    let entropy = || Box::new(Rng(KernelEntropy)) as Box<dyn Device>;
    let balloon = || Box::new(Balloon(DropPages::new())) as Box<dyn Device>;
    let sockets = |callers: &Arc<CallersAt>| {
        Box::new(Vsock::new(callers.clone(), vsock::FIRST_GUEST)) as Box<dyn Device>
    };
    let all = [
        (slots::ENTROPY, held.entropy.then(entropy), "of entropy"),
        (slots::BALLOON, held.balloon.then(balloon), "the balloon"),
        (slots::SOCKETS, held.callers.as_ref().map(sockets), "of sockets"),
    ];
    all.into_iter().filter_map(|(slot, device, name)| Some((slot, device?, name)))
}
