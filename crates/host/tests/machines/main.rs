//! Machines as processes, on this machine's kernel, with a monitor that runs no guest (`examples/fake_monitor.rs`).
//!
//! They need root, since they start processes as other users and make control groups; without it they say so and do nothing.
#![allow(clippy::unwrap_used, reason = "what fails in a test's helpers fails the test")]

mod confined;
mod devices;
mod launching;
mod living;
mod strays;
mod world;
