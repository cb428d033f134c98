//! `cumuletd`: the daemon that ties the cloud together.
//!
//! ```text
//!   clients ──▶ http ──▶ identity ──▶ ec2 ──▶ api ──▶ cloud's rules ──▶ store ──▶ World
//!                                                                        │ wake
//!   host ◀──────────────── steps ◀── cloud's plan ◀── reconcile ◀────────┘
//!   guests ──▶ guests ──▶ views ──▶ guest-services
//! ```
//!
//! What must hold:
//! - The request path never touches the host: it writes what should be and is answered. Only what streams
//!   (consoles, connections to guests, images) goes to the host, outside of `api`.
//! - EC2's words and the cloud's meet in `api` only.
//! - Stopping or killing the daemon leaves every guest running; the first answer after a restart
//!   is already true.

pub mod api;
pub mod config;
pub mod daemon;
pub mod filters;
pub mod guests;
pub mod http;
pub mod identity;
pub mod key_material;
pub mod pages;
pub mod reconcile;
pub mod store;
pub mod views;
