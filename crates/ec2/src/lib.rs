#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod actions;
pub mod error;
mod format;
pub mod percent;
pub mod query;
pub mod shapes;
pub mod sign;
pub mod specimen;
pub mod time;
pub mod values;
pub mod version;
pub mod xml;

pub use actions::{Action, Call, Handler, Handlers, Request};
pub use error::{Error, Resource};
pub use format::Unsayable;
pub use time::Timestamp;
pub use values::{Blob, NonEmpty};
pub use version::{Service, Version};
