//! TAPs of the tests, made in whatever network namespace they run in.
#![allow(unsafe_code, reason = "the ioctl that makes a TAP")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;

/// Makes a TAP that stays, and opens it.
pub(crate) fn open(name: &str) -> OwnedFd {
    // There may be one of this name from the round before.
    let _ = Command::new("ip").args(["tuntap", "add", name, "mode", "tap", "vnet_hdr"]).status();
    try_open(name).unwrap()
}

/// Opens it, unless somebody else has.
pub(crate) fn try_open(name: &str) -> io::Result<OwnedFd> {
    let file = File::options().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: all of it is numbers, of which zero is one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = libc::c_char::from_ne_bytes([byte]);
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).unwrap();
    // SAFETY: the kernel reads and writes one `ifreq`, ours.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(file.into()) }
}
