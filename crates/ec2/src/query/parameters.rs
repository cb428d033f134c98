//! The parameters of one request as a bounded tree, before anybody knows what they mean.

use std::collections::BTreeMap;

use super::QueryError;
use crate::format::read::join;
use crate::percent;

/// The most bytes of query string and body together.
pub const MAX_BYTES: usize = 1 << 20;
/// The most parameters in one request. A thousand instances named twice over still fit.
pub const MAX_PARAMETERS: usize = 4096;
/// The longest name of a parameter, in bytes.
pub const MAX_NAME: usize = 256;
/// The most parts between dots in a name. EC2's deepest has six.
pub const MAX_DEPTH: usize = 10;

/// All parameters of one request, none of them judged yet.
#[derive(Debug, Clone, Default)]
pub struct Parameters {
    pub(super) root: Node,
}

/// One place in the tree: `Filter.1` is the place `1` inside the place `Filter`.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    /// What was said of this very name.
    pub(super) value: Option<String>,
    pub(super) children: BTreeMap<Part, Node>,
}

/// One part of a name. Indices sort by number, so walking a list's children walks it in order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Index(u32),
    Name(String),
}

impl Part {
    /// An index counts from 1 and has no leading nought; whatever else is a name.
    fn parse(text: &str) -> Self {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
        match text.parse() {
            Ok(index) if plain => Self::Index(index),
            _ => Self::Name(text.to_owned()),
        }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Index(index) => write!(formatter, "{index}"),
            Self::Name(name) => formatter.write_str(name),
        }
    }
}

impl Parameters {
    /// Reads form-urlencoded texts: the query string of a GET, the body of a POST, or both.
    ///
    /// # Errors
    /// [`QueryError`] when a text cannot be decoded, a name comes twice, or a bound is passed.
    pub fn parse(texts: &[&[u8]]) -> Result<Self, QueryError> {
        if texts.iter().map(|text| text.len()).sum::<usize>() > MAX_BYTES {
            return Err(QueryError::TooLarge);
        }
        let mut parameters = Self::default();
        for (count, pair) in texts.iter().flat_map(|text| percent::form_pairs(text)).enumerate() {
            let (name, value) = pair.map_err(QueryError::Malformed)?;
            if count >= MAX_PARAMETERS {
                return Err(QueryError::TooMany);
            }
            parameters.insert(&name, value)?;
        }
        Ok(parameters)
    }

    /// Adds one parameter.
    ///
    /// # Errors
    /// [`QueryError`] when it is there already or its name passes a bound.
    pub fn insert(&mut self, name: &str, value: String) -> Result<(), QueryError> {
        if name.len() > MAX_NAME || name.split('.').count() > MAX_DEPTH {
            return Err(QueryError::TooLong(name.chars().take(60).collect()));
        }
        let mut node = &mut self.root;
        for part in name.split('.') {
            node = node.children.entry(Part::parse(part)).or_default();
        }
        match node.value.replace(value) {
            Some(_) => Err(QueryError::Duplicate(name.to_owned())),
            None => Ok(()),
        }
    }

    /// The value of an undotted parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.root.children.get(&Part::Name(name.to_owned()))?.value.as_deref()
    }

    /// Takes an undotted parameter out, so that [`decode`](super::decode) does not meet it.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let part = Part::Name(name.to_owned());
        let node = self.root.children.get_mut(&part)?;
        let value = node.value.take();
        if node.children.is_empty() {
            self.root.children.remove(&part);
        }
        value
    }
}

impl Node {
    /// The first parameter at or below this place, with its name from here on (empty for this very place).
    pub(super) fn first(&self) -> Option<(String, &str)> {
        if let Some(value) = &self.value {
            return Some((String::new(), value));
        }
        self.children.iter().find_map(|(part, child)| {
            let (rest, value) = child.first()?;
            Some((join(&part.to_string(), &rest), value))
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.value.is_none() && self.children.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Parameters, QueryError> {
        Parameters::parse(&[text.as_bytes()])
    }

    #[test]
    fn names_make_a_tree_in_the_order_of_indices() {
        let parameters = parse("X.10=c&X.9=b&X.1=a&Y.Z=+%2B").unwrap();
        let list = &parameters.root.children[&Part::Name("X".into())];
        let values: Vec<_> = list.children.values().filter_map(|node| node.value.as_deref()).collect();
        assert_eq!(values, ["a", "b", "c"]);
        assert_eq!(parameters.root.children[&Part::Name("Y".into())].first(), Some(("Z".to_owned(), " +")));
    }

    #[test]
    fn a_query_string_and_a_body_are_one_request() {
        let parameters = Parameters::parse(&[b"Action=A", b"Version=V"]).unwrap();
        assert_eq!((parameters.get("Action"), parameters.get("Version")), (Some("A"), Some("V")));
        assert_eq!(
            Parameters::parse(&[b"Action=A", b"Action=B"]).unwrap_err(),
            QueryError::Duplicate("Action".into())
        );
    }

    #[test]
    fn bounds_hold() {
        assert_eq!(parse(&"a".repeat(MAX_BYTES + 1)).unwrap_err(), QueryError::TooLarge);
        let many: Vec<_> = (0..=MAX_PARAMETERS).map(|index| format!("X.{index}=")).collect();
        assert_eq!(parse(&many.join("&")).unwrap_err(), QueryError::TooMany);
        assert!(parse(&many[1..].join("&")).is_ok());
        for name in ["a".repeat(MAX_NAME + 1), ["a"; MAX_DEPTH + 1].join(".")] {
            assert!(matches!(parse(&name), Err(QueryError::TooLong(_))), "{name}");
        }
    }

    #[test]
    fn taking_leaves_what_is_below() {
        let mut parameters = parse("A=1&A.1=2").unwrap();
        assert_eq!(parameters.take("A").as_deref(), Some("1"));
        assert_eq!(parameters.root.first(), Some(("A.1".to_owned(), "2")));
        assert_eq!(parameters.take("A"), None);
    }
}
