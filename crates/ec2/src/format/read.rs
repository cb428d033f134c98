//! Reading: any [`Place`] as a serde `Deserializer`.
//!
//! A field that the input does not mention is read too, from a place that is not there: an option becomes `None`,
//! a list becomes empty, and anything else is [missing](What::Missing) with its full path. So the shapes need no
//! defaults, and a required parameter is a field that is neither an option nor a list.

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use serde::forward_to_deserialize_any;

/// A place in the input where a value may stand, or a place that is not there.
pub(crate) trait Place<'de>: Copy {
    /// Whether the input mentions this place.
    fn is_there(self) -> bool;

    /// The text that stands here, and nothing else does.
    fn text(self) -> Result<&'de str, Problem>;

    /// The members of the list that stands here, with the part of the path that names each.
    fn members(self) -> Result<Vec<(String, Self)>, Problem>;

    /// The places of `fields`, in their order, each with the part of the path that names it.
    fn fields(self, fields: &'static [&'static str]) -> Result<Vec<(String, Self)>, Problem>;
}

/// What is wrong, and where.
#[derive(Debug)]
pub(crate) struct Problem {
    /// From the outermost name inwards, joined by dots.
    pub(crate) path: String,
    pub(crate) what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    /// The input has something here that no field is for.
    Unknown,
    /// The input has nothing here, and should.
    Missing,
    /// What stands here is not what it should be.
    Value { text: Option<String>, expected: String },
}

impl Problem {
    pub(crate) fn unknown(path: String) -> Self {
        Self { path, what: What::Unknown }
    }

    pub(crate) fn missing() -> Self {
        Self { path: String::new(), what: What::Missing }
    }

    /// The same problem seen from one level up, where the place it was met at is called `part`.
    pub(crate) fn within<'de>(mut self, part: &str, place: impl Place<'de>) -> Self {
        if let What::Value { text: text @ None, .. } = &mut self.what {
            *text = Some(place.text().unwrap_or_default().chars().take(100).collect());
        }
        self.path = join(part, &self.path);
        self
    }
}

/// `Filter` and `1.Name` make `Filter.1.Name`.
pub(crate) fn join(head: &str, tail: &str) -> String {
    if head.is_empty() || tail.is_empty() { format!("{head}{tail}") } else { format!("{head}.{tail}") }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{self:?}")
    }
}

impl std::error::Error for Problem {}

impl de::Error for Problem {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        let mut expected = message.to_string();
        if !expected.ends_with('.') {
            expected.push('.');
        }
        Self { path: String::new(), what: What::Value { text: None, expected } }
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        match length {
            0 => Self::missing(),
            _ => Self::custom(format_args!("Expected {expected}")),
        }
    }

    fn invalid_type(_found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("Expected {expected}"))
    }

    fn invalid_value(_found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("Expected {expected}"))
    }

    fn unknown_variant(_variant: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format_args!("Expected one of: {}", expected.join(", ")))
    }
}

/// The `Deserializer` over a place.
pub(crate) struct Reader<P>(pub(crate) P);

impl<'de, P: Place<'de>> Reader<P> {
    fn parsed<T: std::str::FromStr>(&self, expected: &str) -> Result<T, Problem> {
        self.0.text()?.trim().parse().map_err(|_| de::Error::custom(expected))
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $expected:literal),* $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
            visitor.$visit(self.parsed($expected)?)
        }
    )*};
}

impl<'de, P: Place<'de>> Deserializer<'de> for Reader<P> {
    type Error = Problem;

    numbers! {
        deserialize_i8 visit_i8 "Expected a whole number from -128 to 127",
        deserialize_i16 visit_i16 "Expected a whole number from -32768 to 32767",
        deserialize_i32 visit_i32 "Expected a whole number of 32 bits",
        deserialize_i64 visit_i64 "Expected a whole number of 64 bits",
        deserialize_u8 visit_u8 "Expected a whole number from 0 to 255",
        deserialize_u16 visit_u16 "Expected a whole number from 0 to 65535",
        deserialize_u32 visit_u32 "Expected a whole number, not negative, of 32 bits",
        deserialize_u64 visit_u64 "Expected a whole number, not negative, of 64 bits",
        deserialize_f32 visit_f32 "Expected a number",
        deserialize_f64 visit_f64 "Expected a number",
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let text = self.0.text()?.trim();
        if text.eq_ignore_ascii_case("true") {
            visitor.visit_bool(true)
        } else if text.eq_ignore_ascii_case("false") {
            visitor.visit_bool(false)
        } else {
            Err(de::Error::custom("Expected true or false"))
        }
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_borrowed_str(self.0.text()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        if self.0.is_there() { visitor.visit_some(self) } else { visitor.visit_none() }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_seq(Members(self.0.members()?.into_iter()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let places = self.0.fields(fields)?;
        visitor.visit_map(Fields { fields: fields.iter().copied().zip(places), current: None })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let name: StrDeserializer<'_, Problem> = self.0.text()?.into_deserializer();
        visitor.visit_enum(name)
    }

    forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct tuple tuple_struct map identifier ignored_any
    }
}

/// Walks the members of a list.
struct Members<P>(std::vec::IntoIter<(String, P)>);

impl<'de, P: Place<'de>> SeqAccess<'de> for Members<P> {
    type Error = Problem;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Problem> {
        let Some((part, place)) = self.0.next() else { return Ok(None) };
        seed.deserialize(Reader(place)).map(Some).map_err(|problem| problem.within(&part, place))
    }
}

/// Walks the fields of a struct, those that are mentioned and those that are not.
struct Fields<I, P> {
    fields: I,
    current: Option<(String, P)>,
}

impl<'de, P: Place<'de>, I> MapAccess<'de> for Fields<I, P>
where
    I: Iterator<Item = (&'static str, (String, P))>,
{
    type Error = Problem;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Problem> {
        let Some((field, place)) = self.fields.next() else { return Ok(None) };
        self.current = Some(place);
        let name: StrDeserializer<'_, Problem> = field.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Problem> {
        let current = self.current.take();
        let (part, place) =
            current.ok_or_else(|| <Problem as de::Error>::custom("A value before its key"))?;
        seed.deserialize(Reader(place)).map_err(|problem| problem.within(&part, place))
    }
}
