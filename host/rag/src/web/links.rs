//! Where a page leads: the addresses of its links, absolute, without fragments, none twice.

use std::cell::RefCell;
use std::collections::HashSet;

use html5ever::tendril::StrTendril;
use html5ever::tokenizer::{
    BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts,
};
use rag_core::ports::WebLink;
use url::Url;

use crate::egress;

/// Links of one page.
const LINKS_MAX: usize = 2_000;

/// In the order of the page. `nofollow` is respected.
pub(super) fn links(page: &Url, html: &str) -> Vec<WebLink> {
    let sink = Sink { found: RefCell::default() };
    let tokenizer = Tokenizer::new(sink, TokenizerOpts::default());
    let input = BufferQueue::default();
    input.push_back(StrTendril::from_slice(html));
    let _ = tokenizer.feed(&input);
    tokenizer.end();
    let Found { base, links, nofollow } = tokenizer.sink.found.into_inner();
    if nofollow {
        return Vec::new();
    }
    let base = base.and_then(|base| page.join(&base).ok()).unwrap_or_else(|| page.clone());
    let mut seen = HashSet::new();
    let absolute = links.iter().filter_map(|link| {
        let url = egress::parse(base.join(link.trim()).ok()?.as_str()).ok()?;
        let link = WebLink { origin: url.origin().ascii_serialization(), url: url.to_string() };
        seen.insert(link.url.clone()).then_some(link)
    });
    absolute.collect()
}

#[derive(Default)]
struct Found {
    base: Option<String>,
    links: Vec<String>,
    nofollow: bool,
}

struct Sink {
    found: RefCell<Found>,
}

impl TokenSink for Sink {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        if let Token::TagToken(tag) = token
            && tag.kind == TagKind::StartTag
        {
            self.take(&tag);
        }
        TokenSinkResult::Continue
    }
}

impl Sink {
    fn take(&self, tag: &Tag) {
        let attribute = |name: &str| {
            let found = tag.attrs.iter().find(|attribute| &*attribute.name.local == name);
            found.map(|attribute| attribute.value.to_string())
        };
        let says = |name: &str, word: &str| {
            attribute(name).is_some_and(|value| {
                value.split([',', ' ']).any(|found| found.trim().eq_ignore_ascii_case(word))
            })
        };
        let mut found = self.found.borrow_mut();
        match &*tag.name {
            "a" | "area" if found.links.len() < LINKS_MAX && !says("rel", "nofollow") => {
                found.links.extend(attribute("href"));
            }
            "base" if found.base.is_none() => found.base = attribute("href"),
            "meta" if says("name", "robots") => found.nofollow |= says("content", "nofollow"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(html: &str) -> Vec<String> {
        let page = Url::parse("http://example.org/docs/a.html?x=1").unwrap();
        links(&page, html).into_iter().map(|link| link.url).collect()
    }

    #[test]
    fn links_are_made_absolute_and_told_apart() {
        let found = urls(
            "<p><a href='b.html#part'>b</a><A HREF=/c>c</A><a href=\"b.html\">again</a><a>none</a>\
             <a href='//other.example/d'>d</a><area href='?q=%E4%B8%AD'><a href='mailto:x@y'>m</a>\
             <a href='javascript:alert(1)'>j</a><a rel='nofollow' href='/no'>n</a><!-- <a href=/hidden> -->\
             <a href='http://user@evil/'>u</a><a href='file:///etc/passwd'>f</a>",
        );
        assert_eq!(
            found,
            [
                "http://example.org/docs/b.html",
                "http://example.org/c",
                "http://other.example/d",
                "http://example.org/docs/a.html?q=%E4%B8%AD"
            ]
        );
        assert_eq!(urls("<base href='/base/'><a href=x>x</a>"), ["http://example.org/base/x"]);
        assert!(urls("<meta name=robots content='noindex, nofollow'><a href=x>x</a>").is_empty());
        assert_eq!(urls(&"<a href=x>".repeat(5_000)).len(), 1);
        assert!(urls(&"<a ".repeat(100_000)).is_empty());
    }
}
