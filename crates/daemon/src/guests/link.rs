//! The daemon's side of the process that answers guests: there always is one, or there soon will be.
//!
//! ```text
//!  find or start ──▶ Begin ──▶ Holds ──▶ a conversation, until it ends
//!       ▲                                          │
//!       └──────── a pause, longer each time ◀──────┘
//! ```
//!
//! What the process says is untrusted: bounded, slow to read on purpose, and no more than hints. One that does not answer for
//! [`DEAF`] is ended.

use std::collections::BTreeMap;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc as blocking_mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use host::linux::sys::frames::Frames;
use host::{ErrorKind, Host};
use spec::ids::VpcId;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, interval, sleep, timeout};
use tracing::{debug, info, warn};

use super::resolvers;
use super::words::{Held, MOST_TO_DAEMON, ToDaemon, ToProcess, read, say};

/// The pauses before a process is started again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A process that lived so long is started again at once.
const STABLE: Duration = Duration::from_secs(60);
/// How long a process may take to say what it holds, or to take in what it is told.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is asked whether it lives, and how long it may not say so.
const ASK: Duration = Duration::from_secs(2);
const DEAF: Duration = Duration::from_secs(20);
/// How often it is seen to that what bounds the process from outside is still there.
const GUARD: Duration = Duration::from_secs(60);
/// After each of its words the process is not listened to for so long: it cannot keep us busy.
const REST: Duration = Duration::from_millis(1);
/// Losses that may wait to be heard. Who misses one is told so, and does as if it were his.
const LOSSES: usize = 64;

/// A process that answers guests, as long as it can be talked to.
pub(super) struct Conversation {
    told: blocking_mpsc::Sender<(ToProcess, Vec<OwnedFd>)>,
    /// What it held when the conversation began, and nobody has asked for yet.
    held: Mutex<BTreeMap<VpcId, Held>>,
    losses: broadcast::Sender<(VpcId, u64)>,
}

impl Conversation {
    /// Says a word. Where nobody listens any more, that is noticed elsewhere.
    pub(super) fn tell(&self, word: ToProcess, sockets: Vec<OwnedFd>) {
        let _ = self.told.send((word, sockets));
    }

    /// What the process has held of a VPC since before this conversation; only the first to ask is told.
    pub(super) fn take_held(&self, vpc: VpcId) -> Option<Held> {
        self.lock().remove(&vpc)
    }

    /// Has the process forget all that it has held and nobody wants.
    pub(super) fn forget_all_but(&self, wanted: impl Fn(VpcId) -> bool) {
        let unwanted: Vec<VpcId> = self.lock().keys().copied().filter(|vpc| !wanted(*vpc)).collect();
        for vpc in unwanted {
            self.lock().remove(&vpc);
            self.tell(ToProcess::Forget(vpc), Vec::new());
        }
    }

    /// Hears of sockets that are lost from now on.
    pub(super) fn losses(&self) -> broadcast::Receiver<(VpcId, u64)> {
        self.losses.subscribe()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<VpcId, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The conversation that there is now, if there is one.
pub(super) type Current = watch::Receiver<Option<Arc<Conversation>>>;

/// Keeps a process that answers guests, on a host that can have one. Ends when nobody looks at `current` any more.
pub(super) async fn keep_process(
    host: Arc<dyn Host>,
    secret: [u8; 32],
    current: watch::Sender<Option<Arc<Conversation>>>,
) {
    let mut pause = FIRST_PAUSE;
    while !current.is_closed() {
        let begun = Instant::now();
        match find(&host).await {
            Ok(stream) => match converse(stream, secret, &host, &current).await {
                Ok(()) => warn!("the process that answers guests has ended"),
                Err(error) => warn!("the process that answers guests cannot be talked to: {error}"),
            },
            Err(error) if error.kind == ErrorKind::Unsupported => {
                return debug!("nothing is served to guests: {}", error.chain());
            }
            Err(error) => warn!("guests are not served, trying on: {}", error.chain()),
        }
        current.send_replace(None);
        pause = if begun.elapsed() > STABLE { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
        sleep(pause).await;
    }
}

async fn find(host: &Arc<dyn Host>) -> Result<UnixStream, host::Error> {
    let host = Arc::clone(host);
    let finding = spawn_blocking(move || host.guest_services());
    finding
        .await
        .unwrap_or_else(|panic| Err(host::Error::passing("The search for a process broke off", panic)))
}

/// Talks with a process until one of both ends.
async fn converse(
    stream: UnixStream,
    secret: [u8; 32],
    host: &Arc<dyn Host>,
    current: &watch::Sender<Option<Arc<Conversation>>>,
) -> io::Result<()> {
    let _ended = ShutDown(stream.try_clone()?);
    let (told, words) = blocking_mpsc::channel();
    let (heard, mut said) = mpsc::channel(1);
    let writing = stream.try_clone()?;
    writing.set_write_timeout(Some(PATIENCE))?;
    thread::Builder::new().name("to guests".to_owned()).spawn(move || speak(&writing, &words))?;
    thread::Builder::new().name("from guests".to_owned()).spawn(move || listen(stream, &heard))?;

    let (losses, _) = broadcast::channel(LOSSES);
    let conversation = Conversation { told, held: Mutex::default(), losses };
    conversation.tell(ToProcess::Begin { secret }, Vec::new());
    let held = match timeout(PATIENCE, said.recv()).await {
        Ok(Some(ToDaemon::Holds(held))) => held,
        Ok(None) => return Ok(()),
        Ok(Some(_)) => return Err(io::Error::other("its first word is another than it should be")),
        Err(_) => {
            end(host).await;
            return Err(io::Error::other("it did not say what it holds, and was ended"));
        }
    };
    info!(
        "guests are answered by a process of their own; it holds the sockets of {} VPCs already",
        held.len()
    );
    *conversation.lock() = held.into_iter().map(|held| (held.vpc, held)).collect();
    let conversation = Arc::new(conversation);
    current.send_replace(Some(Arc::clone(&conversation)));
    attend(&conversation, &mut said, host, current).await
}

/// Hears what the process says, sees to it that it lives, and tells it of the host's resolvers.
async fn attend(
    conversation: &Conversation,
    said: &mut mpsc::Receiver<ToDaemon>,
    host: &Arc<dyn Host>,
    current: &watch::Sender<Option<Arc<Conversation>>>,
) -> io::Result<()> {
    let (mut asks, mut guards, mut last) = (interval(ASK), interval(GUARD), Instant::now());
    let mut known: Vec<SocketAddr> = Vec::new();
    loop {
        tokio::select! {
            word = said.recv() => match word {
                Some(ToDaemon::Lives) => last = Instant::now(),
                Some(ToDaemon::Lost { vpc, number }) => {
                    let _ = conversation.losses.send((vpc, number)); // nobody may want to hear it
                }
                Some(ToDaemon::Holds(_)) => {}
                None => return Ok(()),
            },
            _ = asks.tick() => {
                if last.elapsed() > DEAF {
                    end(host).await;
                    return Err(io::Error::other("it was silent for too long, and was ended"));
                }
                let now = spawn_blocking(resolvers::current).await.unwrap_or_default();
                if now != known {
                    conversation.tell(ToProcess::Resolvers(now.clone()), Vec::new());
                    known = now;
                }
                conversation.tell(ToProcess::Ask, Vec::new());
            }
            _ = guards.tick() => guard(host).await,
            () = current.closed() => return Ok(()),
        }
    }
}

async fn end(host: &Arc<dyn Host>) {
    let host = Arc::clone(host);
    say_trouble(spawn_blocking(move || host.end_guest_services()).await);
}

async fn guard(host: &Arc<dyn Host>) {
    let host = Arc::clone(host);
    say_trouble(spawn_blocking(move || host.guard_guest_services()).await);
}

fn say_trouble(done: Result<Result<(), host::Error>, tokio::task::JoinError>) {
    match done {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!("{}", error.chain()),
        Err(panic) => warn!("what was done with the process that answers guests broke off: {panic}"),
    }
}

/// Says words until nobody has any, or nobody listens.
fn speak(stream: &UnixStream, words: &blocking_mpsc::Receiver<(ToProcess, Vec<OwnedFd>)>) {
    for (word, sockets) in words {
        if let Err(error) = say(stream, &word, &sockets) {
            debug!("the process that answers guests does not listen: {error}");
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

/// Hears words until the other side ends or says what it should not.
fn listen(stream: UnixStream, heard: &mpsc::Sender<ToDaemon>) {
    let mut frames = Frames::new(stream, MOST_TO_DAEMON, 0);
    loop {
        let word = match frames.next(None) {
            Ok(Some((frame, _))) => read(&frame),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        match word {
            Ok(word) => {
                if heard.blocking_send(word).is_err() {
                    return;
                }
            }
            Err(error) => return debug!("the process that answers guests said nonsense: {error}"),
        }
        thread::sleep(REST);
    }
}

/// Ends both threads with the conversation.
struct ShutDown(UnixStream);

impl Drop for ShutDown {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}
