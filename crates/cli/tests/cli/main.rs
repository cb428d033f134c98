//! `cumulet` as its user meets it: the program, against a small cloud on loopback that plays the daemon's part.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop, helpers included")]

mod calls;
mod console;
mod environment;
mod fake;
mod import;
mod run;
mod tunnels;
mod user;
