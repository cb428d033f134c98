//! What guests meet, over real sockets: each test moves its own thread into a world of its own, see `site`, and talks
//! to the daemon's listeners as a guest would, well-known addresses and ports included.
#![allow(clippy::unwrap_used, reason = "what fails in a test's helpers fails the test")]

mod cloud;
mod site;

mod dhcp;
mod dns;
mod hostile;
mod keeping;
mod metadata;
mod process;
mod real;
mod views;
