//! Thin, safe functions over the kernel: the only place of this crate with unsafe code.

pub mod cgroup;
pub mod command;
pub mod confine;
pub mod files;
pub mod frames;
pub mod limits;
pub mod netns;
pub mod tap;
