//! A caller, and the connection that he asked for and was given.

use std::io::{self, ErrorKind};

use super::Caller;
use super::connection::Connection;
use super::packet::{Header, Operation, Ports};
use crate::memory::Span;

/// Bytes of one packet to the guest at most, as Linux's driver bounds its own.
const MOST_PAYLOAD: usize = 64 << 10;

/// What a caller says, before the number of the port.
const WORD: &[u8] = b"CONNECT ";
/// The longest word of a caller, with its newline: no port has more digits.
const LONGEST: usize = WORD.len() + 10 + 1;

/// How far a caller has come.
pub(super) enum Phase {
    /// He has said so much of whom he wants.
    Asking(Vec<u8>),
    /// He has a connection, if not yet the guest's word for it.
    Connected(Ports, Connection),
}

/// What became of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// He has not said all yet.
    NotYet,
    /// He wants this port of the guest.
    Port(u32),
    /// He is gone, or made no sense.
    Nothing,
}

/// A caller.
pub(super) struct Line {
    caller: Box<dyn Caller>,
    pub(super) phase: Phase,
    /// Bytes of the guest's, and how many of them he has taken.
    bytes: Vec<u8>,
    taken: usize,
    /// Whether reading and writing may succeed, as far as is known.
    readable: bool,
    writable: bool,
    /// He has hung up: what he wrote before can still be read.
    hung_up: bool,
    finished: bool,
}

impl Line {
    pub(super) fn new(caller: Box<dyn Caller>) -> Self {
        let phase = Phase::Asking(Vec::with_capacity(LONGEST));
        Self {
            caller,
            phase,
            bytes: Vec::new(),
            taken: 0,
            readable: true,
            writable: true,
            hung_up: false,
            finished: false,
        }
    }

    /// Something happened to the caller.
    pub(super) fn wake(&mut self, hung_up: bool) {
        (self.readable, self.writable) = (true, true);
        self.hung_up |= hung_up;
    }

    /// Reads whom the caller wants. Byte by byte: what comes behind is the guest's.
    pub(super) fn ask(&mut self) -> Asked {
        let Phase::Asking(said) = &mut self.phase else { return Asked::NotYet };
        while said.len() < LONGEST {
            let mut byte = [0];
            match self.caller.read(&mut byte) {
                Ok(1) if byte == *b"\n" => return port(said).map_or(Asked::Nothing, Asked::Port),
                Ok(1) => said.extend(byte),
                Ok(_) => return Asked::Nothing,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Asked::NotYet;
                }
                Err(_) => return Asked::Nothing,
            }
        }
        Asked::Nothing
    }

    /// Tells the caller that he is through.
    pub(super) fn greet(&mut self, ports: Ports) -> io::Result<()> {
        let words = format!("OK {}\n", ports.host);
        // The first that is written to him: it has room, or he is not worth the trouble.
        match self.caller.write(words.as_bytes())? {
            written if written == words.len() => Ok(()),
            _ => Err(ErrorKind::WriteZero.into()),
        }
    }

    /// Keeps bytes of the guest's for the caller. The connection bounds how many.
    pub(super) fn keep(&mut self, bytes: &Span<'_>) {
        self.bytes.drain(..std::mem::take(&mut self.taken));
        let before = self.bytes.len();
        self.bytes.resize(before + bytes.len(), 0);
        bytes.copy_to(&mut self.bytes[before..]);
    }

    /// Writes what waits for the caller, and says to him when it was the last. The connection hears what he took.
    pub(super) fn flush(&mut self) {
        let Phase::Connected(_, connection) = &mut self.phase else { return };
        while self.writable && connection.is_heard() && self.taken < self.bytes.len() {
            match self.caller.write(&self.bytes[self.taken..]) {
                Ok(count @ 1..) => {
                    self.taken += count;
                    connection.took(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Ok(_) | Err(_) => connection.host_is_deaf(),
            }
        }
        if !connection.is_heard() {
            connection.took(self.bytes.len() - self.taken);
            self.taken = self.bytes.len();
        }
        if self.taken == self.bytes.len() {
            (self.bytes, self.taken) = (Vec::new(), 0);
        }
        if connection.guest_is_done() && !std::mem::replace(&mut self.finished, true) {
            // Who does not hear it is gone, and that is heard of.
            let _ = self.caller.finish();
        }
        if self.hung_up && !connection.is_to_guest() {
            // All that he wrote was read, or is wanted no more.
            connection.host_is_done();
            connection.host_is_deaf();
        }
    }

    /// The connection's ports, where it is over. Who hangs up before the guest has answered wants no answer.
    pub(super) fn is_over(&self) -> Option<Ports> {
        match &self.phase {
            Phase::Connected(ports, connection) => {
                let over = connection.is_over() || (!connection.is_open() && self.hung_up);
                over.then_some(*ports)
            }
            Phase::Asking(_) => None,
        }
    }

    /// Whether the guest knows of the connection.
    pub(super) fn is_known(&self) -> bool {
        matches!(&self.phase, Phase::Connected(_, connection) if connection.is_known())
    }

    /// Whether there may be something for the guest.
    pub(super) fn has_packet(&self) -> bool {
        match &self.phase {
            Phase::Connected(_, connection) => {
                connection.has_next() || (self.readable && connection.may_send() > 0)
            }
            Phase::Asking(_) => false,
        }
    }

    /// The header of the next packet to the guest, whose payload is then in `payload`, at most `room` bytes of it. None where
    /// it turns out that there is none.
    pub(super) fn packet(&mut self, room: usize, payload: &mut Vec<u8>) -> Option<Header> {
        payload.clear();
        let Phase::Connected(ports, connection) = &mut self.phase else { return None };
        let ports = *ports;
        if let Some((operation, credit)) = connection.next() {
            return Some(Header { ports, operation, credit });
        }
        let most = usize::try_from(connection.may_send()).unwrap_or(MOST_PAYLOAD);
        payload.resize(most.min(room).min(MOST_PAYLOAD), 0);
        let read = read(self.caller.as_mut(), payload);
        payload.truncate(*read.as_ref().unwrap_or(&0));
        match read {
            Ok(count @ 1..) => {
                Some(Header { ports, operation: Operation::Data, credit: connection.send(count) })
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                None
            }
            end => {
                connection.host_is_done();
                if self.hung_up || end.is_err() {
                    connection.host_is_deaf();
                }
                None
            }
        }
    }
}

fn read(caller: &mut dyn Caller, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match caller.read(into) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// The port in what a caller said.
fn port(said: &[u8]) -> Option<u32> {
    let digits = said.strip_prefix(WORD).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_names_a_port() {
        for (said, meant) in [
            (&b"CONNECT 1024"[..], Some(1024)),
            (b"CONNECT 4294967295", Some(u32::MAX)),
            (b"CONNECT 4294967296", None),
            (b"CONNECT +5", None),
            (b"CONNECT ", None),
            (b"CONNECT 5\r", None),
            (b"connect 5", None),
            (b"", None),
        ] {
            assert_eq!(port(said), meant, "{}", said.escape_ascii());
        }
    }
}
