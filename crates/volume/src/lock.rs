//! Open-file-description locks on whole files (fcntl(2), "Open file description locks").
//!
//! Such a lock belongs to the open file, not to a process: it goes with the descriptor through `fork`
//! and `exec` and over sockets, and ends when the last copy is closed, also by a kill. Asking
//! whether one is held disturbs nobody, which `flock` cannot promise.

use std::fs::File;
use std::io;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// How a file is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Beside other shared locks. The file must be open for reading.
    Shared,
    /// Alone. The file must be open for writing.
    Exclusive,
}

/// Locks `file` if that is possible at once, and says whether it was. Locking what this open file has locked already is possible.
pub fn try_lock(file: &File, kind: Kind) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole_file(kind))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether another open file holds any lock on this one.
pub fn is_held(file: &File) -> io::Result<bool> {
    let mut question = whole_file(Kind::Exclusive);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut question))?;
    Ok(i32::from(question.l_type) != libc::F_UNLCK)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the constants are 0 to 2; the kernel's structure has shorts for them"
)]
fn whole_file(kind: Kind) -> libc::flock {
    let l_type = match kind {
        Kind::Shared => libc::F_RDLCK,
        Kind::Exclusive => libc::F_WRLCK,
    };
    libc::flock {
        l_type: l_type as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}
