//! Addresses to devices: what a vCPU's read or write of a port or of memory that is not RAM ends at.
//!
//! A bus is filled while the machine is assembled and never changes afterwards, so looking up takes no
//! lock. PCI devices, whose addresses the guest moves, are behind one range that [`crate::pci::Root`]
//! answers for.

use std::sync::Arc;

/// Something with registers. Called on the vCPUs' threads, at the same time; must return soon.
pub trait BusDevice: Send + Sync {
    /// The guest reads `data.len()` bytes (1 to 8) at `offset` in the device's range.
    fn read(&self, offset: u64, data: &mut [u8]);
    /// The guest writes `data` (1 to 8 bytes) at `offset` in the device's range.
    fn write(&self, offset: u64, data: &[u8]);
}

/// Two devices claimed one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Bus range {start:#x}+{len:#x} is empty, wraps, or overlaps another")]
pub struct BadRange {
    start: u64,
    len: u64,
}

struct Range {
    start: u64,
    len: u64,
    device: Arc<dyn BusDevice>,
}

/// An address space with devices in it.
#[derive(Default)]
pub struct Bus {
    /// In ascending order, without overlaps.
    ranges: Vec<Range>,
}

impl Bus {
    /// Puts a device at `len` addresses from `start` on.
    pub fn insert(&mut self, start: u64, len: u64, device: Arc<dyn BusDevice>) -> Result<(), BadRange> {
        let bad = BadRange { start, len };
        let end = start.checked_add(len).filter(|_| len > 0).ok_or(bad)?;
        if self.ranges.iter().any(|range| start < range.start + range.len && range.start < end) {
            return Err(bad);
        }
        let at = self.ranges.partition_point(|range| range.start < start);
        self.ranges.insert(at, Range { start, len, device });
        Ok(())
    }

    /// Reads. Where nobody answers, or an access reaches out of a device's range, all bits are set, as on
    /// a PC.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        match self.find(address, data.len()) {
            Some((range, offset)) => range.device.read(offset, data),
            None => data.fill(0xff),
        }
    }

    /// Writes. Where nobody answers nothing happens.
    pub fn write(&self, address: u64, data: &[u8]) {
        if let Some((range, offset)) = self.find(address, data.len()) {
            range.device.write(offset, data);
        }
    }

    fn find(&self, address: u64, len: usize) -> Option<(&Range, u64)> {
        let at = self.ranges.partition_point(|range| range.start <= address).checked_sub(1)?;
        let range = &self.ranges[at];
        let offset = address - range.start;
        let end = offset.checked_add(u64::try_from(len).ok()?)?;
        (end <= range.len).then_some((range, offset))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::lock;

    #[derive(Default)]
    struct Recorder(Mutex<Vec<(u64, Vec<u8>)>>);

    impl BusDevice for Recorder {
        fn read(&self, offset: u64, data: &mut [u8]) {
            data.fill(u8::try_from(offset).unwrap());
        }
        fn write(&self, offset: u64, data: &[u8]) {
            lock(&self.0).push((offset, data.to_vec()));
        }
    }

    #[test]
    fn an_access_finds_its_device_or_nobody() {
        let (low, high) = (Arc::new(Recorder::default()), Arc::new(Recorder::default()));
        let mut bus = Bus::default();
        bus.insert(0x20, 8, high.clone()).unwrap();
        bus.insert(0x10, 8, low.clone()).unwrap();
        let mut data = [0; 2];
        bus.read(0x16, &mut data);
        assert_eq!(data, [6; 2]);
        for nobody in [0x0f, 0x17, 0x18, 0x28, u64::MAX] {
            data = [0; 2];
            bus.read(nobody, &mut data);
            assert_eq!(data, [0xff; 2], "at {nobody:#x}");
            bus.write(nobody, &data);
        }
        bus.write(0x27, &[9]);
        assert_eq!(*lock(&high.0), [(7, vec![9])]);
        assert!(lock(&low.0).is_empty());
    }

    #[test]
    fn ranges_never_overlap() {
        let mut bus = Bus::default();
        let device = Arc::new(Recorder::default());
        bus.insert(0x10, 0x10, device.clone()).unwrap();
        for (start, len) in [(0x10, 1), (0x1f, 1), (0, 0x11), (0, 0x100), (0x30, 0), (u64::MAX, 2)] {
            assert!(bus.insert(start, len, device.clone()).is_err(), "{start:#x}+{len:#x}");
        }
        bus.insert(0x20, 1, device.clone()).unwrap();
        bus.insert(0xf, 1, device).unwrap();
    }
}
