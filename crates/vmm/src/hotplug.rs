//! Devices come and go: the operator's work, on the supervisor's thread.
//!
//! What is asked for arrives by the control socket; what a guest says by a port's lamp, or a thread that
//! clears away, by [`Event::Devices`]. What takes time (closing a volume, waiting for a device's thread)
//! is done beside, on a thread of its own for each device that leaves.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use spec::machine::{Device, DeviceId, Limits};

use crate::attachments::{Attached, Attachment, Attachments, Place};
use crate::descriptors::Descriptors;
use crate::events::{Event, Events};
use crate::launch::{LaunchError, open_device};
use crate::leaving::{Act, Leaving, Sight};
use crate::pci::{Pci, PciError};

/// Between two looks at whether nobody holds a device any more that was pulled out: a vCPU may be in the
/// middle of an access to it.
const LAST_HOLDS: Duration = Duration::from_millis(1);

/// Why a request about a device is not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HotplugError {
    #[error("No root port is free for the device {0}")]
    NoPort(DeviceId),
    #[error("The device {0} is on its way out")]
    Leaving(DeviceId),
    #[error("The device {0} is in no root port: it stays until the machine ends")]
    Stays(DeviceId),
    #[error("The machine has no disk {0}")]
    NoDisk(DeviceId),
    #[error("The machine has no device {0}")]
    NoDevice(DeviceId),
    #[error("Cannot make the disk {0} larger")]
    Grow(DeviceId, #[source] io::Error),
    #[error("Cannot open what stands behind the device {0}")]
    Open(DeviceId, #[source] LaunchError),
    #[error(transparent)]
    Pci(#[from] PciError),
}

/// Gives the guest a device. One that it has already it keeps.
pub(crate) fn attach(
    pci: &mut Pci,
    attachments: &mut Attachments,
    device: &Device,
    mut descriptors: Descriptors,
) -> Result<(), HotplugError> {
    let id = device.id();
    if let Some(attachment) = attachments.find(id) {
        return if attachment.leaving.is_some() { Err(HotplugError::Leaving(id)) } else { Ok(()) };
    }
    let port = attachments.port_for(device).ok_or(HotplugError::NoPort(id))?;
    let what = open_device(&mut descriptors, device).map_err(|error| HotplugError::Open(id, error))?;
    pci.insert(&what, port)?;
    attachments.all.push(Attachment { what, place: Place::Port(port), leaving: None });
    Ok(())
}

/// Begins to take a device away, or goes on with it by force.
pub(crate) fn detach(
    attachments: &mut Attachments,
    id: DeviceId,
    force: bool,
    events: &Arc<Events>,
) -> Result<(), HotplugError> {
    let Some(attachment) = attachments.find(id) else { return Ok(()) };
    if let Place::Slot(_) = attachment.place {
        return Err(HotplugError::Stays(id));
    }
    let failed = matches!(attachment.leaving, Some(Leaving::Failing { .. }));
    let leaving = Leaving::insist(attachment.leaving.take(), force);
    if matches!(leaving, Leaving::Failing { .. }) && !failed {
        beside(events, attachment.what.closing());
    }
    attachment.leaving = Some(leaving);
    Ok(())
}

/// Makes a disk larger and tells its driver.
pub(crate) fn resize(
    pci: &Pci,
    attachments: &mut Attachments,
    id: DeviceId,
    bytes: u64,
) -> Result<(), HotplugError> {
    use devices::virtio::block::Backend as _;
    let Some(Attachment { what: Attached::Disk(_, store, _), leaving: None, .. }) = attachments.find(id)
    else {
        return Err(HotplugError::NoDisk(id));
    };
    let before = store.size();
    store.grow(bytes).map_err(|error| HotplugError::Grow(id, error))?;
    if store.size() != before {
        pci.resized(id, store.size());
    }
    Ok(())
}

/// Changes how much a device may do.
pub(crate) fn limit(attachments: &mut Attachments, id: DeviceId, limits: Limits) -> Result<(), HotplugError> {
    attachments.find(id).ok_or(HotplugError::NoDevice(id))?.what.limit(limits);
    Ok(())
}

/// Looks after everyone who is on the way out; when to do so again though nothing has happened.
pub(crate) fn tend(
    pci: &mut Pci,
    attachments: &mut Attachments,
    events: &Arc<Events>,
    now: Instant,
) -> Option<Instant> {
    attachments.all.retain_mut(|attachment| !is_gone(pci, attachment, events, now));
    let leaving = attachments.all.iter().filter_map(|attachment| attachment.leaving.as_ref());
    leaving.filter_map(|leaving| leaving.due(now)).min()
}

/// The machine is about to be built anew: nobody holds those back any more who were to leave, and they are not
/// built again.
pub(crate) fn let_go(attachments: &mut Attachments, events: &Arc<Events>) {
    for Attachment { what, leaving, .. } in &mut attachments.all {
        if matches!(leaving, Some(Leaving::Asked { .. } | Leaving::Failing { .. })) {
            *leaving = Some(Leaving::Out(beside(events, what.closing())));
        }
    }
}

/// Does what there is to do about one device, if it is leaving; whether nothing is left of it.
fn is_gone(pci: &mut Pci, attachment: &mut Attachment, events: &Arc<Events>, now: Instant) -> bool {
    let Attachment { what, place: Place::Port(index), leaving: Some(leaving) } = attachment else {
        return false;
    };
    let Some(port) = pci.port(*index) else { return false };
    let sight = Sight { lamp: port.lamp(), unheard: port.is_button_unheard(), closed: what.is_closed() };
    match leaving.next(sight, now) {
        Act::Wait => false,
        Act::Press => {
            port.press();
            false
        }
        Act::Tell => {
            // Of a disk that is closed nothing is left.
            if let Attached::Disk(..) = what {
                pci.resized(what.id(), 0);
            }
            false
        }
        Act::Pull => {
            let (function, close) = (pci.pull(what.id(), *index), what.closing());
            *leaving = Leaving::Out(beside(events, move || {
                while function.as_ref().is_some_and(|function| Arc::strong_count(function) > 1) {
                    std::thread::sleep(LAST_HOLDS);
                }
                drop(function);
                close();
            }));
            false
        }
        Act::Forget => true,
    }
}

/// Does something on a thread of its own; what is returned is set when it is done, and the supervisor called.
fn beside(events: &Arc<Events>, work: impl FnOnce() + Send + 'static) -> Arc<AtomicBool> {
    let done = Arc::new(AtomicBool::new(false));
    let (done_there, events) = (done.clone(), events.clone());
    let all = Arc::new(Mutex::new(Some(move || {
        work();
        done_there.store(true, Ordering::Release);
        events.push(Event::Devices);
    })));
    let all_here = all.clone();
    let thread = std::thread::Builder::new().name("clearing".to_owned());
    // A host that gives us no thread has it done here, at leisure.
    if thread.spawn(move || run_once(&all)).is_err() {
        run_once(&all_here);
    }
    done
}

fn run_once(work: &Mutex<Option<impl FnOnce()>>) {
    let work = work.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(work) = work {
        work();
    }
}
