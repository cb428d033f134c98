//! What the daemon and the process that answers guests say to each other: plain data, each word a frame of JSON.
//!
//! ```text
//! daemon ── Begin, Resolvers, Instance, Index, Open, Close, Forget, Ask ──▶ process
//!        ◀─────────────────── Holds, Lost, Lives ─────────────────────────
//! ```
//!
//! The process believes the daemon. The daemon believes nothing that would give a guest more than it has: what it is told is at
//! worst that sockets are open which are not, and then guests are not answered, which the process could do to them anyhow.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use guest_services::view::InstanceView;
use host::linux::sys::frames;
use host::{GuestSockets, SubnetSockets};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use spec::ids::{InstanceId, SubnetId, VpcId};
use spec::network::Network;

use crate::views::Index;

/// The longest word that the process takes, in bytes: a VPC's index with some hundred thousand addresses.
pub(super) const MOST_TO_PROCESS: usize = 64 << 20;
/// The most sockets that come with one: of a VPC with three hundred subnets.
pub(super) const MOST_SOCKETS: usize = 1000;
/// The longest word that the daemon takes, in bytes: what is held of ten thousand VPCs.
pub(super) const MOST_TO_DAEMON: usize = 1 << 20;

/// What the process is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ToProcess {
    /// What session tokens are made with. It comes first, and is answered by [`ToDaemon::Holds`].
    Begin { secret: [u8; 32] },
    /// The host's resolvers.
    Resolvers(Vec<SocketAddr>),
    /// An instance, which its guest may see once an [`ToProcess::Index`] leads to it.
    Instance { vpc: VpcId, id: InstanceId, view: Box<InstanceView> },
    /// Who asks from where from now on; what it does not lead to is forgotten.
    Index { vpc: VpcId, index: Box<Index> },
    /// Answer at these sockets, which come with the word: the metadata service's, then DHCP, DNS by UDP, DNS by TCP of each subnet.
    Open(Held),
    /// Close a VPC's sockets.
    Close(VpcId),
    /// Close a VPC's sockets, and forget what its guests may know.
    Forget(VpcId),
    /// Say that you live.
    Ask,
}

/// What the process says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ToDaemon {
    /// The sockets that are open already, from an earlier daemon.
    Holds(Vec<Held>),
    /// Sockets that are of no use any more, and closed.
    Lost { vpc: VpcId, number: u64 },
    /// The answer to [`ToProcess::Ask`].
    Lives,
}

/// A VPC's open sockets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    pub(super) vpc: VpcId,
    /// Which opening it was.
    pub(super) number: u64,
    /// Which namespace they are in, see [`host::Host::network_identity`].
    pub(super) identity: Option<u64>,
    /// The subnets, in the sockets' order, and the resolver's address in each.
    pub(super) subnets: Vec<(SubnetId, Ipv4Addr)>,
}

impl Held {
    /// Whether these are the sockets that a network should have.
    pub(super) fn fits(&self, network: &Network, identity: Option<u64>) -> bool {
        self.identity == identity && self.subnets == addresses(network)
    }
}

/// What a VPC's sockets are bound to.
pub(super) fn addresses(network: &Network) -> Vec<(SubnetId, Ipv4Addr)> {
    network.subnets.iter().map(|subnet| (subnet.id, subnet.resolver())).collect()
}

/// Says a word.
pub(super) fn say(stream: &UnixStream, word: &impl Serialize, sockets: &[OwnedFd]) -> io::Result<()> {
    frames::send(stream, &serde_json::to_vec(word)?, sockets)
}

/// Reads one.
pub(super) fn read<T: DeserializeOwned>(frame: &[u8]) -> io::Result<T> {
    serde_json::from_slice(frame).map_err(io::Error::from)
}

/// Sockets in the order in which they are handed over.
pub(super) fn flatten(sockets: GuestSockets) -> Vec<OwnedFd> {
    let subnet = |one: SubnetSockets| [one.dhcp.into(), one.dns.into(), one.dns_tcp.into()];
    let subnets = sockets.subnets.into_iter().flat_map(subnet);
    [sockets.metadata.into()].into_iter().chain(subnets).collect()
}

/// The same sockets again.
pub(super) fn gather(held: &Held, sockets: Vec<OwnedFd>) -> io::Result<GuestSockets> {
    let mut sockets = sockets.into_iter();
    let mut next =
        || sockets.next().ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "A socket is missing"));
    let metadata = next()?.into();
    let subnets = held.subnets.iter().map(|(subnet, _)| {
        let (dhcp, dns, dns_tcp) = (next()?.into(), next()?.into(), next()?.into());
        Ok(SubnetSockets { subnet: *subnet, dhcp, dns, dns_tcp })
    });
    Ok(GuestSockets { metadata, subnets: subnets.collect::<io::Result<_>>()? })
}
