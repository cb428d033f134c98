//! Helpers for the tests of several crates: a small cloud, and reading this repository's own sources.

pub mod small_world;
pub mod source;
