//! What a command may do, one file for each family of the API.
//!
//! A rule takes a transaction and a command whose values have been read already, checks it
//! against the world, and writes. It either does all of it or refuses and the transaction is dropped.

mod attachments;
pub mod block_devices;
mod client_tokens;
pub mod images;
pub mod instance_attributes;
pub mod instances;
pub mod key_pairs;
pub mod launch;
pub mod network_interfaces;
pub mod performance;
pub mod security_groups;
pub mod tags;
pub mod volumes;
