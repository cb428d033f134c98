//! What Query and XML have in common, said once: both know texts, lists and structures, and nothing else.
//!
//! serde's data model is wider. [`read`] and [`write`] narrow it to the three, so that each format is only a
//! small [`Place`](read::Place) to read from and a small [`Sink`](write::Sink) to write to.

pub(crate) mod read;
pub(crate) mod write;

pub use write::Unsayable;
