//! MSI-X: a table of messages in the function's memory, one per vector, each with its own mask (PCI 3.0,
//! 6.8.2).
//!
//! A vector that fires while it, or the whole function, is masked leaves its pending bit, and is sent
//! when the mask goes. The table is touched by vCPUs (programming it) and by the device's thread
//! (firing), so one lock holds it all.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::config_space::ConfigSpace;
use crate::interrupts::{Message, Messages};
use crate::lock;
use crate::saved::Unfit;

/// Capability id.
const ID: u8 = 0x11;
/// Bytes of one table entry: address, data, vector control.
const ENTRY_BYTES: usize = 16;

/// Bits of message control.
const FUNCTION_MASK: u16 = 1 << 14;
const ENABLE: u16 = 1 << 15;
/// Bit of vector control.
const VECTOR_MASK: u32 = 1 << 0;

/// One vector: its message, its mask, and whether it fired under it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct MsixEntry {
    address: u64,
    data: u32,
    control: u32,
    pending: bool,
}

struct State {
    entries: Vec<MsixEntry>,
    control: u16,
}

/// The table, and the way out.
pub struct Msix {
    state: Mutex<State>,
    messages: Arc<dyn Messages>,
    requester: AtomicU16,
}

impl Msix {
    /// A table of `vectors` entries (1 to 2048), all masked, for the function with this requester id.
    pub fn new(vectors: u16, messages: Arc<dyn Messages>, requester: u16) -> Self {
        let entry = MsixEntry { control: VECTOR_MASK, ..MsixEntry::default() };
        let state = State { entries: vec![entry; usize::from(vectors)], control: 0 };
        Self { state: Mutex::new(state), messages, requester: AtomicU16::new(requester) }
    }

    /// The table, with what is pending.
    pub(crate) fn save(&self) -> Vec<MsixEntry> {
        lock(&self.state).entries.clone()
    }

    /// The table as it was saved. Nothing is sent: message control comes after this.
    pub(crate) fn restore(&self, saved: &[MsixEntry]) -> Result<(), Unfit> {
        let mut state = lock(&self.state);
        if saved.len() != state.entries.len() {
            return Err(Unfit("the device has another number of interrupts"));
        }
        for (entry, saved) in state.entries.iter_mut().zip(saved) {
            entry.set_bytes(&saved.bytes());
            entry.pending = saved.pending;
        }
        Ok(())
    }

    /// Messages come from this requester from now on.
    pub fn set_requester(&self, requester: u16) {
        self.requester.store(requester, Ordering::Relaxed);
    }

    /// Declares the capability: table and pending bits at these offsets of the function's memory 0. The
    /// offset of message control.
    pub fn add_capability(&self, config: &mut ConfigSpace, table: u32, pending: u32) -> usize {
        let last = u16::try_from(lock(&self.state).entries.len().saturating_sub(1)).unwrap_or(u16::MAX);
        let mut body = [0; 10];
        body[..2].copy_from_slice(&last.to_le_bytes());
        body[2..6].copy_from_slice(&table.to_le_bytes());
        body[6..].copy_from_slice(&pending.to_le_bytes());
        config.add_capability(ID, &body, &(ENABLE | FUNCTION_MASK).to_le_bytes()) + 2
    }

    /// The guest wrote message control.
    pub fn set_control(&self, control: u16) {
        let mut state = lock(&self.state);
        if state.control != control {
            state.control = control;
            for vector in 0..state.entries.len() {
                self.send_pending(&mut state, vector);
            }
        }
    }

    /// Fires a vector. One that is not in the table (the driver may choose "none") does nothing.
    pub fn fire(&self, vector: u16) {
        let mut state = lock(&self.state);
        let vector = usize::from(vector);
        if let Some(entry) = state.entries.get_mut(vector) {
            entry.pending = true;
            self.send_pending(&mut state, vector);
        }
    }

    fn send_pending(&self, state: &mut State, vector: usize) {
        if state.control & ENABLE == 0 || state.control & FUNCTION_MASK != 0 {
            return;
        }
        if let Some(entry) =
            state.entries.get_mut(vector).filter(|e| e.pending && e.control & VECTOR_MASK == 0)
        {
            entry.pending = false;
            let (address, data) = (entry.address, entry.data);
            let requester = self.requester.load(Ordering::Relaxed);
            self.messages.send(Message { address, data, requester });
        }
    }

    /// The guest reads the table, at any width.
    pub fn read_table(&self, offset: usize, data: &mut [u8]) {
        let state = lock(&self.state);
        for (at, byte) in (offset..).zip(data) {
            *byte = state.entries.get(at / ENTRY_BYTES).map_or(0, |e| e.bytes()[at % ENTRY_BYTES]);
        }
    }

    /// The guest writes the table, at any width.
    pub fn write_table(&self, offset: usize, data: &[u8]) {
        let mut state = lock(&self.state);
        for (at, &byte) in (offset..).zip(data) {
            if let Some(entry) = state.entries.get_mut(at / ENTRY_BYTES) {
                let mut bytes = entry.bytes();
                bytes[at % ENTRY_BYTES] = byte;
                entry.set_bytes(&bytes);
            }
        }
        // An access spans at most two entries: the first and the last byte's.
        let last = offset.saturating_add(data.len().saturating_sub(1)) / ENTRY_BYTES;
        self.send_pending(&mut state, offset / ENTRY_BYTES);
        self.send_pending(&mut state, last);
    }

    /// The guest reads the pending bits, at any width.
    pub fn read_pending(&self, offset: usize, data: &mut [u8]) {
        let state = lock(&self.state);
        for (at, byte) in (offset..).zip(data) {
            let vectors = state.entries.iter().skip(at.saturating_mul(8)).take(8);
            *byte = vectors.enumerate().fold(0, |bits, (bit, entry)| bits | u8::from(entry.pending) << bit);
        }
    }
}

impl MsixEntry {
    fn bytes(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..8].copy_from_slice(&self.address.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.data.to_le_bytes());
        bytes[12..].copy_from_slice(&self.control.to_le_bytes());
        bytes
    }

    fn set_bytes(&mut self, bytes: &[u8; ENTRY_BYTES]) {
        let [a0, a1, a2, a3, a4, a5, a6, a7, d0, d1, d2, d3, c0, c1, c2, c3] = *bytes;
        // The two lowest bits of an address are reserved and zero: a message is four aligned bytes.
        self.address = u64::from_le_bytes([a0 & !0b11, a1, a2, a3, a4, a5, a6, a7]);
        self.data = u32::from_le_bytes([d0, d1, d2, d3]);
        self.control = u32::from_le_bytes([c0, c1, c2, c3]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[derive(Default)]
    struct Sent(Mutex<Vec<Message>>);

    impl Messages for Sent {
        fn send(&self, message: Message) {
            lock(&self.0).push(message);
        }
    }

    fn program(msix: &Msix, vector: usize, data: u32, control: u32) {
        let entry = MsixEntry { address: 0xfee0_0000, data, control, pending: false };
        msix.write_table(vector * ENTRY_BYTES, &entry.bytes());
    }

    #[test]
    fn masks_hold_back_and_unmasking_delivers_once() {
        let sent = Arc::new(Sent::default());
        let msix = Msix::new(3, sent.clone(), 0x28);
        program(&msix, 1, 0x41, 0);
        msix.fire(1);
        let pending = |msix: &Msix| {
            let mut bits = [0];
            msix.read_pending(0, &mut bits);
            bits[0]
        };
        assert_eq!(pending(&msix), 0b010);
        msix.set_control(ENABLE | FUNCTION_MASK);
        assert!(lock(&sent.0).is_empty());
        msix.set_control(ENABLE);
        let message = Message { address: 0xfee0_0000, data: 0x41, requester: 0x28 };
        assert_eq!(*lock(&sent.0), [message]);
        assert_eq!(pending(&msix), 0);
        msix.fire(1);
        msix.fire(2); // still masked by itself
        msix.fire(3); // not there
        msix.fire(u16::MAX);
        assert_eq!(lock(&sent.0).len(), 2);
        msix.write_table(2 * ENTRY_BYTES + 12, &[0]);
        assert_eq!(lock(&sent.0).len(), 3);
    }

    #[test]
    fn any_access_anywhere() {
        let msix = Msix::new(5, Arc::new(Sent::default()), 0);
        let mut random = Random::new(3);
        for _ in 0..20_000 {
            let offset = usize::try_from(random.edge() >> 1).unwrap();
            let mut data = random.bytes::<8>();
            msix.write_table(offset, &data);
            msix.read_table(offset, &mut data);
            msix.read_pending(offset, &mut data);
            msix.fire(u16::from_le_bytes([data[0] & 7, 0]));
            msix.set_control(u16::from_le_bytes([0, data[1]]));
        }
    }
}
