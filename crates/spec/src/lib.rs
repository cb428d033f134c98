//! Words that the cloud, the host and the machine monitor share, as plain data.
//!
//! Three parties meet here: `cloud` says what should be, `host` says what is and does the
//! steps between the two, `vmm` runs one machine. None of them knows another; they agree on
//! these types alone. There is no behaviour here beyond forming and reading names.
//!
//! What must hold:
//! - No I/O, no clock, no randomness, and no word of EC2's API beyond the ids users see.
//! - Every name of a host object is made from an id, so nothing has to be noted after it is made.
//! - What is written to disk or sent over a socket is read back by an older or newer build:
//!   fields are added with a default, never renamed.

pub mod console;
pub mod control;
pub mod ids;
pub mod machine;
pub mod names;
pub mod network;
pub mod observed;
pub mod steps;
pub mod storage;

mod fingerprint;

pub use fingerprint::Fingerprint;
