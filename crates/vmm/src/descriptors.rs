//! The descriptors that the launcher left for us, by name; see [`spec::machine::descriptors`].
#![allow(unsafe_code, reason = "taking over inherited descriptors")]

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};

use kvm_ioctls::Kvm;
use spec::machine::descriptors::{FIRST, VARIABLE};

/// Why the inheritance cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InheritError {
    #[error("{VARIABLE} has the name \"{0}\" twice")]
    Twice(String),
    #[error("{VARIABLE} names descriptor {1} \"{0}\", and it is not open")]
    Closed(String, RawFd, #[source] io::Error),
    #[error("The launcher left no descriptor \"{0}\"")]
    Missing(String),
}

/// What was left, until it is taken.
#[derive(Debug, Default)]
pub(crate) struct Descriptors(BTreeMap<String, OwnedFd>);

impl Descriptors {
    /// Takes everything over that `names` (the variable's value) lists. Call it once, before any other
    /// file is opened.
    pub(crate) fn inherit(names: &str) -> Result<Self, InheritError> {
        let mut found = BTreeMap::new();
        for (fd, name) in (FIRST..).zip(names.split(':')) {
            // SAFETY: only numbers are passed.
            if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
                return Err(InheritError::Closed(name.to_owned(), fd, io::Error::last_os_error()));
            }
            // SAFETY: the descriptor is open, as was just seen, and was left to this process by its
            // launcher; nothing here has opened any yet, and each number is taken once.
            let descriptor = unsafe { OwnedFd::from_raw_fd(fd) };
            if found.insert(name.to_owned(), descriptor).is_some() {
                return Err(InheritError::Twice(name.to_owned()));
            }
        }
        Ok(Self(found))
    }

    /// The one of this name, if it was left.
    pub(crate) fn find<T: From<OwnedFd>>(&mut self, name: &str) -> Option<T> {
        self.0.remove(name).map(T::from)
    }

    /// The one of this name.
    pub(crate) fn take<T: From<OwnedFd>>(&mut self, name: &str) -> Result<T, InheritError> {
        self.find(name).ok_or_else(|| InheritError::Missing(name.to_owned()))
    }
}

/// KVM, from its open device. Whether it is KVM, its version tells.
pub(crate) fn take_kvm(device: OwnedFd) -> Kvm {
    // SAFETY: the descriptor is open and was ours alone; `Kvm` takes it over.
    unsafe { Kvm::from_raw_fd(device.into_raw_fd()) }
}
