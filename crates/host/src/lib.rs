//! This machine: what it has, and doing one step on it.
//!
//! [`Host`] is all that the daemon knows of the machine it runs on. `linux` is the real one;
//! `simulated` is the same in memory, for trying and testing the API without root and KVM.
//! A host knows no word of EC2 and never reads the store: it is told what should be in each step,
//! and reports what is.
//!
//! What must hold:
//! - [`Host::observe`] tells what is found now, not what was done before.
//! - [`Host::perform`] may be repeated, and may be cut short anywhere: doing the step again completes it.
//! - Calls block; the daemon makes them on threads of their own. They may come side by side,
//!   never two steps on one resource at once.

use std::error::Error as StdError;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use spec::ids::{ImageId, InstanceId, SubnetId, VpcId};
use spec::network::Network;
use spec::observed::{Observed, Scope};
use spec::steps::{Resource, Step};
use spec::storage::ImageFacts;

pub mod linux;
pub mod simulated;

/// The address of the metadata service inside every VPC (AWS, *Instance metadata and user data*).
pub const METADATA_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// A machine that can hold instances.
pub trait Host: Send + Sync {
    /// Looks at what is there, within `scope`.
    fn observe(&self, scope: &Scope) -> Result<Observed, Error>;

    /// Does one step, however much of it has been done before.
    fn perform(&self, step: &Step) -> Result<(), Error>;

    /// What the machine could give to guests altogether.
    fn capacity(&self) -> Result<Capacity, Error>;

    /// Where hints arrive that a resource may have changed by itself (a guest that powered off, a killed
    /// process). Hints may be missing or wrong; whoever gets one looks again. The first caller gets the receiver.
    fn hints(&self) -> Option<Receiver<Resource>>;

    /// The last 64 KiB that the guest wrote to its console in this life of the instance or, when stopped, its last one.
    fn console_output(&self, instance: InstanceId) -> Result<Vec<u8>, Error>;

    /// The running guest's serial console, both ways.
    fn attach_console(&self, instance: InstanceId) -> Result<UnixStream, Error>;

    /// Connects from the VPC's router to a guest in it. Security groups hold for this as for
    /// any other sender; the router's address in the guest's subnet is the source.
    fn connect(&self, vpc: VpcId, to: SocketAddrV4, patience: Duration) -> Result<TcpStream, Error>;

    /// Opens the sockets of a VPC's services for its guests, inside its namespace, which
    /// must exist. They pin the namespace: close them before it is removed.
    fn guest_sockets(&self, network: &Network) -> Result<GuestSockets, Error>;

    /// Which namespace a VPC has now: a number that no other has while anything, a socket too, holds this one. None where
    /// there is none. Who keeps sockets of [`Host::guest_sockets`] open sees by it that they are of the past.
    fn network_identity(&self, vpc: VpcId) -> Option<u64>;

    /// A connection to the process that answers guests, which is started where it does not run. Whoever dropped a
    /// connection finds the process as it was left.
    fn guest_services(&self) -> Result<UnixStream, Error>;

    /// Sees to it that what bounds that process from outside is still there, whatever happened to it.
    fn guard_guest_services(&self) -> Result<(), Error>;

    /// Ends that process, whatever it does.
    fn end_guest_services(&self) -> Result<(), Error>;

    /// An empty file to put an image's disk into before it is imported. It has no name, so nothing stays of it when it
    /// is not imported.
    fn staging_file(&self) -> Result<File, Error>;

    /// Takes a disk (raw or qcow2) in as an image, proves that it can be booted, and says what was
    /// learned of it. `progress` is told bytes done and bytes in all.
    fn import_image(
        &self,
        image: ImageId,
        disk: File,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<ImageFacts, Error>;
}

/// What guests can be given altogether.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Processors of the machine.
    pub processors: u32,
    /// Memory of the machine, in MiB. How much of it guests may not have is a matter of configuration.
    pub memory_mib: u64,
}

/// The sockets at which a VPC's guests find their services. All are non-blocking.
#[derive(Debug)]
pub struct GuestSockets {
    /// 169.254.169.254:80. The sender's address says which guest asks.
    pub metadata: TcpListener,
    /// One set for each subnet.
    pub subnets: Vec<SubnetSockets>,
}

/// The sockets of one subnet.
#[derive(Debug)]
pub struct SubnetSockets {
    /// Which subnet.
    pub subnet: SubnetId,
    /// UDP port 67, bound to the subnet's bridge.
    pub dhcp: UdpSocket,
    /// UDP port 53 of the subnet's resolver.
    pub dns: UdpSocket,
    /// TCP port 53 of the subnet's resolver.
    pub dns_tcp: TcpListener,
}

/// Why something could not be done on the host: which step on which object, and the cause.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Error {
    /// One sentence without its final stop.
    pub what: String,
    /// What to expect of trying again.
    pub kind: ErrorKind,
    #[source]
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What to expect of trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// It may work the next time: the host was busy, short of something, or in an unexpected state.
    Passing,
    /// It will fail again until what was asked for is changed: the image cannot be booted, say.
    Lasting,
    /// The thing asked about is not there.
    NotFound,
    /// This host cannot do it at all.
    Unsupported,
}

impl Error {
    /// An error that may pass.
    pub fn passing(what: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { what: what.into(), kind: ErrorKind::Passing, source: Some(source.into()) }
    }

    /// An error that stays until something else is asked for.
    pub fn lasting(what: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { what: what.into(), kind: ErrorKind::Lasting, source: Some(source.into()) }
    }

    /// An error without a further cause.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self { what: what.into(), kind, source: None }
    }

    /// The sentence and its causes on one line, each after a colon.
    pub fn chain(&self) -> String {
        let mut text = self.what.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
