//! EC2's filters: which of many things a Describe shows.
//!
//! A filter looks at what is answered. Each family has a [`Fields`] table of filter names, each with the path of its
//! element in the answered structure, so that a filter and the answer cannot disagree: `attachment.instance-id` of a
//! volume is `attachmentSet.instanceId`. A thing is shown when every filter finds at least one of its values there.
//!
//! Values may hold `*` (any characters) and `?` (any one); a backslash takes the meaning away.
//! Source: AWS, *List and filter using the CLI and API*.

use ec2::Error;
use ec2::shapes::common::Filter;
use serde::Serialize;
use serde_json::Value;

/// Filters in one request at most (AWS, as above).
const MAX_FILTERS: usize = 50;
/// Values of all filters in one request together at most (AWS, as above).
const MAX_VALUES: usize = 200;
/// Characters of one value at most. Nothing that is compared is longer than a fifth of this.
const MAX_PATTERN: usize = 1280;

/// The filters that a family has.
#[derive(Debug, Clone, Copy, Hash)]
pub struct Fields {
    /// Filter names, each with the path of what it looks at: members of structures joined by dots, lists gone through.
    /// An empty path is for what EC2 can filter by and nothing here has: it finds nothing.
    pub paths: &'static [(&'static str, &'static str)],
    /// The path of the list of tags, where the family's things have tags: then it has `tag:KEY`, `tag-key` and
    /// `tag-value` too. An empty path is the thing itself, for the one family whose things are tags.
    pub tags: Option<&'static str>,
}

/// The filters of one request.
#[derive(Debug, Default, Hash)]
pub struct Filters(Vec<Condition>);

/// One filter of a request.
#[derive(Debug, Hash)]
struct Condition {
    look: Look,
    patterns: Vec<Pattern>,
}

/// What a filter looks at.
#[derive(Debug, Hash)]
enum Look {
    /// The values at a path.
    Path(&'static str),
    /// A member of each tag in the list at a path: its `key` or its `value`.
    TagMember(&'static str, &'static str),
    /// The value of the tag with that key.
    Tag(&'static str, String),
}

impl Filters {
    /// The filters that a request names, as the family's table has them.
    ///
    /// # Errors
    /// `InvalidParameterValue` for a filter that the family does not have, one without a value, or a value that is too
    /// long; `FilterLimitExceeded` for too many.
    pub fn read(fields: &Fields, filters: &[Filter]) -> Result<Self, Error> {
        let values: usize = filters.iter().map(|filter| filter.value.len()).sum();
        if filters.len() > MAX_FILTERS || values > MAX_VALUES {
            let text = format!(
                "The request uses too many filters or too many filter values: {MAX_FILTERS} filters with \
                 {MAX_VALUES} values together are allowed"
            );
            return Err(Error::new(400, "FilterLimitExceeded", text));
        }
        filters.iter().map(|filter| Condition::read(fields, filter)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a thing is to be shown; `thing` is the shape in which it would be.
    pub fn pass(&self, thing: &impl Serialize) -> bool {
        if self.0.is_empty() {
            return true;
        }
        // Every shape is plain data that JSON has words for.
        let thing = serde_json::to_value(thing).unwrap_or_default();
        self.0.iter().all(|condition| condition.holds(&thing))
    }
}

impl Condition {
    fn read(fields: &Fields, filter: &Filter) -> Result<Self, Error> {
        let Filter { name, value } = filter;
        let look = Look::read(fields, name).ok_or_else(|| {
            let name: String = name.chars().take(100).collect();
            Error::new(400, "InvalidParameterValue", format!("The filter '{name}' is invalid"))
        })?;
        if value.is_empty() {
            let text = format!("The filter '{name}' has no value");
            return Err(Error::new(400, "InvalidParameterValue", text));
        }
        if value.iter().any(|value| value.chars().count() > MAX_PATTERN) {
            let text = format!("A value of the filter '{name}' has more than {MAX_PATTERN} characters");
            return Err(Error::new(400, "InvalidParameterValue", text));
        }
        Ok(Self { look, patterns: value.iter().map(|value| Pattern::read(value)).collect() })
    }

    fn holds(&self, thing: &Value) -> bool {
        let mut found = false;
        self.look.each(thing, &mut |text| {
            found = found || self.patterns.iter().any(|pattern| pattern.matches(text));
        });
        found
    }
}

impl Look {
    fn read(fields: &Fields, name: &str) -> Option<Self> {
        if let Some(tags) = fields.tags {
            match name {
                "tag-key" => return Some(Self::TagMember(tags, "key")),
                "tag-value" => return Some(Self::TagMember(tags, "value")),
                _ => {}
            }
            if let Some(key) = name.strip_prefix("tag:") {
                return Some(Self::Tag(tags, key.to_owned()));
            }
        }
        fields.paths.iter().find(|(known, _)| *known == name).map(|(_, path)| Self::Path(path))
    }

    /// Calls `see` with every value that is looked at.
    fn each(&self, thing: &Value, see: &mut dyn FnMut(&str)) {
        match self {
            Self::Path("") => {}
            Self::Path(path) => walk(thing, path, &mut |value| text(value, see)),
            Self::TagMember(tags, member) => walk(thing, tags, &mut |tag| text(&tag[*member], see)),
            Self::Tag(tags, key) => walk(thing, tags, &mut |tag| {
                if tag["key"] == **key {
                    text(&tag["value"], see);
                }
            }),
        }
    }
}

/// Calls `see` with every value at `path` below `value`.
fn walk(value: &Value, path: &str, see: &mut dyn FnMut(&Value)) {
    match value {
        Value::Array(members) => members.iter().for_each(|member| walk(member, path, see)),
        _ if path.is_empty() => see(value),
        _ => {
            let (first, rest) = path.split_once('.').unwrap_or((path, ""));
            if let Some(member) = value.get(first) {
                walk(member, rest, see);
            }
        }
    }
}

/// A value as it stands in an answer.
fn text(value: &Value, see: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => see(text),
        Value::Bool(_) | Value::Number(_) => see(&value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => {}
    }
}

/// A filter's value.
#[derive(Debug, Hash)]
struct Pattern(Vec<Piece>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Piece {
    /// This character.
    Is(char),
    /// `?`: any character.
    AnyOne,
    /// `*`: any characters.
    Any,
}

impl Pattern {
    fn read(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '*' if pieces.last() == Some(&Piece::Any) => {}
                '*' => pieces.push(Piece::Any),
                '?' => pieces.push(Piece::AnyOne),
                // A backslash at the end means itself.
                '\\' => pieces.push(Piece::Is(letters.next().unwrap_or('\\'))),
                _ => pieces.push(Piece::Is(letter)),
            }
        }
        Self(pieces)
    }

    /// Whether the whole of `text` fits. On a mismatch only the last `*` takes one character more, so the
    /// time is at most the product of both lengths.
    fn matches(&self, text: &str) -> bool {
        let Self(pieces) = self;
        let mut rest = text.chars();
        let mut at = 0;
        let mut star: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            let mut after = rest.clone();
            match (pieces.get(at), after.next()) {
                (Some(Piece::Any), _) => {
                    at += 1;
                    star = Some((at, rest.clone()));
                }
                (Some(Piece::AnyOne), Some(_)) => (at, rest) = (at + 1, after),
                (Some(Piece::Is(wanted)), Some(letter)) if *wanted == letter => (at, rest) = (at + 1, after),
                (None, None) => return true,
                _ => {
                    let Some((behind, from)) = &mut star else { return false };
                    if from.next().is_none() {
                        return false;
                    }
                    (at, rest) = (*behind, from.clone());
                }
            }
        }
    }
}

/// Every path of a table must lead somewhere in the shape that its filters look at. For the families' tests.
#[cfg(test)]
pub(crate) fn lost_paths<T: serde::de::DeserializeOwned + Serialize>(fields: &Fields) -> Vec<&'static str> {
    let thing: T = ec2::specimen::fill(&mut ec2::specimen::Full).expect("a shape can be filled");
    let thing = serde_json::to_value(thing).expect("a shape is plain data");
    let finds = |look: &Look| {
        let mut found = 0;
        look.each(&thing, &mut |_| found += 1);
        found > 0
    };
    let paths = fields.paths.iter().map(|(_, path)| *path).filter(|path| !path.is_empty());
    let mut lost: Vec<_> = paths.filter(|path| !finds(&Look::Path(path))).collect();
    lost.extend(fields.tags.filter(|tags| !finds(&Look::TagMember(tags, "key"))));
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Tag {
        key: &'static str,
        value: &'static str,
    }

    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Thing {
        name: &'static str,
        size: u32,
        encrypted: bool,
        nothing: Option<u8>,
        tag_set: Vec<Tag>,
        parts: Vec<Part>,
    }

    #[derive(Serialize)]
    struct Part {
        ids: Vec<&'static str>,
    }

    const FIELDS: Fields = Fields {
        paths: &[
            ("name", "name"),
            ("size", "size"),
            ("encrypted", "encrypted"),
            ("nothing", "nothing"),
            ("part.id", "parts.ids"),
            ("outpost-arn", ""),
        ],
        tags: Some("tagSet"),
    };

    fn thing() -> Thing {
        Thing {
            name: "web",
            size: 8,
            encrypted: false,
            nothing: None,
            tag_set: vec![Tag { key: "Name", value: "a" }, Tag { key: "Team", value: "b" }],
            parts: vec![Part { ids: vec!["p1", "p2"] }, Part { ids: vec!["p3"] }],
        }
    }

    fn pass(filters: &[(&str, &[&str])]) -> Result<bool, String> {
        let filter = |(name, values): &(&str, &[&str])| Filter {
            name: (*name).to_owned(),
            value: values.iter().map(|value| (*value).to_owned()).collect(),
        };
        let filters: Vec<Filter> = filters.iter().map(filter).collect();
        let filters = Filters::read(&FIELDS, &filters).map_err(|error| error.code().to_owned())?;
        Ok(filters.pass(&thing()))
    }

    #[test]
    fn any_value_of_every_filter() {
        assert_eq!(pass(&[]), Ok(true));
        assert_eq!(pass(&[("name", &["db", "web"])]), Ok(true));
        assert_eq!(pass(&[("name", &["web"]), ("size", &["9"])]), Ok(false));
        assert_eq!(pass(&[("name", &["web"]), ("size", &["8"]), ("encrypted", &["false"])]), Ok(true));
        assert_eq!(pass(&[("name", &["Web"])]), Ok(false), "letters count as they are");
        assert_eq!(pass(&[("nothing", &["*"])]), Ok(false), "what is absent has no value");
        assert_eq!(pass(&[("outpost-arn", &["*"])]), Ok(false));
    }

    #[test]
    fn lists_are_gone_through() {
        assert_eq!(pass(&[("part.id", &["p3"])]), Ok(true));
        assert_eq!(pass(&[("part.id", &["p2", "x"])]), Ok(true));
        assert_eq!(pass(&[("part.id", &["p4"])]), Ok(false));
    }

    #[test]
    fn tags_by_key_by_value_and_by_both() {
        assert_eq!(pass(&[("tag-key", &["Team"])]), Ok(true));
        assert_eq!(pass(&[("tag-value", &["b"])]), Ok(true));
        assert_eq!(pass(&[("tag:Name", &["a"])]), Ok(true));
        assert_eq!(pass(&[("tag:Name", &["b"])]), Ok(false), "the key and the value of one tag");
        assert_eq!(pass(&[("tag:name", &["*"])]), Ok(false));
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        assert_eq!(pass(&[("nmae", &["web"])]), Err("InvalidParameterValue".into()));
        assert_eq!(pass(&[("name", &[])]), Err("InvalidParameterValue".into()));
        assert_eq!(
            pass(&[("name", &["x".repeat(MAX_PATTERN + 1).as_str()])]),
            Err("InvalidParameterValue".into())
        );
        assert_eq!(pass(&[("name", &["web"; MAX_VALUES])]), Ok(true));
        assert_eq!(pass(&[("name", &["web"; MAX_VALUES + 1])]), Err("FilterLimitExceeded".into()));
        assert_eq!(pass(&[("name", &["web"] as &[_]); MAX_FILTERS + 1]), Err("FilterLimitExceeded".into()));
    }

    #[test]
    fn wildcards() {
        for (pattern, text, fits) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything at all", true),
            ("?", "", false),
            ("?", "é", true),
            ("a*", "a", true),
            ("a*c", "abcbc", true),
            ("a*c", "abcb", false),
            ("*b?*", "aabb", true),
            ("*b?*", "aaab", false),
            ("**a**", "bab", true),
            ("ab?", "ab", false),
            ("*amazon\\?\\\\", "the amazon?\\", true),
            ("\\*amazon\\?\\\\", "*amazon?\\", true),
            ("\\*amazon", "xamazon", false),
            ("end\\", "end\\", true),
        ] {
            assert_eq!(Pattern::read(pattern).matches(text), fits, "{pattern:?} {text:?}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_longer_than_its_length_says() {
        let pattern = Pattern::read(&"*a".repeat(MAX_PATTERN / 2));
        let started = std::time::Instant::now();
        assert!(!pattern.matches(&"a".repeat(256)) && !pattern.matches(&("a".repeat(255) + "b")));
        assert!(started.elapsed().as_secs() < 1);
    }
}
