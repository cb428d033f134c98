//! The serial console's other side: a ring file with the last output, and whoever is attached.
//!
//! ```text
//! guest ─▶ Output (memory) ─▶ Console ─┬▶ ring file
//!                                      └▶ attachments   sockets, or standard input and output
//! guest ◀─ serial port     ◀─ Console ◀── attachments
//! ```
//!
//! A guest writes byte by byte, from a vCPU that must not wait. So a byte only goes into memory; the
//! first one after a silence calls the supervisor, which waits a moment for more and then writes them all
//! at once. Everything is bounded: an attachment that does not read loses the oldest, and what is typed
//! faster than the guest takes it waits in its socket.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use spec::console::{CAPACITY, place};

use crate::events::{Event, Events};
use crate::exit::say;
use crate::poll::Poll;

/// How long output waits for more of it: less than people notice, more than a guest needs for a line. It is also how much later
/// than its guest a machine is seen to have booted, so no longer than that.
const GATHER: Duration = Duration::from_millis(1);
/// Bytes that wait for one attachment, at most.
const MOST_OUTPUT: usize = 256 * 1024;
/// Bytes that wait for the guest, at most.
const MOST_INPUT: usize = 4096;
/// Attachments at a time.
const MOST_ATTACHMENTS: usize = 8;

/// Where the serial port writes.
#[derive(Clone)]
pub(crate) struct Output {
    bytes: Arc<Mutex<VecDeque<u8>>>,
    events: Arc<Events>,
}

impl Output {
    pub(crate) fn new(events: Arc<Events>) -> Self {
        Self { bytes: Arc::default(), events }
    }

    fn take(&self) -> VecDeque<u8> {
        std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut waiting = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_empty() {
            self.events.push(Event::ConsoleOutput);
        }
        append(&mut waiting, bytes, CAPACITY);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Appends, and drops the oldest beyond `most`.
fn append(queue: &mut VecDeque<u8>, bytes: &[u8], most: usize) {
    queue.extend(bytes);
    let surplus = queue.len().saturating_sub(most);
    queue.drain(..surplus);
}

/// The ring file.
struct Ring {
    file: File,
    written: u64,
}

impl Ring {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        for (at, part) in place(self.written, bytes) {
            self.file.write_all_at(part, at)?;
        }
        self.written = self.written.wrapping_add(bytes.len() as u64);
        // The count after the bytes: see `spec::console`.
        self.file.write_all_at(&self.written.to_le_bytes(), 0)
    }
}

/// The two ends of an attachment; of a socket they are the same.
enum Peer {
    Socket(UnixStream),
    Standard(File, File),
}

struct Attachment {
    peer: Peer,
    /// What it has not read yet.
    waiting: VecDeque<u8>,
    /// Whether it will type no more.
    silent: bool,
}

impl Attachment {
    fn new(peer: Peer) -> Self {
        Self { peer, waiting: VecDeque::new(), silent: false }
    }

    fn ends(&self) -> (RawFd, RawFd) {
        match &self.peer {
            Peer::Socket(socket) => (socket.as_raw_fd(), socket.as_raw_fd()),
            Peer::Standard(input, output) => (input.as_raw_fd(), output.as_raw_fd()),
        }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.peer {
            Peer::Socket(socket) => socket.read(into),
            Peer::Standard(input, _) => input.read(into),
        }
    }

    /// Writes what waits, as far as it goes; whether the attachment is of use any longer.
    fn write(&mut self) -> bool {
        while !self.waiting.is_empty() {
            let (bytes, _) = self.waiting.as_slices();
            let result = match &mut self.peer {
                Peer::Socket(socket) => socket.write(bytes),
                Peer::Standard(_, output) => output.write(bytes),
            };
            match result {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        true
    }
}

/// The console, in the supervisor's hands.
pub(crate) struct Console {
    output: Output,
    listener: Option<UnixListener>,
    ring: Option<Ring>,
    attachments: Vec<Attachment>,
    /// Typed, and not taken by the guest yet.
    typed: VecDeque<u8>,
    /// When gathered output is written.
    due: Option<Instant>,
}

impl Console {
    /// A console whose output comes from `output`. The listener is made non-blocking, the ring begins empty.
    pub(crate) fn new(
        output: Output,
        listener: Option<UnixListener>,
        ring: Option<File>,
    ) -> io::Result<Self> {
        if let Some(listener) = &listener {
            listener.set_nonblocking(true)?;
        }
        if let Some(file) = &ring {
            file.set_len(0)?;
        }
        let ring = ring.map(|file| Ring { file, written: 0 });
        Ok(Self { output, listener, ring, attachments: Vec::new(), typed: VecDeque::new(), due: None })
    }

    /// Attaches standard input and output.
    pub(crate) fn attach_standard(&mut self) -> io::Result<()> {
        let input = io::stdin().as_fd().try_clone_to_owned()?.into();
        let output = io::stdout().as_fd().try_clone_to_owned()?.into();
        self.attachments.push(Attachment::new(Peer::Standard(input, output)));
        Ok(())
    }

    /// Where a machine's serial port is to write.
    pub(crate) fn output(&self) -> Output {
        self.output.clone()
    }

    /// There is output: it will be written in a moment.
    pub(crate) fn gather(&mut self) {
        self.due.get_or_insert_with(|| Instant::now() + GATHER);
    }

    /// When [`Self::serve`] has something to do by itself.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What it waits for.
    pub(crate) fn wait(&self, poll: &mut Poll) {
        if let Some(listener) = &self.listener {
            poll.add(listener.as_raw_fd(), true, false);
        }
        for attachment in &self.attachments {
            let (input, output) = attachment.ends();
            let listens = !attachment.silent && self.typed.len() < MOST_INPUT;
            if listens || input == output {
                poll.add(input, listens, !attachment.waiting.is_empty());
            }
        }
    }

    /// Does what has become possible. `receive` puts typed bytes into the serial port and says how many
    /// it took.
    pub(crate) fn serve(&mut self, poll: &Poll, receive: impl FnMut(&[u8]) -> usize) {
        self.accept(poll);
        self.read(poll);
        self.feed(receive);
        if self.due.is_some_and(|due| due <= Instant::now()) {
            self.due = None;
            self.write_output();
        }
        self.attachments.retain_mut(|attachment| {
            let (input, output) = attachment.ends();
            let gone = input == output && attachment.silent && poll.is_gone(input);
            !gone && attachment.write()
        });
    }

    /// Gives the guest as much of what was typed as it takes.
    pub(crate) fn feed(&mut self, mut receive: impl FnMut(&[u8]) -> usize) {
        loop {
            let taken = match self.typed.as_slices().0 {
                [] => 0,
                bytes => receive(bytes),
            };
            if taken == 0 {
                break;
            }
            self.typed.drain(..taken.min(self.typed.len()));
        }
    }

    /// Writes everything that the guest has written, as the machine ends.
    pub(crate) fn finish(&mut self) {
        self.write_output();
        for attachment in &mut self.attachments {
            attachment.write();
        }
    }

    fn accept(&mut self, poll: &Poll) {
        let Some(listener) = self.listener.as_ref().filter(|listener| poll.has_input(listener.as_raw_fd()))
        else {
            return;
        };
        while let Ok((socket, _)) = listener.accept() {
            // One more than there is room for is hung up on.
            if self.attachments.len() < MOST_ATTACHMENTS && socket.set_nonblocking(true).is_ok() {
                self.attachments.push(Attachment::new(Peer::Socket(socket)));
            }
        }
    }

    fn read(&mut self, poll: &Poll) {
        for attachment in &mut self.attachments {
            let room = MOST_INPUT.saturating_sub(self.typed.len());
            if attachment.silent || room == 0 || !poll.has_input(attachment.ends().0) {
                continue;
            }
            let mut bytes = [0; 512];
            let room = room.min(bytes.len());
            match attachment.read(&mut bytes[..room]) {
                Ok(0) => attachment.silent = true,
                Ok(count) => self.typed.extend(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => attachment.silent = true,
            }
        }
    }

    fn write_output(&mut self) {
        let mut bytes = self.output.take();
        let bytes = bytes.make_contiguous();
        for attachment in &mut self.attachments {
            append(&mut attachment.waiting, bytes, MOST_OUTPUT);
        }
        if let Some(ring) = self.ring.as_mut().filter(|_| !bytes.is_empty())
            && let Err(error) = ring.write(bytes)
        {
            // The guest lives on without a record; a full disk must not end it.
            say(&format!("Cannot write the console's ring file, which is no longer kept: {error}"));
            self.ring = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use vmm_sys_util::tempdir::TempDir;

    use super::*;

    struct Set {
        console: Console,
        output: Output,
        path: std::path::PathBuf,
        ring: File,
        _folder: TempDir,
    }

    fn set() -> Set {
        let folder = TempDir::new().unwrap();
        let path = folder.as_path().join("console");
        let ring = File::create_new(folder.as_path().join("ring")).unwrap();
        let output = Output::new(Arc::new(Events::new().unwrap()));
        let listener = UnixListener::bind(&path).unwrap();
        let console = Console::new(output.clone(), Some(listener), Some(ring.try_clone().unwrap())).unwrap();
        let ring = File::open(folder.as_path().join("ring")).unwrap();
        Set { console, output, path, ring, _folder: folder }
    }

    /// One round of the supervisor's loop.
    fn turn(console: &mut Console, receive: impl FnMut(&[u8]) -> usize) {
        console.gather();
        let mut poll = Poll::default();
        console.wait(&mut poll);
        poll.wait(console.due()).unwrap();
        std::thread::sleep(GATHER);
        console.serve(&poll, receive);
    }

    #[test]
    fn output_reaches_the_ring_and_everybody_attached() {
        let mut set = set();
        let mut first = UnixStream::connect(&set.path).unwrap();
        turn(&mut set.console, |_| 0);
        let mut second = UnixStream::connect(&set.path).unwrap();
        set.output.write_all(b"login: ").unwrap();
        turn(&mut set.console, |_| 0);
        for attached in [&mut first, &mut second] {
            let mut bytes = [0; 7];
            attached.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, b"login: ");
        }
        let mut file = Vec::new();
        set.ring.read_to_end(&mut file).unwrap();
        assert_eq!(spec::console::unroll(&file), b"login: ");
    }

    #[test]
    fn typing_waits_for_the_guest_and_is_bounded() {
        let mut set = set();
        let mut attached = UnixStream::connect(&set.path).unwrap();
        attached.set_nonblocking(true).unwrap();
        turn(&mut set.console, |_| 0);
        let mut typed = 0;
        for _ in 0..1000 {
            typed += attached.write(&[b'x'; 4096]).unwrap_or(0);
            turn_at_once(&mut set.console);
        }
        assert!(set.console.typed.len() <= MOST_INPUT && typed > MOST_INPUT);
        let mut taken = Vec::new();
        set.console.feed(|bytes| {
            taken.push(bytes[0]);
            usize::from(taken.len() <= 10)
        });
        assert_eq!(taken.len(), 11); // the eleventh was refused
    }

    fn turn_at_once(console: &mut Console) {
        let mut poll = Poll::default();
        console.wait(&mut poll);
        poll.wait(Some(Instant::now())).unwrap();
        console.serve(&poll, |_| 0);
    }

    #[test]
    fn who_does_not_read_loses_the_oldest_and_holds_nobody_up() {
        let mut set = set();
        let _deaf = UnixStream::connect(&set.path).unwrap();
        turn(&mut set.console, |_| 0);
        for _ in 0..100 {
            set.output.write_all(&[b'y'; 10_000]).unwrap();
            set.console.due = Some(Instant::now());
            turn_at_once(&mut set.console);
        }
        assert!(set.console.attachments[0].waiting.len() <= MOST_OUTPUT);
    }

    #[test]
    fn who_leaves_makes_room() {
        let mut set = set();
        for _ in 0..3 * MOST_ATTACHMENTS {
            drop(UnixStream::connect(&set.path).unwrap());
            turn_at_once(&mut set.console);
            turn_at_once(&mut set.console);
        }
        let crowd: Vec<_> =
            (0..2 * MOST_ATTACHMENTS).map(|_| UnixStream::connect(&set.path).unwrap()).collect();
        turn_at_once(&mut set.console);
        assert_eq!(set.console.attachments.len(), MOST_ATTACHMENTS);
        drop(crowd);
    }
}
