//! The process that answers guests: it is handed sockets and views, and knows neither host nor world.
//!
//! ```text
//!            a thread                          one task for all                 tasks for each socket
//! daemon ──▶ listens, one word after the other ──▶ views, sockets of each VPC ──▶ service: answers guests
//! ```
//!
//! Without a daemon it goes on with what it was told last, and listens for the next one. That one is told which sockets
//! are open. What is kept: views, sockets, each guest's rate. What is not needed across its own end: sessions of
//! the metadata service, which are proven by the token itself, and leases, which follow from the views.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use host::GuestSockets;
use host::linux::services::{begin, lock};
use host::linux::sys::frames::Frames;
use spec::ids::VpcId;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tracing::{debug, error, warn};
use tracing_subscriber::EnvFilter;

use super::service::{self, Shared};
use super::words::{Held, MOST_SOCKETS, MOST_TO_PROCESS, ToDaemon, ToProcess, gather, read, say};
use crate::views::{Instances, Views};

/// How long the daemon may take to read what it is told. It never has to wait for us.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many words may wait to be obeyed.
const WAITING: usize = 64;

/// The process, from beginning to end.
pub fn main() -> ExitCode {
    let begun = begin();
    let filter = EnvFilter::try_from_env("CUMULET_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Log)
        .with_ansi(false)
        .with_target(false)
        .init();
    let Err(error) = begun
        .map_err(io::Error::other)
        .and_then(|listener| serve(listener, || lock().map_err(io::Error::other)));
    error!(
        "ending: {error}: {}",
        error.get_ref().and_then(|cause| cause.source()).map_or_else(String::new, ToString::to_string)
    );
    ExitCode::FAILURE
}

/// Standard error. What does not go there is lost: the log has its bound, and guests must not have an answer to less.
struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(io::stderr().write(bytes).unwrap_or(bytes.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Answers guests as daemons that connect to `listener` say, one after the other. `ready` is called when all threads are there
/// and have done what the C library does at a thread's beginning.
pub fn serve(
    listener: UnixListener,
    ready: impl FnOnce() -> io::Result<()>,
) -> io::Result<std::convert::Infallible> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (told, words) = mpsc::channel(WAITING);
    let begun = Arc::new(Barrier::new(2));
    let here = Arc::clone(&begun);
    thread::Builder::new().name("daemon".to_owned()).spawn(move || {
        here.wait();
        let Err(error) = listen(&listener, &told);
        warn!("the daemon's socket is of no use any more: {error}");
    })?;
    begun.wait();
    ready()?;
    runtime.block_on(Process::new().obey(words))
}

/// Something from the daemon's side.
enum Event {
    /// A daemon is there.
    Daemon(UnixStream),
    /// It said something.
    Word(Box<ToProcess>, Vec<OwnedFd>),
}

fn listen(listener: &UnixListener, told: &mpsc::Sender<Event>) -> io::Result<std::convert::Infallible> {
    loop {
        let (stream, _) = listener.accept()?;
        if let Err(error) = converse(&stream, told) {
            warn!("the conversation with the daemon ended: {error}");
        }
        // Whoever writes to the other copy is to see it, too.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

fn converse(stream: &UnixStream, told: &mpsc::Sender<Event>) -> io::Result<()> {
    let pass_on = |event| told.blocking_send(event).map_err(io::Error::other);
    let answers = stream.try_clone()?;
    answers.set_write_timeout(Some(PATIENCE))?;
    pass_on(Event::Daemon(answers))?;
    let mut frames = Frames::new(stream.try_clone()?, MOST_TO_PROCESS, MOST_SOCKETS);
    while let Some((frame, sockets)) = frames.next(None)? {
        pass_on(Event::Word(read(&frame)?, sockets))?;
    }
    Ok(())
}

/// What the process knows.
struct Process {
    /// None until a daemon has said the secret.
    shared: Option<Arc<Shared>>,
    vpcs: BTreeMap<VpcId, Vpc>,
    /// Ends with which sockets were of no use any more.
    answering: JoinSet<(VpcId, u64)>,
    daemon: Option<UnixStream>,
}

/// A VPC whose guests are answered, or will be.
#[derive(Default)]
struct Vpc {
    views: watch::Sender<Arc<Views>>,
    /// Instances that the next index may lead to.
    instances: Instances,
    held: Option<(Held, AbortHandle)>,
}

impl Process {
    fn new() -> Self {
        Self { shared: None, vpcs: BTreeMap::new(), answering: JoinSet::new(), daemon: None }
    }

    /// Obeys until the daemon's socket is gone.
    async fn obey(mut self, mut words: mpsc::Receiver<Event>) -> io::Result<std::convert::Infallible> {
        loop {
            tokio::select! {
                event = words.recv() => match event {
                    Some(Event::Daemon(stream)) => self.daemon = Some(stream),
                    Some(Event::Word(word, sockets)) => self.obey_word(*word, sockets),
                    None => return Err(io::Error::other("nobody can say any more what to do")),
                },
                Some(ended) = self.answering.join_next() => if let Ok((vpc, number)) = ended {
                    self.lose(vpc, number);
                },
            }
        }
    }

    fn obey_word(&mut self, word: ToProcess, sockets: Vec<OwnedFd>) {
        match word {
            ToProcess::Begin { secret } => self.begin(secret),
            ToProcess::Resolvers(servers) => {
                if let Some(shared) = &self.shared {
                    shared.upstream.set(servers);
                }
            }
            ToProcess::Instance { vpc, id, view } => {
                self.vpcs.entry(vpc).or_default().instances.insert(id, Arc::new(*view));
            }
            ToProcess::Index { vpc, index } => {
                let vpc = self.vpcs.entry(vpc).or_default();
                let views = Views::new(*index, &vpc.instances);
                vpc.instances = views.instances().clone();
                vpc.views.send_replace(Arc::new(views));
            }
            ToProcess::Open(held) => match gather(&held, sockets) {
                Ok(sockets) => self.open(held, sockets),
                Err(error) => {
                    warn!("the sockets for the guests of {} are not complete: {error}", held.vpc);
                    self.tell(&ToDaemon::Lost { vpc: held.vpc, number: held.number });
                }
            },
            ToProcess::Close(vpc) => {
                if let Some(vpc) = self.vpcs.get_mut(&vpc) {
                    vpc.close();
                }
            }
            ToProcess::Forget(vpc) => {
                if let Some(mut vpc) = self.vpcs.remove(&vpc) {
                    vpc.close();
                }
            }
            ToProcess::Ask => self.tell(&ToDaemon::Lives),
        }
    }

    /// Another secret than before, as a new state folder has it, makes all anew.
    fn begin(&mut self, secret: [u8; 32]) {
        if self.shared.as_ref().is_none_or(|shared| shared.secret != secret) {
            self.vpcs.values_mut().for_each(Vpc::close);
            self.shared = Some(Arc::new(Shared::new(secret)));
        }
        let held = self.vpcs.values().filter_map(|vpc| Some(vpc.held.as_ref()?.0.clone()));
        let holds = ToDaemon::Holds(held.collect());
        self.tell(&holds);
    }

    fn open(&mut self, held: Held, sockets: GuestSockets) {
        let Some(shared) = &self.shared else { return };
        let vpc = self.vpcs.entry(held.vpc).or_default();
        vpc.close();
        debug!("answering the guests of {}", held.vpc);
        let (id, number) = (held.vpc, held.number);
        let answering = service::answer(sockets, vpc.views.subscribe(), Arc::clone(shared));
        let handle = self.answering.spawn(async move {
            let error = answering.await;
            warn!("a socket for the guests of {id} is of no use any more: {error}");
            (id, number)
        });
        vpc.held = Some((held, handle));
    }

    fn lose(&mut self, id: VpcId, number: u64) {
        if let Some(vpc) = self.vpcs.get_mut(&id)
            && vpc.held.as_ref().is_some_and(|(held, _)| held.number == number)
        {
            vpc.held = None;
        }
        self.tell(&ToDaemon::Lost { vpc: id, number });
    }

    /// A daemon that does not listen has to come again, and is then told what it needs.
    fn tell(&mut self, word: &ToDaemon) {
        if let Some(daemon) = &self.daemon
            && say(daemon, word, &[]).is_err()
        {
            let _ = daemon.shutdown(Shutdown::Both);
            self.daemon = None;
        }
    }
}

impl Vpc {
    fn close(&mut self) {
        if let Some((_, answering)) = self.held.take() {
            answering.abort();
        }
    }
}
