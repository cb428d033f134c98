//! The descriptors that we were given, by name: those that the launcher left, and those that come with a request;
//! see [`spec::machine::descriptors`].
#![allow(unsafe_code, reason = "taking over descriptors that were inherited or sent")]

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use kvm_ioctls::Kvm;
use spec::control::MAX_DESCRIPTORS;
use spec::machine::descriptors::{FIRST, VARIABLE};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

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

    /// Those that came with a request, in the order of their names. What is not taken is closed.
    pub(crate) fn sent(names: &[String], descriptors: Vec<OwnedFd>) -> Self {
        Self(names.iter().cloned().zip(descriptors).collect())
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

/// Receives bytes and the descriptors that came with them, which are added to `descriptors`; how many bytes, 0 at the
/// end of the stream. More than [`MAX_DESCRIPTORS`] at once are an error, and are closed.
pub(crate) fn receive(
    socket: &UnixStream,
    bytes: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut numbers = [0; MAX_DESCRIPTORS];
    let mut vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: the vector names `bytes`, which is borrowed for as long as the call lasts.
    let received = unsafe { socket.recv_with_fds(std::slice::from_mut(&mut vector), &mut numbers) };
    let (count, number_count) = received.map_err(io::Error::from)?;
    for &number in &numbers[..number_count] {
        // SAFETY: the kernel has just opened it for this process, and gave us its number only.
        descriptors.push(unsafe { OwnedFd::from_raw_fd(number) });
    }
    Ok(count)
}

/// KVM, from its open device. Whether it is KVM, its version tells.
pub(crate) fn take_kvm(device: OwnedFd) -> Kvm {
    // SAFETY: the descriptor is open and was ours alone; `Kvm` takes it over.
    unsafe { Kvm::from_raw_fd(device.into_raw_fd()) }
}
