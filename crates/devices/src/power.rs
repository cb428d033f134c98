//! The registers of reduced-hardware ACPI: sleep, reset, and the events behind the power button.
//!
//! Four bytes, which the FADT and the DSDT tell the guest about:
//!
//! ```text
//! 0  sleep control   the guest writes SLP_EN and a sleep type (ACPI 6.4, 4.8.3.7)
//! 1  sleep status    reads as zero: nobody wakes from off
//! 2  reset           the guest writes RESET_VALUE (4.8.3.6)
//! 3  events          which events happened since it was last read; reading clears
//! ```
//!
//! A press sets an event's bit and pulses the line that the generic event device (5.6.9) listens to; its
//! method reads the register and notifies the button. A guest that has no driver for it yet misses the
//! press: press again.

use std::sync::atomic::{AtomicU8, Ordering};

use vm_superio::Trigger;

use crate::bus::BusDevice;
use crate::interrupts::Line;

/// Bytes of registers.
pub const LEN: u64 = 4;
/// Offset of the sleep control register.
pub const SLEEP_CONTROL: u16 = 0;
/// Offset of the sleep status register.
pub const SLEEP_STATUS: u16 = 1;
/// Offset of the reset register.
pub const RESET: u16 = 2;
/// Offset of the events register.
pub const EVENTS: u16 = 3;

/// What a guest writes to reset.
pub const RESET_VALUE: u8 = 1;
/// The sleep type of `\_S5`, soft off.
pub const SLEEP_TYPE_OFF: u8 = 5;
/// The event of the power button.
pub const EVENT_POWER_BUTTON: u8 = 1 << 0;

const SLEEP_TYPE_SHIFT: u32 = 2;
const SLEEP_TYPE_MASK: u8 = 0b111;
const SLEEP_ENABLE: u8 = 1 << 5;

/// What a guest asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To be off.
    Off,
    /// To begin anew.
    Reset,
}

/// The registers. `wished` is called on a vCPU's thread, perhaps several times.
pub struct PowerRegisters<F> {
    line: Line,
    events: AtomicU8,
    wished: F,
}

impl<F: Fn(Wish) + Send + Sync> PowerRegisters<F> {
    /// Registers whose events pulse `line`.
    pub fn new(line: Line, wished: F) -> Self {
        Self { line, events: AtomicU8::new(0), wished }
    }

    /// Presses the power button and lets it go.
    pub fn press_power_button(&self) -> std::io::Result<()> {
        self.events.fetch_or(EVENT_POWER_BUTTON, Ordering::AcqRel);
        self.line.trigger()
    }

    /// The events that the guest has not read yet, to be saved.
    pub fn events(&self) -> u8 {
        self.events.load(Ordering::Acquire)
    }

    /// The events as they were when they were saved; the line is the interrupt controller's to remember.
    pub fn set_events(&self, events: u8) {
        self.events.store(events, Ordering::Release);
    }

    fn write_register(&self, register: u16, value: u8) {
        let sleep_type = (value >> SLEEP_TYPE_SHIFT) & SLEEP_TYPE_MASK;
        match register {
            SLEEP_CONTROL if value & SLEEP_ENABLE != 0 && sleep_type == SLEEP_TYPE_OFF => {
                (self.wished)(Wish::Off)
            }
            RESET if value == RESET_VALUE => (self.wished)(Wish::Reset),
            _ => {}
        }
    }
}

impl<F: Fn(Wish) + Send + Sync> BusDevice for PowerRegisters<F> {
    fn read(&self, offset: u64, data: &mut [u8]) {
        for (register, byte) in (offset..).zip(data) {
            *byte = if register == u64::from(EVENTS) { self.events.swap(0, Ordering::AcqRel) } else { 0 };
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        for (register, &byte) in (0..u16::MAX).skip(usize::try_from(offset).unwrap_or(usize::MAX)).zip(data) {
            self.write_register(register, byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

    use super::*;
    use crate::lock;

    #[test]
    fn the_guest_powers_off_and_resets_by_the_right_values_only() {
        let wishes = Mutex::new(Vec::new());
        let registers =
            PowerRegisters::new(Line(EventFd::new(EFD_NONBLOCK).unwrap()), |wish| lock(&wishes).push(wish));
        for value in 0..=u8::MAX {
            registers.write(0, &[value]);
            registers.write(1, &[value]);
        }
        // SLP_EN with type 5; bits 0, 1, 6 and 7 are not looked at.
        assert_eq!(lock(&wishes).drain(..).collect::<Vec<_>>(), [Wish::Off; 16]);
        for value in 0..=u8::MAX {
            registers.write(2, &[value, value]);
        }
        assert_eq!(*lock(&wishes), [Wish::Reset]);
        registers.write(u64::MAX, &[0xff; 8]);
    }

    #[test]
    fn a_press_is_an_edge_and_is_read_once() {
        let line = EventFd::new(EFD_NONBLOCK).unwrap();
        let registers = PowerRegisters::new(Line(line.try_clone().unwrap()), |_| {});
        registers.press_power_button().unwrap();
        assert_eq!(line.read().unwrap(), 1);
        let mut data = [0xee; 4];
        registers.read(0, &mut data);
        assert_eq!(data, [0, 0, 0, EVENT_POWER_BUTTON]);
        registers.read(0, &mut data);
        assert_eq!(data, [0; 4]);
    }
}
