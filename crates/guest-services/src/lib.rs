//! What guests meet at well-known addresses: metadata, DHCP, DNS. Pure: a request and a view of the
//! asker in, an answer out. No sockets, no clock, no randomness; the caller brings all three.
//!
//! ```text
//! 169.254.169.254:80   metadata::answer   instance view, by source address
//! 0.0.0.0:67           dhcp::answer       interface view, by link address
//! subnet's .2, :53     dns::answer        names of the VPC
//! ```
//!
//! # Who asks
//!
//! The daemon opens these sockets inside a VPC's network namespace. There a source address belongs to one
//! interface: two VPCs with the same block are two namespaces, and a packet whose source address or link
//! address is not its interface's own dies at the interface's TAP before any socket sees it. So the source
//! address of a request *is* the asker's identity, no password needed, and the daemon looks the view up by
//! it. Clients of DHCP alone have no address yet: they say their link address, and the answer is sent
//! there ([`dhcp`] says what that is worth).
//!
//! # What must hold
//!
//! - All that a guest sends is hostile: whatever the bytes, a function here returns, and what it
//!   allocates is bounded by what came in, never by a number in it.
//! - A view holds nothing that its guest may not read.
//! - An answer depends on its arguments alone.

pub mod dhcp;
pub mod dns;
pub mod metadata;
pub mod names;
pub mod view;
