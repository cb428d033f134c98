//! One VPC's services: sockets and views in, answers out. It knows neither the host nor the world.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use host::GuestSockets;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::debug;

use super::limits::{Altogether, Guest};
use super::upstream::Upstream;
use super::{dhcp, dns, metadata};
use crate::views::Views;

/// How long a socket that failed is left alone.
const PAUSE: Duration = Duration::from_millis(100);

/// What the services of all VPCs share.
pub(super) struct Shared {
    /// What session tokens are made with.
    pub(super) secret: [u8; 32],
    /// Who is asked for names that are not ours.
    pub(super) upstream: Upstream,
    /// What all guests together may use.
    pub(super) limits: Altogether,
}

impl Shared {
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Self { secret, upstream: Upstream::default(), limits: Altogether::default() }
    }
}

/// One VPC's services, as each conversation with a guest sees them.
pub(super) struct Service {
    pub(super) shared: Arc<Shared>,
    views: watch::Receiver<Arc<Views>>,
    guests: Mutex<BTreeMap<Ipv4Addr, Arc<Guest>>>,
}

/// Answers a VPC's guests until a socket is of no use any more; says why. Dropped, everything ends and is closed.
pub(super) async fn answer(
    sockets: GuestSockets,
    views: watch::Receiver<Arc<Views>>,
    shared: Arc<Shared>,
) -> io::Error {
    let service = Arc::new(Service { shared, views, guests: Mutex::default() });
    match begin(sockets, &service) {
        Ok(mut listeners) => match listeners.join_next().await {
            Some(Ok(error)) => error,
            Some(Err(panic)) => io::Error::other(panic),
            None => io::Error::other("there is nothing to listen to"),
        },
        Err(error) => error,
    }
}

/// Starts a task for each socket.
fn begin(sockets: GuestSockets, service: &Arc<Service>) -> io::Result<JoinSet<io::Error>> {
    let mut listeners = JoinSet::new();
    let metadata = TcpListener::from_std(sockets.metadata)?;
    listeners.spawn(metadata::serve(metadata, Arc::clone(service)));
    for one in sockets.subnets {
        let dhcp = UdpSocket::from_std(one.dhcp)?;
        listeners.spawn(dhcp::serve(dhcp, one.subnet, Arc::clone(service)));
        let dns = UdpSocket::from_std(one.dns)?;
        listeners.spawn(dns::serve_datagrams(dns, Arc::clone(service)));
        let dns = TcpListener::from_std(one.dns_tcp)?;
        listeners.spawn(dns::serve_streams(dns, Arc::clone(service)));
    }
    Ok(listeners)
}

impl Service {
    /// The newest views.
    pub(super) fn views(&self) -> Arc<Views> {
        Arc::clone(&self.views.borrow())
    }

    /// Whoever asks from an address; nobody where no view is.
    pub(super) fn guest(&self, source: SocketAddr) -> Option<(Ipv4Addr, Arc<Guest>)> {
        let SocketAddr::V4(source) = source else { return None };
        let (source, views) = (*source.ip(), self.views());
        if !views.knows(source) {
            return None;
        }
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        if guests.len() > views.askers() {
            guests.retain(|address, _| views.knows(*address));
        }
        Some((source, Arc::clone(guests.entry(source).or_default())))
    }
}

/// Notes what a socket said, and leaves it alone for a moment: whatever it is, asking again at once does not help.
pub(super) async fn pause_after(error: io::Error, what: &str) {
    debug!("{what}: {error}");
    sleep(PAUSE).await;
}
