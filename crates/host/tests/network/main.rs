//! The network driver against this machine's kernel: real packets in throw-away namespaces.
//!
//! Each test moves its own thread into a world of its own, see `world`. What must not pass is
//! shown by order, not by waiting: a forbidden packet is sent, then an allowed one, and the allowed one is the first to arrive.

mod linux_guest;
mod raw;
mod world;

mod flows;
mod gateway;
mod groups;
mod host_changes;
mod repair;
mod snapshot;
mod spoofing;
