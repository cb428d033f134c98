//! TAP devices: links whose far side is a file (Linux, Documentation/networking/tuntap.rst).
//!
//! A TAP made here is persistent, so it outlives whoever opens it. It must always be opened with the flags
//! that it was made with, hence one constant for both. Each frame is preceded by a virtio-net header.
//!
//! One with one queue one process at a time can have open, and that once. One with several can be opened again and again,
//! by anybody: each open file is a queue of its own, and a flow's packets come by the one that its last packet was sent
//! by. The kernel allots 256 queues to it, used or not: a quarter of a mebibyte, as long as no queueing discipline is
//! attached to each (see `network/netlink.rs`; with one it would be eight).
#![allow(unsafe_code, reason = "TAP devices are made and opened by ioctl")]

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::net::if_::if_nametoindex;

const ONE: libc::c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
const SEVERAL: libc::c_int = ONE | libc::IFF_MULTI_QUEUE;

/// `TUNSETIFF`, `TUNSETPERSIST` of linux/if_tun.h: `_IOW('T', 202 and 203, int)`.
mod ioctls {
    nix::ioctl_readwrite_bad!(tun_set_iff, nix::request_code_write!(b'T', 202, 4), libc::ifreq);
    nix::ioctl_write_int_bad!(tun_set_persist, nix::request_code_write!(b'T', 203, 4));
}

/// Makes a persistent TAP in the calling thread's namespace, without a carrier and down.
pub fn create(name: &str, several_queues: bool) -> io::Result<()> {
    let file = attach(name, if several_queues { SEVERAL } else { ONE })?;
    // SAFETY: the argument is a plain number, and the descriptor is open during the call.
    unsafe { ioctls::tun_set_persist(file.as_raw_fd(), 1) }?;
    Ok(())
}

/// Opens a TAP that exists in the calling thread's namespace: so many queues, or one where it has only one. Reads and
/// writes do not block.
pub fn open(name: &str, queues: usize) -> io::Result<Vec<OwnedFd>> {
    if_nametoindex(name)?; // attaching would make it
    let queue = |_| attach(name, SEVERAL).map(OwnedFd::from);
    match (0..queues.max(1)).map(queue).collect() {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(vec![attach(name, ONE)?.into()]),
        opened => opened,
    }
}

fn attach(name: &str, flags: libc::c_int) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    let mut request = request(name, flags)?;
    // SAFETY: the kernel reads and writes one `ifreq` at the pointer, which is one and is ours.
    unsafe { ioctls::tun_set_iff(file.as_raw_fd(), &mut request) }?;
    Ok(file)
}

fn request(name: &str, flags: libc::c_int) -> io::Result<libc::ifreq> {
    let name = CString::new(name)?;
    let bytes = name.as_bytes_with_nul();
    if bytes.len() > libc::IFNAMSIZ {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the name of a link has at most 15 bytes"));
    }
    // SAFETY: `ifreq` is a plain C structure for which all zeros is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).map_err(io::Error::other)?;
    Ok(request)
}
