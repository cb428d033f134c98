//! What this process may still do, whatever a guest makes of it.
//!
//! ```text
//! the launcher       a user, a control group and a process namespace of its own; every file as an open descriptor
//! leave_the_host     first of all, and only who was given the right to: other namespaces, an empty root
//! lock_the_doors     when all is open, before the first byte of a guest's is looked at: no privilege, no file, no
//!                    network, and of the kernel's calls only those that a monitor makes
//! confine            each thread for itself, before its work: fewer still
//! ```
//!
//! The walls stand behind each other: any one of them may have a hole. `cumulet-vmm --escape` tries them
//! ([`crate::escape`]), docs/security.md says what each one stops.

mod filter;
mod forbidden;
mod landlock;
mod namespaces;
mod privileges;

use std::io;

pub(crate) use filter::{Confined, Kind, confine};

use crate::timeline;

/// Why a door stays open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    #[error("Cannot give up {0}")]
    GiveUp(&'static str, #[source] io::Error),
    #[error("Cannot leave the host: {0} failed")]
    Leave(&'static str, #[source] io::Error),
    #[error("Cannot forbid all files and the network by landlock")]
    Landlock(#[source] io::Error),
    #[error("Cannot filter system calls")]
    Filter(#[source] seccompiler::Error),
    #[error("Cannot hear of forbidden system calls")]
    Hear(#[source] io::Error),
}

/// Enters namespaces with nothing in them and a root directory with nothing in it, for which this process was given the
/// right (`CAP_SYS_ADMIN`) and gives it back. Who has it not, as somebody who starts a monitor by hand, stays.
/// Descriptors remain what they are.
pub(crate) fn leave_the_host() -> Result<(), LockError> {
    if privileges::may_leave() {
        namespaces::leave()?;
    }
    privileges::give_up()
}

/// Locks all doors, or says which one does not lock. `filtered` is for whoever wants to see that the others hold
/// without the filter of system calls: a machine never runs without.
pub(crate) fn lock_the_doors(filtered: bool) -> Result<(), LockError> {
    if !landlock::forbid_all().map_err(LockError::Landlock)? {
        timeline::mark("landlock: this kernel has none");
    }
    privileges::settle_allocator();
    if filtered {
        forbidden::hear().map_err(LockError::Hear)?;
        filter::confine(Kind::Supervisor)?;
    }
    Ok(())
}
