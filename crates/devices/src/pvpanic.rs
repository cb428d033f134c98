//! The panic device: how a guest's kernel tells the host that it panicked.
//!
//! One byte. Reading gives the events that are understood, writing reports some of them (QEMU's
//! `docs/specs/pvpanic`, which Linux' `pvpanic` driver and the ACPI id `QEMU0001` follow).

use crate::bus::BusDevice;

/// The guest panicked and will do nothing more, or reboot by itself.
const PANICKED: u8 = 1 << 0;
/// The guest panicked and will run its crash kernel first.
const CRASH_LOADED: u8 = 1 << 1;

/// The device. Calls what it was made with on every report, on a vCPU's thread.
pub struct PanicDevice<F>(pub F);

impl<F: Fn() + Send + Sync> BusDevice for PanicDevice<F> {
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(first) = data.first_mut() {
            *first = PANICKED | CRASH_LOADED;
        }
    }

    fn write(&self, _offset: u64, data: &[u8]) {
        if data.first().is_some_and(|events| events & (PANICKED | CRASH_LOADED) != 0) {
            (self.0)();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn only_known_events_are_reports() {
        let reports = AtomicU32::new(0);
        let device = PanicDevice(|| {
            reports.fetch_add(1, Ordering::Relaxed);
        });
        for value in 0..=u8::MAX {
            device.write(0, &[value]);
        }
        assert_eq!(reports.load(Ordering::Relaxed), 192); // all whose two low bits are not both clear
        let mut data = [0xee; 4];
        device.read(0, &mut data);
        assert_eq!(data, [3, 0, 0, 0]);
    }
}
