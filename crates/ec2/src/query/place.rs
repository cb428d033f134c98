//! The parameter tree as a place to read from, and a list of pairs as a sink to write to.

use serde::Serialize;
use serde::ser::{SerializeSeq, SerializeStruct};

use super::parameters::{Node, Part};
use crate::format::Unsayable;
use crate::format::read::{Place, Problem, join};
use crate::format::write::{Sink, Writer};

/// The name of a field on the wire begins with a capital, whatever the struct writes.
pub(crate) fn wire_name(field: &str) -> String {
    let mut letters = field.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

fn unknown(part: &Part, node: &Node) -> Problem {
    let rest = node.first().map(|(rest, _)| rest).unwrap_or_default();
    Problem::unknown(join(&part.to_string(), &rest))
}

/// A value where only names below may stand is a parameter nobody knows: `Filter=x`.
fn bare(node: &Node) -> Result<(), Problem> {
    if node.value.is_some() { Err(Problem::unknown(String::new())) } else { Ok(()) }
}

impl<'de> Place<'de> for Option<&'de Node> {
    fn is_there(self) -> bool {
        self.is_some()
    }

    fn text(self) -> Result<&'de str, Problem> {
        let node = self.ok_or_else(Problem::missing)?;
        match node.children.iter().next() {
            Some((part, child)) => Err(unknown(part, child)),
            None => node.value.as_deref().ok_or_else(Problem::missing),
        }
    }

    fn members(self) -> Result<Vec<(String, Self)>, Problem> {
        let Some(node) = self else { return Ok(Vec::new()) };
        bare(node)?;
        let member = |(part, child)| match part {
            &Part::Index(index) => Ok((index.to_string(), Some(child))),
            Part::Name(_) => Err(unknown(part, child)),
        };
        node.children.iter().map(member).collect()
    }

    fn fields(self, fields: &'static [&'static str]) -> Result<Vec<(String, Self)>, Problem> {
        let mut places: Vec<_> = fields.iter().map(|field| (wire_name(field), None)).collect();
        let Some(node) = self else { return Ok(places) };
        bare(node)?;
        for (part, child) in &node.children {
            let field = match part {
                Part::Name(name) => places.iter_mut().find(|(field, _)| field == name),
                Part::Index(_) => None,
            };
            field.ok_or_else(|| unknown(part, child))?.1 = Some(child);
        }
        Ok(places)
    }
}

/// Takes one value under a name.
pub(super) struct Pairs<'a> {
    pub(super) pairs: &'a mut Vec<(String, String)>,
    pub(super) name: String,
}

impl Pairs<'_> {
    fn write<T: Serialize + ?Sized>(&mut self, part: &str, value: &T) -> Result<(), Unsayable> {
        let name = join(&self.name, part);
        value.serialize(Writer(Pairs { pairs: self.pairs, name }))
    }
}

impl<'a> Sink for Pairs<'a> {
    type List = Members<'a>;
    type Structure = Fields<'a>;

    fn text(self, text: &str) -> Result<(), Unsayable> {
        self.pairs.push((self.name, text.to_owned()));
        Ok(())
    }

    fn list(self) -> Members<'a> {
        Members { list: self, index: 0 }
    }

    fn structure(self) -> Fields<'a> {
        Fields(self)
    }
}

/// A list's members are named by their index, from 1.
pub(super) struct Members<'a> {
    list: Pairs<'a>,
    index: u32,
}

impl SerializeSeq for Members<'_> {
    type Ok = ();
    type Error = Unsayable;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unsayable> {
        self.index += 1;
        self.list.write(&self.index.to_string(), value)
    }

    fn end(self) -> Result<(), Unsayable> {
        Ok(())
    }
}

/// A structure's members are named by their fields.
pub(super) struct Fields<'a>(Pairs<'a>);

impl SerializeStruct for Fields<'_> {
    type Ok = ();
    type Error = Unsayable;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        field: &'static str,
        value: &T,
    ) -> Result<(), Unsayable> {
        self.0.write(&wire_name(field), value)
    }

    fn end(self) -> Result<(), Unsayable> {
        Ok(())
    }
}
