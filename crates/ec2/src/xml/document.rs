//! An XML document as a bounded tree of elements, before anybody knows what they mean.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};
use serde::de::DeserializeOwned;

use super::XmlError;
use crate::format::read::Reader as PlaceReader;

/// The largest document read, in bytes: some three thousand instances described in full.
pub const MAX_BYTES: usize = 16 << 20;
/// The most elements in a document.
pub const MAX_ELEMENTS: usize = 500_000;
/// The deepest nesting of elements.
pub const MAX_DEPTH: usize = 32;

/// A document that was read and not yet interpreted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    root: Element,
}

/// One element. Text between child elements is kept, and means nothing where there are any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) children: Vec<Element>,
}

impl Document {
    /// Reads a document.
    ///
    /// # Errors
    /// [`XmlError`] when it is not well-formed, has a document type, or passes a bound.
    pub fn parse(text: &str) -> Result<Self, XmlError> {
        if text.len() > MAX_BYTES {
            return Err(XmlError::TooLarge);
        }
        let mut reader = Reader::from_str(text);
        let mut builder = Builder::default();
        loop {
            match reader.read_event().map_err(malformed)? {
                Event::Start(tag) => builder.open(&tag)?,
                Event::Empty(tag) => {
                    builder.open(&tag)?;
                    builder.close()?;
                }
                Event::End(_) => builder.close()?,
                Event::Text(text) => builder.text(&text.xml10_content())?,
                Event::CData(text) => builder.text(&text.xml10_content())?,
                Event::GeneralRef(reference) => builder.text(&resolve(&reference)?)?,
                Event::DocType(_) => return Err(malformed("a document type")),
                Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
                Event::Eof => return builder.finish(),
            }
        }
    }

    /// The root element's name, without a prefix.
    #[must_use]
    pub fn root_name(&self) -> &str {
        &self.root.name
    }

    /// Interprets the root's content.
    ///
    /// # Errors
    /// [`XmlError`] when a required element is missing or an element's content has the wrong type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, XmlError> {
        Ok(T::deserialize(PlaceReader(Some(&self.root)))?)
    }

    /// Interprets the content of the root's child `name`, where a service wraps its results.
    ///
    /// # Errors
    /// As [`read`](Self::read); also when there is no such child.
    pub fn read_child<T: DeserializeOwned>(&self, name: &str) -> Result<T, XmlError> {
        let child = self.root.children.iter().find(|child| child.name == name);
        let child = child.ok_or_else(|| XmlError::Missing(name.to_owned()))?;
        Ok(T::deserialize(PlaceReader(Some(child))).map_err(|problem| problem.within(name, Some(child)))?)
    }
}

fn malformed(problem: impl std::fmt::Display) -> XmlError {
    XmlError::Malformed(problem.to_string())
}

/// What a reference stands for: a character by number, or one of XML's five names.
fn resolve(reference: &BytesRef<'_>) -> Result<Cow<'static, str>, XmlError> {
    if let Some(letter) = reference.resolve_char_ref().map_err(malformed)? {
        return Ok(letter.to_string().into());
    }
    let text = quick_xml::escape::resolve_xml_entity(reference);
    text.map(Cow::Borrowed).ok_or_else(|| malformed("an unknown entity"))
}

/// Puts elements together as their tags come by.
#[derive(Default)]
struct Builder {
    /// Elements that are open, the root first.
    open: Vec<Element>,
    root: Option<Element>,
    count: usize,
}

impl Builder {
    fn open(&mut self, tag: &BytesStart<'_>) -> Result<(), XmlError> {
        self.count += 1;
        if self.count > MAX_ELEMENTS || self.open.len() >= MAX_DEPTH {
            return Err(XmlError::TooLarge);
        }
        if self.root.is_some() {
            return Err(malformed("an element after the root"));
        }
        let name = tag.local_name();
        self.open.push(Element { name: name.as_ref().to_owned(), ..Element::default() });
        Ok(())
    }

    fn close(&mut self) -> Result<(), XmlError> {
        let element = self.open.pop().ok_or_else(|| malformed("an end without a start"))?;
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.root = Some(element),
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), XmlError> {
        match self.open.last_mut() {
            Some(element) => element.text.push_str(text),
            None if text.chars().all(|letter| letter.is_ascii_whitespace() || letter == '\u{feff}') => {}
            None => return Err(malformed("text outside the root")),
        }
        Ok(())
    }

    fn finish(self) -> Result<Document, XmlError> {
        match self.root {
            Some(root) if self.open.is_empty() => Ok(Document { root }),
            _ => Err(malformed("it ends too early")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_and_cdata_become_text() {
        let document = Document::parse("<a>&lt;&#65;&#x42;<![CDATA[<c>]]>&amp;</a>").unwrap();
        assert_eq!(document.root.text, "<AB<c>&");
    }

    #[test]
    fn hostile_documents_are_refused() {
        for text in [
            "",
            "<a>",
            "<a></b>",
            "</a>",
            "<a/><b/>",
            "<a/>text",
            "text<a/>",
            "<a>&unknown;</a>",
            "<a>&#0;</a>",
            "<a>&#xd800;</a>",
            "<!DOCTYPE a><a/>",
            "<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>",
        ] {
            assert!(matches!(Document::parse(text), Err(XmlError::Malformed(_))), "{text}");
        }
    }

    #[test]
    fn bounds_hold() {
        let nested = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        assert!(Document::parse(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(Document::parse(&nested(MAX_DEPTH + 1)), Err(XmlError::TooLarge));
        assert_eq!(
            Document::parse(&format!("<a>{}</a>", "<b/>".repeat(MAX_ELEMENTS))),
            Err(XmlError::TooLarge)
        );
        assert_eq!(Document::parse(&" ".repeat(MAX_BYTES + 1)), Err(XmlError::TooLarge));
    }
}
