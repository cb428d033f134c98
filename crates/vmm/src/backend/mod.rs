//! What stands behind a machine's devices: volumes and plain files behind disks, TAPs behind NICs, the
//! kernel behind entropy and the balloon, who calls behind sockets.

mod callers;
mod entropy;
mod file;
mod pieces;
mod reclaim;
mod removable;
mod tap;
mod uring;
mod vhost;
mod volume;

pub(crate) use callers::CallersAt;
pub(crate) use entropy::KernelEntropy;
pub(crate) use file::{DiskFile, DiskFileError};
pub(crate) use reclaim::DropPages;
pub(crate) use removable::{Removable, Store};
pub(crate) use tap::{Tap, TapError};
pub(crate) use uring::Uring;
pub(crate) use vhost::ioctls as vhost_ioctls;
pub(crate) use volume::VolumeDisk;
