//! The serial console: a 16550 with its registers at eight ports.
//!
//! The register logic is vm-superio's; here are its two ends. What the guest writes goes to `out`, a
//! writer that must not block; what people type is put into the receiver's FIFO as far as there is room,
//! and [`Serial::receive`] says how far.

use std::io::Write;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use vm_superio::serial::{SerialEvents, SerialState};

use crate::bus::BusDevice;
use crate::interrupts::Line;
use crate::lock;
use crate::saved::Unfit;

/// Bytes of registers.
pub const LEN: u64 = 8;

/// Called on a vCPU's thread when the guest has taken all input: there is room for more.
pub type Drained = Box<dyn Fn() + Send + Sync>;

struct Events(Drained);

impl SerialEvents for Events {
    fn buffer_read(&self) {}
    fn out_byte(&self) {}
    fn tx_lost_byte(&self) {}
    fn in_buffer_empty(&self) {
        (self.0)();
    }
}

/// What there is to save of a port: its registers (without their names, which are the 16550's), and what was typed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedSerial {
    registers: [u8; 9],
    typed: Vec<u8>,
}

/// The port.
pub struct Serial<W: Write>(Mutex<vm_superio::Serial<Line, Events, W>>);

impl<W: Write + Send> Serial<W> {
    /// A port that interrupts by `line` and writes to `out`.
    pub fn new(line: Line, out: W, drained: Drained) -> Self {
        Self(Mutex::new(vm_superio::Serial::with_events(line, Events(drained), out)))
    }

    /// A port that goes on as one that was saved.
    pub fn restored(line: Line, out: W, drained: Drained, saved: &SavedSerial) -> Result<Self, Unfit> {
        let [low, high, ier, iir, lcr, lsr, mcr, msr, scratch] = saved.registers;
        let state = SerialState {
            baud_divisor_low: low,
            baud_divisor_high: high,
            interrupt_enable: ier,
            interrupt_identification: iir,
            line_control: lcr,
            line_status: lsr,
            modem_control: mcr,
            modem_status: msr,
            scratch,
            in_buffer: saved.typed.clone(),
        };
        let port = vm_superio::Serial::from_state(&state, line, Events(drained), out);
        port.map(|port| Self(Mutex::new(port))).map_err(|_| Unfit("more was typed than a serial port holds"))
    }

    /// What there is to save.
    pub fn save(&self) -> SavedSerial {
        let state = lock(&self.0).state();
        let registers = [
            state.baud_divisor_low,
            state.baud_divisor_high,
            state.interrupt_enable,
            state.interrupt_identification,
            state.line_control,
            state.line_status,
            state.modem_control,
            state.modem_status,
            state.scratch,
        ];
        SavedSerial { registers, typed: state.in_buffer }
    }

    /// Puts typed bytes into the receiver; how many it took. It takes none while the guest has the port
    /// in loopback.
    pub fn receive(&self, typed: &[u8]) -> usize {
        let mut port = lock(&self.0);
        let room = typed.len().min(port.fifo_capacity());
        if room == 0 { 0 } else { port.enqueue_raw_bytes(&typed[..room]).unwrap_or(0) }
    }
}

impl<W: Write + Send> BusDevice for Serial<W> {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        // Registers are bytes: a wider access reads the first.
        if let (Ok(register), Some(first)) = (u8::try_from(offset), data.first_mut()) {
            *first = lock(&self.0).read(register);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let (Ok(register), Some(&first)) = (u8::try_from(offset), data.first()) {
            // What fails is the line's event descriptor, whose counter cannot overflow, or `out`, which
            // drops by itself.
            let _ = lock(&self.0).write(register, first);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

    use super::*;

    fn read(port: &Serial<Vec<u8>>, register: u64) -> u8 {
        let mut data = [0];
        port.read(register, &mut data);
        data[0]
    }

    #[test]
    fn bytes_go_both_ways_and_input_is_bounded() {
        let line = EventFd::new(EFD_NONBLOCK).unwrap();
        let drained = Arc::new(AtomicU32::new(0));
        let count = drained.clone();
        let port = Serial::new(
            Line(line.try_clone().unwrap()),
            Vec::new(),
            Box::new(move || {
                count.fetch_add(1, Ordering::Relaxed);
            }),
        );
        port.write(1, &[1]); // interrupt on received data
        for byte in b"login" {
            port.write(0, &[*byte]);
        }
        assert_eq!(lock(&port.0).writer(), b"login");
        let typed = [b'x'; 1000];
        let took = port.receive(&typed);
        assert!((1..1000).contains(&took));
        assert_eq!(port.receive(&typed), 0);
        assert_eq!(line.read().unwrap(), 1);
        for _ in 0..took {
            assert_eq!(read(&port, 5) & 1, 1);
            assert_eq!(read(&port, 0), b'x');
        }
        assert_eq!(read(&port, 5) & 1, 0);
        assert_eq!(drained.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn any_register_at_any_width() {
        let port = Serial::new(Line(EventFd::new(EFD_NONBLOCK).unwrap()), Vec::new(), Box::new(|| {}));
        crate::testing::poke(&port, 16, 20_000);
    }
}
