//! Guests' services: what instances reach at 169.254.169.254, at their router's DHCP port and at their resolver.
//!
//! ```text
//!   daemon, root                                                              cumulet-guests, nobody
//!   worlds ──▶ views::served ──┬─ network ──▶ keep: open, reopen, close ─ sockets ┐
//!              (each new one)  └─ views, piece by piece ──────────────────────────┴▶ service: answers guests
//! ```
//!
//! This file is the privileged half: it reads the world and has sockets opened inside namespaces. What guests say never
//! reaches it. [`process`] is the other half, a process of its own without rights, which outlives this one; [`link`] sees to it that
//! there is one, and [`words`] are what is said.
//!
//! What must hold:
//! - A VPC's sockets are closed as soon as a published world no longer wants its network. The loop may remove the namespace
//!   a little earlier. That is harmless: removal takes every link and then the name away, so a socket that is still open
//!   holds an empty namespace without a name, which ends with the socket; a new one of the same name is another.
//! - Sockets in a namespace or on a bridge that is no longer the VPC's are noticed within [`LOOK`], and opened anew: somebody
//!   deleted what was there, and the loop has repaired it.
//! - A daemon that ends, however it does, takes nothing from guests: sockets are closed by a word, never by its absence.
//! - A guest can wear out only what is its own; see [`limits`].

mod dhcp;
mod dns;
mod limits;
mod link;
mod metadata;
pub mod process;
mod resolvers;
mod secret;
mod service;
mod streams;
mod upstream;
mod words;

use std::collections::BTreeMap;
use std::future::pending;
use std::os::fd::OwnedFd;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use cloud::World;
use host::{Error, ErrorKind, Host};
use spec::ids::VpcId;
use spec::network::Network;
use tokio::sync::{broadcast, oneshot, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{interval, sleep};
use tracing::{debug, warn};

use crate::store::random;
use crate::views::{self, Instances, Served, Views};
use link::{Conversation, Current, keep_process};
use words::{Held, ToProcess, addresses, flatten};

pub use secret::{SecretError, load_or_make_secret};

/// How often it is looked whether sockets are still where they should be.
const LOOK: Duration = Duration::from_secs(2);
/// The pauses before sockets are tried again: a network comes to be shortly after it is wanted.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// After so many tries, about three seconds, it is worth a word that there are no sockets yet.
const TRIES_BEFORE_A_WORD: u32 = 9;

/// Serves the guests of every VPC, as each new world has them, until there will be no more worlds. `secret` is
/// what session tokens of the metadata service are made with.
pub async fn serve(mut worlds: watch::Receiver<Arc<World>>, host: Arc<dyn Host>, secret: [u8; 32]) {
    let (made, mut current) = watch::channel(None);
    let mut process = JoinSet::new();
    process.spawn(keep_process(Arc::clone(&host), secret, made));
    let mut kept: BTreeMap<VpcId, Kept> = BTreeMap::new();
    loop {
        let world = Arc::clone(&worlds.borrow_and_update());
        // Beside the runtime: in a large cloud it takes milliseconds, in which others would wait for an answer.
        let deriving = spawn_blocking(move || views::served(&world)).await;
        let mut served = deriving.unwrap_or_else(|error| resume_unwind(error.into_panic()));
        for (_, gone) in kept.extract_if(.., |vpc, _| !served.contains_key(vpc)) {
            gone.end();
        }
        while let Some((vpc, served)) = served.pop_first() {
            match kept.get(&vpc) {
                Some(one) => one.update(served),
                None => {
                    kept.insert(vpc, Kept::new(served, &host, &current));
                }
            }
        }
        loop {
            if let Some(conversation) = &*current.borrow_and_update() {
                conversation.forget_all_but(|vpc| kept.contains_key(&vpc));
            }
            tokio::select! {
                changed = worlds.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                Ok(()) = current.changed() => {}
            }
        }
    }
}

/// A VPC that is served. Dropped, it is not looked after any more; its guests are answered on.
struct Kept {
    network: watch::Sender<Network>,
    views: watch::Sender<Arc<Views>>,
    end: oneshot::Sender<()>,
}

impl Kept {
    fn new(Served { network, views }: Served, host: &Arc<dyn Host>, current: &Current) -> Self {
        let (network, networks) = watch::channel(network);
        let (views, seen) = watch::channel(Arc::new(views));
        let (end, ended) = oneshot::channel();
        let vpc = Vpc { networks, views: seen, host: Arc::clone(host) };
        tokio::spawn(vpc.keep(current.clone(), ended));
        Self { network, views, end }
    }

    fn update(&self, Served { network, views }: Served) {
        self.network.send_if_modified(|old| replace(old, network));
        self.views.send_if_modified(|old| **old != views && replace(old, Arc::new(views)));
    }

    /// Has the VPC's sockets closed and its guests forgotten.
    fn end(self) {
        let _ = self.end.send(()); // on a host that serves nobody, nobody hears it
    }
}

/// Whether it was another value before.
fn replace<T: PartialEq>(old: &mut T, new: T) -> bool {
    let differs = *old != new;
    *old = new;
    differs
}

/// What is known of a VPC, to keep its sockets open and its guests' views shown.
struct Vpc {
    networks: watch::Receiver<Network>,
    views: watch::Receiver<Arc<Views>>,
    host: Arc<dyn Host>,
}

impl Vpc {
    /// Keeps the VPC served, by whatever process there is, until it is to end or its host turns out to be unable to.
    async fn keep(mut self, mut current: Current, mut end: oneshot::Receiver<()>) {
        let vpc = self.networks.borrow().vpc;
        let keeping = async {
            loop {
                let found = match current.wait_for(Option::is_some).await {
                    Ok(found) => found.clone(),
                    Err(_) => return, // no process, ever
                };
                let Some(conversation) = found else { continue };
                let same = |now: &Option<Arc<Conversation>>| {
                    now.as_ref().is_some_and(|now| Arc::ptr_eq(now, &conversation))
                };
                tokio::select! {
                    changed = current.wait_for(|now| !same(now)) => if changed.is_err() { return },
                    () = show(vpc, self.views.clone(), &conversation) => {}
                    () = self.hold(vpc, &conversation) => return,
                }
            }
        };
        tokio::select! {
            () = keeping => {}
            ended = &mut end => if ended.is_ok() {
                forget(vpc, &current);
            },
        }
    }

    /// Keeps the VPC's sockets open. Ends only on a host that can have none.
    async fn hold(&mut self, vpc: VpcId, conversation: &Conversation) {
        loop {
            let mut losses = conversation.losses();
            let Some(held) = self.sockets(vpc, conversation).await else { return };
            tokio::select! {
                () = loss(&mut losses, vpc, held.number) => {
                    warn!("a socket for the guests of {vpc} is of no use any more, opening all anew");
                }
                () = another_identity(vpc, held.identity, &self.host) => {
                    warn!("{vpc} has another namespace, opening the sockets for its guests anew");
                }
                () = other_subnets(&mut self.networks, &held) => debug!("{vpc} has other subnets"),
            }
            conversation.tell(ToProcess::Close(vpc), Vec::new());
            sleep(FIRST_PAUSE).await;
        }
    }

    /// The sockets that the process has from an earlier daemon, where they are those that the VPC should have, or new ones.
    async fn sockets(&mut self, vpc: VpcId, conversation: &Conversation) -> Option<Held> {
        if let Some(held) = conversation.take_held(vpc) {
            let (host, network) = (Arc::clone(&self.host), self.networks.borrow_and_update().clone());
            let identity = spawn_blocking(move || host.network_identity(vpc)).await.ok().flatten();
            if held.fits(&network, identity) {
                return Some(held);
            }
            conversation.tell(ToProcess::Close(vpc), Vec::new());
        }
        let (held, sockets) = open(&mut self.networks, &self.host).await?;
        debug!("opened the sockets for the guests of {vpc}");
        conversation.tell(ToProcess::Open(held.clone()), sockets);
        Some(held)
    }
}

/// Tells the process that there is now, if there is one.
fn forget(vpc: VpcId, current: &Current) {
    if let Some(conversation) = &*current.borrow() {
        conversation.take_held(vpc);
        conversation.tell(ToProcess::Forget(vpc), Vec::new());
    }
}

/// Shows the process what a VPC's guests may know, and what changes of it. Never ends.
async fn show(vpc: VpcId, mut views: watch::Receiver<Arc<Views>>, conversation: &Conversation) {
    let mut shown = Instances::new();
    loop {
        let now = Arc::clone(&views.borrow_and_update());
        for (id, view) in now.instances() {
            if shown.get(id) != Some(view) {
                let view = Box::new((**view).clone());
                conversation.tell(ToProcess::Instance { vpc, id: *id, view }, Vec::new());
            }
        }
        let index = Box::new(now.index().clone());
        conversation.tell(ToProcess::Index { vpc, index }, Vec::new());
        shown = now.instances().clone();
        if views.changed().await.is_err() {
            return pending().await; // nobody looks after this any more
        }
    }
}

/// Opens a VPC's sockets as soon as that can be done; none on a host that never can.
async fn open(networks: &mut watch::Receiver<Network>, host: &Arc<dyn Host>) -> Option<(Held, Vec<OwnedFd>)> {
    let mut pause = FIRST_PAUSE;
    let mut tries = 0_u32;
    loop {
        let network = networks.borrow_and_update().clone();
        let vpc = network.vpc;
        tries = tries.saturating_add(1);
        match try_to_open(network, Arc::clone(host)).await {
            Ok(opened) => return Some(opened),
            Err(error) if error.kind == ErrorKind::Unsupported => {
                debug!("nothing is served to the guests of {vpc}: {}", error.chain());
                return None;
            }
            Err(error) if tries == TRIES_BEFORE_A_WORD => {
                warn!("the guests of {vpc} are not served yet, trying on: {}", error.chain());
            }
            Err(_) => {}
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn try_to_open(network: Network, host: Arc<dyn Host>) -> Result<(Held, Vec<OwnedFd>), Error> {
    let opening = spawn_blocking(move || {
        let (vpc, number, subnets) = (network.vpc, random(), addresses(&network));
        // First, so that whatever happens in between is seen by the next look.
        let identity = host.network_identity(vpc);
        let sockets = flatten(host.guest_sockets(&network)?);
        Ok((Held { vpc, number, identity, subnets }, sockets))
    });
    opening.await.unwrap_or_else(|panic| Err(Error::passing("The opening of sockets broke off", panic)))
}

/// Waits until the process says that it lost these sockets, or may have.
async fn loss(losses: &mut broadcast::Receiver<(VpcId, u64)>, vpc: VpcId, number: u64) {
    loop {
        match losses.recv().await {
            Ok(lost) if lost == (vpc, number) => return,
            Ok(_) => {}
            Err(broadcast::error::RecvError::Lagged(_)) => return,
            Err(broadcast::error::RecvError::Closed) => return pending().await,
        }
    }
}

/// Waits until the VPC's namespace is another one than the sockets are in.
async fn another_identity(vpc: VpcId, identity: Option<u64>, host: &Arc<dyn Host>) {
    let mut looks = interval(LOOK);
    loop {
        looks.tick().await;
        let host = Arc::clone(host);
        let now = spawn_blocking(move || host.network_identity(vpc)).await;
        if now.is_ok_and(|now| now != identity) {
            return;
        }
    }
}

/// Waits until the VPC should have other subnets than the sockets were opened for.
async fn other_subnets(networks: &mut watch::Receiver<Network>, held: &Held) {
    if networks.wait_for(|network| addresses(network) != held.subnets).await.is_err() {
        pending().await // nobody looks after this any more
    }
}
