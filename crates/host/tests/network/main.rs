//! The network driver against this machine's kernel: real packets in throw-away namespaces.
//!
//! Each test moves its own thread into a world of its own, see `world`. What must not pass is shown by order,
//! not by waiting: a forbidden packet is sent, then an allowed one, and the allowed one is the first to
//! arrive.
#![allow(clippy::unwrap_used, reason = "what fails in a test's helpers fails the test")]

mod linux_guest;
mod raw;
mod snapshot;
mod wish;
mod world;

mod cut_short;
mod flows;
mod gateway;
mod groups;
mod host_changes;
mod repair;
mod scale;
mod spoofing;
mod strays;
