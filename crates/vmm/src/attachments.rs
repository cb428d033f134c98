//! The disks and network interfaces of a machine: where each sits, what stands behind it, and whether it is
//! on its way out.
//!
//! The list outlives a reset: the machine is built anew with every device where it was, except those that
//! are leaving.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use devices::limits::{Limiter, Limits, Rate};
use devices::pci::slots;
use devices::virtio::block::{Backend, Block, Engine};
use devices::virtio::device;
use devices::virtio::net::{Net, Traffic};
use serde::{Deserialize, Serialize};
use spec::control::{DeviceState, DiskStatus, NicStatus, Status};
use spec::ids::VolumeId;
use spec::machine::{Device, DeviceId, Disk, Machine, Nic};

use crate::backend::{Removable, Store, Tap, Uring};
use crate::exit::say;
use crate::leaving::Leaving;

/// A device with what stands behind it.
pub(crate) enum Attached {
    /// A disk.
    Disk(Disk, Arc<Removable<dyn Store>>, Arc<Limiter>),
    /// A network interface.
    Nic(Nic, Arc<Removable<Tap>>, Arc<Traffic>),
}

/// Where a device sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Place {
    /// In this slot of PCI bus 0, to the machine's end.
    Slot(u8),
    /// In this root port, until it is taken out.
    Port(u8),
}

/// A device in its place.
pub(crate) struct Attachment {
    pub(crate) what: Attached,
    pub(crate) place: Place,
    /// How far it is on its way out.
    pub(crate) leaving: Option<Leaving>,
}

/// All of them.
pub(crate) struct Attachments {
    ports: u8,
    pub(crate) all: Vec<Attachment>,
}

/// Why a machine cannot have the devices that it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlaceError {
    #[error("The machine has {0} root ports, and there are slots for {max}", max = slots::PORTS)]
    Ports(u8),
    #[error(
        "The machine has no place for the device {0}: its root ports and the slots of its kind are taken"
    )]
    NoPlace(DeviceId),
    #[error("The device {0} is named twice")]
    Twice(DeviceId),
    #[error("Two network interfaces have the index {0}")]
    Index(u8),
}

impl Attached {
    /// A disk on this store.
    pub(crate) fn disk(disk: Disk, store: Box<dyn Store>) -> io::Result<Self> {
        let limiter = Limiter::new(limits_of(&disk.limits))?;
        Ok(Self::Disk(disk, Arc::new(Removable::new(store)), Arc::new(limiter)))
    }

    /// A network interface on this TAP.
    pub(crate) fn nic(nic: Nic, tap: Tap) -> io::Result<Self> {
        let traffic = Traffic::new(limits_of(&nic.limits))?;
        Ok(Self::Nic(nic, Arc::new(Removable::new(Box::new(tap))), Arc::new(traffic)))
    }

    pub(crate) fn id(&self) -> DeviceId {
        match self {
            Self::Disk(disk, ..) => DeviceId::Disk(disk.volume),
            Self::Nic(nic, ..) => DeviceId::Nic(nic.interface),
        }
    }

    /// The device as its driver sees it, in a machine with so many vCPUs.
    pub(crate) fn make(&self, vcpus: u8) -> Box<dyn device::Device> {
        match self {
            Self::Disk(disk, store, limiter) => {
                let (serial, queues) = (disk.serial(), u16::from(vcpus));
                let engine = Uring::new(store.clone()).ok().map(|uring| Box::new(uring) as Box<dyn Engine>);
                let block = Block::new(store.clone(), limiter.clone(), &serial, disk.read_only, queues);
                Box::new(block.with_engine(engine))
            }
            Self::Nic(nic, tap, traffic) => {
                Box::new(Net::new(tap.clone(), traffic.clone(), nic.mac.0, nic.mtu))
            }
        }
    }

    /// From now on it may do so much.
    pub(crate) fn limit(&mut self, limits: spec::machine::Limits) {
        match self {
            Self::Disk(disk, _, limiter) => {
                disk.limits = limits;
                limiter.change(limits_of(&limits));
            }
            Self::Nic(nic, _, traffic) => {
                nic.limits = limits;
                traffic.change(limits_of(&limits));
            }
        }
    }

    /// Whether what stood behind it is closed.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Disk(_, store, _) => store.is_closed(),
            Self::Nic(_, tap, _) => tap.is_closed(),
        }
    }

    /// What closes what stands behind it. It waits for what is under way there, so it may take its time.
    pub(crate) fn closing(&self) -> Box<dyn FnOnce() + Send> {
        match self {
            Self::Disk(disk, store, _) => {
                let (volume, store) = (disk.volume, store.clone());
                Box::new(move || {
                    if let Err(error) = store.close() {
                        say(&format!("The last flush of {volume} failed: {error}"));
                    }
                })
            }
            Self::Nic(_, tap, _) => {
                let tap = tap.clone();
                Box::new(move || tap.close())
            }
        }
    }
}

impl Attachments {
    /// Those that a machine begins with, each in its place; `open` gives what stands behind them.
    pub(crate) fn new<E: From<PlaceError>>(
        machine: &Machine,
        mut open: impl FnMut(&Device) -> Result<Attached, E>,
    ) -> Result<Self, E> {
        let places = places(machine)?;
        let attach = |(device, place)| Ok::<_, E>(Attachment { what: open(&device)?, place, leaving: None });
        let all = places.into_iter().map(attach).collect::<Result<_, _>>()?;
        Ok(Self { ports: machine.ports, all })
    }

    /// Where each sits, to be saved.
    pub(crate) fn places(&self) -> Vec<(DeviceId, Place)> {
        self.all.iter().map(|attachment| (attachment.what.id(), attachment.place)).collect()
    }

    /// Puts each where it sat in the machine that goes on here; whether those were the same devices, each in a place of its
    /// own that there may be.
    pub(crate) fn sit(&mut self, places: &[(DeviceId, Place)]) -> bool {
        if places.len() != self.all.len() || !are_places(places, self.ports) {
            return false;
        }
        self.all.iter_mut().all(|attachment| {
            let id = attachment.what.id();
            let place = places.iter().find(|(other, _)| *other == id).map(|(_, place)| *place);
            place.inspect(|place| attachment.place = *place).is_some()
        })
    }

    /// The stores behind all disks.
    pub(crate) fn stores(&self) -> Vec<(VolumeId, Arc<Removable<dyn Store>>)> {
        let store = |attachment: &Attachment| match &attachment.what {
            Attached::Disk(disk, store, _) => Some((disk.volume, store.clone())),
            Attached::Nic(..) => None,
        };
        self.all.iter().filter_map(store).collect()
    }

    /// The first device on its way out.
    pub(crate) fn leaving(&self) -> Option<DeviceId> {
        self.all.iter().find(|attachment| attachment.leaving.is_some()).map(|attachment| attachment.what.id())
    }

    /// How many ports there are.
    pub(crate) fn ports(&self) -> u8 {
        self.ports
    }

    /// The device of this name, on its way out or not.
    pub(crate) fn find(&mut self, id: DeviceId) -> Option<&mut Attachment> {
        self.all.iter_mut().find(|attachment| attachment.what.id() == id)
    }

    /// The port that a new device is to have, if one is free.
    pub(crate) fn port_for(&self, device: &Device) -> Option<u8> {
        choose(self.ports, &self.taken(), device)
    }

    fn taken(&self) -> Vec<u8> {
        let ports = self.all.iter().filter_map(|attachment| match attachment.place {
            Place::Port(port) => Some(port),
            Place::Slot(_) => None,
        });
        ports.collect()
    }

    /// Writes into a status what devices there are. What is closed is not there, though its port may not be free yet.
    pub(crate) fn describe(&self, status: &mut Status) {
        for Attachment { what, place, leaving } in self.all.iter().filter(|one| !one.what.is_closed()) {
            let state = match leaving {
                None => DeviceState::Attached,
                Some(Leaving::Asked { .. }) => DeviceState::Detaching,
                Some(Leaving::Failing { .. } | Leaving::Out(_)) => DeviceState::Taken,
            };
            let port = match place {
                Place::Port(port) => Some(*port),
                Place::Slot(_) => None,
            };
            match what {
                Attached::Disk(Disk { volume, limits, .. }, store, _) => {
                    let (bytes, failure, limits) = (store.size(), store.failure(), *limits);
                    status.disks.insert(*volume, DiskStatus { port, state, bytes, limits, failure });
                }
                Attached::Nic(nic, ..) => {
                    let limits = nic.limits;
                    status.nics.insert(nic.interface, NicStatus { port, state, limits });
                }
            }
        }
        let taken = u8::try_from(self.taken().len()).unwrap_or(u8::MAX);
        status.free_ports = self.ports.saturating_sub(taken);
    }
}

/// Limits as the devices know them.
fn limits_of(limits: &spec::machine::Limits) -> Limits {
    let rate =
        |rate: spec::machine::Rate| Rate { per_second: rate.per_second, burst: rate.burst, peak: rate.peak };
    Limits { operations: limits.operations.map(rate), bytes: limits.bytes.map(rate) }
}

/// The free port that suits a device: for a disk the first one, for an interface the one that its index
/// counts from the end, or the last.
fn choose(ports: u8, taken: &[u8], device: &Device) -> Option<u8> {
    let mut free = (0..ports).filter(|port| !taken.contains(port));
    match device {
        Device::Disk(_) => free.next(),
        Device::Nic(nic) => {
            let own = ports.checked_sub(nic.index.max(1)).filter(|port| !taken.contains(port));
            own.or(free.next_back())
        }
    }
}

/// Whether these can be where devices sit, no two in one place, in a machine with so many ports. A slot that there is not, or
/// that another device needs, shows when the machine is built.
fn are_places(places: &[(DeviceId, Place)], ports: u8) -> bool {
    let mut taken = BTreeSet::new();
    places.iter().all(|(_, place)| {
        let is_there = match place {
            Place::Port(port) => *port < ports,
            Place::Slot(_) => true,
        };
        is_there && taken.insert(*place)
    })
}

/// Where the devices of a machine sit when it begins; see [`Machine::ports`] and [`slots`].
fn places(machine: &Machine) -> Result<Vec<(Device, Place)>, PlaceError> {
    if machine.ports > slots::PORTS {
        return Err(PlaceError::Ports(machine.ports));
    }
    let mut placed: Vec<(Device, Place)> = Vec::new();
    let mut taken = Vec::new();
    // Interfaces choose first: the place of each is in its name in the guest.
    let mut put = |device: Device, fixed: Option<u8>, stays: bool| {
        let id = device.id();
        if placed.iter().any(|(other, _)| other.id() == id) {
            return Err(PlaceError::Twice(id));
        }
        let port = choose(machine.ports, &taken, &device).filter(|_| !stays);
        taken.extend(port);
        let place = port.map(Place::Port).or(fixed.map(Place::Slot)).ok_or(PlaceError::NoPlace(id))?;
        placed.push((device, place));
        Ok(place)
    };
    for (at, nic) in machine.nics.iter().enumerate() {
        if machine.nics[..at].iter().any(|other| other.index == nic.index) {
            return Err(PlaceError::Index(nic.index));
        }
        put(Device::Nic(nic.clone()), slots::nic(usize::from(nic.index)), nic.index == 0)?;
    }
    let mut in_slots = 0;
    for (index, disk) in machine.disks.iter().enumerate() {
        let place = put(Device::Disk(disk.clone()), slots::disk(in_slots), index == 0)?;
        in_slots += usize::from(matches!(place, Place::Slot(_)));
    }
    Ok(placed)
}

#[cfg(test)]
mod tests {
    use spec::ids::{InstanceId, InterfaceId, VolumeId, VpcId};
    use spec::machine::{Mac, Run};

    use super::*;

    fn disk(number: u64) -> Disk {
        Disk {
            volume: VolumeId::from_random(number),
            read_only: false,
            limits: spec::machine::Limits::default(),
        }
    }

    fn nic(index: u8) -> Nic {
        Nic {
            interface: InterfaceId::from_random(index.into()),
            index,
            vpc: VpcId::from_random(1),
            mac: Mac::from_random(index.into()),
            mtu: 1500,
            queues: 1,
            limits: spec::machine::Limits::default(),
        }
    }

    fn machine(ports: u8, disks: u64, nics: &[u8]) -> Machine {
        Machine {
            instance: InstanceId::from_random(1),
            instance_type: String::new(),
            run: Run { incarnation: 1, attempt: 1 },
            user: 0,
            vcpus: 1,
            memory_mib: 64,
            disks: (0..disks).map(disk).collect(),
            nics: nics.iter().copied().map(nic).collect(),
            ports,
            reboots: 0,
            hibernates: false,
            resumes: false,
            storage: spec::machine::Limits::default(),
        }
    }

    fn places_of(ports: u8, disks: u64, nics: &[u8]) -> Result<[Vec<Place>; 2], PlaceError> {
        let (disks, nics): (Vec<_>, Vec<_>) = places(&machine(ports, disks, nics))?
            .into_iter()
            .partition(|(device, _)| matches!(device, Device::Disk(_)));
        Ok([disks, nics].map(|devices| devices.into_iter().map(|(_, place)| place).collect()))
    }

    #[test]
    fn everything_has_its_place() {
        use Place::{Port, Slot};
        let none = vec![Slot(0x04), Slot(0x10), Slot(0x11)];
        assert_eq!(places_of(0, 3, &[0, 1]), Ok([none, vec![Slot(0x05), Slot(0x18)]]));
        let some = vec![Slot(0x04), Port(0), Port(1)];
        assert_eq!(places_of(4, 3, &[0, 1]), Ok([some, vec![Slot(0x05), Port(3)]]));
        // An interface's place depends on its index alone, as long as there is room for all.
        assert_eq!(places_of(4, 1, &[3, 0]), Ok([vec![Slot(0x04)], vec![Port(1), Slot(0x05)]]));
        // Who finds no port stays where it is.
        let few = vec![Slot(0x04), Port(0), Slot(0x10), Slot(0x11)];
        assert_eq!(places_of(2, 4, &[0, 1]), Ok([few, vec![Slot(0x05), Port(1)]]));
        assert_eq!(places_of(1, 2, &[0, 9]), Ok([vec![Slot(0x04), Slot(0x10)], vec![Slot(0x05), Port(0)]]));
    }

    #[test]
    fn what_has_no_place_is_refused() {
        assert_eq!(places_of(9, 1, &[]), Err(PlaceError::Ports(9)));
        assert!(matches!(places_of(0, 10, &[]), Err(PlaceError::NoPlace(DeviceId::Disk(_)))));
        assert!(places_of(8, 17, &[0]).is_ok() && places_of(8, 18, &[0]).is_err());
        assert!(matches!(places_of(0, 1, &[0, 9]), Err(PlaceError::NoPlace(DeviceId::Nic(_)))));
        assert_eq!(places_of(8, 1, &[1, 0, 1]), Err(PlaceError::Index(1)));
        let mut twice = machine(8, 2, &[]);
        twice.disks[1] = twice.disks[0].clone();
        assert!(matches!(places(&twice), Err(PlaceError::Twice(_))));
    }

    #[test]
    fn nobody_sits_where_another_does() {
        use Place::{Port, Slot};
        let (one, other) = (disk(1).volume, disk(2).volume);
        let are_places = |first, second| {
            let places = [(DeviceId::Disk(one), first), (DeviceId::Disk(other), second)];
            are_places(&places, 2)
        };
        assert!(are_places(Slot(1), Port(1)) && are_places(Port(0), Port(1)));
        assert!(
            !are_places(Port(1), Port(1)) && !are_places(Slot(4), Slot(4)) && !are_places(Slot(4), Port(2))
        );
    }

    #[test]
    fn ports_are_chosen_from_both_ends_and_used_up() {
        let mut taken = Vec::new();
        for device in [Device::Disk(disk(1)), Device::Nic(nic(1)), Device::Disk(disk(2)), Device::Nic(nic(1))]
        {
            taken.extend(choose(4, &taken, &device));
        }
        assert_eq!(taken, [0, 3, 1, 2]);
        assert_eq!(choose(4, &taken, &Device::Disk(disk(3))), None);
        assert_eq!(choose(0, &[], &Device::Nic(nic(1))), None);
    }
}
