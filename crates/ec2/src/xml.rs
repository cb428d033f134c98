//! EC2's XML as a serde format: a typed answer to and from `<xSet><item>…</item></xSet>`.
//!
//! An element per field, named as serde names it; a list's members are `item` elements inside it; an absent option
//! is no element, an empty list an empty element; `true` and `false`; no attributes but the namespace of the root.
//! Reading is the reverse and more lenient, as every client of an API that grows must be: unknown elements are
//! skipped, an absent list is empty, a list's members may have any name. It is bounded by [`MAX_BYTES`],
//! [`MAX_ELEMENTS`] and [`MAX_DEPTH`], and refuses document types, so there is nothing to expand.

mod document;
mod place;

use serde::Serialize;

pub use document::{Document, MAX_BYTES, MAX_DEPTH, MAX_ELEMENTS};

use crate::format::Unsayable;
use crate::format::read::{Problem, What};
use crate::format::write::Writer;

/// Why a document cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// It is not well-formed XML of the kind EC2 writes.
    #[error("The document is not XML that EC2 would write: {0}")]
    Malformed(String),
    /// It passes a bound.
    #[error("The document is larger than {MAX_BYTES} bytes, {MAX_ELEMENTS} elements or {MAX_DEPTH} levels")]
    TooLarge,
    /// A required element is not there; the text is its path from the root.
    #[error("The document has no element {0}")]
    Missing(String),
    /// An element's content is not what its type demands.
    #[error("The element {path} says ({text}). {expected}")]
    Value {
        /// The element's path from the root.
        path: String,
        /// What it says, cut to 100 characters.
        text: String,
        /// A sentence that says what was expected.
        expected: String,
    },
}

impl From<Problem> for XmlError {
    fn from(Problem { path, what }: Problem) -> Self {
        match what {
            What::Missing => Self::Missing(path),
            What::Value { text, expected } => Self::Value { path, text: text.unwrap_or_default(), expected },
            What::Unknown => {
                Self::Value { path, text: String::new(), expected: "Expected a text around it.".into() }
            }
        }
    }
}

/// A whole document: the element `root` around `content`, which is XML already.
#[must_use]
pub fn document(root: &str, namespace: Option<&str>, content: &str) -> String {
    let attribute = namespace.map(|name| format!(" xmlns=\"{}\"", place::escape(name))).unwrap_or_default();
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root}{attribute}>{content}</{root}>")
}

/// The element `name` with `content` inside.
///
/// # Errors
/// [`Unsayable`] where the type holds something that EC2's XML has no form for, such as a map.
pub fn element<T: Serialize>(name: &str, content: &T) -> Result<String, Unsayable> {
    let mut out = String::new();
    content.serialize(Writer(place::Elements { out: &mut out, name }))?;
    Ok(out)
}

/// The elements of a struct's fields, with none around them.
///
/// # Errors
/// As [`element`].
pub fn elements<T: Serialize>(content: &T) -> Result<String, Unsayable> {
    let mut out = String::new();
    content.serialize(Writer(place::Content(&mut out)))?;
    Ok(out)
}

/// The element `name` with a text inside.
#[must_use]
pub fn text_element(name: &str, text: &str) -> String {
    format!("<{name}>{}</{name}>", place::escape(text))
}
