//! What a shape consists of, found by reading one out of nothing.
//!
//! serde tells a `Deserializer` which fields of which types a shape has. [`parameters`] writes that down, and the
//! reference page comes from it; [`fill`] makes a value with every field filled, by [`Choices`] that may be fixed
//! or random, and the tests over the whole table of actions come from that. So neither can forget a field.

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use crate::format::read::{Problem, join};
use crate::query::wire_name;

/// How the values of a specimen are chosen.
pub trait Choices {
    /// A number from 0 up to and including `most`: the value of a number, or which of several variants.
    fn number(&mut self, most: u64) -> u64;
    /// A text for the field at `path`.
    fn text(&mut self, path: &str) -> String;
    /// Whether an option is there.
    fn present(&mut self) -> bool;
    /// How many members a list has; a list that must not be empty gets one all the same.
    fn members(&mut self) -> usize;
}

/// Every option is there, every list has one member, every text is its field's name.
#[derive(Debug, Clone, Copy, Default)]
pub struct Full;

impl Choices for Full {
    fn number(&mut self, most: u64) -> u64 {
        most.min(1)
    }

    fn text(&mut self, path: &str) -> String {
        path.to_owned()
    }

    fn present(&mut self) -> bool {
        true
    }

    fn members(&mut self) -> usize {
        1
    }
}

/// One parameter of a request, or one element of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name on the wire, with `N` for an index: `Filter.N.Name`.
    pub name: String,
    /// What may stand there.
    pub kind: Kind,
    /// Whether whatever it stands in must have it; for a member of a list, whether there must be one.
    pub required: bool,
}

/// What may stand at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer,
    /// A number with a fraction.
    Number,
    /// Bytes as base64.
    Bytes,
    /// A moment in UTC.
    Time,
    /// One of these words.
    OneOf(&'static [&'static str]),
}

/// Every parameter that a request type has a field for, in the order of its fields.
#[must_use]
pub fn parameters<T: DeserializeOwned>() -> Vec<Parameter> {
    let mut found = Vec::new();
    let maker =
        Maker { choices: &mut Full, found: &mut found, path: String::new(), required: true, newtype: "" };
    // The value is of no interest, and a type that cannot be made has shown its parameters up to there.
    drop(T::deserialize(maker));
    found
}

/// A value of a shape, with its fields as `choices` say. `None` if the shape holds what the formats of this crate
/// have no form for.
pub fn fill<T: DeserializeOwned>(choices: &mut impl Choices) -> Option<T> {
    let mut found = Vec::new();
    let maker = Maker { choices, found: &mut found, path: String::new(), required: true, newtype: "" };
    T::deserialize(maker).ok()
}

/// Makes the value at one place, and notes what it is.
struct Maker<'a> {
    choices: &'a mut dyn Choices,
    found: &'a mut Vec<Parameter>,
    path: String,
    required: bool,
    /// The newtype around what is to be made, which may say what it means.
    newtype: &'static str,
}

impl Maker<'_> {
    fn note(&mut self, kind: Kind) {
        self.found.push(Parameter { name: self.path.clone(), kind, required: self.required });
    }

    fn part(&mut self, part: &str, required: bool) -> Maker<'_> {
        let path = join(&self.path, part);
        Maker { choices: self.choices, found: self.found, path, required, newtype: "" }
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty),* $(,)?) => {$(
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Problem> {
            self.note(Kind::Integer);
            let most = u64::try_from(<$type>::MAX).unwrap_or(u64::MAX);
            visitor.$visit(<$type>::try_from(self.choices.number(most)).unwrap_or_default())
        }
    )*};
}

impl<'de> Deserializer<'de> for Maker<'_> {
    type Error = Problem;

    integers! {
        deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32, deserialize_i64 visit_i64 i64,
        deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64,
    }

    fn deserialize_bool<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Problem> {
        self.note(Kind::Boolean);
        visitor.visit_bool(self.choices.number(1) == 1)
    }

    fn deserialize_f64<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Problem> {
        self.note(Kind::Number);
        let whole = u32::try_from(self.choices.number(1000)).unwrap_or_default();
        visitor.visit_f64(f64::from(whole) + 0.5)
    }

    fn deserialize_string<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Problem> {
        let kind = match self.newtype {
            "Blob" => Kind::Bytes,
            "Timestamp" => Kind::Time,
            _ => Kind::Text,
        };
        self.note(kind);
        let text = match kind {
            Kind::Bytes => "Ynl0ZXM=".to_owned(),
            Kind::Time => crate::Timestamp::from_unix(self.choices.number(u64::MAX)).to_string(),
            _ => self.choices.text(&self.path),
        };
        visitor.visit_string(text)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        self.deserialize_string(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        self.deserialize_string(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Problem> {
        self.required = false;
        if self.choices.present() { visitor.visit_some(self) } else { visitor.visit_none() }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        self.newtype = name;
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Problem> {
        let needed = self.newtype == "NonEmpty";
        let count = self.choices.members().max(usize::from(needed));
        visitor.visit_seq(Members { maker: &mut self, count, needed })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        visitor.visit_map(Fields { maker: &mut self, fields: fields.iter(), current: "" })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        self.note(Kind::OneOf(variants));
        let last = u64::try_from(variants.len()).unwrap_or_default().saturating_sub(1);
        let chosen = usize::try_from(self.choices.number(last)).unwrap_or_default();
        let name = variants.get(chosen).copied().unwrap_or_default();
        let name: StrDeserializer<'_, Problem> = name.into_deserializer();
        visitor.visit_enum(name)
    }

    forward_to_deserialize_any! {
        char f32 bytes byte_buf unit unit_struct tuple tuple_struct map identifier ignored_any
    }
}

struct Members<'a, 'm> {
    maker: &'a mut Maker<'m>,
    count: usize,
    needed: bool,
}

impl<'de> SeqAccess<'de> for Members<'_, '_> {
    type Error = Problem;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Problem> {
        if self.count == 0 {
            return Ok(None);
        }
        self.count -= 1;
        seed.deserialize(self.maker.part("N", self.needed)).map(Some)
    }
}

struct Fields<'a, 'm> {
    maker: &'a mut Maker<'m>,
    fields: std::slice::Iter<'static, &'static str>,
    current: &'static str,
}

impl<'de> MapAccess<'de> for Fields<'_, '_> {
    type Error = Problem;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Problem> {
        let Some(field) = self.fields.next() else { return Ok(None) };
        self.current = field;
        let name: StrDeserializer<'_, Problem> = field.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Problem> {
        seed.deserialize(self.maker.part(&wire_name(self.current), true))
    }
}
