//! Small values that wire structs are made of: bytes as base64, and lists that must not be empty.

use std::ops::Deref;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bytes that travel as base64: user-data, public keys, console output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    /// Line breaks inside the text are skipped, because the base64 tool wraps lines and EC2 takes its output.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The name of the newtype tells formats that care (`specimen`) what the text means.
        #[derive(Deserialize)]
        #[serde(rename = "Blob")]
        struct Text(String);
        let Text(mut text) = Text::deserialize(deserializer)?;
        text.retain(|letter| !letter.is_ascii_whitespace());
        BASE64_STANDARD.decode(text).map(Self).map_err(|_| de::Error::custom("Expected base64"))
    }
}

/// A list with at least one member. Its absence from a request is a missing parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NonEmpty<T>(Vec<T>);

/// An empty list where at least one member is required.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("The list is empty")]
pub struct EmptyList;

impl<T> TryFrom<Vec<T>> for NonEmpty<T> {
    type Error = EmptyList;

    fn try_from(list: Vec<T>) -> Result<Self, EmptyList> {
        if list.is_empty() { Err(EmptyList) } else { Ok(Self(list)) }
    }
}

impl<T> From<NonEmpty<T>> for Vec<T> {
    fn from(list: NonEmpty<T>) -> Self {
        list.0
    }
}

impl<T> Deref for NonEmpty<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> IntoIterator for NonEmpty<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<T: Serialize> Serialize for NonEmpty<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for NonEmpty<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The name of the newtype tells formats that care (`specimen`) that a member is required.
        #[derive(Deserialize)]
        #[serde(rename = "NonEmpty")]
        struct List<T>(Vec<T>);
        let List(list) = List::deserialize(deserializer)?;
        // A length of nought is how the formats of this crate recognise a required list that was left out.
        Self::try_from(list).map_err(|_| de::Error::invalid_length(0, &"at least one member"))
    }
}

/// For `deserialize_with`: an absent text is the empty one, as EC2 reads a tag without a value.
pub(crate) fn absent_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
