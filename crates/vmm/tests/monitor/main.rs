//! The monitor as a whole, on this machine's KVM: guests of a few instructions, started by hand and
//! launched. Where there is no KVM each test says so and passes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod code;
mod escape;
mod guests;
mod hostile;
mod launched;
mod rest;
mod support;
