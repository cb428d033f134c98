//! The devices at fixed addresses, poked in any order and any width.

use std::io::{self, Write};

use devices::bus::BusDevice;
use devices::clock::{self, Clock};
use devices::interrupts::Line;
use devices::pl011::{self, Pl011};
use devices::power::{self, PowerRegisters};
use devices::pvpanic::PanicDevice;
use devices::serial::{self, Serial};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::input::Input;

struct Void;

impl Write for Void {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Accesses: which device, read or write, how wide, where, what.
pub(crate) fn target(bytes: &[u8]) {
    let line = || EventFd::new(EFD_NONBLOCK).ok().map(Line);
    let (Some(one), Some(other), Some(power)) = (line(), line(), line()) else { return };
    let devices: [(u64, Box<dyn BusDevice>); 5] = [
        (serial::LEN, Box::new(Serial::new(one, Void, Box::new(|| {})))),
        (pl011::LEN, Box::new(Pl011::new(other, Void, Box::new(|| {})))),
        (power::LEN, Box::new(PowerRegisters::new(power, |_| {}))),
        (1, Box::new(PanicDevice(|| {}))),
        (clock::LEN, Box::new(Clock(|| 0))),
    ];
    let mut input = Input(bytes);
    while let Some(how) = input.next() {
        let (len, device) = &devices[usize::from(how) % devices.len()];
        let offset = u64::from(input.half()) % (len + 8);
        let width = usize::from(input.byte() % 8) + 1;
        let mut data = input.bytes::<8>();
        if how & 0x80 == 0 {
            device.read(offset, &mut data[..width]);
        } else {
            device.write(offset, &data[..width]);
        }
    }
}
