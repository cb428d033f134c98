//! EC2's Query protocol as a serde format: a typed request to and from `Filter.1.Name=…&Filter.1.Value.1=…`.
//!
//! The rules of the protocol, from the traits of Amazon's own service model (protocol `ec2`):
//!
//! - A structure's members are joined by dots; a member's name begins with a capital. A struct of this crate may
//!   therefore spell its fields `ipProtocol`, as XML does, and travel both ways.
//! - A list is the member's name and an index from 1: `InstanceId.1`, `InstanceId.2`. Gaps are tolerated and the
//!   order is the numbers' order. An empty list cannot be said, so absent and empty are one.
//! - Booleans are `true` and `false`, numbers decimal, bytes base64, moments ISO 8601.
//!
//! What must hold: no parameter is ever ignored. [`Parameters`] keeps all of them, [`decode`] accounts for each:
//! it fills a field, or it is named in the action's [table of unobeyed parameters](Unobeyed), or the request is
//! refused. Input is bounded by [`MAX_BYTES`], [`MAX_PARAMETERS`], [`MAX_NAME`] and [`MAX_DEPTH`].

mod parameters;
mod place;
mod unobeyed;

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use parameters::{MAX_BYTES, MAX_DEPTH, MAX_NAME, MAX_PARAMETERS, Parameters};
pub(crate) use place::wire_name;
pub use unobeyed::{Accepts, Unobeyed, moot, only, partly, refused};

use crate::format::Unsayable;
use crate::format::read::{Problem, Reader, What};
use crate::format::write::Writer;
use crate::percent::{self, BadEscape};

/// Why a request cannot be read. Every variant that concerns a parameter names it in full: `Filter.1.Name`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// `MalformedQueryString`.
    #[error("The query string cannot be decoded")]
    Malformed(#[source] BadEscape),
    /// `InvalidQueryParameter`.
    #[error("The request is larger than {MAX_BYTES} bytes")]
    TooLarge,
    /// `InvalidQueryParameter`.
    #[error("The request has more than {MAX_PARAMETERS} parameters")]
    TooMany,
    /// `InvalidQueryParameter`; the text is the beginning of the name.
    #[error(
        "The name of the parameter {0}... is longer than {MAX_NAME} bytes or has more than {MAX_DEPTH} parts"
    )]
    TooLong(String),
    /// `InvalidParameterCombination`.
    #[error("The parameter {0} is given more than once")]
    Duplicate(String),
    /// `UnknownParameter`.
    #[error("The parameter {0} is not recognized")]
    Unknown(String),
    /// `MissingParameter`.
    #[error("The request must contain the parameter {0}")]
    Missing(String),
    /// `InvalidParameterValue`.
    #[error("Value ({value}) for parameter {parameter} is invalid. {expected}")]
    Value {
        /// The parameter's full name.
        parameter: String,
        /// What was sent, cut to 100 characters.
        value: String,
        /// A sentence that says what is accepted.
        expected: String,
    },
    /// `UnsupportedOperation`: EC2 knows the parameter, this implementation does not obey it yet.
    #[error("The parameter {parameter} is not supported yet{}", remedy(*default))]
    Unsupported {
        /// The parameter's full name.
        parameter: String,
        /// The one value that may be stated, EC2's default.
        default: Option<&'static str>,
    },
}

fn remedy(default: Option<&'static str>) -> Cow<'static, str> {
    match default {
        Some(value) => format!(": leave it out, or state EC2's default, {value}").into(),
        None => ": leave it out".into(),
    }
}

impl QueryError {
    /// The code under which EC2 reports this; the HTTP status is 400 for all of them.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "MalformedQueryString",
            Self::TooLarge | Self::TooMany | Self::TooLong(_) => "InvalidQueryParameter",
            Self::Duplicate(_) => "InvalidParameterCombination",
            Self::Unknown(_) => "UnknownParameter",
            Self::Missing(_) => "MissingParameter",
            Self::Value { parameter, .. } => match parameter.as_str() {
                // Two values have codes of their own in EC2.
                "UserData" => "InvalidUserData.Malformed",
                "PublicKeyMaterial" => "InvalidKey.Format",
                _ => "InvalidParameterValue",
            },
            Self::Unsupported { .. } => "UnsupportedOperation",
        }
    }
}

impl From<Problem> for QueryError {
    fn from(Problem { path, what }: Problem) -> Self {
        match what {
            What::Unknown => Self::Unknown(path),
            What::Missing => Self::Missing(path),
            What::Value { text, expected } => {
                Self::Value { parameter: path, value: text.unwrap_or_default(), expected }
            }
        }
    }
}

/// Makes a typed request of all parameters, except those `unobeyed` names.
///
/// # Errors
/// [`QueryError`] for an unknown, missing or unsupported parameter or a bad value.
pub fn decode<T: DeserializeOwned>(
    mut parameters: Parameters,
    unobeyed: &[Unobeyed],
) -> Result<T, QueryError> {
    unobeyed::settle(&mut parameters.root, unobeyed)?;
    Ok(T::deserialize(Reader(Some(&parameters.root)))?)
}

/// A typed request as the names and values to send, in the order of its fields. Absent options and empty lists
/// send nothing.
///
/// # Errors
/// [`Unsayable`] where the type holds something the protocol has no form for, such as a map.
pub fn encode<T: Serialize>(request: &T) -> Result<Vec<(String, String)>, Unsayable> {
    let mut pairs = Vec::new();
    request.serialize(Writer(place::Pairs { pairs: &mut pairs, name: String::new() }))?;
    Ok(pairs)
}

/// A body of type `application/x-www-form-urlencoded` from names and values.
#[must_use]
pub fn form<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let pieces = pairs.into_iter().map(|(name, value)| format!("{name}={}", percent::encode(value)));
    pieces.collect::<Vec<_>>().join("&")
}
