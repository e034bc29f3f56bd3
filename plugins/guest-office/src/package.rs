//! What every Office file has: its title and author, and which part refers to which.

use std::collections::HashMap;

use guest_archive::{Archive, Event, Xml, resolve};
use guest_doc::{DocError, Result, Summary};

/// Refuses settings: Office parsers have none.
pub(crate) fn no_settings(json: &str) -> Result<()> {
    guest_settings::Settings::parse(json, &[]).map(|_| ()).map_err(DocError::Invalid)
}

/// Title, author, language and subject.
pub(crate) fn summary(archive: &mut Archive) -> Result<Summary> {
    let mut summary = Summary::default();
    let Some(text) = archive.xml("docProps/core.xml")? else { return Ok(summary) };
    let mut xml = Xml::new(&text);
    let mut value = String::new();
    while let Some(event) = xml.next()? {
        match event {
            Event::Start(_) => value.clear(),
            Event::Text(text) => value.push_str(&text),
            Event::End(name) => {
                let found = std::mem::take(&mut value);
                let found = found.trim();
                match name.as_str() {
                    "title" if !found.is_empty() => summary.title = Some(found.to_owned()),
                    "language" if !found.is_empty() => summary.language = Some(found.to_owned()),
                    "creator" => summary.add("author", found),
                    "subject" | "keywords" | "modified" => summary.add(&name, found),
                    _ => {}
                }
            }
        }
    }
    Ok(summary)
}

/// Targets of a part's relations by id, as names within the archive, with the last word of their type.
pub(crate) fn relations(archive: &mut Archive, part: &str) -> Result<HashMap<String, (String, String)>> {
    let (folder, file) = part.rsplit_once('/').unwrap_or(("", part));
    let name =
        if folder.is_empty() { format!("_rels/{file}.rels") } else { format!("{folder}/_rels/{file}.rels") };
    let mut relations = HashMap::new();
    let Some(text) = archive.xml(&name)? else { return Ok(relations) };
    let mut xml = Xml::new(&text);
    while let Some(event) = xml.next()? {
        let Event::Start(element) = event else { continue };
        // What lies outside the file is never fetched.
        if element.name() != "Relationship" || element.attribute("TargetMode").as_deref() == Some("External")
        {
            continue;
        }
        if let (Some(id), Some(target)) = (element.attribute("Id"), element.attribute("Target")) {
            let kind = element.attribute("Type").unwrap_or_default();
            let kind = kind.rsplit('/').next().unwrap_or_default().to_owned();
            relations.insert(id, (resolve(folder, &target), kind));
        }
    }
    Ok(relations)
}
