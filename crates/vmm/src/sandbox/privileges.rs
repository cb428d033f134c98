//! Giving up what privileges there are: capabilities and the way back to them, being traced, core dumps.
//!
//! The launcher has given the process its own user and group. Done before the first thread is made, since privileges are
//! each thread's own.
#![allow(unsafe_code, reason = "prctl, capget, capset, setrlimit, signal and mallopt")]

use std::io;

use super::LockError;

/// Gives all of them up, or says which one stays.
pub(super) fn give_up() -> Result<(), LockError> {
    let step = |what, result: io::Result<()>| result.map_err(|error| LockError::GiveUp(what, error));
    step("new privileges", prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0))?;
    step("the bounding set of capabilities", drop_bounding_set())?;
    step("ambient capabilities", prctl(libc::PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0))?;
    step("capabilities", drop_capabilities())?;
    step("being traced and dumped", prctl(libc::PR_SET_DUMPABLE, 0, 0))?;
    step("core dumps", limit(libc::RLIMIT_CORE, 0))?;
    step("death by a file that may not grow", ignore(libc::SIGXFSZ))
}

/// Whether this process has `CAP_SYS_ADMIN`, by which it can leave the host.
pub(super) fn may_leave() -> bool {
    let header: [u32; 2] = [CAPABILITY_VERSION, 0];
    let mut sets = [0_u32; 6];
    // SAFETY: the kernel reads a header of two words and, by its version, writes six words of sets.
    let result = unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) };
    result == 0 && sets[0] & (1 << CAP_SYS_ADMIN) != 0
}

/// Keeps the allocator from opening files, which glibc, left to itself, does twice: it asks how many processors there are
/// when the ninth thread wants an arena, which is when a device more is attached or taken away; and how the host accounts
/// for memory, when a thread's arena is to shrink for the first time. What is large is mapped by itself and given back all
/// the same.
pub(super) fn settle_allocator() {
    // SAFETY: they set numbers. Where they do not, the allocator stays as it was.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, MOST_ARENAS);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
    }
}

/// As many as glibc makes without asking.
const MOST_ARENAS: libc::c_int = 8;

/// linux/capability.h.
const CAP_SYS_ADMIN: u32 = 21;
const PR_CAP_AMBIENT_CLEAR_ALL: libc::c_ulong = 4;
/// `_LINUX_CAPABILITY_VERSION_3`: two words of 32 bits for each set.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

fn prctl(operation: libc::c_int, first: libc::c_ulong, second: libc::c_ulong) -> io::Result<()> {
    let zero: libc::c_ulong = 0;
    // SAFETY: these operations take only numbers.
    check(unsafe { libc::prctl(operation, first, second, zero, zero) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Who has not the capability to drop from the set has nothing to gain from it either: `execve` adds
/// nothing without new privileges.
fn drop_bounding_set() -> io::Result<()> {
    for capability in 0..64 {
        match prctl(libc::PR_CAPBSET_DROP, capability, 0) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break, // the kernel's last one was before
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => break,
            result => result?,
        }
    }
    Ok(())
}

fn drop_capabilities() -> io::Result<()> {
    let header: [u32; 2] = [CAPABILITY_VERSION, 0];
    let sets = [0_u32; 6];
    // SAFETY: the kernel reads a header of two words and, by its version, six words of sets.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn limit(resource: libc::__rlimit_resource_t, most: libc::rlim_t) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: the kernel reads one `rlimit`, ours.
    check(unsafe { libc::setrlimit(resource, &raw const limit) })
}

/// The launcher limits how large a file we may write (`RLIMIT_FSIZE`). Beyond that a write is to fail, with `EFBIG`, and
/// not to kill: it may be a guest's own, and is then its disk's error.
fn ignore(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: no handler is installed.
    match unsafe { libc::signal(signal, libc::SIG_IGN) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
