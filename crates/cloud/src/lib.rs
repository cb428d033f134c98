//! The brain: what the cloud knows, what a command may do, and what should be done next. Pure.
//!
//! ```text
//!   command ──▶ rules ──▶ Tx ──▶ (store commits) ──▶ World          what the user wants
//!                                                      │
//!                                            wanted ◀──┘            what the host should be
//!                                              │
//!              Observed (from the host) ──▶ plan ──▶ steps          what to do next
//!                        └──────────────▶ settle ──▶ Tx             what has become true
//! ```
//!
//! What must hold:
//! - No I/O, no clock, no randomness: time and random bits are handed in with each transaction.
//! - Commands write goals, [`settle()`] writes statuses; no field has two writers. What a user
//!   sees is computed from both, in [`state`].
//! - Nothing here knows EC2's wire: a refusal says what is wrong, the daemon finds EC2's code for it.

pub mod capacity;
pub mod catalog;
pub mod first_start;
mod index;
pub mod limits;
pub mod model;
pub mod plan;
pub mod refusal;
pub mod rules;
pub mod settings;
pub mod settle;
pub mod state;
pub mod subnet_space;
pub mod time;
pub mod tx;
pub mod wanted;
pub mod world;

pub use index::Taken;
pub use plan::plan;
pub use refusal::{Reason, Refusal};
pub use settings::Settings;
pub use settle::settle;
pub use time::Timestamp;
pub use tx::Tx;
pub use world::World;
