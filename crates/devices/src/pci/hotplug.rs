//! The registers of a root port with a slot: a bridge, its PCI Express capability and the message by which
//! it tells of the slot (PCI Express 5.0, 6.7 and 7.5.3).
//!
//! ```text
//!                  inserted                     card present, link up: the guest looks, lamp blinks, lamp on
//!   (empty, off) ───────────▶ (card, lamp on) ─────────────────────┐
//!        ▲                           │ the button is pressed        │ pulled out without a word
//!        │ pulled out                ▼ 5 s, in which it may be      ▼
//!        └──────────── (lamp off) ◀─ lamp blinks   taken back    (empty): "surprise", the guest drops what it had
//! ```
//!
//! The lamp is the power indicator: the guest's only word on whether it has done with a card. There is no
//! power controller, after which a guest would wait a second each time, no latch and no attention lamp.
//! Commands take effect while they are written, so the slot does not tell of their completion (7.5.3.9, No
//! Command Completed Support). Presence and link change together; the link's change is what a guest is
//! told of where there is a button.
//!
//! Pure: whoever owns the registers ([`super::port`]) asks for the message that follows from a change.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::config_space::{ConfigSpace, Identity};
use crate::interrupts::Message;

/// Red Hat's id of a root port that is like any other, which systems know and need no driver for.
const IDENTITY: Identity =
    Identity { vendor: 0x1b36, device: 0x000c, revision: 0, class: 0x06_04_00, subsystem: (0, 0) };

/// What lies where in the PCI Express capability, from its id on (7.5.3).
mod express {
    pub(super) const ID: u8 = 0x10;
    pub(super) const LINK_STATUS: usize = 0x12;
    pub(super) const SLOT_CONTROL: usize = 0x18;
    pub(super) const SLOT_STATUS: usize = 0x1a;
    /// Up to and with root status: version 1 of the capability, without the second device, link and slot.
    pub(super) const BYTES: usize = 0x24;

    /// Version 1, a root port, with a slot, whose message is number 0.
    pub(super) const CAPABILITIES: u16 = 1 | 4 << 4 | 1 << 8;
    /// Link: 2.5 GT/s, one lane, tells whether it is up.
    pub(super) const LINK_CAPABILITIES: u32 = 1 | 1 << 4 | 1 << 20;
    /// Link status: the same speed and width, and up.
    pub(super) const LINK_UP: u16 = 1 | 1 << 4 | 1 << 13;
    /// Slot: button, lamp, cards may leave without a word, hot-plug, commands complete at once.
    pub(super) const SLOT_CAPABILITIES: u32 = 1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 18;
    pub(super) const SLOT_NUMBER_SHIFT: u32 = 19;
}

/// Bits of slot status that events set and the guest clears by writing them; in slot control the same bits
/// say which of them interrupt, the last one excepted.
mod event {
    pub(super) const BUTTON: u16 = 1 << 0;
    pub(super) const PRESENCE: u16 = 1 << 3;
    pub(super) const LINK: u16 = 1 << 8;
    pub(super) const ALL: u16 = BUTTON | PRESENCE | LINK;
}

/// Bits of slot control.
mod control {
    /// Of the events, button and presence have their own bits.
    pub(super) const EVENTS: u16 = super::event::BUTTON | super::event::PRESENCE;
    pub(super) const INTERRUPT: u16 = 1 << 5;
    pub(super) const LAMP_SHIFT: u32 = 8;
    pub(super) const LAMP: u16 = 0b11 << LAMP_SHIFT;
    pub(super) const LAMP_ON: u16 = 0b01 << LAMP_SHIFT;
    pub(super) const LAMP_OFF: u16 = 0b11 << LAMP_SHIFT;
    pub(super) const LINK: u16 = 1 << 12;
    pub(super) const WRITABLE: u16 = EVENTS | INTERRUPT | LAMP | LINK;
}

/// Bit of slot status: there is a card.
const PRESENT: u16 = 1 << 6;

/// The capability of message-signalled interrupts (PCI 3.0, 6.8.1): one message, with a 64-bit address.
mod msi {
    pub(super) const ID: u8 = 0x05;
    pub(super) const CONTROL: usize = 2;
    pub(super) const ADDRESS: usize = 4;
    pub(super) const DATA: usize = 12;
    pub(super) const ENABLE: u16 = 1 << 0;
    pub(super) const IS_64_BIT: u16 = 1 << 7;
}

/// What a guest says by the lamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lamp {
    /// It uses the card, or has not looked at the slot yet.
    On,
    /// It is taking the card in, or getting ready to give it up.
    Blinking,
    /// It does not use the card.
    Off,
}

/// The registers.
pub(super) struct Slot {
    config: ConfigSpace,
    express: usize,
    msi: usize,
    /// There are events that the guest wants to be told of, and it has been.
    told: bool,
    requester: u16,
}

/// What there is to save of a port's registers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedSlot {
    config: Vec<u8>,
    events: u16,
    told: bool,
}

impl Slot {
    /// What there is to save.
    pub(super) fn save(&self) -> SavedSlot {
        let events = self.get(express::SLOT_STATUS) & event::ALL;
        SavedSlot { config: self.config.bytes().to_vec(), events, told: self.told }
    }

    /// As it was when it was saved, whether or not there is a card.
    pub(super) fn restore(&mut self, saved: &SavedSlot) {
        // Only what the guest could have written itself.
        self.config.write(0, &saved.config);
        let status = self.get(express::SLOT_STATUS) & !event::ALL;
        self.put(express::SLOT_STATUS, status | saved.events & event::ALL);
        self.told = saved.told;
    }

    /// Of the port with this requester id and slot number (unique in the machine), to this bus, through
    /// this window. A card that is there from the beginning was found by the guest's firmware, so to speak.
    pub(super) fn new(requester: u16, number: u8, bus: u8, window: &Range<u32>, occupied: bool) -> Self {
        let mut config = ConfigSpace::bridge(IDENTITY, bus, window);
        let mut body = [0; express::BYTES];
        let mut put = |at: usize, bytes: &[u8]| body[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x02, &express::CAPABILITIES.to_le_bytes());
        put(0x0c, &(express::LINK_CAPABILITIES | u32::from(number) << 24).to_le_bytes());
        let number = u32::from(number) << express::SLOT_NUMBER_SHIFT;
        put(0x14, &(express::SLOT_CAPABILITIES | number).to_le_bytes());
        put(express::SLOT_CONTROL, &control::LAMP_OFF.to_le_bytes());
        let mut writable = [0; express::BYTES];
        writable[express::SLOT_CONTROL..express::SLOT_STATUS]
            .copy_from_slice(&control::WRITABLE.to_le_bytes());
        let express = config.add_capability(express::ID, &body[2..], &writable[2..]);

        let mut writable = [0xff; msi::DATA];
        writable[..2].copy_from_slice(&msi::ENABLE.to_le_bytes());
        writable[2] = !0b11;
        let mut body = [0; msi::DATA];
        body[..2].copy_from_slice(&msi::IS_64_BIT.to_le_bytes());
        let msi = config.add_capability(msi::ID, &body, &writable);
        let mut slot = Self { config, express, msi, told: false, requester };
        if occupied {
            slot.set_card(true);
            slot.put(express::SLOT_CONTROL, control::LAMP_ON);
            slot.put(express::SLOT_STATUS, PRESENT);
        }
        slot
    }

    /// The guest reads.
    pub(super) fn read(&self, offset: usize, data: &mut [u8]) {
        self.config.read(offset, data);
    }

    /// The guest writes.
    pub(super) fn write(&mut self, offset: usize, data: &[u8]) {
        self.config.write(offset, data);
        let status = self.express + express::SLOT_STATUS;
        let mut cleared = [0; 2];
        for (at, byte) in (offset..).zip(data) {
            if let Some(place) = at.checked_sub(status).and_then(|within| cleared.get_mut(within)) {
                *place = *byte;
            }
        }
        let left = self.get(express::SLOT_STATUS) & !(u16::from_le_bytes(cleared) & event::ALL);
        self.put(express::SLOT_STATUS, left);
    }

    /// The button is pressed.
    pub(super) fn press(&mut self) {
        self.happen(event::BUTTON);
    }

    /// Whether the guest has not taken note of the button yet.
    pub(super) fn is_button_unheard(&self) -> bool {
        self.get(express::SLOT_STATUS) & event::BUTTON != 0
    }

    /// A card has come or gone, and the link with it. Nothing else turns the lamp but the guest.
    pub(super) fn set_card(&mut self, present: bool) {
        let status = self.get(express::SLOT_STATUS) & !PRESENT;
        self.put(express::SLOT_STATUS, if present { status | PRESENT } else { status });
        self.put(express::LINK_STATUS, if present { express::LINK_UP } else { 0 });
        self.happen(event::PRESENCE | event::LINK);
    }

    /// The lamp.
    pub(super) fn lamp(&self) -> Lamp {
        match (self.get(express::SLOT_CONTROL) & control::LAMP) >> control::LAMP_SHIFT {
            0b10 => Lamp::Blinking,
            0b11 => Lamp::Off,
            // 0 is reserved; who writes it has not said that it is done.
            _ => Lamp::On,
        }
    }

    /// The number of the bus below.
    pub(super) fn bus(&self) -> u8 {
        self.config.secondary_bus()
    }

    /// Whether accesses to this address go to the bus below.
    pub(super) fn passes(&self, address: u64) -> bool {
        self.config.passes(address)
    }

    /// The message that is to be sent now: when there is something to tell of after there was nothing
    /// (6.7.3.4). The guest clears all events before it expects another.
    pub(super) fn message(&mut self) -> Option<Message> {
        let (wanted, happened) = (self.get(express::SLOT_CONTROL), self.get(express::SLOT_STATUS));
        let link = wanted & control::LINK != 0 && happened & event::LINK != 0;
        let any = link || wanted & happened & control::EVENTS != 0;
        let tell = any && wanted & control::INTERRUPT != 0;
        let news = tell && !self.told;
        self.told = tell;
        let enabled = self.config.u16_at(self.msi + msi::CONTROL) & msi::ENABLE != 0;
        (news && enabled).then(|| Message {
            address: u64::from(self.config.u32_at(self.msi + msi::ADDRESS))
                | u64::from(self.config.u32_at(self.msi + msi::ADDRESS + 4)) << 32,
            data: u32::from(self.config.u16_at(self.msi + msi::DATA)),
            requester: self.requester,
        })
    }

    fn happen(&mut self, events: u16) {
        self.put(express::SLOT_STATUS, self.get(express::SLOT_STATUS) | events);
    }

    fn get(&self, register: usize) -> u16 {
        self.config.u16_at(self.express + register)
    }

    fn put(&mut self, register: usize, value: u16) {
        self.config.put(self.express + register, &value.to_le_bytes());
    }
}
