//! The control socket: lines of JSON, as [`spec::control`] says, on many connections.
//!
//! Every request is answered with the status, and every connection is sent the status when it changes. A
//! connection that sends what is no request, or does not read its answers, is hung up on; the others do
//! not notice.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};

use spec::control::{MAX_LINE, Request, Status};

use crate::poll::Poll;

/// Connections at a time.
const MOST_CONNECTIONS: usize = 16;

struct Connection {
    socket: UnixStream,
    /// A line that is not complete yet.
    line: Vec<u8>,
    /// Answers that are not read yet.
    answers: Vec<u8>,
}

impl Connection {
    /// Reads what there is and answers it; whether the connection goes on.
    fn serve(&mut self, ask: &mut dyn FnMut(Request) -> Status) -> bool {
        let mut bytes = [0; 4096];
        loop {
            match self.socket.read(&mut bytes) {
                Ok(0) => return false,
                Ok(count) => self.line.extend(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return false,
            }
            while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.line.drain(..=end).collect();
                let Ok(request) = serde_json::from_slice(&line) else { return false };
                let status = ask(request);
                if !self.tell(&status) {
                    return false;
                }
            }
            if self.line.len() > MAX_LINE {
                return false;
            }
        }
    }

    /// Sends a status; whether the connection goes on.
    fn tell(&mut self, status: &Status) -> bool {
        // A status is plain data: there is nothing in it that JSON could not say.
        let Ok(json) = serde_json::to_vec(status) else { return false };
        self.answers.extend(json);
        self.answers.push(b'\n');
        self.flush() && self.answers.len() <= MAX_LINE
    }

    /// Sends what waits, as far as it goes; whether the connection goes on.
    fn flush(&mut self) -> bool {
        while !self.answers.is_empty() {
            match self.socket.write(&self.answers) {
                Ok(count) => drop(self.answers.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        true
    }
}

/// The socket and its connections, in the supervisor's hands.
pub(crate) struct Control {
    listener: Option<UnixListener>,
    connections: Vec<Connection>,
}

impl Control {
    /// Listens, where there is a socket; it is made non-blocking.
    pub(crate) fn new(listener: Option<UnixListener>) -> io::Result<Self> {
        if let Some(listener) = &listener {
            listener.set_nonblocking(true)?;
        }
        Ok(Self { listener, connections: Vec::new() })
    }

    /// What it waits for.
    pub(crate) fn wait(&self, poll: &mut Poll) {
        if let Some(listener) = &self.listener {
            poll.add(listener.as_raw_fd(), true, false);
        }
        for connection in &self.connections {
            poll.add(connection.socket.as_raw_fd(), true, !connection.answers.is_empty());
        }
    }

    /// Reads requests and answers them by `ask`.
    pub(crate) fn serve(&mut self, poll: &Poll, mut ask: impl FnMut(Request) -> Status) {
        self.connections.retain_mut(|connection| {
            let readable = poll.has_input(connection.socket.as_raw_fd());
            (!readable || connection.serve(&mut ask)) && connection.flush()
        });
        let Some(listener) = self.listener.as_ref().filter(|listener| poll.has_input(listener.as_raw_fd()))
        else {
            return;
        };
        while let Ok((socket, _)) = listener.accept() {
            if self.connections.len() < MOST_CONNECTIONS && socket.set_nonblocking(true).is_ok() {
                self.connections.push(Connection { socket, line: Vec::new(), answers: Vec::new() });
            }
        }
    }

    /// Sends the status to everybody.
    pub(crate) fn tell_all(&mut self, status: &Status) {
        self.connections.retain_mut(|connection| connection.tell(status));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::time::Instant;

    use spec::machine::Run;
    use vmm_sys_util::tempdir::TempDir;

    use super::*;

    fn status(resets: u64) -> Status {
        let run = Run { incarnation: 2, attempt: 1 };
        Status { run, reboots: 0, resets, powering_off: false, panicked: false }
    }

    fn turn(control: &mut Control, asked: &mut Vec<Request>) {
        let mut poll = Poll::default();
        control.wait(&mut poll);
        poll.wait(Some(Instant::now())).unwrap();
        control.serve(&poll, |request| {
            asked.push(request);
            status(7)
        });
    }

    fn line(socket: &UnixStream) -> Option<Status> {
        let mut line = String::new();
        BufReader::new(socket).read_line(&mut line).ok()?;
        serde_json::from_str(&line).ok()
    }

    #[test]
    fn requests_are_answered_and_changes_told_to_all() {
        let folder = TempDir::new().unwrap();
        let path = folder.as_path().join("control");
        let mut control = Control::new(Some(UnixListener::bind(&path).unwrap())).unwrap();
        let mut asked = Vec::new();
        let (mut first, second) = (UnixStream::connect(&path).unwrap(), UnixStream::connect(&path).unwrap());
        turn(&mut control, &mut asked);
        first.write_all(b"{\"request\":\"status\"}\n{\"request\":").unwrap();
        turn(&mut control, &mut asked);
        assert_eq!(line(&first), Some(status(7)));
        first.write_all(b"\"power-off\"}\n").unwrap();
        turn(&mut control, &mut asked);
        assert_eq!(asked, [Request::Status, Request::PowerOff]);
        assert_eq!(line(&first), Some(status(7)));
        control.tell_all(&status(8));
        assert_eq!((line(&first), line(&second)), (Some(status(8)), Some(status(8))));
    }

    #[test]
    fn nonsense_is_hung_up_on_and_connections_are_bounded() {
        let folder = TempDir::new().unwrap();
        let path = folder.as_path().join("control");
        let mut control = Control::new(Some(UnixListener::bind(&path).unwrap())).unwrap();
        let mut asked = Vec::new();
        for nonsense in [&b"hello\n"[..], b"{}\n", &[b'x'; MAX_LINE + 4096]] {
            let mut socket = UnixStream::connect(&path).unwrap();
            turn(&mut control, &mut asked);
            socket.write_all(nonsense).unwrap();
            turn(&mut control, &mut asked);
            assert_eq!(control.connections.len(), 0);
        }
        let crowd: Vec<_> = (0..MOST_CONNECTIONS + 5).map(|_| UnixStream::connect(&path).unwrap()).collect();
        turn(&mut control, &mut asked);
        assert_eq!(control.connections.len(), MOST_CONNECTIONS);
        drop(crowd);
        turn(&mut control, &mut asked);
        assert_eq!((control.connections.len(), asked.len()), (0, 0));
        let deaf = UnixStream::connect(&path).unwrap();
        turn(&mut control, &mut asked);
        for _ in 0..10_000 {
            control.tell_all(&status(1));
        }
        assert!(control.connections.is_empty());
        drop(deaf);
    }
}
