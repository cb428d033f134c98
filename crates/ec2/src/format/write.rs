//! Writing: any [`Sink`] as a serde `Serializer`.

use serde::Serialize;
use serde::ser::{self, Impossible, SerializeSeq, SerializeStruct, Serializer};

/// Where one value goes, under a name that the sink already has.
pub(crate) trait Sink: Sized {
    /// Takes the members of a list, then the end.
    type List: SerializeSeq<Ok = (), Error = Unsayable>;
    /// Takes the fields of a structure, then the end.
    type Structure: SerializeStruct<Ok = (), Error = Unsayable>;

    fn text(self, text: &str) -> Result<(), Unsayable>;
    fn list(self) -> Self::List;
    fn structure(self) -> Self::Structure;
}

/// A Rust type that EC2's formats cannot carry: a programming error, found by the first test that writes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("EC2's formats have no form for {0}")]
pub struct Unsayable(String);

impl ser::Error for Unsayable {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

fn unsayable<T>(what: &str) -> Result<T, Unsayable> {
    Err(Unsayable(what.to_owned()))
}

/// The `Serializer` into a sink.
pub(crate) struct Writer<S>(pub(crate) S);

macro_rules! texts {
    ($($method:ident: $type:ty),* $(,)?) => {$(
        fn $method(self, value: $type) -> Result<(), Unsayable> {
            self.0.text(&value.to_string())
        }
    )*};
}

impl<S: Sink> Serializer for Writer<S> {
    type Ok = ();
    type Error = Unsayable;
    type SerializeSeq = S::List;
    type SerializeStruct = S::Structure;
    type SerializeTuple = Impossible<(), Unsayable>;
    type SerializeTupleStruct = Impossible<(), Unsayable>;
    type SerializeTupleVariant = Impossible<(), Unsayable>;
    type SerializeMap = Impossible<(), Unsayable>;
    type SerializeStructVariant = Impossible<(), Unsayable>;

    texts! {
        serialize_bool: bool, serialize_char: char,
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_f32: f32, serialize_f64: f64,
    }

    fn serialize_str(self, value: &str) -> Result<(), Unsayable> {
        self.0.text(value)
    }

    fn serialize_none(self) -> Result<(), Unsayable> {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unsayable> {
        value.serialize(self)
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<(), Unsayable> {
        self.0.text(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), Unsayable> {
        value.serialize(self)
    }

    fn serialize_seq(self, _length: Option<usize>) -> Result<S::List, Unsayable> {
        Ok(self.0.list())
    }

    fn serialize_struct(self, _name: &'static str, _length: usize) -> Result<S::Structure, Unsayable> {
        Ok(self.0.structure())
    }

    fn serialize_bytes(self, _value: &[u8]) -> Result<(), Unsayable> {
        unsayable("bare bytes; use Blob")
    }

    fn serialize_unit(self) -> Result<(), Unsayable> {
        unsayable("a unit")
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Unsayable> {
        unsayable("a unit struct")
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _value: &T,
    ) -> Result<(), Unsayable> {
        unsayable("an enum with data")
    }

    fn serialize_tuple(self, _length: usize) -> Result<Self::SerializeTuple, Unsayable> {
        unsayable("a tuple")
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        _length: usize,
    ) -> Result<Self::SerializeTupleStruct, Unsayable> {
        unsayable("a tuple struct")
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Self::SerializeTupleVariant, Unsayable> {
        unsayable("an enum with data")
    }

    fn serialize_map(self, _length: Option<usize>) -> Result<Self::SerializeMap, Unsayable> {
        unsayable("a map")
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Self::SerializeStructVariant, Unsayable> {
        unsayable("an enum with data")
    }
}
