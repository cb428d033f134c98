//! VPCs as namespaces, bridges, TAPs and nftables.
//!
//! ```text
//!   namespace cumulet-vpc-…                                              the host's own namespace
//!  ┌──────────────────────────────────────────────────────────────┐     ┌─────────────────────────┐
//!  │  cut… ─┐ isolated   cub… 10.0.0.1/20 ┐                       │     │                         │
//!  │  cut… ─┴─ ports ──  (a subnet)       ├─ routes ── cuv… ══════╪═════╪══ cuh… ── ip_forward ── │─ eth0
//!  │  cut… ──── … ─────  cub… 10.0.16.1/20┘  filter    1:1 NAT    │     │         masquerade      │
//!  │  (guests)           metadata 169.254.169.254                 │     │                         │
//!  └──────────────────────────────────────────────────────────────┘     └─────────────────────────┘
//! ```
//!
//! [`Networks`] is the way in. `vpc`, `group` and `interface` make one resource each; `host` is what happens
//! outside the namespaces, `foreign` others' forward chains there. `rules` and `pieces` say what a wish is in
//! nftables, in `words`; `nft`, `netlink` with its `messages`, and `sysctl` carry it to the kernel. `listing`
//! is what nftables has; `observe` looks at what is there, and knows by `seal` whether it is still what was
//! made.
//!
//! What must hold:
//! - Names follow from ids ([`spec::names`]); nothing is kept in memory between calls but locks.
//! - Calls on one VPC take turns, so that none sees another's half.

mod foreign;
mod group;
mod host;
mod interface;
mod listing;
mod messages;
mod netlink;
mod nft;
mod observe;
mod pieces;
mod record;
mod requirements;
mod rules;
mod seal;
mod sockets;
mod sysctl;
mod unname;
mod vpc;
mod words;

use std::collections::BTreeMap;
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use spec::ids::{GroupId, InterfaceId, VpcId};
use spec::names;
use spec::network::{Interface, Network, SecurityGroup};
use spec::observed::{Observed, Scope};

use self::host::HostSide;
use super::sys::netns::Namespace;
use crate::{Error, ErrorKind, GuestSockets};

/// The networks of this machine.
pub struct Networks {
    host: HostSide,
    turns: Mutex<BTreeMap<VpcId, Arc<Mutex<()>>>>,
}

impl Networks {
    /// Proves that this machine can hold networks. The calling thread's network namespace is the host's.
    /// `state` is an existing folder; what is changed on the host is noted there, to be undone by
    /// [`Networks::teardown`].
    pub fn new(state: impl Into<PathBuf>) -> Result<Self, Error> {
        requirements::check()?;
        Ok(Self { host: HostSide::new(state.into())?, turns: Mutex::default() })
    }

    /// Takes everything away that bears our prefix, and undoes what was changed on the host according to the
    /// note in `state`. Needs nothing but root, and nobody else at work. Returns what was done, and the first
    /// failure.
    pub fn teardown(state: impl Into<PathBuf>) -> (Vec<String>, Result<(), Error>) {
        match HostSide::new(state.into()) {
            Ok(host) => host.teardown(),
            Err(error) => (Vec::new(), Err(error)),
        }
    }

    /// Adds the networks, groups and interfaces within `scope` to `observed`.
    pub fn observe(&self, scope: &Scope, observed: &mut Observed) -> Result<(), Error> {
        observe::observe(scope, &self.host, observed)
    }

    /// Makes a VPC's namespace, bridges, routes and uplink be so.
    pub fn ensure_network(&self, network: &Network) -> Result<(), Error> {
        self.in_turn(network.vpc, || vpc::ensure(network, &self.host))
    }

    /// Takes a VPC's namespace away with all in it.
    pub fn remove_network(&self, vpc: VpcId) -> Result<(), Error> {
        self.in_turn(vpc, || vpc::remove(vpc, &self.host))
    }

    /// Makes a security group's rules be so, in one transaction. Its VPC must exist.
    pub fn ensure_group(&self, group: &SecurityGroup) -> Result<(), Error> {
        self.in_turn(group.vpc, || inside(&namespace(group.vpc)?, || group::ensure(group)))
    }

    /// Takes a group away that no interface is in any more.
    pub fn remove_group(&self, vpc: VpcId, group: GroupId) -> Result<(), Error> {
        self.in_turn(vpc, || match open(vpc)? {
            Some(namespace) => inside(&namespace, || group::remove(group)),
            None => Ok(()),
        })
    }

    /// Makes a TAP, its anti-spoofing, its part in its groups and its public addresses be so. Its VPC and its
    /// subnet must exist.
    pub fn ensure_interface(&self, interface: &Interface) -> Result<(), Error> {
        self.in_turn(interface.vpc, || interface::ensure(interface, &namespace(interface.vpc)?, &self.host))
    }

    /// Takes a TAP away with its rules.
    pub fn remove_interface(&self, vpc: VpcId, interface: InterfaceId) -> Result<(), Error> {
        self.in_turn(vpc, || match open(vpc)? {
            Some(namespace) => interface::remove(vpc, interface, &namespace, &self.host),
            None => Ok(()),
        })
    }

    /// Opens an interface's TAP, for a machine: so many queues, or one where the TAP has only one. Each frame
    /// is preceded by a virtio-net header (`IFF_VNET_HDR`); reads and writes do not block. Fails while another holds it
    /// open: two machines never share an interface.
    pub fn open_tap(&self, vpc: VpcId, interface: InterfaceId, queues: u8) -> Result<Vec<OwnedFd>, Error> {
        self.in_turn(vpc, || inside(&namespace(vpc)?, || interface::open(interface, queues)))
    }

    /// See [`crate::Host::connect`]. Where the guest's groups do not let the connection in, it is refused at
    /// once.
    pub fn connect(&self, vpc: VpcId, to: SocketAddrV4, patience: Duration) -> Result<TcpStream, Error> {
        inside(&namespace(vpc)?, || sockets::connect(to, patience))
    }

    /// Lets a user send nothing from the host but questions to resolvers, for good. Their process answers guests
    /// inside of VPCs, and has no business outside.
    pub fn confine_services(&self, user: u32) -> Result<(), Error> {
        self.host.confine_services(user)
    }

    /// See [`crate::Host::guest_sockets`].
    pub fn guest_sockets(&self, network: &Network) -> Result<GuestSockets, Error> {
        inside(&namespace(network.vpc)?, || sockets::open(network))
    }

    /// See [`crate::Host::network_identity`].
    pub fn identity(&self, vpc: VpcId) -> Option<u64> {
        open(vpc).ok()??.identity().ok()
    }

    fn in_turn<T>(&self, vpc: VpcId, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let turn =
            Arc::clone(self.turns.lock().unwrap_or_else(PoisonError::into_inner).entry(vpc).or_default());
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        work()
    }
}

fn open(vpc: VpcId) -> Result<Option<Namespace>, Error> {
    Namespace::open(&names::namespace(vpc))
        .map_err(|error| Error::passing(format!("Could not open the namespace of {vpc}"), error))
}

fn namespace(vpc: VpcId) -> Result<Namespace, Error> {
    open(vpc)?.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("{vpc} has no namespace on this host")))
}

/// Does `work` inside a namespace.
fn inside<T: Send>(
    namespace: &Namespace,
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<T, Error> {
    namespace.run(work).map_err(|error| Error::passing("Could not enter a network namespace", error))?
}
