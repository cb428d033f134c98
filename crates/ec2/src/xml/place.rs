//! An element as a place to read from, and a text as a sink to write elements to.

use serde::Serialize;
use serde::ser::{SerializeSeq, SerializeStruct};

use super::document::Element;
use crate::format::Unsayable;
use crate::format::read::{Place, Problem};
use crate::format::write::{Sink, Writer};

impl<'de> Place<'de> for Option<&'de Element> {
    fn is_there(self) -> bool {
        self.is_some()
    }

    fn text(self) -> Result<&'de str, Problem> {
        let element = self.ok_or_else(Problem::missing)?;
        match element.children.first() {
            Some(child) => Err(Problem::unknown(child.name.clone())),
            None => Ok(&element.text),
        }
    }

    fn members(self) -> Result<Vec<(String, Self)>, Problem> {
        let children = self.into_iter().flat_map(|element| &element.children);
        Ok(children.map(|child| (child.name.clone(), Some(child))).collect())
    }

    fn fields(self, fields: &'static [&'static str]) -> Result<Vec<(String, Self)>, Problem> {
        let child = |name| self.and_then(|element| element.children.iter().find(|child| child.name == name));
        Ok(fields.iter().map(|field| ((*field).to_owned(), child(*field))).collect())
    }
}

/// `text` so that XML reads it back: markup as entities, tabs and line ends as numbers, so that no parser folds
/// them. Other control characters cannot stand in XML 1.0 in any form and become U+FFFD.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' => escaped.push_str("&#9;"),
            '\n' => escaped.push_str("&#10;"),
            '\r' => escaped.push_str("&#13;"),
            '\0'..'\u{20}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Takes one value as the element `name`.
pub(super) struct Elements<'a> {
    pub(super) out: &'a mut String,
    pub(super) name: &'a str,
}

impl<'a> Sink for Elements<'a> {
    type List = Inside<'a>;
    type Structure = Inside<'a>;

    fn text(self, text: &str) -> Result<(), Unsayable> {
        let Self { out, name } = self;
        for piece in ["<", name, ">", &escape(text), "</", name, ">"] {
            out.push_str(piece);
        }
        Ok(())
    }

    fn list(self) -> Inside<'a> {
        self.structure()
    }

    fn structure(self) -> Inside<'a> {
        let Self { out, name } = self;
        out.push('<');
        out.push_str(name);
        out.push('>');
        Inside { start: out.len(), out, name: Some(name) }
    }
}

/// Takes one structure as the elements of its fields, with none around them.
pub(super) struct Content<'a>(pub(super) &'a mut String);

impl<'a> Sink for Content<'a> {
    type List = Inside<'a>;
    type Structure = Inside<'a>;

    fn text(self, text: &str) -> Result<(), Unsayable> {
        self.0.push_str(&escape(text));
        Ok(())
    }

    fn list(self) -> Inside<'a> {
        self.structure()
    }

    fn structure(self) -> Inside<'a> {
        Inside { start: self.0.len(), out: self.0, name: None }
    }
}

/// Inside the element `name`, if there is one, whose start tag ends at `start`.
pub(super) struct Inside<'a> {
    out: &'a mut String,
    name: Option<&'a str>,
    start: usize,
}

impl Inside<'_> {
    fn write<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Unsayable> {
        value.serialize(Writer(Elements { out: self.out, name }))
    }

    fn close(self) {
        let Some(name) = self.name else { return };
        if self.out.len() == self.start {
            self.out.truncate(self.start - 1);
            self.out.push_str("/>");
        } else {
            self.out.push_str("</");
            self.out.push_str(name);
            self.out.push('>');
        }
    }
}

impl SerializeSeq for Inside<'_> {
    type Ok = ();
    type Error = Unsayable;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unsayable> {
        self.write("item", value)
    }

    fn end(self) -> Result<(), Unsayable> {
        self.close();
        Ok(())
    }
}

impl SerializeStruct for Inside<'_> {
    type Ok = ();
    type Error = Unsayable;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        field: &'static str,
        value: &T,
    ) -> Result<(), Unsayable> {
        self.write(field, value)
    }

    fn end(self) -> Result<(), Unsayable> {
        self.close();
        Ok(())
    }
}
