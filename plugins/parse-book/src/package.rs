//! What is in a book, and in which order is it read? As its package document (OPF) says.

use std::collections::HashMap;

use guest_archive::{Archive, Event, Xml, resolve};
use guest_doc::{DocError, Result, Summary};

/// Chapters of one book.
const CHAPTERS_MAX: usize = 20_000;

/// The parts to read, in their order, and what is known of the book.
#[derive(Debug, Default)]
pub(crate) struct Package {
    pub(crate) chapters: Vec<String>,
    pub(crate) summary: Summary,
}

/// A file of the manifest.
#[derive(Debug)]
struct Item {
    part: String,
    media_type: String,
    /// Whether it is the table of contents.
    contents: bool,
}

impl Package {
    pub(crate) fn read(archive: &mut Archive) -> Result<Self> {
        let Some(container) = archive.xml("META-INF/container.xml")? else {
            return Err(DocError::unsupported("the archive is no EPUB: it has no META-INF/container.xml"));
        };
        let mut xml = Xml::with_doctype(&container);
        let mut root = None;
        while let Some(event) = xml.next()? {
            if let Event::Start(element) = event
                && element.name() == "rootfile"
            {
                root = root.or(element.attribute("full-path"));
            }
        }
        let root = root.ok_or_else(|| DocError::invalid("the EPUB names no package document"))?;
        let text = archive.xml(&root)?;
        let text =
            text.ok_or_else(|| DocError::invalid(format!("the EPUB has no '{root}', which it names")))?;
        let package = Package::of(&text, root.rsplit_once('/').map_or("", |(folder, _)| folder))?;
        refuse_locked(archive, &package.chapters)?;
        Ok(package)
    }

    fn of(text: &str, folder: &str) -> Result<Self> {
        let mut package = Package::default();
        let mut items: HashMap<String, Item> = HashMap::new();
        let (mut order, mut contents) = (Vec::new(), Vec::new());
        let mut value = String::new();
        let mut xml = Xml::with_doctype(text);
        while let Some(event) = xml.next()? {
            match event {
                Event::Start(element) => {
                    value.clear();
                    let target = |name: &str| element.attribute(name).map(|href| part(folder, &href));
                    match element.name() {
                        "item" => {
                            if let (Some(id), Some(part)) = (element.attribute("id"), target("href")) {
                                let media_type = element.attribute("media-type").unwrap_or_default();
                                let properties = element.attribute("properties").unwrap_or_default();
                                let contents = properties.split_whitespace().any(|one| one == "nav");
                                items.insert(id, Item { part, media_type, contents });
                            }
                        }
                        "itemref" => order.extend(element.attribute("idref")),
                        // As books of version 2 name their table of contents.
                        "reference" if element.attribute("type").as_deref() == Some("toc") => {
                            contents.extend(target("href"));
                        }
                        _ => {}
                    }
                }
                Event::Text(text) => value.push_str(&text),
                Event::End(name) => package.metadata(&name, std::mem::take(&mut value).trim()),
            }
        }
        for id in order {
            let Some(item) = items.get(&id) else { continue };
            let is_text = item.media_type.contains("html") || item.media_type.contains("x-dtbook");
            if is_text
                && !item.contents
                && !contents.contains(&item.part)
                && !package.chapters.contains(&item.part)
            {
                package.chapters.push(item.part.clone());
            }
            if package.chapters.len() > CHAPTERS_MAX {
                return Err(DocError::too_large(format!("the book has more than {CHAPTERS_MAX} chapters")));
            }
        }
        if package.chapters.is_empty() {
            return Err(DocError::invalid("the EPUB names no chapters"));
        }
        Ok(package)
    }

    fn metadata(&mut self, name: &str, value: &str) {
        let summary = &mut self.summary;
        match name {
            _ if value.is_empty() => {}
            "title" if summary.title.is_none() => summary.title = Some(value.to_owned()),
            "language" if summary.language.is_none() => summary.language = Some(value.to_owned()),
            "creator" => summary.add("author", value),
            "publisher" | "date" | "subject" => summary.add(name, value),
            _ => {}
        }
    }
}

/// The part that a reference leads to, without the place within it.
fn part(folder: &str, href: &str) -> String {
    let file = href.split('#').next().unwrap_or_default();
    resolve(folder, &unescaped(file))
}

/// `%E4%B8%80.xhtml` as `一.xhtml`.
fn unescaped(href: &str) -> String {
    let mut bytes = Vec::with_capacity(href.len());
    let mut rest = href.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| href.to_owned())
}

/// Books whose chapters are locked cannot be read; scrambled fonts do not matter.
fn refuse_locked(archive: &mut Archive, chapters: &[String]) -> Result<()> {
    let Some(text) = archive.xml("META-INF/encryption.xml")? else { return Ok(()) };
    let mut xml = Xml::with_doctype(&text);
    while let Some(event) = xml.next()? {
        let Event::Start(element) = event else { continue };
        let locked = element.attribute("URI").filter(|_| element.name() == "CipherReference");
        if locked.is_some_and(|uri| chapters.contains(&part("", &uri))) {
            return Err(DocError::unsupported(
                "the book is locked by its seller (DRM); only books without that are read",
            ));
        }
    }
    Ok(())
}
