//! Pages of the web become documents: one address, or what it links to as well, each page through the ordinary ingest.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::{Error, Result};
use crate::jobs::report;
use crate::limits;
use crate::ports::{Blob, CrawlOrder, Job, JobKind, JobState, Origin, Stage, WebPage};
use crate::rag::Rag;

/// Addresses that a crawl remembers, and tries for each page that it may save: dead links end it as well.
const ADDRESSES_MAX: usize = 20_000;
const TRIES_PER_PAGE: usize = 4;

/// How a page would be read, before anything is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    pub url: String,
    /// The document's name.
    pub name: String,
    pub media_type: String,
    pub title: Option<String>,
    /// The beginning of its text.
    pub text: String,
    /// Whether there is more of it.
    pub truncated: bool,
}

impl Rag {
    /// Queues the reading of an address; each page that it saves is queued as a document of its own.
    pub async fn start_crawl(&self, kb: &str, mut order: CrawlOrder) -> Result<Job> {
        let kb = self.kb(kb).await?;
        if order.depth > limits::CRAWL_DEPTH_MAX || !(1..=limits::CRAWL_PAGES_MAX).contains(&order.pages_max)
        {
            return Err(Error::invalid(format!(
                "a crawl goes at most {} links deep and saves 1 to {} pages",
                limits::CRAWL_DEPTH_MAX,
                limits::CRAWL_PAGES_MAX
            )));
        }
        order.url = self.outside.web.address(&order.url)?.url;
        self.enqueue_soon(&kb.name, &JobKind::Crawl(order)).await
    }

    /// Reads an address as an ingest would; keeps nothing.
    pub async fn preview(&self, kb: &str, url: &str) -> Result<Preview> {
        let binding = self.binding(kb).await?;
        let page = self.outside.web.page(url).await?;
        let parser = binding.parsers.iter().find(|parser| parser.accepts().contains(&page.media_type));
        let parser = parser.ok_or_else(|| Error::Unsupported {
            message: format!("{} is {}, which no installed parser reads", page.url, page.media_type),
        })?;
        let WebPage { url, name, media_type, body, .. } = page;
        let blob = InMemory { name: name.clone(), media_type: media_type.clone(), bytes: Bytes::from(body) };
        let mut session = parser.open(Arc::new(blob)).await?;
        let mut preview =
            Preview { url, name, media_type, title: None, text: String::new(), truncated: false };
        while let Some(blocks) = session.next(limits::PREVIEW_BYTES as u32).await? {
            for block in blocks {
                preview.text.push_str(&block.text);
                preview.text.push_str("\n\n");
            }
            if preview.text.len() > limits::PREVIEW_BYTES {
                preview.truncated = true;
                break;
            }
        }
        preview.text.truncate(preview.text.floor_char_boundary(limits::PREVIEW_BYTES));
        preview.title = session.summary().await?.title;
        Ok(preview)
    }
}

/// Reads the address and what it links to, breadth first, until the order is filled.
pub(crate) async fn crawl(rag: &Rag, job: &Job, order: &CrawlOrder) -> Result<JobState> {
    let mut walk = Walk::new(order.clone());
    let mut failure = None;
    while let Some((url, depth)) = walk.next() {
        let (saved, wanted) = (u64::from(walk.saved), u64::from(order.pages_max));
        report(rag, &job.id, Stage::Parse, saved, wanted).await?;
        match rag.outside.web.page(&url).await {
            Ok(page) => {
                if walk.take(&page, depth) {
                    save(rag, job, page).await?;
                }
            }
            // Dead links are common; what was found stands beside them.
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match failure {
        Some(error) if walk.saved == 0 => Err(error),
        _ => Ok(JobState::Done { document: None, unchanged: false }),
    }
}

/// What is left to read, and what was seen.
struct Walk {
    order: CrawlOrder,
    /// The server that it stays on.
    origin: Option<String>,
    frontier: VecDeque<(String, u32)>,
    /// Addresses that were queued, and those that were read.
    seen: HashSet<String>,
    read: HashSet<String>,
    tried: usize,
    saved: u32,
}

impl Walk {
    fn new(order: CrawlOrder) -> Self {
        let start = order.url.clone();
        Walk {
            order,
            origin: None,
            frontier: VecDeque::from([(start.clone(), 0)]),
            seen: HashSet::from([start]),
            read: HashSet::new(),
            tried: 0,
            saved: 0,
        }
    }

    fn next(&mut self) -> Option<(String, u32)> {
        let tries_max = TRIES_PER_PAGE * self.order.pages_max as usize;
        if self.saved >= self.order.pages_max || self.tried >= tries_max {
            return None;
        }
        self.tried += 1;
        self.frontier.pop_front()
    }

    /// Notes a page's links; false when the page was read before, or lies on another server.
    fn take(&mut self, page: &WebPage, depth: u32) -> bool {
        // Where the first address leads, perhaps by a redirect to another name, is where the crawl stays.
        let origin = self.origin.get_or_insert_with(|| page.origin.clone()).clone();
        let elsewhere = self.order.same_host && page.origin != origin;
        // Two addresses may lead to one page.
        if elsewhere || !self.read.insert(page.url.clone()) {
            return false;
        }
        self.saved += 1;
        if depth < self.order.depth {
            for link in &page.links {
                let wanted = !self.order.same_host || link.origin == origin;
                if wanted && self.seen.len() < ADDRESSES_MAX && self.seen.insert(link.url.clone()) {
                    self.frontier.push_back((link.url.clone(), depth + 1));
                }
            }
        }
        true
    }
}

async fn save(rag: &Rag, job: &Job, page: WebPage) -> Result<()> {
    let mut writer = rag.upload().await?;
    writer.write(Bytes::from(page.body)).await?;
    let kb = job.kb.as_str();
    let origin = Origin { url: Some(page.url), folder: None };
    rag.submit_from(kb, &page.name, Some(&page.media_type), writer, origin).await.map(|_| ())
}

/// A page before anything is kept.
struct InMemory {
    name: String,
    media_type: String,
    bytes: Bytes,
}

#[async_trait]
impl Blob for InMemory {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn media_type(&self) -> &str {
        &self.media_type
    }

    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len());
        let end = start.saturating_add(len as usize).min(self.bytes.len());
        Ok(self.bytes.slice(start..end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::WebLink;

    fn page(url: &str, links: &[&str]) -> WebPage {
        let origin = |url: &str| url.split('/').take(3).collect::<Vec<_>>().join("/");
        WebPage {
            url: url.to_owned(),
            origin: origin(url),
            name: url.to_owned(),
            media_type: "text/html".to_owned(),
            body: Vec::new(),
            links: links.iter().map(|url| WebLink { url: (*url).to_owned(), origin: origin(url) }).collect(),
        }
    }

    fn order(depth: u32, pages_max: u32, same_host: bool) -> CrawlOrder {
        CrawlOrder { url: "http://a/".to_owned(), depth, pages_max, same_host }
    }

    /// What is read of a small web, in order.
    fn walk(order: CrawlOrder) -> Vec<String> {
        let web = [
            page("http://a/", &["http://a/1", "http://a/", "http://b/", "http://a/2"]),
            page("http://a/1", &["http://a/2", "http://a/3"]),
            page("http://a/2", &[]),
            page("http://a/3", &["http://a/4"]),
            page("http://a/4", &[]),
            page("http://b/", &["http://a/4"]),
        ];
        let mut walk = Walk::new(order);
        let mut read = Vec::new();
        while let Some((url, depth)) = walk.next() {
            let found = web.iter().find(|page| page.url == url).unwrap();
            if walk.take(found, depth) {
                read.push(url);
            }
        }
        read
    }

    #[test]
    fn a_crawl_keeps_to_depth_count_and_server() {
        assert_eq!(walk(order(0, 10, true)), ["http://a/"]);
        assert_eq!(walk(order(1, 10, true)), ["http://a/", "http://a/1", "http://a/2"]);
        assert_eq!(walk(order(1, 10, false)), ["http://a/", "http://a/1", "http://b/", "http://a/2"]);
        assert_eq!(walk(order(2, 10, true)).len(), 4);
        assert_eq!(walk(order(5, 2, true)), ["http://a/", "http://a/1"]);
        assert_eq!(walk(order(5, 100, true)).len(), 5);
    }

    #[test]
    fn a_page_is_saved_once_whatever_leads_to_it() {
        let mut walk = Walk::new(order(1, 10, true));
        assert_eq!(walk.next(), Some(("http://a/".to_owned(), 0)));
        // The server's own name has a prefix: that is where the crawl stays.
        assert!(walk.take(&page("http://www.a/", &["http://www.a/x", "http://www.a/y", "http://a/z"]), 0));
        assert_eq!(walk.next().unwrap().0, "http://www.a/x");
        assert!(walk.take(&page("http://www.a/same", &[]), 1));
        assert_eq!(walk.next().unwrap().0, "http://www.a/y");
        assert!(!walk.take(&page("http://www.a/same", &[]), 1), "redirected to the same page");
        assert_eq!(walk.next(), None);
    }
}
