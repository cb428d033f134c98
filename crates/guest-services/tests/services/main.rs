//! The crate as its guests see it: each service asked over its public functions only.

mod cloud_init;
mod dhcp;
mod dns;
mod metadata;
mod noise;
mod sample;
