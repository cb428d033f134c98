//! Devices that go on later, in another process perhaps: what all of them have in common.
//!
//! A machine that is saved is still: no vCPU runs, no device works. Each device then says what its guest has made of it,
//! as plain data, and one that was just made takes that over. What a device is (its identity, its capabilities, what it
//! offers) is not part of it: it is made the same way again, and refuses what it cannot go on from ([`Unfit`]). The data
//! may come from a guest that broke out of its devices, so it is trusted no more than that guest's accesses were.

/// Why a device cannot go on from what was saved of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("It was saved from another machine: {0}")]
pub struct Unfit(pub &'static str);
