//! A virtio device as a PCI function: where its registers are, and what writing them sets in motion.

pub(super) mod rest;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::common::{self, Common, Then};
use super::notifier::Notifier;
use crate::interrupts::{Doorbells, Messages};
use crate::lock;
use crate::memory::Memory;
use crate::pci::{self, COMMAND, ConfigSpace, Identity, Root};
use crate::virtio::device::{Active, Device, Left, Worker};
use crate::virtio::queue::{Broken, Ring};

/// Bytes of memory that a function asks for.
pub const MEMORY_BYTES: u32 = 0x4000;

/// The parts of a function's memory; each begins where its number says and ends where the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Region {
    Common = 0x0000,
    Isr = 0x0400,
    Device = 0x0800,
    Table = 0x1000,
    Pending = 0x1800,
    Bells = 0x2000,
}

impl Region {
    const DESCENDING: [Self; 6] =
        [Self::Bells, Self::Pending, Self::Table, Self::Device, Self::Isr, Self::Common];

    const fn start(self) -> u32 {
        self as u32
    }

    /// The part that an offset lies in, and where in it.
    fn of(offset: u64) -> (Self, usize) {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let within = |part: Self| Some((part, offset.checked_sub(part as usize)?));
        Self::DESCENDING.into_iter().find_map(within).unwrap_or((Self::Common, offset))
    }
}

/// Bytes from one queue's doorbell to the next.
const BELL_STRIDE: usize = 4;

/// virtio's PCI vendor, and the offset of device ids of non-transitional devices (4.1.2).
const VENDOR: u16 = 0x1af4;
const DEVICE_ID_BASE: u16 = 0x1040;
/// The vendor-specific capability, and the types that virtio gives it (4.1.4).
const CAPABILITY: u8 = 0x09;
const COMMON_CFG: u8 = 1;
const NOTIFY_CFG: u8 = 2;
const ISR_CFG: u8 = 3;
const DEVICE_CFG: u8 = 4;
const PCI_CFG: u8 = 5;

/// `claims` of a function whose memory is not decoded.
const NOWHERE: u64 = 0;

/// What the guest's accesses change.
struct State {
    config: ConfigSpace,
    common: Common,
    worker: Worker,
    /// A reset is under way: the worker has been told to stop.
    resetting: bool,
    /// It was taken out of the machine.
    retired: bool,
    /// What the device says of itself.
    device_config: Vec<u8>,
    /// How the device left its rings when it last rested; of no use once its driver starts it anew.
    left: Left,
}

/// A virtio device in a PCI slot.
pub struct Function {
    state: Mutex<State>,
    /// Where the memory is decoded now, or `NOWHERE`.
    base: AtomicU64,
    notifier: Arc<Notifier>,
    bells: Vec<Arc<EventFd>>,
    memory: Memory,
    doorbells: Arc<dyn Doorbells>,
    /// Offset of MSI-X message control.
    msix_control: usize,
    /// Offset of the capability that reaches the memory through configuration space.
    window: usize,
}

impl Function {
    /// A device for the place with this requester id, its thread started and waiting. Its memory is at
    /// `base`, or at 0 until the guest places it.
    pub fn new(
        device: Box<dyn Device>,
        requester: u16,
        base: u32,
        memory: Memory,
        messages: Arc<dyn Messages>,
        doorbells: Arc<dyn Doorbells>,
    ) -> io::Result<Self> {
        let (kind, sizes, device_config) = (device.kind(), device.queue_sizes(), device.config());
        let queues = u16::try_from(sizes.len()).map_err(io::Error::other)?;
        let notifier = Arc::new(Notifier::new(queues, messages, requester));
        let common = Common::new(device.features(), &sizes);
        let bells =
            (0..queues).map(|_| EventFd::new(EFD_NONBLOCK).map(Arc::new)).collect::<io::Result<_>>()?;

        let mut config = ConfigSpace::new(Identity {
            vendor: VENDOR,
            device: DEVICE_ID_BASE + kind.id,
            revision: 1,
            class: kind.class,
            subsystem: (VENDOR, DEVICE_ID_BASE + kind.id),
        });
        config.set_memory(MEMORY_BYTES, base);
        let msix_control =
            notifier.msix.add_capability(&mut config, Region::Table.start(), Region::Pending.start());
        let window = add_capabilities(&mut config, queues, &device_config);

        let worker = Worker::new(device, notifier.clone())?;
        let (resetting, retired, left) = (false, false, Left::default());
        let state = State { config, common, worker, resetting, retired, device_config, left };
        Ok(Self {
            state: Mutex::new(state),
            base: AtomicU64::new(NOWHERE),
            notifier,
            bells,
            memory,
            doorbells,
            msix_control,
            window,
        })
    }

    /// The device says something else of itself from now on, in these bytes from `at` on: the driver is told.
    pub fn change_config(&self, at: usize, bytes: &[u8]) {
        let mut state = lock(&self.state);
        let Some(place) = state.device_config.get_mut(at..).and_then(|rest| rest.get_mut(..bytes.len()))
        else {
            debug_assert!(false, "{} bytes at {at} are beyond the device's configuration", bytes.len());
            return;
        };
        place.copy_from_slice(bytes);
        // Still under the lock: who reads a new configuration finds a new generation.
        self.notifier.config_changed();
    }

    /// The device was taken out of the machine: it answers nowhere any more, sends no message, and its
    /// work stops. Does not wait for that; dropping does.
    pub fn retire(&self) {
        let mut state = lock(&self.state);
        state.retired = true;
        state.config.put(COMMAND, &[0; 2]);
        state.config.put(self.msix_control, &[0; 2]);
        self.settle(&state);
        state.worker.stop();
    }

    /// Makes what follows from configuration space so: where memory is decoded, with its doorbells, and
    /// MSI-X's control.
    fn settle(&self, state: &State) {
        self.notifier.msix.set_control(state.config.u16_at(self.msix_control));
        let new = state.config.memory_base().unwrap_or(NOWHERE);
        let old = self.base.swap(new, Ordering::AcqRel);
        if old == new {
            return;
        }
        for (queue, bell) in (0_u64..).zip(&self.bells) {
            let at = Region::Bells as u64 + queue * BELL_STRIDE as u64;
            // A doorbell that cannot be attached costs an exit for each ring, in `write_memory`, and
            // nothing else.
            if old != NOWHERE {
                let _ = self.doorbells.detach(old + at, bell);
            }
            if new != NOWHERE {
                let _ = self.doorbells.attach(new + at, bell);
            }
        }
    }

    /// Finishes a reset whose device has stopped.
    fn finish_reset(&self, state: &mut State) {
        if state.resetting && state.worker.is_idle() {
            state.resetting = false;
            state.common.reset();
            self.notifier.reset();
        }
    }

    fn write_common(&self, offset: usize, data: &[u8]) {
        let mut state = lock(&self.state);
        self.finish_reset(&mut state);
        if state.resetting || state.retired {
            // The driver waits for status 0 before it goes on (4.1.4.3.2); one that does not is not heard.
            return;
        }
        match state.common.write(offset, data, &self.notifier) {
            Then::Nothing => {}
            Then::Reset => {
                state.worker.stop();
                state.resetting = true;
                self.finish_reset(&mut state);
            }
            Then::Start => match self.activate(&state.common, &Left::default()) {
                Ok(active) => state.worker.start(active),
                Err(Broken(_)) => self.notifier.needs_reset(),
            },
        }
    }

    /// What the driver set up, each ring from its beginning, or where it is said that the device left it.
    fn activate(&self, common: &Common, left: &Left) -> Result<Active, Broken> {
        let queues = common.build_queues(&self.memory)?;
        let rings = (0_u16..).zip(queues).zip(&self.bells).map(|((index, queue), bell)| {
            let position = left.positions.get(usize::from(index)).copied().flatten().unwrap_or_default();
            queue.map(|queue| Ring::new(queue, index, bell.clone(), self.notifier.clone()).at(position))
        });
        let (memory, features, kept) = (self.memory.clone(), common.agreed(), left.kept);
        Ok(Active { memory, features, rings: rings.collect(), kept })
    }

    /// What the capability that reaches memory through configuration space points at: offset and width.
    fn window_target(&self, config: &ConfigSpace) -> Option<(u64, usize)> {
        let mut register = [0];
        config.read(self.window + 4, &mut register);
        let (offset, len) = (config.u32_at(self.window + 8), config.u32_at(self.window + 12));
        let width = usize::try_from(len).ok().filter(|width| matches!(width, 1 | 2 | 4))?;
        (register == [0] && offset < MEMORY_BYTES).then_some((u64::from(offset), width))
    }

    fn touches_window(&self, offset: usize, len: usize) -> bool {
        let data = self.window + 16;
        offset < data + 4 && data < offset.saturating_add(len)
    }
}

/// Says where everything is (4.1.4); the offset of the capability that reaches the memory through
/// configuration space.
fn add_capabilities(config: &mut ConfigSpace, queues: u16, device_config: &[u8]) -> usize {
    let stride = u32::try_from(BELL_STRIDE).unwrap_or(u32::MAX);
    let device_len = u32::try_from(device_config.len()).unwrap_or(u32::MAX);
    let mut add = |kind, start: u32, len: u32, more: &[u8], writable: &[u8]| {
        // Its own length with id and link, the kind, register 0 with an id and padding, offset, length.
        let own_len = u8::try_from(16 + more.len()).unwrap_or(u8::MAX);
        let head = [own_len, kind, 0, 0, 0, 0];
        let body = [&head[..], &start.to_le_bytes(), &len.to_le_bytes(), more].concat();
        config.add_capability(CAPABILITY, &body, writable)
    };
    add(COMMON_CFG, Region::Common.start(), common::LEN, &[], &[]);
    add(ISR_CFG, Region::Isr.start(), 1, &[], &[]);
    if device_len > 0 {
        // Linux takes a function for broken that has the capability and nothing in it.
        add(DEVICE_CFG, Region::Device.start(), device_len, &[], &[]);
    }
    add(NOTIFY_CFG, Region::Bells.start(), u32::from(queues) * stride, &stride.to_le_bytes(), &[]);
    let mut writable = [0; 18];
    writable[2] = 0xff; // the register number,
    writable[6..].fill(0xff); // offset, length, and the data itself
    add(PCI_CFG, 0, 0, &[0; 4], &writable)
}

impl pci::Function for Function {
    fn read_config(&self, offset: usize, data: &mut [u8]) {
        if self.touches_window(offset, data.len()) {
            let target = self.window_target(&lock(&self.state).config);
            if let Some((at, width)) = target {
                let mut value = [0; 4];
                pci::Function::read_memory(self, at, &mut value[..width]);
                lock(&self.state).config.put(self.window + 16, &value);
            }
        }
        lock(&self.state).config.read(offset, data);
    }

    fn write_config(&self, offset: usize, data: &[u8]) {
        let mut state = lock(&self.state);
        if state.retired {
            // A vCPU that found it just before it was taken out.
            return;
        }
        state.config.write(offset, data);
        self.settle(&state);
        if self.touches_window(offset, data.len())
            && let Some((at, width)) = self.window_target(&state.config)
        {
            let value = state.config.u32_at(self.window + 16).to_le_bytes();
            drop(state);
            pci::Function::write_memory(self, at, &value[..width]);
        }
    }

    fn set_bus(&self, bus: u8) {
        self.notifier.msix.set_requester(Root::requester_behind(bus));
    }

    fn claims(&self, address: u64) -> Option<u64> {
        let base = self.base.load(Ordering::Acquire);
        let offset = address.checked_sub(base)?;
        (base != NOWHERE && offset < u64::from(MEMORY_BYTES)).then_some(offset)
    }

    fn read_memory(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        match Region::of(offset) {
            (Region::Common, at) => {
                let mut state = lock(&self.state);
                self.finish_reset(&mut state);
                state.common.read(at, data, &self.notifier);
            }
            (Region::Isr, at) => {
                if let (0, Some(first)) = (at, data.first_mut()) {
                    *first = self.notifier.take_isr();
                }
            }
            (Region::Device, at) => {
                let state = lock(&self.state);
                for (at, byte) in (at..).zip(data) {
                    *byte = state.device_config.get(at).copied().unwrap_or(0);
                }
            }
            (Region::Table, at) => self.notifier.msix.read_table(at, data),
            (Region::Pending, at) => self.notifier.msix.read_pending(at, data),
            (Region::Bells, _) => {}
        }
    }

    fn write_memory(&self, offset: u64, data: &[u8]) {
        match Region::of(offset) {
            (Region::Common, at) => self.write_common(at, data),
            (Region::Table, at) => self.notifier.msix.write_table(at, data),
            (Region::Bells, at) => {
                if let Some(bell) = self.bells.get(at / BELL_STRIDE) {
                    // A counter that is full wakes the device all the same.
                    let _ = bell.write(1);
                }
            }
            // No device here has configuration that its driver writes; the rest is ours alone.
            (Region::Isr | Region::Device | Region::Pending, _) => {}
        }
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        // The hypervisor would keep signalling bells that nobody hears, at addresses that are others' now.
        self.retire();
    }
}

#[cfg(test)]
mod tests;
