//! One connection, as a state machine: what is said, what is owed, and how much may be on its way (5.10.6).
//!
//! Pure. Whoever carries the bytes tells it what happened, and asks what comes next. Of what the guest says of itself the
//! worst lie stalls its own connection: what it may send is bounded by [`BUFFER`], and what is sent to it waits at the
//! host until it has room.

use super::packet::{Credit, Operation};

/// Bytes that a guest may have sent which nobody at the host has taken yet.
pub(super) const BUFFER: u32 = 128 << 10;
/// The guest hears that there is room again when so much has become free.
const WORTH_TELLING: u32 = BUFFER / 2;

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The guest is to be asked.
    Wanted,
    /// It was asked and has not answered.
    Asked,
    /// It agreed.
    Open,
}

/// What follows from a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing.
    Nothing,
    /// The guest has agreed: who called is told so.
    Opened,
    /// Its bytes are for who called.
    Bytes,
    /// It is over, and the guest knows.
    Gone,
    /// It is over, because the guest did what it must not: it is told so.
    Broken,
}

/// A connection that somebody at the host began.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    state: State,
    /// Who still sends and receives.
    guest_sends: bool,
    guest_receives: bool,
    host_sends: bool,
    host_receives: bool,
    /// Of the guest's bytes: how many came, how many were taken, how many it was told were taken; modulo 2^32.
    came: u32,
    taken: u32,
    told: u32,
    /// Of the bytes to the guest: how many were sent, and what it said of its room; modulo 2^32.
    sent: u32,
    room: Credit,
    owes_credit: bool,
    owes_shutdown: bool,
    /// It has room for nothing, and was asked to say when it has.
    asks_credit: bool,
    asked_credit: bool,
}

impl Connection {
    /// One that the guest is yet to be asked for.
    pub(super) fn new() -> Self {
        Self {
            state: State::Wanted,
            guest_sends: true,
            guest_receives: true,
            host_sends: true,
            host_receives: true,
            came: 0,
            taken: 0,
            told: 0,
            sent: 0,
            room: Credit::default(),
            owes_credit: false,
            owes_shutdown: false,
            asks_credit: false,
            asked_credit: false,
        }
    }

    /// The guest sent a packet with so many bytes.
    pub(super) fn hear(&mut self, operation: Operation, credit: Credit, bytes: usize) -> Heard {
        if self.room != credit {
            (self.room, self.asks_credit, self.asked_credit) = (credit, false, false);
        }
        match (self.state, operation) {
            (_, Operation::Reset) => Heard::Gone,
            (State::Asked, Operation::Response) => {
                self.state = State::Open;
                Heard::Opened
            }
            (State::Open, Operation::Data) => self.hear_bytes(bytes),
            (State::Open, Operation::Shutdown { receive, send }) => {
                self.guest_receives &= !receive;
                self.guest_sends &= !send;
                Heard::Nothing
            }
            (State::Open, Operation::CreditUpdate) => Heard::Nothing,
            (State::Open, Operation::CreditRequest) => {
                self.owes_credit = true;
                Heard::Nothing
            }
            _ => Heard::Broken,
        }
    }

    fn hear_bytes(&mut self, bytes: usize) -> Heard {
        let fits = u32::try_from(bytes).ok().filter(|bytes| *bytes <= BUFFER - self.waiting());
        match fits.filter(|_| self.guest_sends) {
            Some(bytes) => {
                self.came = self.came.wrapping_add(bytes);
                Heard::Bytes
            }
            None => Heard::Broken,
        }
    }

    /// Bytes of the guest's that came and were not taken; at most [`BUFFER`].
    pub(super) fn waiting(&self) -> u32 {
        self.came.wrapping_sub(self.taken)
    }

    /// So many of them were taken.
    pub(super) fn took(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.waiting());
        self.taken = self.taken.wrapping_add(bytes);
        self.owes_credit |= self.taken.wrapping_sub(self.told) >= WORTH_TELLING;
    }

    /// Who called sends no more.
    pub(super) fn host_is_done(&mut self) {
        self.owes_shutdown |= self.host_sends;
        self.host_sends = false;
    }

    /// Who called takes nothing any more.
    pub(super) fn host_is_deaf(&mut self) {
        self.owes_shutdown |= self.host_receives;
        self.host_receives = false;
    }

    /// Whether who called still takes what comes.
    pub(super) fn is_heard(&self) -> bool {
        self.host_receives
    }

    /// Whether the guest has agreed.
    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether the guest has said its last word, and all of it was taken.
    pub(super) fn guest_is_done(&self) -> bool {
        !self.guest_sends && self.waiting() == 0
    }

    /// Whether something may still go to the guest.
    pub(super) fn is_to_guest(&self) -> bool {
        self.host_sends && self.guest_receives
    }

    /// Whether nothing will pass any more in either direction.
    pub(super) fn is_over(&self) -> bool {
        let to_host = self.host_receives && !self.guest_is_done();
        self.is_open() && !self.is_to_guest() && !to_host
    }

    /// Whether the guest knows of it.
    pub(super) fn is_known(&self) -> bool {
        self.state != State::Wanted
    }

    /// How many bytes the guest may be sent now.
    pub(super) fn may_send(&self) -> u32 {
        let under_way = self.sent.wrapping_sub(self.room.forwarded);
        let room = self.room.buffer.saturating_sub(under_way);
        if self.is_open() && self.is_to_guest() { room } else { 0 }
    }

    /// So many bytes are sent to the guest, of those that it may be sent; what it is told of our room with them.
    pub(super) fn send(&mut self, bytes: usize) -> Credit {
        self.sent = self.sent.wrapping_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.asks_credit |= self.may_send() == 0 && !self.asked_credit;
        self.tell()
    }

    /// What the guest is to be told before anything else, and what of our room with it.
    pub(super) fn next(&mut self) -> Option<(Operation, Credit)> {
        let operation = if self.state == State::Wanted {
            self.state = State::Asked;
            Operation::Request
        } else if !self.is_open() || self.is_over() {
            return None;
        } else if std::mem::take(&mut self.owes_shutdown) {
            Operation::Shutdown { receive: !self.host_receives, send: !self.host_sends }
        } else if std::mem::take(&mut self.asks_credit) {
            self.asked_credit = true;
            Operation::CreditRequest
        } else if self.owes_credit {
            Operation::CreditUpdate
        } else {
            return None;
        };
        Some((operation, self.tell()))
    }

    /// Whether there is something to tell.
    pub(super) fn has_next(&self) -> bool {
        let open = self.owes_shutdown || self.asks_credit || self.owes_credit;
        self.state == State::Wanted || (open && self.is_open() && !self.is_over())
    }

    fn tell(&mut self) -> Credit {
        self.told = self.taken;
        self.owes_credit = false;
        Credit { buffer: BUFFER, forwarded: self.taken }
    }
}
