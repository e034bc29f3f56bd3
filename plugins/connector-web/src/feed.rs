//! Results as RSS or Atom, which OpenSearch answers with.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::engine::Found;

/// Results of one feed.
const RESULTS_MAX: usize = 100;

/// In the order of the feed. Entities of the document's own are not expanded.
pub fn results(xml: &str) -> Result<Vec<Found>, String> {
    let mut reader = Reader::from_str(xml);
    let mut found: Vec<Found> = Vec::new();
    let mut item: Option<Found> = None;
    let mut field = None;
    let mut seen_root = false;
    loop {
        let event =
            reader.read_event().map_err(|_| "the engine's answer is neither a feed nor JSON".to_owned())?;
        match event {
            Event::Start(tag) => {
                seen_root |= matches!(tag.local_name().as_ref(), "rss" | "feed" | "RDF");
                if matches!(tag.local_name().as_ref(), "item" | "entry") {
                    item = Some(Found { title: String::new(), url: String::new(), summary: String::new() });
                } else if let Some(item) = &mut item {
                    field = field_of(&tag);
                    take_href(&tag, item);
                }
            }
            Event::Empty(tag) => {
                if let Some(item) = &mut item {
                    take_href(&tag, item);
                }
            }
            Event::Text(text) => append(&mut item, field, &text),
            Event::CData(text) => append(&mut item, field, &text),
            Event::GeneralRef(name) => append(&mut item, field, &format!("&{};", &*name)),
            Event::End(tag) => {
                if matches!(tag.local_name().as_ref(), "item" | "entry") {
                    found.extend(item.take().filter(|item| !item.url.trim().is_empty()));
                }
                field = None;
            }
            Event::Eof => break,
            _ => {}
        }
        if found.len() >= RESULTS_MAX {
            break;
        }
    }
    if !seen_root {
        return Err("the engine's answer is neither a feed nor JSON".to_owned());
    }
    Ok(found)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Title,
    Link,
    Summary,
}

fn field_of(tag: &BytesStart<'_>) -> Option<Field> {
    match tag.local_name().as_ref() {
        "title" => Some(Field::Title),
        "link" => Some(Field::Link),
        "description" | "summary" | "content" => Some(Field::Summary),
        _ => None,
    }
}

/// Atom's links are attributes; the first alternate one is the page.
fn take_href(tag: &BytesStart<'_>, item: &mut Found) {
    if tag.local_name().as_ref() != "link" || !item.url.is_empty() {
        return;
    }
    let attribute = |name: &str| {
        let found = tag.try_get_attribute(name).ok().flatten()?;
        Some(found.value.replace("&amp;", "&"))
    };
    if attribute("rel").is_none_or(|rel| rel == "alternate")
        && let Some(href) = attribute("href")
    {
        item.url = href;
    }
}

fn append(item: &mut Option<Found>, field: Option<Field>, text: &str) {
    let (Some(item), Some(field)) = (item, field) else { return };
    match field {
        Field::Title => item.title.push_str(text),
        Field::Link => item.url.push_str(&if text == "&amp;" { "&".to_owned() } else { text.to_owned() }),
        Field::Summary => item.summary.push_str(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rss_and_atom_hold_results() {
        let rss = "<rss><channel><title>all</title><item><title>一 &amp; 二</title>\
            <link>https://x/1?a=b&amp;c=d</link><description><![CDATA[<b>词</b>]]></description></item>\
            <item><title>no address</title></item></channel></rss>";
        let found = results(rss).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].title.as_str(), found[0].summary.as_str()), ("一 &amp; 二", "<b>词</b>"));
        assert_eq!(found[0].url, "https://x/1?a=b&c=d");
        let atom = "<feed xmlns='http://www.w3.org/2005/Atom'><entry><title>T</title>\
            <link rel='self' href='https://x/self'/><link href='https://x/2'/><summary>s</summary></entry></feed>";
        assert_eq!(results(atom).unwrap()[0].url, "https://x/2");
        assert_eq!(results("<rss><channel/></rss>").unwrap(), []);
        for bad in ["", "<html><item><link>x</link></item></html>", "words", "<rss><item></rss>"] {
            assert!(results(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn entities_are_not_expanded() {
        let bomb = "<!DOCTYPE r [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;'>]>\
            <rss><item><title>&b;</title><link>https://x/</link></item></rss>";
        assert_eq!(results(bomb).unwrap()[0].title, "&b;");
    }
}
