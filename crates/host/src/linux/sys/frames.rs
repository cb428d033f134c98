//! Messages with descriptors between processes of ours, over a stream of a Unix socket.
//!
//! ```text
//! length of the bytes, 32 bits │ number of descriptors, 32 bits │ the bytes
//! ```
//!
//! Numbers are little-endian. The descriptors ride with the first bytes of their frame (unix(7), `SCM_RIGHTS`), so they are
//! there when the frame is whole. Neither side need trust the other: each says the most that it takes.
#![allow(unsafe_code, reason = "taking over descriptors that were received")]

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

const HEAD: usize = 8;
/// The most descriptors that are sent at once; the kernel's own limit (`SCM_MAX_FD`) is 253.
const AT_ONCE: usize = 200;
/// The most that one frame can carry: some with each byte of its head.
const MOST_DESCRIPTORS: usize = HEAD * AT_ONCE;
/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// Sends one frame. It waits as long as the stream's write timeout says.
pub fn send(stream: &UnixStream, bytes: &[u8], descriptors: &[OwnedFd]) -> io::Result<()> {
    let too_large = |_| io::Error::from(ErrorKind::InvalidInput);
    if descriptors.len() > MOST_DESCRIPTORS {
        return Err(ErrorKind::InvalidInput.into());
    }
    let mut frame = Vec::with_capacity(HEAD + bytes.len());
    for number in [bytes.len(), descriptors.len()] {
        frame.extend_from_slice(&u32::try_from(number).map_err(too_large)?.to_le_bytes());
    }
    frame.extend_from_slice(bytes);
    let mut sent = 0;
    for chunk in descriptors.chunks(AT_ONCE) {
        let numbers: Vec<_> = chunk.iter().map(AsRawFd::as_raw_fd).collect();
        let byte = [IoSlice::new(&frame[sent..=sent])];
        let rights = [ControlMessage::ScmRights(&numbers)];
        sent += sendmsg::<()>(stream.as_raw_fd(), &byte, &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    }
    { stream }.write_all(&frame[sent..])
}

/// What the other side of a stream sends, frame by frame.
pub struct Frames {
    stream: UnixStream,
    most_bytes: usize,
    most_descriptors: usize,
    received: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl Frames {
    /// The frames of a stream, none longer and none with more descriptors than is said.
    pub fn new(stream: UnixStream, most_bytes: usize, most_descriptors: usize) -> Self {
        Self { stream, most_bytes, most_descriptors, received: Vec::new(), descriptors: VecDeque::new() }
    }

    /// The next frame; none where the other side has ended between two. Without a deadline it is waited for.
    pub fn next(&mut self, deadline: Option<Instant>) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        loop {
            if let Some((bytes, descriptors)) = self.whole()? {
                return Ok(Some((bytes, descriptors)));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(left)?;
            match self.receive() {
                Ok(0) if self.received.is_empty() => return Ok(None),
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The first frame of what was received, if it is whole.
    fn whole(&mut self) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        let Some((head, rest)) = self.received.split_first_chunk::<HEAD>() else { return Ok(None) };
        let number = |at: usize| {
            let four = head[at..].first_chunk().map_or(u32::MAX, |four| u32::from_le_bytes(*four));
            usize::try_from(four).unwrap_or(usize::MAX)
        };
        let (length, count) = (number(0), number(4));
        if length > self.most_bytes || count > self.most_descriptors {
            return Err(io::Error::new(ErrorKind::InvalidData, "More was sent than is taken"));
        }
        if rest.len() < length {
            return Ok(None);
        }
        if self.descriptors.len() < count {
            return Err(io::Error::new(ErrorKind::InvalidData, "Fewer descriptors were sent than was said"));
        }
        let bytes = rest[..length].to_vec();
        self.received.drain(..HEAD + length);
        Ok(Some((bytes, self.descriptors.drain(..count).collect())))
    }

    fn receive(&mut self) -> Result<usize, Errno> {
        let mut chunk = [0; CHUNK];
        let mut rights = nix::cmsg_space!([std::os::fd::RawFd; AT_ONCE]);
        let mut bytes = [IoSliceMut::new(&mut chunk)];
        let (socket, flags) = (self.stream.as_raw_fd(), MsgFlags::MSG_CMSG_CLOEXEC);
        let message = recvmsg::<()>(socket, &mut bytes, Some(&mut rights), flags)?;
        let count = message.bytes;
        for part in message.cmsgs()? {
            let ControlMessageOwned::ScmRights(numbers) = part else { continue };
            // SAFETY: the kernel has just made these descriptors for us, and each is taken once.
            let owned = numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) });
            self.descriptors.extend(owned);
        }
        if self.descriptors.len() > self.most_descriptors {
            return Err(Errno::EMSGSIZE);
        }
        self.received.extend_from_slice(&chunk[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn pair(most_bytes: usize, most_descriptors: usize) -> (UnixStream, Frames) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (ours, Frames::new(theirs, most_bytes, most_descriptors))
    }

    #[test]
    fn frames_arrive_whole_with_their_own_descriptors() {
        let (ours, mut frames) = pair(1 << 20, 600);
        let sending = thread::spawn(move || {
            let pipe = || nix::unistd::pipe().unwrap();
            let (few, many) = (pipe(), (0..500).map(|_| pipe()).collect::<Vec<_>>());
            for (number, (_, write)) in [&few].into_iter().chain(&many).enumerate() {
                File::from(write.try_clone().unwrap()).write_all(&number.to_le_bytes()).unwrap();
            }
            send(&ours, b"none", &[]).unwrap();
            send(&ours, b"one", &[few.0]).unwrap();
            let reads: Vec<OwnedFd> = many.into_iter().map(|(read, _)| read).collect();
            send(&ours, &[7; 300_000], &reads).unwrap();
        });
        let mut next = || frames.next(None).unwrap().unwrap();
        assert_eq!((next().0, next().0), (b"none".to_vec(), b"one".to_vec()));
        let (bytes, descriptors) = next();
        assert!(bytes == [7; 300_000] && descriptors.len() == 500);
        for (number, descriptor) in (1_usize..).zip(descriptors) {
            let mut found = [0; 8];
            File::from(descriptor).read_exact(&mut found).unwrap();
            assert_eq!(usize::from_le_bytes(found), number);
        }
        sending.join().unwrap();
        assert!(frames.next(None).unwrap().is_none(), "it has ended");
    }

    #[test]
    fn what_is_too_much_or_cut_short_is_an_error() {
        let refused = |bytes: &[u8], descriptors: usize| {
            let (ours, mut frames) = pair(10, 2);
            let descriptors: Vec<OwnedFd> =
                (0..descriptors).map(|_| File::open("/dev/null").unwrap().into()).collect();
            send(&ours, bytes, &descriptors).unwrap();
            frames.next(None).unwrap_err().kind()
        };
        assert_eq!(refused(&[0; 11], 0), ErrorKind::InvalidData);
        assert_ne!(refused(&[0; 1], 3), ErrorKind::TimedOut);
        for sent in [&[1][..], &[5, 0, 0, 0, 0, 0, 0, 0, 1], &[1, 0, 0, 0, 1, 0, 0, 0, 1], &[255; 8]] {
            let (mut ours, mut frames) = pair(10, 2);
            ours.write_all(sent).unwrap();
            drop(ours);
            assert!(frames.next(None).is_err(), "{sent:?}");
        }
    }

    #[test]
    fn nobody_waits_past_the_deadline() {
        let (mut ours, mut frames) = pair(10, 0);
        ours.write_all(&[1, 0]).unwrap();
        let begin = Instant::now();
        let error = frames.next(Some(begin + Duration::from_millis(50))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}
