//! Leaving the host: namespaces in which there is nothing, and a root directory with nothing in it.
//!
//! The network namespace has not even a loopback that is up, the root is an empty file system that cannot be written. What
//! the process holds open goes on working: a TAP stays in the VPC's namespace, sockets and files where they are.
#![allow(unsafe_code, reason = "unshare, mount and pivot_root")]

use std::ffi::CStr;
use std::io;
use std::ptr;

use super::LockError;

/// All but the process namespace, which only the launcher can give, and the user namespace: to have a capability in
/// one's own would open more of the kernel than it closes.
const OWN: libc::c_int =
    libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP;

/// A directory that every host has, to lay the empty one on for a moment.
const THERE: &CStr = c"/proc";

/// Enters them.
pub(super) fn leave() -> Result<(), LockError> {
    let step = |what, result: libc::c_int| match result {
        0 => Ok(()),
        _ => Err(LockError::Leave(what, io::Error::last_os_error())),
    };
    let (nothing, tmpfs, here) = (ptr::null(), c"tmpfs".as_ptr(), c".".as_ptr());
    let sealed = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let empty = c"size=4k,nr_inodes=1,mode=555".as_ptr();
    // SAFETY: all strings are constants that end with a zero byte; the others are numbers and null pointers where
    // these calls take one.
    unsafe {
        step("entering namespaces of its own", libc::unshare(OWN))?;
        // From here on no mount of ours is seen by the host, and none of the host's by us.
        let private = libc::MS_REC | libc::MS_PRIVATE;
        step(
            "parting from the host's mounts",
            libc::mount(nothing, c"/".as_ptr(), nothing, private, nothing.cast()),
        )?;
        step("making an empty root", libc::mount(tmpfs, THERE.as_ptr(), tmpfs, sealed, empty.cast()))?;
        step("entering the empty root", libc::chdir(THERE.as_ptr()))?;
        // The old root lands on top of the new one, and is taken off (pivot_root(2), NOTES).
        let pivoted = libc::syscall(libc::SYS_pivot_root, here, here);
        step("making the empty root the root", i32::from(pivoted != 0))?;
        step("letting go of the host's root", libc::umount2(here, libc::MNT_DETACH))?;
        step("staying in the empty root", libc::chdir(c"/".as_ptr()))
    }
}
