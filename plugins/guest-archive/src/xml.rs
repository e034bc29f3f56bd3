//! The elements and texts of an XML document: nothing is fetched, no entity is expanded but the five that all know.

use std::borrow::Cow;

use guest_doc::{DocError, Result};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event as Raw};

/// Elements within each other.
const DEPTH_MAX: usize = 512;

/// Pulls events from a text.
#[derive(Debug)]
pub struct Xml<'t> {
    reader: Reader<&'t [u8]>,
    depth: usize,
    /// Whether the document may declare a type (XHTML does; Office files never).
    doctype: bool,
    /// An element without content gives its end next.
    end: Option<String>,
}

/// What stands next in the document.
#[derive(Debug)]
pub enum Event<'t> {
    Start(Element<'t>),
    /// Local name of the element that ends.
    End(String),
    Text(String),
}

/// An element's start.
#[derive(Debug)]
pub struct Element<'t>(BytesStart<'t>);

impl Element<'_> {
    /// Its name without prefix.
    pub fn name(&self) -> &str {
        local(self.0.name().0)
    }

    /// The value of an attribute by its name without prefix.
    pub fn attribute(&self, name: &str) -> Option<String> {
        let found =
            self.0.attributes().with_checks(false).flatten().find(|found| local(found.key.0) == name)?;
        Some(
            quick_xml::escape::unescape(&found.value)
                .map_or_else(|_| found.value.to_string(), Cow::into_owned),
        )
    }

    /// Likewise with its prefix: `r:id` is not `id`.
    pub fn prefixed(&self, name: &str) -> Option<String> {
        let found = self.0.attributes().with_checks(false).flatten().find(|found| found.key.0 == name)?;
        Some(found.value.to_string())
    }
}

impl<'t> Xml<'t> {
    /// Of an Office file: a document type is refused.
    pub fn new(text: &'t str) -> Self {
        let mut reader = Reader::from_str(text);
        reader.config_mut().check_end_names = false;
        Xml { reader, depth: 0, doctype: false, end: None }
    }

    /// Where a document type may stand; it is skipped.
    pub fn with_doctype(text: &'t str) -> Self {
        Xml { doctype: true, ..Xml::new(text) }
    }

    /// The next event; none at the end.
    #[expect(clippy::should_implement_trait, reason = "it may fail, and its failure must not be skipped")]
    pub fn next(&mut self) -> Result<Option<Event<'t>>> {
        if let Some(name) = self.end.take() {
            return Ok(Some(Event::End(name)));
        }
        loop {
            let event = self.reader.read_event();
            let at = self.reader.buffer_position();
            let event =
                event.map_err(|error| DocError::invalid(format!("XML is damaged at byte {at}: {error}")))?;
            match event {
                Raw::Start(start) => {
                    self.depth += 1;
                    if self.depth > DEPTH_MAX {
                        return Err(DocError::too_large(format!(
                            "XML is nested deeper than {DEPTH_MAX} elements"
                        )));
                    }
                    return Ok(Some(Event::Start(Element(start))));
                }
                Raw::Empty(start) => {
                    self.end = Some(local(start.name().0).to_owned());
                    return Ok(Some(Event::Start(Element(start))));
                }
                Raw::End(end) => {
                    self.depth = self.depth.saturating_sub(1);
                    return Ok(Some(Event::End(local(end.name().0).to_owned())));
                }
                Raw::Text(text) => return Ok(Some(Event::Text(text.xml10_content().into_owned()))),
                Raw::CData(text) => return Ok(Some(Event::Text(text.xml10_content().into_owned()))),
                Raw::GeneralRef(reference) => {
                    let resolved = match reference.resolve_char_ref() {
                        Ok(Some(c)) => Some(c.to_string()),
                        _ => quick_xml::escape::resolve_predefined_entity(&reference).map(str::to_owned),
                    };
                    // An entity of the document's own stays unexpanded: bombs and files of the host hide there.
                    if let Some(text) = resolved {
                        return Ok(Some(Event::Text(text)));
                    }
                }
                Raw::DocType(_) if !self.doctype => {
                    return Err(DocError::invalid(
                        "XML declares a document type, which Office files never do: it may hide a bomb or another file",
                    ));
                }
                Raw::DocType(_) | Raw::Comment(_) | Raw::Decl(_) | Raw::PI(_) => {}
                Raw::Eof => return Ok(None),
            }
        }
    }
}

/// XML as text: UTF-8 unless its first bytes or its declaration say otherwise.
pub fn decode(bytes: &[u8]) -> String {
    if let Some((encoding, width)) = encoding_rs::Encoding::for_bom(bytes) {
        return encoding.decode_without_bom_handling(bytes.get(width..).unwrap_or_default()).0.into_owned();
    }
    let head = String::from_utf8_lossy(bytes.get(..200).unwrap_or(bytes));
    let label = head.split_once("encoding=").and_then(|(_, rest)| {
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        rest.get(1..)?.split_once(quote).map(|(label, _)| label.to_owned())
    });
    let encoding = label.and_then(|label| encoding_rs::Encoding::for_label(label.as_bytes()));
    encoding.unwrap_or(encoding_rs::UTF_8).decode_without_bom_handling(bytes).0.into_owned()
}

fn local(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(mut xml: Xml<'_>) -> Result<String> {
        let mut flat = String::new();
        while let Some(event) = xml.next()? {
            match event {
                Event::Start(element) => {
                    flat.push_str(&format!("<{} {:?}>", element.name(), element.attribute("val")));
                }
                Event::End(name) => flat.push_str(&format!("</{name}>")),
                Event::Text(text) => flat.push_str(&text),
            }
        }
        Ok(flat)
    }

    #[test]
    fn names_lose_their_prefix_and_references_resolve() {
        let text = "<w:p w:val='a&amp;b'>甲&lt;&#x4e59;<w:tab/><![CDATA[<丙>]]></w:p>";
        let expected = "<p Some(\"a&b\")>甲<乙<tab None></tab><丙></p>";
        assert_eq!(flat(Xml::new(text)).unwrap(), expected);
    }

    #[test]
    fn entities_are_never_expanded() {
        let bomb =
            "<!DOCTYPE a [<!ENTITY x \"xxxx\"><!ENTITY f SYSTEM \"file:///etc/passwd\">]><a>&x;&f;!</a>";
        assert!(matches!(flat(Xml::new(bomb)), Err(DocError::Invalid(_))));
        assert_eq!(flat(Xml::with_doctype(bomb)).unwrap(), "<a None>!</a>");
    }

    #[test]
    fn depth_is_bounded() {
        let deep = "<a>".repeat(100_000);
        assert!(matches!(flat(Xml::new(&deep)), Err(DocError::TooLarge(_))));
    }

    #[test]
    fn encodings_are_read() {
        let utf16: Vec<u8> = "\u{feff}<a>甲</a>".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(decode(&utf16), "<a>甲</a>");
        let (gbk, _, _) = encoding_rs::GBK.encode("<?xml version='1.0' encoding='gb2312'?><a>知识</a>");
        assert!(decode(&gbk).ends_with("<a>知识</a>"));
    }
}
