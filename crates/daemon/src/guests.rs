//! Listeners for guests: what instances reach at 169.254.169.254, at their router's DHCP port and at their resolver.
//!
//! ```text
//!   worlds ──▶ views::served ──┬─ network ──▶ keep: open, reopen, close ──▶ sockets ─┐
//!              (each new one)  └─ views ─────────────────────────────────────────────┴─▶ service: answers guests
//! ```
//!
//! This file is the privileged half: it reads the world and has sockets opened inside namespaces. [`service`] is
//! the other: it has sockets and views, knows neither host nor world, and so can become a process of its own.
//!
//! What must hold:
//! - A VPC's sockets are closed as soon as a published world no longer wants its network. The loop may remove the namespace
//!   a little earlier. That is harmless: removal takes every link and then the name away, so a socket that is still open
//!   holds an empty namespace without a name, which ends with the socket; a new one of the same name is another.
//! - Sockets in a namespace or on a bridge that is no longer the VPC's are noticed within [`LOOK`], and opened anew: somebody
//!   deleted what was there, and the loop has repaired it.
//! - A guest can wear out only what is its own; see [`limits`].

mod dhcp;
mod dns;
mod limits;
mod metadata;
mod secret;
mod service;
mod streams;
mod upstream;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use cloud::World;
use host::{Error, ErrorKind, GuestSockets, Host};
use spec::ids::{SubnetId, VpcId};
use spec::network::Network;
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{interval, sleep};
use tracing::{debug, warn};

use crate::views::{self, Served, Views};
use service::Shared;

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
    let shared = Arc::new(Shared::new(secret));
    let mut kept: BTreeMap<VpcId, Kept> = BTreeMap::new();
    loop {
        let world = Arc::clone(&worlds.borrow_and_update());
        // Beside the runtime: in a large cloud it takes milliseconds, in which others would wait for an answer.
        let deriving = spawn_blocking(move || views::served(&world)).await;
        let served = deriving.unwrap_or_else(|error| resume_unwind(error.into_panic()));
        kept.retain(|vpc, _| served.contains_key(vpc));
        for (vpc, served) in served {
            match kept.get(&vpc) {
                Some(one) => one.update(served),
                None => {
                    kept.insert(vpc, Kept::new(served, &host, &shared));
                }
            }
        }
        if worlds.changed().await.is_err() {
            return;
        }
    }
}

/// A VPC that is served; dropped, its sockets are closed.
struct Kept {
    network: watch::Sender<Network>,
    views: watch::Sender<Arc<Views>>,
    /// Holds one task and ends it when it is dropped.
    _task: JoinSet<()>,
}

impl Kept {
    fn new(Served { network, views }: Served, host: &Arc<dyn Host>, shared: &Arc<Shared>) -> Self {
        let (network, networks) = watch::channel(network);
        let (views, seen) = watch::channel(Arc::new(views));
        let mut task = JoinSet::new();
        task.spawn(keep(networks, seen, Arc::clone(host), Arc::clone(shared)));
        Self { network, views, _task: task }
    }

    fn update(&self, Served { network, views }: Served) {
        self.network.send_if_modified(|old| replace(old, network));
        self.views.send_if_modified(|old| **old != views && replace(old, Arc::new(views)));
    }
}

/// Whether it was another value before.
fn replace<T: PartialEq>(old: &mut T, new: T) -> bool {
    let differs = *old != new;
    *old = new;
    differs
}

/// Keeps one VPC's sockets open and served. Ends only on a host that can have none.
async fn keep(
    mut networks: watch::Receiver<Network>,
    views: watch::Receiver<Arc<Views>>,
    host: Arc<dyn Host>,
    shared: Arc<Shared>,
) {
    while let Some(opened) = open(&mut networks, &host).await {
        let vpc = opened.network.vpc;
        debug!("serving the guests of {vpc}");
        tokio::select! {
            error = service::answer(opened.sockets, views.clone(), Arc::clone(&shared)) => {
                warn!("a socket for the guests of {vpc} is of no use any more, opening all anew: {error}");
            }
            () = another_identity(vpc, opened.identity, &host) => {
                warn!("{vpc} has another namespace, opening the sockets for its guests anew");
            }
            () = other_subnets(&mut networks, &opened.network) => debug!("{vpc} has other subnets"),
        }
        sleep(FIRST_PAUSE).await;
    }
}

/// Open sockets, and what they were opened for.
struct Opened {
    network: Network,
    identity: Option<u64>,
    sockets: GuestSockets,
}

/// Opens a VPC's sockets as soon as that can be done; none on a host that never can.
async fn open(networks: &mut watch::Receiver<Network>, host: &Arc<dyn Host>) -> Option<Opened> {
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

async fn try_to_open(network: Network, host: Arc<dyn Host>) -> Result<Opened, Error> {
    let opening = spawn_blocking(move || {
        // First, so that whatever happens in between is seen by the next look.
        let identity = host.network_identity(network.vpc);
        let sockets = host.guest_sockets(&network)?;
        Ok(Opened { network, identity, sockets })
    });
    opening.await.unwrap_or_else(|panic| Err(Error::passing("The opening of sockets broke off", panic)))
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
async fn other_subnets(networks: &mut watch::Receiver<Network>, opened: &Network) {
    let differ = |network: &Network| addresses(network).ne(addresses(opened));
    if networks.wait_for(differ).await.is_err() {
        // The sender is gone, and so will be this task.
        std::future::pending().await
    }
}

/// What a VPC's sockets are bound to.
fn addresses(network: &Network) -> impl Iterator<Item = (SubnetId, Ipv4Addr)> {
    network.subnets.iter().map(|subnet| (subnet.id, subnet.resolver()))
}
