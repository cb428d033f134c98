//! A PCI Express root port: a bridge on bus 0 to a bus of its own with one place, for a card that comes and
//! goes while the machine runs.
//!
//! What a guest sees of it is in [`super::hotplug`]; here the card is held, accesses are passed on to it, and
//! whoever operates the machine finds what a hand at a server finds: a place to put a card into, a button, a
//! lamp. What the operator does when is not decided here.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::hotplug::{Lamp, SavedSlot, Slot};
use super::root::{Function, Root};
use crate::interrupts::Messages;
use crate::lock;

/// A port. `turned` is called on a vCPU's thread when the guest has turned the lamp or noticed the button,
/// perhaps more often than that.
pub struct Port {
    state: Mutex<State>,
    messages: Arc<dyn Messages>,
    turned: Box<dyn Fn() + Send + Sync>,
}

struct State {
    slot: Slot,
    card: Option<Arc<dyn Function>>,
}

/// There is a card in the port already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("There is a card in the port already")]
pub struct Occupied;

impl Port {
    /// Bytes of the window through which a card's memory is reached.
    pub const WINDOW_BYTES: u32 = super::ConfigSpace::WINDOW_ALIGNMENT;

    /// A port in this slot of bus 0, which leads to `bus` through a window of [`Self::WINDOW_BYTES`] from
    /// `window` on, with a card in it from the beginning or none. The slot's number on bus 0 is also the
    /// number that a guest names the place by (`/sys/bus/pci/slots/8`, `ens8`).
    pub fn new(
        slot: u8,
        bus: u8,
        window: u32,
        card: Option<Arc<dyn Function>>,
        messages: Arc<dyn Messages>,
        turned: Box<dyn Fn() + Send + Sync>,
    ) -> Self {
        let window: Range<u32> = window..window + Self::WINDOW_BYTES;
        let registers = Slot::new(Root::requester(slot), slot, bus, &window, card.is_some());
        if let Some(card) = &card {
            card.set_bus(bus);
        }
        Self { state: Mutex::new(State { slot: registers, card }), messages, turned }
    }

    /// Puts a card in. The guest is told, if it listens.
    pub fn insert(&self, card: Arc<dyn Function>) -> Result<(), Occupied> {
        let mut state = lock(&self.state);
        if state.card.is_some() {
            return Err(Occupied);
        }
        card.set_bus(state.slot.bus());
        state.card = Some(card);
        state.slot.set_card(true);
        self.tell(&mut state);
        Ok(())
    }

    /// Pulls the card out, whatever the guest thinks of it.
    pub fn pull(&self) -> Option<Arc<dyn Function>> {
        let mut state = lock(&self.state);
        let card = state.card.take()?;
        state.slot.set_card(false);
        self.tell(&mut state);
        Some(card)
    }

    /// Presses the button: asks the guest to give the card up, while the lamp is on; to take it in, while it is off.
    /// While it blinks, takes that back.
    pub fn press(&self) {
        let mut state = lock(&self.state);
        state.slot.press();
        self.tell(&mut state);
    }

    /// Whether the guest has not noticed the button yet.
    pub fn is_button_unheard(&self) -> bool {
        lock(&self.state).slot.is_button_unheard()
    }

    /// What the guest says by the lamp.
    pub fn lamp(&self) -> Lamp {
        lock(&self.state).slot.lamp()
    }

    /// What there is to save of its registers; the card's are its own.
    pub fn save(&self) -> SavedSlot {
        lock(&self.state).slot.save()
    }

    /// As it was when it was saved, with the card that is in it now. Tells nobody: the vCPUs have not begun.
    pub fn restore(&self, saved: &SavedSlot) {
        let mut state = lock(&self.state);
        state.slot.restore(saved);
        if let Some(card) = &state.card {
            card.set_bus(state.slot.bus());
        }
    }

    fn tell(&self, state: &mut State) {
        if let Some(message) = state.slot.message() {
            self.messages.send(message);
        }
    }

    /// The card, if this address reaches it.
    fn card_at(&self, address: u64) -> Option<(Arc<dyn Function>, u64)> {
        let state = lock(&self.state);
        let card = state.card.as_ref().filter(|_| state.slot.passes(address))?;
        Some((card.clone(), card.claims(address)?))
    }
}

impl Function for Port {
    fn read_config(&self, offset: usize, data: &mut [u8]) {
        lock(&self.state).slot.read(offset, data);
    }

    fn write_config(&self, offset: usize, data: &[u8]) {
        let mut state = lock(&self.state);
        let signs = |slot: &Slot| (slot.lamp(), slot.is_button_unheard());
        let (bus, before) = (state.slot.bus(), signs(&state.slot));
        state.slot.write(offset, data);
        if let Some(card) = state.card.as_ref().filter(|_| state.slot.bus() != bus) {
            card.set_bus(state.slot.bus());
        }
        self.tell(&mut state);
        let turned = signs(&state.slot) != before;
        drop(state);
        if turned {
            (self.turned)();
        }
    }

    /// All of the window: what an access finds there depends on the card at that moment. As an offset, the
    /// address itself.
    fn claims(&self, address: u64) -> Option<u64> {
        lock(&self.state).slot.passes(address).then_some(address)
    }

    /// Where there is no card, zeros. Hardware would give ones; but virtio drivers whose card was pulled
    /// out reset it nevertheless, and wait for its status to read zero for ever.
    fn read_memory(&self, address: u64, data: &mut [u8]) {
        match self.card_at(address) {
            Some((card, offset)) => card.read_memory(offset, data),
            None => data.fill(0),
        }
    }

    fn write_memory(&self, address: u64, data: &[u8]) {
        if let Some((card, offset)) = self.card_at(address) {
            card.write_memory(offset, data);
        }
    }

    fn behind(&self, bus: u8) -> Option<Arc<dyn Function>> {
        let state = lock(&self.state);
        state.card.as_ref().filter(|_| state.slot.bus() == bus).cloned()
    }
}

#[cfg(test)]
mod tests;
