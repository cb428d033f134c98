//! The control socket: lines of JSON, as [`spec::control`] says, on many connections.
//!
//! Every request is answered, and every connection is sent the status when it changes. A connection that
//! sends what is no request, more descriptors than any request has, or does not read its answers, is hung up on; the
//! others do not notice.

use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use spec::control::{Answer, MAX_DESCRIPTORS, MAX_LINE, Request, Status};

use crate::descriptors::{Descriptors, receive};
use crate::poll::Poll;

/// Connections at a time.
const MOST_CONNECTIONS: usize = 16;

struct Connection {
    socket: UnixStream,
    /// A line that is not complete yet.
    line: Vec<u8>,
    /// What came with it, or with one of those after it.
    descriptors: Vec<OwnedFd>,
    /// Answers that are not read yet.
    answers: Vec<u8>,
}

/// What answers requests; the descriptors are those that came with one.
type Ask<'a> = dyn FnMut(Request, Descriptors) -> Answer + 'a;

impl Connection {
    fn new(socket: UnixStream) -> Self {
        Self { socket, line: Vec::new(), descriptors: Vec::new(), answers: Vec::new() }
    }

    /// Reads what there is and answers it; whether the connection goes on.
    fn serve(&mut self, ask: &mut Ask<'_>) -> bool {
        let mut bytes = [0; 4096];
        loop {
            match receive(&self.socket, &mut bytes, &mut self.descriptors) {
                Ok(0) => return false,
                Ok(count) => self.line.extend(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return false,
            }
            while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.line.drain(..=end).collect();
                let Ok(request) = serde_json::from_slice(&line) else { return false };
                let answer = match self.given_for(&request) {
                    Some(descriptors) => ask(request, descriptors),
                    None => Answer::Refused { refused: "Not as many descriptors came as were named".into() },
                };
                if !self.tell(&answer) {
                    return false;
                }
            }
            if self.line.len() > MAX_LINE || self.descriptors.len() > MAX_DESCRIPTORS {
                return false;
            }
        }
    }

    /// The descriptors that a request names. `None`, and all closed, where they are not those that came.
    fn given_for(&mut self, request: &Request) -> Option<Descriptors> {
        let (Request::Attach { descriptors: names, .. } | Request::Save { descriptors: names, .. }) = request
        else {
            return Some(Descriptors::default());
        };
        let given = std::mem::take(&mut self.descriptors);
        (given.len() == names.len()).then(|| Descriptors::sent(names, given))
    }

    /// Sends an answer; whether the connection goes on.
    fn tell(&mut self, answer: &Answer) -> bool {
        // An answer is plain data: there is nothing in it that JSON could not say.
        let Ok(json) = serde_json::to_vec(answer) else { return false };
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
    pub(crate) fn serve(&mut self, poll: &Poll, mut ask: impl FnMut(Request, Descriptors) -> Answer) {
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
                self.connections.push(Connection::new(socket));
            }
        }
    }

    /// Sends the status to everybody.
    pub(crate) fn tell_all(&mut self, status: &Status) {
        let status = Answer::Status(status.clone());
        self.connections.retain_mut(|connection| connection.tell(&status));
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{BufRead, BufReader, Read};
    use std::time::Instant;

    use spec::machine::{Device, Disk, Limits, Run, descriptors as names};
    use vmm_sys_util::sock_ctrl_msg::ScmSocket;
    use vmm_sys_util::tempdir::TempDir;

    use super::*;

    fn status(resets: u64) -> Status {
        let run = Run { incarnation: 2, attempt: 1 };
        Status { resets, ..Status::new(run, 0) }
    }

    fn turn(control: &mut Control, asked: &mut Vec<Request>) {
        let mut poll = Poll::default();
        control.wait(&mut poll);
        poll.wait(Some(Instant::now())).unwrap();
        control.serve(&poll, |request, _| {
            asked.push(request);
            Answer::Status(status(7))
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
    fn descriptors_come_to_the_request_that_names_them() {
        let folder = TempDir::new().unwrap();
        let path = folder.as_path().join("control");
        let mut control = Control::new(Some(UnixListener::bind(&path).unwrap())).unwrap();
        let mut socket = UnixStream::connect(&path).unwrap();
        let volume = "vol-0123456789abcdef0".parse().unwrap();
        let attach = |parts: &[&str]| {
            let descriptors = parts.iter().map(|part| names::volume(volume, part)).collect();
            let device = Device::Disk(Disk { volume, read_only: true, limits: Limits::default() });
            serde_json::to_string(&Request::Attach { device, descriptors }).unwrap() + "\n"
        };
        let mut contents = Vec::new();
        let mut turn = |control: &mut Control| {
            let mut poll = Poll::default();
            control.wait(&mut poll);
            poll.wait(Some(Instant::now())).unwrap();
            control.serve(&poll, |_, mut given| {
                let mut text = String::new();
                for part in ["data", "map"] {
                    let file: Option<File> = given.find(&names::volume(volume, part));
                    file.map(|mut file| file.read_to_string(&mut text));
                }
                contents.push(text);
                Answer::Status(status(1))
            });
        };
        for name in ["data", "map"] {
            std::fs::write(folder.as_path().join(name), name).unwrap();
        }
        let open = |name: &str| File::open(folder.as_path().join(name)).unwrap();
        turn(&mut control);
        // A request before it in the same packet takes nothing of it.
        socket.write_all(b"{\"request\":\"status\"}\n").unwrap();
        let (data, map) = (open("data"), open("map"));
        let line = attach(&["map", "data"]);
        socket.send_with_fds(&[line.as_bytes()], &[map.as_raw_fd(), data.as_raw_fd()]).unwrap();
        turn(&mut control);
        // One too few, one too many: refused, and the connection goes on.
        socket.write_all(attach(&["data"]).as_bytes()).unwrap();
        let line = attach(&["data"]);
        socket.send_with_fds(&[line.as_bytes()], &[map.as_raw_fd(), data.as_raw_fd()]).unwrap();
        turn(&mut control);
        socket.send_with_fds(&[attach(&["map"]).as_bytes()], &[open("map").as_raw_fd()]).unwrap();
        turn(&mut control);
        assert_eq!(control.connections.len(), 1);
        // More than any request has.
        let many: Vec<File> = (0..=MAX_DESCRIPTORS).map(|_| open("map")).collect();
        let numbers: Vec<_> = many.iter().map(AsRawFd::as_raw_fd).collect();
        socket.send_with_fds(&[&b"{"[..]], &numbers).unwrap();
        turn(&mut control);
        assert_eq!(control.connections.len(), 0);
        assert_eq!(contents, ["", "datamap", "map"]);
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
