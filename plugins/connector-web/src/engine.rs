//! What an engine is asked, and what its answer means.

use guest_settings::Settings;
use serde_json::Value;

use crate::text::{encode, join, plain};
use crate::{baike, feed};

/// Characters of a title and of a summary.
const TITLE_CHARS: usize = 200;
const SUMMARY_CHARS: usize = 500;

/// A result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub title: String,
    pub url: String,
    pub summary: String,
}

/// What came back from the engine.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    pub status: u16,
    /// Where a redirect leads.
    pub location: Option<&'a str>,
    pub body: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    OpenSearch,
    SearXng,
    Wikipedia,
    Baike,
}

/// A configured engine.
#[derive(Debug)]
pub struct Engine {
    kind: Kind,
    /// Without a slash at the end; a template for OpenSearch.
    url: String,
}

impl Engine {
    /// The error names the setting that is wrong.
    pub fn from_settings(json: &str) -> Result<Self, String> {
        let kinds = [
            ("opensearch", Kind::OpenSearch),
            ("searxng", Kind::SearXng),
            ("wikipedia", Kind::Wikipedia),
            ("baike", Kind::Baike),
        ];
        let settings = Settings::parse(json, &["engine", "url"])?;
        let kind = settings.choice("engine", &kinds, Kind::Wikipedia)?;
        let url = settings.text("url", "https://zh.wikipedia.org")?;
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err("setting 'url' must begin with http:// or https://".to_owned());
        }
        let mut url = url.trim_end_matches('/').to_owned();
        if kind == Kind::OpenSearch && !url.contains("{searchTerms}") {
            // What most engines call the question.
            url.push_str(if url.contains('?') { "&q={searchTerms}" } else { "/?q={searchTerms}" });
        }
        Ok(Engine { kind, url })
    }

    /// The address that is asked.
    pub fn request(&self, query: &str, limit: u32) -> String {
        let (url, words) = (&self.url, encode(query.trim()));
        match self.kind {
            Kind::OpenSearch => fill(url, &words, limit),
            Kind::SearXng => format!("{url}/search?q={words}&format=json"),
            Kind::Wikipedia => {
                format!(
                    "{url}/w/api.php?action=query&list=search&srsearch={words}&srlimit={limit}&format=json&utf8=1"
                )
            }
            Kind::Baike => format!("{url}/item/{words}"),
        }
    }

    /// At most `limit` results, no address twice.
    pub fn results(&self, query: &str, limit: u32, answer: &Answer<'_>) -> Result<Vec<Found>, String> {
        if self.kind == Kind::Baike {
            return baike::results(&self.url, query, answer);
        }
        if !(200..300).contains(&answer.status) {
            return Err(format!("the engine answers with status {}", answer.status));
        }
        let found = match self.kind {
            Kind::OpenSearch if answer.body.trim_start().starts_with('[') => suggestions(answer.body)?,
            Kind::OpenSearch => feed::results(answer.body)?,
            Kind::SearXng => searxng(answer.body)?,
            Kind::Wikipedia | Kind::Baike => wikipedia(&self.url, answer.body)?,
        };
        let mut kept: Vec<Found> = Vec::new();
        for result in found {
            let url = join(&self.url, &result.url);
            let usable = url.starts_with("http") && !kept.iter().any(|other| other.url == url);
            if usable && kept.len() < limit as usize {
                kept.push(Found {
                    title: plain(&result.title, TITLE_CHARS),
                    summary: plain(&result.summary, SUMMARY_CHARS),
                    url,
                });
            }
        }
        Ok(kept)
    }
}

/// The template with what it asks for; optional parameters that nobody knows stay empty.
fn fill(template: &str, words: &str, limit: u32) -> String {
    let mut filled = String::with_capacity(template.len() + words.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, tail)) = after.split_once('}') else { break };
        filled.push_str(before);
        match name.trim_end_matches('?') {
            "searchTerms" => filled.push_str(words),
            "count" => filled.push_str(&limit.to_string()),
            "startIndex" | "startPage" => filled.push('1'),
            "inputEncoding" | "outputEncoding" => filled.push_str("UTF-8"),
            "language" => filled.push('*'),
            _ => {}
        }
        rest = tail;
    }
    filled.push_str(rest);
    filled
}

fn json(body: &str) -> Result<Value, String> {
    serde_json::from_str(body).map_err(|_| "the engine's answer is not JSON".to_owned())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn searxng(body: &str) -> Result<Vec<Found>, String> {
    let answer = json(body)?;
    let results =
        answer["results"].as_array().ok_or("the answer holds no results: is this SearXNG's JSON?")?;
    let found = |result: &Value| Found {
        title: text(&result["title"]),
        url: text(&result["url"]),
        summary: text(&result["content"]),
    };
    Ok(results.iter().map(found).collect())
}

fn wikipedia(base: &str, body: &str) -> Result<Vec<Found>, String> {
    let answer = json(body)?;
    if let Some(error) = answer["error"]["info"].as_str() {
        return Err(format!("the wiki refuses: {}", plain(error, SUMMARY_CHARS)));
    }
    let results = answer["query"]["search"]
        .as_array()
        .ok_or("the answer holds no results: is this MediaWiki's API?")?;
    let found = |result: &Value| {
        let title = text(&result["title"]);
        Found {
            url: format!("{base}/wiki/{}", encode(&title.replace(' ', "_"))),
            summary: text(&result["snippet"]),
            title,
        }
    };
    Ok(results.iter().map(found).collect())
}

/// `["words", [titles], [summaries], [addresses]]`.
fn suggestions(body: &str) -> Result<Vec<Found>, String> {
    let answer = json(body)?;
    let titles = answer[1].as_array().ok_or("the answer holds no list of titles")?;
    let found = |(at, title): (usize, &Value)| Found {
        title: text(title),
        summary: text(&answer[2][at]),
        url: text(&answer[3][at]),
    };
    Ok(titles.iter().enumerate().map(found).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(kind: &str, url: &str) -> Engine {
        Engine::from_settings(&serde_json::json!({"engine": kind, "url": url}).to_string()).unwrap()
    }

    fn found(engine: &Engine, body: &str) -> Result<Vec<Found>, String> {
        engine.results("词", 2, &Answer { status: 200, location: None, body })
    }

    #[test]
    fn each_engine_is_asked_in_its_own_way() {
        for (kind, url, expected) in [
            ("searxng", "http://s:8080/", "http://s:8080/search?q=%E7%9F%A5%20a%26b&format=json"),
            ("baike", "https://b", "https://b/item/%E7%9F%A5%20a%26b"),
            (
                "wikipedia",
                "https://w",
                "https://w/w/api.php?action=query&list=search&srsearch=%E7%9F%A5%20a%26b&srlimit=2&format=json&utf8=1",
            ),
            (
                "opensearch",
                "https://o/?q={searchTerms}&n={count?}&x={unknown?}&p={startPage?}",
                "https://o/?q=%E7%9F%A5%20a%26b&n=2&x=&p=1",
            ),
            ("opensearch", "https://o", "https://o/?q=%E7%9F%A5%20a%26b"),
        ] {
            assert_eq!(engine(kind, url).request(" 知 a&b ", 2), expected);
        }
        for bad in [r#"{"engine": "altavista"}"#, r#"{"url": "ftp://x"}"#, r#"{"key": 1}"#, r#"{"url": 1}"#] {
            assert!(Engine::from_settings(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn answers_become_results_in_plain_text() {
        let wiki = r#"{"query": {"search": [
            {"title": "Retrieval augmented", "snippet": "<span class=\"m\">检索</span>增强 &amp; more &lt;b&gt;"},
            {"title": "二", "snippet": ""}, {"title": "三", "snippet": ""}]}}"#;
        let results = found(&engine("wikipedia", "https://w"), wiki).unwrap();
        assert_eq!(results.len(), 2, "no more than asked for");
        assert_eq!(results[0].url, "https://w/wiki/Retrieval_augmented");
        assert_eq!(results[0].summary, "检索增强 & more <b>");
        assert_eq!(results[1].url, "https://w/wiki/%E4%BA%8C");

        let searx = r#"{"results": [{"title": "a", "url": "https://x/1", "content": "c"},
            {"title": "again", "url": "https://x/1"}, {"title": "bad", "url": "javascript:alert(1)"},
            {"title": "b", "url": "/relative"}]}"#;
        let results = found(&engine("searxng", "http://s:8080"), searx).unwrap();
        let urls: Vec<&str> = results.iter().map(|result| result.url.as_str()).collect();
        assert_eq!(urls, ["https://x/1", "http://s:8080/relative"]);

        let suggestions = r#"["词", ["一", "二"], ["first"], ["https://x/1", "https://x/2"]]"#;
        let open = engine("opensearch", "https://o/?q={searchTerms}");
        let results = found(&open, suggestions).unwrap();
        assert_eq!((results[0].summary.as_str(), results[1].title.as_str()), ("first", "二"));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for kind in ["wikipedia", "searxng"] {
            let engine = engine(kind, "https://x");
            for body in ["", "<html>", "{}", "[]", "null"] {
                assert!(found(&engine, body).is_err(), "{kind} {body}");
            }
            let answer = Answer { status: 503, location: None, body: "{}" };
            assert!(engine.results("词", 2, &answer).unwrap_err().contains("503"));
        }
        let refused = found(&engine("wikipedia", "https://x"), r#"{"error": {"info": "too many"}}"#);
        assert!(refused.unwrap_err().contains("too many"));
    }
}
