//! Helpers for the tests that cross crates: reading this repository's own sources.

pub mod source;
