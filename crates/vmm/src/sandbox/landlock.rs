//! Landlock (Linux, Documentation/userspace-api/landlock.rst): a rule set without a rule. From then on this process, and
//! whatever it might start, can open no file, bind or connect no TCP port, reach no abstract socket and signal nobody
//! outside, as far as the host's kernel knows how to forbid it. What is open stays open.
#![allow(unsafe_code, reason = "landlock's system calls")]

use std::io;

/// `struct landlock_ruleset_attr`: what is forbidden unless a rule allows it.
#[repr(C)]
#[derive(Default)]
struct Ruleset {
    files: u64,
    network: u64,
    scoped: u64,
}

/// `LANDLOCK_CREATE_RULESET_VERSION`.
const ASK_VERSION: libc::c_uint = 1;

/// Everything that this version of landlock can forbid.
fn everything(version: i64) -> Ruleset {
    // Kernels from 5.13 know 13 rights on files; the later versions one more each: REFER, TRUNCATE, IOCTL_DEV.
    let files = match version {
        ..=1 => 13,
        2 => 14,
        3..=4 => 15,
        5.. => 16,
    };
    Ruleset {
        files: (1 << files) - 1,
        network: if version >= 4 { 0b11 } else { 0 }, // binding and connecting TCP
        scoped: if version >= 6 { 0b11 } else { 0 },  // abstract sockets, signals
    }
}

/// Forbids everything that the kernel can forbid; false where it has no landlock. Needs `no_new_privs`.
pub(super) fn forbid_all() -> io::Result<bool> {
    // SAFETY: with a null pointer and no size this only asks for the version.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0_usize, 0_usize, ASK_VERSION) };
    if version < 1 {
        return Ok(false);
    }
    let rules = everything(version);
    // A kernel takes a larger structure than it knows where what it does not know is zero.
    let bytes = size_of::<Ruleset>();
    // SAFETY: the kernel reads one structure of the size that is said.
    let made =
        check(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const rules, bytes, 0) })?;
    // SAFETY: only numbers are passed.
    let restricted = check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, made, 0) });
    // SAFETY: the descriptor was just made and is used no more.
    unsafe { libc::syscall(libc::SYS_close, made) };
    restricted.map(|_| true)
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
