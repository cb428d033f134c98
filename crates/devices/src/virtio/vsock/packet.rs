//! Packets between guest and host (virtio 1.2, 5.10.6): a header, and what it says follows.
//!
//! Pure: bytes in, meaning or refusal out, trusting nothing.

use crate::memory::Span;

/// Bytes of the header.
pub const HEADER: usize = 44;
/// The host's address (5.10.4).
pub const HOST: u64 = 2;

/// The only type of socket that there is here.
const STREAM: u16 = 1;
/// Operations.
const REQUEST: u16 = 1;
const RESPONSE: u16 = 2;
const RESET: u16 = 3;
const SHUTDOWN: u16 = 4;
const DATA: u16 = 5;
const CREDIT_UPDATE: u16 = 6;
const CREDIT_REQUEST: u16 = 7;
/// Flags of a shutdown: what its sender will do no more (5.10.6.5).
const RECEIVES_NO_MORE: u32 = 1 << 0;
const SENDS_NO_MORE: u32 = 1 << 1;

/// Both ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports {
    /// In the guest.
    pub guest: u32,
    /// At the host.
    pub host: u32,
}

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Its sender wants to connect.
    Request,
    /// The other side agrees.
    Response,
    /// There is no such connection, or no longer.
    Reset,
    /// Its sender is done in one direction or both.
    Shutdown {
        /// It receives no more.
        receive: bool,
        /// It sends no more.
        send: bool,
    },
    /// Bytes of the stream.
    Data,
    /// Nothing but the credit that every packet tells.
    CreditUpdate,
    /// Its sender wants to be told.
    CreditRequest,
}

/// What the sender of a packet has room for (5.10.6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credit {
    /// Bytes of its buffer.
    pub buffer: u32,
    /// Bytes that have left that buffer since the beginning, modulo 2^32.
    pub forwarded: u32,
}

/// A packet's header, as far as it means anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The connection.
    pub ports: Ports,
    /// What for.
    pub operation: Operation,
    /// Its sender's.
    pub credit: Credit,
}

/// A packet of the guest's.
#[derive(Debug)]
pub struct Packet<'m> {
    /// Its header.
    pub header: Header,
    /// Its bytes.
    pub payload: Span<'m>,
}

/// Why a packet is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is not to us, or not from its guest, or too short to say.
    Ignored,
    /// It belongs to these ports and makes no sense: the guest is told that there is no such connection.
    Nonsense(Ports),
}

impl<'m> Packet<'m> {
    /// Reads the packet that a guest with this address sent.
    pub fn parse(mut bytes: Span<'m>, guest: u64) -> Result<Self, Refusal> {
        let mut header = [0; HEADER];
        bytes.take_front(HEADER).ok_or(Refusal::Ignored)?.copy_to(&mut header);
        let mut fields = Fields(&header);
        let addresses = [fields.long(), fields.long()];
        if addresses != [guest, HOST] {
            return Err(Refusal::Ignored);
        }
        let ports = Ports { guest: fields.word(), host: fields.word() };
        let (len, kind, number) = (fields.word(), fields.half(), fields.half());
        let (flags, credit) = (fields.word(), Credit { buffer: fields.word(), forwarded: fields.word() });
        let operation = operation(number, flags).filter(|_| kind == STREAM);
        let payload = usize::try_from(len).ok().and_then(|len| bytes.take_front(len));
        match (operation, payload) {
            (Some(operation), Some(payload)) => {
                Ok(Self { header: Header { ports, operation, credit }, payload })
            }
            // Who is told that there is no connection must not be answered, or two would go on for ever.
            _ if number == RESET => Err(Refusal::Ignored),
            _ => Err(Refusal::Nonsense(ports)),
        }
    }
}

fn operation(number: u16, flags: u32) -> Option<Operation> {
    Some(match number {
        REQUEST => Operation::Request,
        RESPONSE => Operation::Response,
        RESET => Operation::Reset,
        SHUTDOWN => {
            Operation::Shutdown { receive: flags & RECEIVES_NO_MORE != 0, send: flags & SENDS_NO_MORE != 0 }
        }
        DATA => Operation::Data,
        CREDIT_UPDATE => Operation::CreditUpdate,
        CREDIT_REQUEST => Operation::CreditRequest,
        _ => return None,
    })
}

impl Header {
    /// The bytes of a header from the host to a guest with this address, before so many bytes of payload.
    pub fn to_guest(&self, guest: u64, payload: u32) -> [u8; HEADER] {
        let flag = |on, flag| if on { flag } else { 0 };
        let (number, flags) = match self.operation {
            Operation::Request => (REQUEST, 0),
            Operation::Response => (RESPONSE, 0),
            Operation::Reset => (RESET, 0),
            Operation::Shutdown { receive, send } => {
                (SHUTDOWN, flag(receive, RECEIVES_NO_MORE) | flag(send, SENDS_NO_MORE))
            }
            Operation::Data => (DATA, 0),
            Operation::CreditUpdate => (CREDIT_UPDATE, 0),
            Operation::CreditRequest => (CREDIT_REQUEST, 0),
        };
        let mut bytes = [0; HEADER];
        let mut rest = &mut bytes[..];
        let mut put = |field: &[u8]| {
            let (here, others) = std::mem::take(&mut rest).split_at_mut(field.len());
            here.copy_from_slice(field);
            rest = others;
        };
        [HOST, guest].iter().for_each(|address| put(&address.to_le_bytes()));
        [self.ports.host, self.ports.guest, payload].iter().for_each(|word| put(&word.to_le_bytes()));
        [STREAM, number].iter().for_each(|half| put(&half.to_le_bytes()));
        let Credit { buffer, forwarded } = self.credit;
        [flags, buffer, forwarded].iter().for_each(|word| put(&word.to_le_bytes()));
        bytes
    }
}

/// Numbers off the front of a header.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (bytes, rest) = self.0.split_first_chunk().unwrap_or((&[0; N], &[]));
        self.0 = rest;
        *bytes
    }
    fn half(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }
    fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }
    fn long(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}
