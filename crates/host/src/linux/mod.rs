//! This Linux machine: network, storage and machines, on a thin layer over the kernel.

pub mod machines;
pub mod network;
pub mod storage;
pub mod sys;
