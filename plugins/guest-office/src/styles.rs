//! Which styles of a docx are headings, and of which level? By outline level, by name, by the style they are based on.

use std::collections::HashMap;

use guest_archive::{Event, Xml};
use guest_doc::{Kind, Result};

/// Styles that one may be based on in a row.
const BASED_ON_MAX: usize = 16;

#[derive(Debug, Default)]
struct Style {
    name: String,
    based_on: Option<String>,
    outline: Option<u8>,
    is_list: bool,
}

/// Paragraph styles by id.
#[derive(Debug, Default)]
pub(crate) struct Styles(HashMap<String, Style>);

impl Styles {
    /// Reads `word/styles.xml`.
    pub(crate) fn read(text: &str) -> Result<Self> {
        let mut styles = HashMap::new();
        let mut xml = Xml::new(text);
        let mut open: Option<(String, Style)> = None;
        while let Some(event) = xml.next()? {
            match event {
                Event::Start(element) => {
                    let value = || element.attribute("val").unwrap_or_default();
                    match (element.name(), open.as_mut()) {
                        ("style", _) => {
                            open = element.attribute("styleId").map(|id| (id, Style::default()));
                        }
                        ("name", Some((_, style))) => style.name = value().to_lowercase(),
                        ("basedOn", Some((_, style))) => style.based_on = Some(value()),
                        ("outlineLvl", Some((_, style))) => style.outline = value().parse().ok(),
                        ("numId", Some((_, style))) => style.is_list = value() != "0",
                        _ => {}
                    }
                }
                Event::End(name) if name == "style" => styles.extend(open.take()),
                Event::End(_) | Event::Text(_) => {}
            }
        }
        Ok(Styles(styles))
    }

    /// What a paragraph of this style is.
    pub(crate) fn kind(&self, id: &str) -> Kind {
        let mut next = Some(id.to_owned());
        for _ in 0..BASED_ON_MAX {
            let Some(id) = next.take() else { break };
            let Some(style) = self.0.get(&id) else {
                // Without the styles part, Word's own ids say it.
                return by_name(&id.to_lowercase()).unwrap_or(Kind::Paragraph);
            };
            if let Some(kind) = by_name(&style.name) {
                return kind;
            }
            if let Some(level) = style.outline.filter(|level| *level < 9) {
                return Kind::Heading(level + 1);
            }
            if style.is_list {
                return Kind::ListItem;
            }
            next = style.based_on.clone();
        }
        Kind::Paragraph
    }
}

/// Names of the built-in styles; they are English whatever the language of the program, ids are not.
fn by_name(name: &str) -> Option<Kind> {
    let heading = name.strip_prefix("heading").or_else(|| name.strip_prefix("标题"));
    if let Some(level) = heading.and_then(|rest| rest.trim().parse::<u8>().ok()) {
        return Some(Kind::Heading(level.clamp(1, 9)));
    }
    match name {
        "title" => Some(Kind::Title),
        "subtitle" => Some(Kind::Heading(2)),
        "caption" => Some(Kind::Caption),
        "quote" | "intense quote" => Some(Kind::Quote),
        "html preformatted" | "source code" | "macro" | "plain text" => Some(Kind::Code),
        name if name.starts_with("list bullet") || name.starts_with("list number") => Some(Kind::ListItem),
        name if name.starts_with("footnote text") => Some(Kind::Footnote),
        _ => None,
    }
}
