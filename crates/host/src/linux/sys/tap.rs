//! TAP devices: links whose far side is a file (Linux, Documentation/networking/tuntap.rst).
//!
//! A TAP made here is persistent, so it outlives whoever opens it. It must always be opened with the flags
//! that it was made with, hence one constant for both. Each frame is preceded by a virtio-net header.
//!
//! There is one queue, which one process at a time can have open. With `IFF_MULTI_QUEUE` the kernel makes 256
//! queues, each with buffers for its scheduler: 8 MiB of kernel memory for each TAP, used or not, and three
//! times the time.
#![allow(unsafe_code, reason = "TAP devices are made and opened by ioctl")]

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::net::if_::if_nametoindex;

const FLAGS: libc::c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;

/// `TUNSETIFF`, `TUNSETPERSIST` of linux/if_tun.h: `_IOW('T', 202 and 203, int)`.
mod ioctls {
    nix::ioctl_readwrite_bad!(tun_set_iff, nix::request_code_write!(b'T', 202, 4), libc::ifreq);
    nix::ioctl_write_int_bad!(tun_set_persist, nix::request_code_write!(b'T', 203, 4));
}

/// Makes a persistent TAP in the calling thread's namespace, without a carrier and down.
pub fn create(name: &str) -> io::Result<()> {
    let file = attach(name)?;
    // SAFETY: the argument is a plain number, and the descriptor is open during the call.
    unsafe { ioctls::tun_set_persist(file.as_raw_fd(), 1) }?;
    Ok(())
}

/// Opens a TAP that exists in the calling thread's namespace. Reads and writes do not block.
pub fn open(name: &str) -> io::Result<OwnedFd> {
    if_nametoindex(name)?; // attaching would make it
    attach(name).map(OwnedFd::from)
}

fn attach(name: &str) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    let mut request = request(name)?;
    // SAFETY: the kernel reads and writes one `ifreq` at the pointer, which is one and is ours.
    unsafe { ioctls::tun_set_iff(file.as_raw_fd(), &mut request) }?;
    Ok(file)
}

fn request(name: &str) -> io::Result<libc::ifreq> {
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
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(FLAGS).map_err(io::Error::other)?;
    Ok(request)
}
