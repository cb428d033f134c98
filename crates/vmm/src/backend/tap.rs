//! A TAP as a NIC's link: what the guest sends, the host's kernel receives on an interface of its own,
//! and the other way round.
//!
//! The TAP speaks of checksums and segmentation in the same header as virtio does (`IFF_VNET_HDR`), so
//! packets pass through whole. Whoever opened it must have asked for that: `IFF_TAP | IFF_NO_PI |
//! IFF_VNET_HDR`. With `IFF_MULTI_QUEUE` it can be opened several times, and each open file is one of its queues.
#![allow(unsafe_code, reason = "TUN's ioctls, readv and writev")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use devices::memory::{Memory, Piece};
use devices::virtio::net::{HEADER, Link, MOST_PAIRS, Offloads, Way};
use devices::virtio::queue::Ring;

use super::pieces::Vectors;
use super::vhost::Vhost;

/// What the TAP must have been opened with.
const FLAGS: libc::c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
const DEVICE: &str = "/dev/net/tun";

/// Why a TAP is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TapError {
    #[error("Cannot open {DEVICE}")]
    Open(#[source] io::Error),
    #[error("Cannot attach to the TAP {0}")]
    Attach(String, #[source] io::Error),
    #[error("\"{0}\" is no name of an interface: 1 to 15 characters")]
    Name(String),
    #[error("Cannot ask what the TAP is")]
    Ask(#[source] io::Error),
    #[error(
        "The TAP was opened with flags {0:#x}; its virtio header needs IFF_TAP, IFF_NO_PI and IFF_VNET_HDR"
    )]
    Flags(libc::c_int),
    #[error("Cannot set the TAP up")]
    SetUp(#[source] io::Error),
    #[error("The TAP has {0} queues, and may have 1 to {MOST_PAIRS}")]
    Queues(usize),
    #[error("Queues of different TAPs were given: {0} and {1}")]
    Different(String, String),
    #[error("{0} vhost-net were given for {1} queues")]
    Vhosts(usize, usize),
    #[error("Cannot use vhost-net")]
    Vhost(#[source] io::Error),
}

/// The TAP.
pub(crate) struct Tap {
    queues: Vec<File>,
    segments_udp: bool,
    /// One for each queue, where the host carries packets itself.
    vhosts: Vec<Vhost>,
}

/// UDP's segmentation, both or none (Linux 6.2).
const UDP: libc::c_uint = libc::TUN_F_USO4 | libc::TUN_F_USO6;

impl Tap {
    /// Takes the open queues of a TAP, and looks whether they are what they must be.
    pub(crate) fn new(queues: Vec<File>) -> Result<Self, TapError> {
        let Some(first) = queues.first().filter(|_| queues.len() <= MOST_PAIRS) else {
            return Err(TapError::Queues(queues.len()));
        };
        let name = checked_name(first)?;
        for queue in &queues[1..] {
            let other = checked_name(queue)?;
            if other != name {
                return Err(TapError::Different(name, other));
            }
        }
        queues.iter().try_for_each(set_up).map_err(TapError::SetUp)?;
        // There is no other way to ask. What is set here is set anew when a driver starts.
        let segments_udp = set_offloads(first, libc::TUN_F_CSUM | UDP).is_ok();
        Ok(Self { queues, segments_udp, vhosts: Vec::new() })
    }

    /// Opens so many queues of the TAP of this name, which is made if there is none; one, where it has only one.
    pub(crate) fn open(name: &str, queues: usize) -> Result<Self, TapError> {
        let several = libc::IFF_MULTI_QUEUE;
        let attach = |flags| attach(name, flags);
        let opened = match queues {
            2.. => (0..queues).map(|_| attach(FLAGS | several)).collect(),
            _ => attach(FLAGS).map(|file| vec![file]),
        };
        let opened = match opened {
            // It was made the other way.
            Err(TapError::Attach(_, error)) if error.raw_os_error() == Some(libc::EINVAL) => {
                vec![attach(if queues > 1 { FLAGS } else { FLAGS | several })?]
            }
            opened => opened?,
        };
        Self::new(opened)
    }

    /// The same with an open `/dev/vhost-net` for each queue, by which the host's kernel can carry packets itself.
    pub(crate) fn carried_by(mut self, files: Vec<File>) -> Result<Self, TapError> {
        if !files.is_empty() && files.len() != self.queues.len() {
            return Err(TapError::Vhosts(files.len(), self.queues.len()));
        }
        let vhosts = files.into_iter().map(Vhost::new).collect::<Result<_, _>>();
        self.vhosts = vhosts.map_err(TapError::Vhost)?;
        Ok(self)
    }

    fn vhost(&self, queue: usize) -> io::Result<&Vhost> {
        self.vhosts.get(queue).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn queue(&self, queue: usize) -> io::Result<&File> {
        self.queues.get(queue).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn attach(name: &str, flags: libc::c_int) -> Result<File, TapError> {
    let file = File::options().read(true).write(true).open(DEVICE).map_err(TapError::Open)?;
    let mut request = request(name).ok_or_else(|| TapError::Name(name.to_owned()))?;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).unwrap_or_default();
    // SAFETY: the kernel reads and writes one `ifreq`, ours.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })
        .map_err(|error| TapError::Attach(name.to_owned(), error))?;
    Ok(file)
}

/// The name of the TAP that this is a queue of, if it was opened as it must be.
fn checked_name(file: &File) -> Result<String, TapError> {
    let mut request = empty_request();
    // SAFETY: the kernel writes one `ifreq`, to ours.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNGETIFF, &raw mut request) })
        .map_err(TapError::Ask)?;
    // SAFETY: TUNGETIFF wrote the flags.
    let flags = libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags });
    if flags & FLAGS != FLAGS {
        return Err(TapError::Flags(flags));
    }
    let name = request.ifr_name.iter().map_while(|&byte| u8::try_from(byte).ok().filter(|byte| *byte != 0));
    Ok(name.map(char::from).collect())
}

fn set_up(file: &File) -> io::Result<()> {
    let fd = file.as_raw_fd();
    let header = libc::c_int::try_from(HEADER).unwrap_or_default();
    // SAFETY: the kernel reads one number, ours.
    check(unsafe { libc::ioctl(fd, libc::TUNSETVNETHDRSZ, &raw const header) })?;
    // SAFETY: only numbers are passed.
    let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    // SAFETY: only numbers are passed.
    check(unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    Ok(())
}

fn set_offloads(file: &File, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: only numbers are passed.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(flags)) }).map(drop)
}

fn empty_request() -> libc::ifreq {
    // SAFETY: all of it is numbers, of which zero is one.
    unsafe { std::mem::zeroed() }
}

/// An interface request with this name, if it is one.
fn request(name: &str) -> Option<libc::ifreq> {
    let mut request = empty_request();
    // One place is for the final zero.
    let places = &mut request.ifr_name[..libc::IFNAMSIZ - 1];
    if name.is_empty() || name.len() > places.len() || name.contains('\0') {
        return None;
    }
    for (place, byte) in places.iter_mut().zip(name.bytes()) {
        *place = libc::c_char::from_ne_bytes([byte]);
    }
    Some(request)
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

impl Link for Tap {
    fn queues(&self) -> usize {
        self.queues.len()
    }

    fn event(&self, queue: usize) -> RawFd {
        self.queue(queue).map_or(-1, AsRawFd::as_raw_fd)
    }

    fn receive(&self, queue: usize, into: &[Piece<'_>]) -> io::Result<usize> {
        let file = self.queue(queue)?;
        let vectors = Vectors::new(into);
        let (pointer, count) = vectors.as_raw();
        // SAFETY: the vectors name mapped guest memory, for as long as `into` is borrowed; the kernel may
        // write all of it.
        let count = unsafe { libc::readv(file.as_raw_fd(), pointer, count) };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }

    fn send(&self, queue: usize, from: &[Piece<'_>]) -> io::Result<()> {
        let file = self.queue(queue)?;
        let vectors = Vectors::new(from);
        let (pointer, count) = vectors.as_raw();
        // SAFETY: the vectors name mapped guest memory, for as long as `from` is borrowed; the kernel
        // only reads it.
        let count = unsafe { libc::writev(file.as_raw_fd(), pointer, count) };
        if count < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn segments_udp(&self) -> bool {
        self.segments_udp
    }

    fn set_offloads(&self, offloads: Offloads) -> io::Result<()> {
        let flag = |on: bool, flag| if on { flag } else { 0 };
        // The kernel takes segmentation only together with checksums, and UDP's for both or none.
        let mut flags = flag(offloads.tcp4, libc::TUN_F_TSO4)
            | flag(offloads.tcp6, libc::TUN_F_TSO6)
            | flag(offloads.ecn && (offloads.tcp4 || offloads.tcp6), libc::TUN_F_TSO_ECN)
            | flag(self.segments_udp && offloads.udp4 && offloads.udp6, UDP);
        flags = flag(offloads.checksum, libc::TUN_F_CSUM | flags);
        // Of the whole TAP, by whichever queue it is said.
        set_offloads(self.queue(0)?, flags)
    }

    fn carries(&self) -> bool {
        !self.vhosts.is_empty()
    }

    fn carry(&self, queue: usize, memory: &Memory, features: u64, rings: [&Ring; 2]) -> io::Result<()> {
        self.vhost(queue)?.begin(memory, features, rings, self.queue(queue)?)
    }

    fn carried(&self, queue: usize, way: Way) -> RawFd {
        self.vhost(queue).map_or(-1, |vhost| vhost.used(way))
    }

    fn carry_no_more(&self, queue: usize) -> io::Result<[u16; 2]> {
        self.vhost(queue)?.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_tap_is_refused() {
        let file = || File::open("/dev/null").unwrap();
        assert!(matches!(Tap::new(vec![file()]), Err(TapError::Ask(_))));
        assert!(matches!(Tap::new(Vec::new()), Err(TapError::Queues(0))));
        let many = (0..=MOST_PAIRS).map(|_| file()).collect();
        assert!(matches!(Tap::new(many), Err(TapError::Queues(9))));
        for name in ["", "sixteen-letters-", "a\0b"] {
            let error = Tap::open(name, 1).err();
            assert!(matches!(error, Some(TapError::Name(_) | TapError::Open(_))), "{name}");
        }
    }
}
