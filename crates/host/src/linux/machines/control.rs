//! The host's side of [`spec::control`]: asking a machine, and listening to what it says unasked.
//!
//! The other side may hang, lie or send without end. So every wait has its limit, and so has every line.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, socket,
};
use spec::control::{Answer, MAX_LINE, Request, Status};

/// A connection to a machine's control socket.
pub(super) struct Conversation {
    stream: UnixStream,
    /// What was received of a line that is not complete, and of those after it.
    received: Vec<u8>,
}

/// Why a machine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// It said so itself.
    #[error("{0}")]
    Refused(String),
    /// It could not be asked, or did not answer.
    #[error("It did not answer")]
    Silent(#[source] io::Error),
}

/// Asks one question on a connection of its own and waits at most `patience` for the answer. What the request names
/// goes with it.
pub(super) fn ask(
    socket: &Path,
    request: &Request,
    descriptors: &[OwnedFd],
    patience: Duration,
) -> Result<Status, AskError> {
    let deadline = Instant::now() + patience;
    let mut conversation = Conversation::begin(socket).map_err(AskError::Silent)?;
    conversation.send(request, descriptors, patience).map_err(AskError::Silent)?;
    loop {
        match conversation.answer(Some(deadline)).map_err(AskError::Silent)? {
            Answer::Refused { refused } => return Err(AskError::Refused(refused)),
            Answer::Status(status) if request.is_taken_on(&status) => return Ok(status),
            // It was sent unasked before the request was read.
            Answer::Status(_) => {}
        }
    }
}

impl Conversation {
    /// Connects. Never waits: who has too many connections waiting already does not answer either.
    pub(super) fn begin(path: &Path) -> io::Result<Self> {
        let stream = connect_at_once(path)?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// Sends a question, with descriptors that the machine will have as its own.
    pub(super) fn send(
        &mut self,
        request: &Request,
        descriptors: &[OwnedFd],
        patience: Duration,
    ) -> io::Result<()> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.stream.set_write_timeout(Some(patience))?;
        let numbers: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let rights = if numbers.is_empty() { &[][..] } else { &rights };
        // They go with the first byte that goes.
        let (socket, flags) = (self.stream.as_raw_fd(), MsgFlags::MSG_NOSIGNAL);
        let sent = sendmsg::<()>(socket, &[IoSlice::new(&line)], rights, flags, None)?;
        self.stream.write_all(&line[sent..])
    }

    /// The next answer that is sent, asked for or not. Without a deadline it is waited for as long as the machine lives.
    pub(super) fn answer(&mut self, deadline: Option<Instant>) -> io::Result<Answer> {
        let mut chunk = [0; 4096];
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return Ok(serde_json::from_slice(&line)?);
            }
            if self.received.len() >= MAX_LINE {
                return Err(io::Error::new(
                    ErrorKind::InvalidData,
                    "The machine sent a line that is too long",
                ));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Err(ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(left)?;
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Connects to a Unix socket without waiting for room among those that wait to be accepted.
pub(in crate::linux) fn connect_at_once(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let descriptor = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match connect(descriptor.as_raw_fd(), &UnixAddr::new(path)?) {
        Err(Errno::EAGAIN) => {
            return Err(io::Error::new(ErrorKind::TimedOut, "Too many connections wait already"));
        }
        result => result?,
    }
    let stream = UnixStream::from(descriptor);
    stream.set_nonblocking(false)?;
    Ok(stream)
}
