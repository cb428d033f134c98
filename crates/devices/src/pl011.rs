//! The serial console of Arm machines: a PL011 (Arm DDI 0183), of which also the subset is true that Arm's
//! SBSA calls a generic UART.
//!
//! What the guest writes goes to `out`, a writer that must not block, and is gone at once, so there is
//! always room to write; what people type waits in the receiver's FIFO as far as there is room, and
//! [`Pl011::receive`] says how far. The FIFO is always on, and the line always carries: speed, parity and
//! modem lines are kept as the guest wrote them and mean nothing.
//!
//! It interrupts by edges: one whenever a condition that the guest listens to becomes true. Linux reads
//! conditions until there are none, so none is lost.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Mutex, MutexGuard};

use serde::{Deserialize, Serialize};
use vm_superio::Trigger;

use crate::bus::BusDevice;
use crate::interrupts::Line;
use crate::lock;
use crate::saved::Unfit;
use crate::serial::Drained;

/// Bytes of registers, the identification at their end included.
pub const LEN: u64 = 0x1000;

/// Bytes that wait for the guest, at most (SBSA: 32).
const FIFO: usize = 32;

/// Offsets of registers.
mod register {
    pub(super) const DATA: u64 = 0x000;
    pub(super) const FLAGS: u64 = 0x018;
    /// What is kept as it was written: low-power counter, baud rate, line control, control, FIFO levels.
    pub(super) const KEPT: [u64; 6] = [0x020, 0x024, 0x028, 0x02c, 0x030, 0x034];
    pub(super) const INTERRUPT_MASK: u64 = 0x038;
    pub(super) const RAW_INTERRUPTS: u64 = 0x03c;
    pub(super) const INTERRUPTS: u64 = 0x040;
    pub(super) const CLEAR_INTERRUPTS: u64 = 0x044;
    /// The identification: eight registers of a byte each.
    pub(super) const IDENTIFICATION: u64 = 0xfe0;
}

/// PL011, revision 1.5 (DDI 0183, 3.3.14), and PrimeCell's own.
const IDENTIFICATION: [u8; 8] = [0x11, 0x10, 0x34, 0x00, 0x0d, 0xf0, 0x05, 0xb1];
/// The kept registers after power-on, in their order. As firmware leaves a generic UART: FIFOs on, eight
/// bits; enabled both ways; levels of one half.
const POWER_ON: [u16; 6] = [0, 0, 0, 0x70, 0x301, 0x12];

/// Flags: clear to send, data set ready, carrier; nothing to read; no more room; all written.
const FLAGS_ALWAYS: u16 = 0b111 | TRANSMITTER_EMPTY;
const RECEIVER_EMPTY: u16 = 1 << 4;
const RECEIVER_FULL: u16 = 1 << 6;
const TRANSMITTER_EMPTY: u16 = 1 << 7;

/// Conditions to interrupt for: there is something to read; the same after a silence; all is written.
const RECEIVED: u16 = 1 << 4;
const TRANSMITTED: u16 = 1 << 5;
const RECEIVE_TIMEOUT: u16 = 1 << 6;
/// All that there are.
const CONDITIONS: u16 = 0x7ff;

/// What there is to save of a port.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedSerial {
    typed: Vec<u8>,
    kept: [u16; register::KEPT.len()],
    mask: u16,
    transmitted: bool,
    told: u16,
}

struct State<W> {
    out: W,
    received: VecDeque<u8>,
    kept: [u16; register::KEPT.len()],
    mask: u16,
    /// Whether something was written since the guest last cleared that.
    transmitted: bool,
    /// What the line last told of.
    told: u16,
}

impl<W> State<W> {
    fn flags(&self) -> u16 {
        let receiver = match self.received.len() {
            0 => RECEIVER_EMPTY,
            FIFO => RECEIVER_FULL,
            _ => 0,
        };
        FLAGS_ALWAYS | receiver
    }

    fn conditions(&self) -> u16 {
        let received = if self.received.is_empty() { 0 } else { RECEIVED | RECEIVE_TIMEOUT };
        let transmitted = if self.transmitted { TRANSMITTED } else { 0 };
        received | transmitted
    }

    fn read(&mut self, offset: u64) -> u16 {
        match offset {
            // Bits above the byte would say that it arrived damaged.
            register::DATA => self.received.pop_front().map_or(0, u16::from),
            register::FLAGS => self.flags(),
            register::INTERRUPT_MASK => self.mask,
            register::RAW_INTERRUPTS => self.conditions(),
            register::INTERRUPTS => self.conditions() & self.mask,
            register::IDENTIFICATION..LEN => {
                let index = usize::try_from((offset - register::IDENTIFICATION) / 4).unwrap_or(usize::MAX);
                IDENTIFICATION.get(index).copied().map_or(0, u16::from)
            }
            _ => kept(offset).map_or(0, |index| self.kept[index]),
        }
    }
}

impl<W: Write> State<W> {
    fn write(&mut self, offset: u64, value: u16) {
        match offset {
            register::DATA => {
                let [byte, _] = value.to_le_bytes();
                // `out` drops by itself what it cannot take.
                let _ = self.out.write_all(&[byte]);
                self.transmitted = true;
            }
            register::INTERRUPT_MASK => self.mask = value & CONDITIONS,
            register::CLEAR_INTERRUPTS if value & TRANSMITTED != 0 => self.transmitted = false,
            _ => {
                if let Some(index) = kept(offset) {
                    self.kept[index] = value;
                }
            }
        }
    }
}

fn kept(offset: u64) -> Option<usize> {
    register::KEPT.iter().position(|kept| *kept == offset)
}

/// The port.
pub struct Pl011<W: Write> {
    state: Mutex<State<W>>,
    line: Line,
    drained: Drained,
}

impl<W: Write + Send> Pl011<W> {
    /// A port that interrupts by `line` and writes to `out`.
    pub fn new(line: Line, out: W, drained: Drained) -> Self {
        let state = State {
            out,
            received: VecDeque::with_capacity(FIFO),
            kept: POWER_ON,
            mask: 0,
            transmitted: false,
            told: 0,
        };
        Self { state: Mutex::new(state), line, drained }
    }

    /// A port that goes on as one that was saved.
    pub fn restored(line: Line, out: W, drained: Drained, saved: &SavedSerial) -> Result<Self, Unfit> {
        if saved.typed.len() > FIFO {
            return Err(Unfit("more was typed than a serial port holds"));
        }
        let port = Self::new(line, out, drained);
        let mut state = lock(&port.state);
        state.received.extend(&saved.typed);
        (state.kept, state.mask) = (saved.kept, saved.mask & CONDITIONS);
        (state.transmitted, state.told) = (saved.transmitted, saved.told);
        drop(state);
        Ok(port)
    }

    /// What there is to save.
    pub fn save(&self) -> SavedSerial {
        let state = lock(&self.state);
        SavedSerial {
            typed: state.received.iter().copied().collect(),
            kept: state.kept,
            mask: state.mask,
            transmitted: state.transmitted,
            told: state.told,
        }
    }

    /// Puts typed bytes into the receiver; how many it took.
    pub fn receive(&self, typed: &[u8]) -> usize {
        let mut state = lock(&self.state);
        let room = typed.len().min(FIFO - state.received.len());
        state.received.extend(&typed[..room]);
        self.tell(state);
        room
    }

    /// Gives the line an edge where a condition became true that it had not told of.
    fn tell(&self, mut state: MutexGuard<'_, State<W>>) {
        let now = state.conditions() & state.mask;
        let new = now & !state.told;
        state.told = now;
        drop(state);
        if new != 0 {
            // The counter of an event descriptor that somebody reads cannot overflow.
            let _ = self.line.trigger();
        }
    }
}

impl<W: Write + Send> BusDevice for Pl011<W> {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let mut state = lock(&self.state);
        let before = state.received.len();
        let value = state.read(offset);
        let drained = before == 1 && state.received.is_empty();
        self.tell(state);
        data.fill(0);
        for (to, from) in data.iter_mut().zip(value.to_le_bytes()) {
            *to = from;
        }
        if drained {
            (self.drained)();
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let mut value = [0; 2];
        for (to, from) in value.iter_mut().zip(data) {
            *to = *from;
        }
        let mut state = lock(&self.state);
        state.write(offset, u16::from_le_bytes(value));
        self.tell(state);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

    use super::*;

    struct Port {
        port: Pl011<Vec<u8>>,
        line: EventFd,
        drained: Arc<AtomicU32>,
    }

    fn port() -> Port {
        let line = EventFd::new(EFD_NONBLOCK).unwrap();
        let drained = Arc::new(AtomicU32::new(0));
        let count = drained.clone();
        let told = Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        Port { port: Pl011::new(Line(line.try_clone().unwrap()), Vec::new(), told), line, drained }
    }

    impl Port {
        fn read(&self, offset: u64) -> u32 {
            let mut data = [0xee; 4];
            self.port.read(offset, &mut data);
            u32::from_le_bytes(data)
        }

        fn write(&self, offset: u64, value: u32) {
            self.port.write(offset, &value.to_le_bytes());
        }

        /// Whether there was an edge since it was last asked.
        fn edge(&self) -> bool {
            self.line.read().is_ok()
        }
    }

    #[test]
    fn bytes_go_both_ways_and_input_is_bounded() {
        let port = port();
        for byte in b"out" {
            port.write(register::DATA, 0xab00 | u32::from(*byte));
        }
        assert_eq!(lock(&port.port.state).out, b"out");
        assert_eq!(port.read(register::FLAGS), u32::from(FLAGS_ALWAYS | RECEIVER_EMPTY));
        assert_eq!(port.port.receive(&[b'x'; 100]), FIFO);
        assert_eq!(port.port.receive(b"y"), 0);
        assert_eq!(port.read(register::FLAGS), u32::from(FLAGS_ALWAYS | RECEIVER_FULL));
        for _ in 0..FIFO {
            assert_eq!(port.drained.load(Ordering::Relaxed), 0);
            assert_eq!(port.read(register::DATA), u32::from(b'x'));
        }
        assert_eq!(port.drained.load(Ordering::Relaxed), 1);
        assert_eq!(port.read(register::DATA), 0);
        assert_eq!(port.drained.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn it_interrupts_once_for_what_the_guest_listens_to() {
        let port = port();
        port.port.receive(b"a");
        assert!(!port.edge());
        port.write(register::INTERRUPT_MASK, u32::from(RECEIVED | RECEIVE_TIMEOUT | TRANSMITTED));
        assert!(port.edge());
        port.port.receive(b"b"); // the guest has been told that there is something
        assert!(!port.edge());
        assert_eq!(port.read(register::INTERRUPTS), u32::from(RECEIVED | RECEIVE_TIMEOUT));
        let _ = (port.read(register::DATA), port.read(register::DATA));
        assert_eq!(port.read(register::INTERRUPTS), 0);
        port.port.receive(b"c");
        assert!(port.edge());
        port.write(register::DATA, 0);
        assert!(port.edge());
        assert_eq!(port.read(register::RAW_INTERRUPTS) & u32::from(TRANSMITTED), u32::from(TRANSMITTED));
        port.write(register::CLEAR_INTERRUPTS, u32::from(CONDITIONS));
        assert_eq!(port.read(register::RAW_INTERRUPTS), u32::from(RECEIVED | RECEIVE_TIMEOUT));
        port.write(register::DATA, 0);
        assert!(port.edge());
    }

    #[test]
    fn it_says_what_it_is_and_keeps_what_it_is_told() {
        let port = port();
        let identification: Vec<_> = (0..8).map(|n| port.read(register::IDENTIFICATION + 4 * n)).collect();
        assert_eq!(identification, IDENTIFICATION.map(u32::from));
        port.write(0x024, 13);
        assert_eq!((port.read(0x024), port.read(0x030)), (13, 0x301));
        crate::testing::poke(&port.port, LEN, 20_000);
    }
}
