//! Baidu Baike has no interface for searching: an entry of exactly these words is there or not.

use crate::engine::{Answer, Found};
use crate::text::{encode, join, plain};

/// Characters of a title and of a summary.
const TITLE_CHARS: usize = 100;
const SUMMARY_CHARS: usize = 500;

/// One result, or none.
pub fn results(base: &str, query: &str, answer: &Answer<'_>) -> Result<Vec<Found>, String> {
    let entry = |title: String, url: String, summary: String| Ok(vec![Found { title, url, summary }]);
    match (answer.status, answer.location) {
        // Entries with several meanings, and those under another name, stand at another address of the same kind.
        (301 | 302 | 303 | 307 | 308, Some(location)) => {
            let url = join(base, location);
            match url.contains("/item/") {
                true => entry(plain(query, TITLE_CHARS), url, String::new()),
                false => Ok(Vec::new()),
            }
        }
        (200..=299, _) => {
            let title = between(answer.body, "<title>", "</title>").map(|title| plain(title, TITLE_CHARS));
            let title = title.map(|title| title.trim_end_matches("_百度百科").to_owned());
            let summary = meta(answer.body, "description").map(|text| plain(text, SUMMARY_CHARS));
            let url = format!("{base}/item/{}", encode(query.trim()));
            entry(title.unwrap_or_else(|| plain(query, TITLE_CHARS)), url, summary.unwrap_or_default())
        }
        (404 | 410, _) => Ok(Vec::new()),
        (status, _) => Err(format!("the engine answers with status {status}")),
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(inner, _)| inner)
}

/// The content of a meta tag, whatever the order of its attributes.
fn meta<'a>(html: &'a str, name: &str) -> Option<&'a str> {
    let wanted = format!("name=\"{name}\"");
    let tags = html.split("<meta").skip(1).filter_map(|rest| rest.split_once('>').map(|(tag, _)| tag));
    tags.filter(|tag| tag.contains(&wanted)).find_map(|tag| between(tag, "content=\"", "\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(status: u16, location: Option<&str>, body: &str) -> Result<Vec<Found>, String> {
        results("https://b", "知识 库", &Answer { status, location, body })
    }

    #[test]
    fn an_entry_is_there_or_not() {
        let page = "<html><head><title>知识库_百度百科</title>\
            <meta content=\"知识库是&quot;事实&quot;的集合\" name=\"description\"></head></html>";
        let found = ask(200, None, page).unwrap();
        assert_eq!(found[0].title, "知识库");
        assert_eq!(found[0].url, "https://b/item/%E7%9F%A5%E8%AF%86%20%E5%BA%93");
        assert_eq!(found[0].summary, "知识库是\"事实\"的集合");
        let moved = ask(302, Some("/item/%E7%9F%A5/123"), "").unwrap();
        assert_eq!(moved[0].url, "https://b/item/%E7%9F%A5/123");
        assert_eq!(ask(302, Some("/error.html"), ""), Ok(vec![]));
        assert_eq!(ask(404, None, ""), Ok(vec![]));
        assert_eq!(ask(200, None, "").unwrap()[0].title, "知识 库");
        assert!(ask(403, None, "").is_err());
    }
}
