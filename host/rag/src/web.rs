//! Reads pages of the web: within what the operator allows and what robots.txt says, redirects checked one by one.

mod engines;
mod links;
mod robots;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use percent_encoding::percent_decode_str;
use rag_core::ports::{Http, HttpGrant, HttpMethod, HttpRequest, HttpResponse, Web, WebLink, WebPage};
use rag_core::{Error, Result, limits, media};
use sha2::{Digest, Sha256};
use url::Url;

use crate::config::outside;
use crate::egress::{self, Egress};
pub(crate) use engines::ConfiguredEngines;
use robots::Robots;

/// Redirects of one page.
const REDIRECTS_MAX: usize = 5;
/// How long a site's robots.txt is believed, and how many are kept.
const ROBOTS_AGE: Duration = Duration::from_secs(3_600);
const SITES_MAX: usize = 1_000;

/// The web as this host may read it.
pub(crate) struct WebReader {
    http: Arc<dyn Http>,
    enabled: bool,
    delay: Duration,
    sites: Mutex<HashMap<String, Site>>,
}

/// What is known of one server.
#[derive(Clone)]
struct Site {
    robots: Arc<Robots>,
    read: Instant,
    /// When the next page may be asked for.
    next: Instant,
}

impl WebReader {
    /// Reads every public server on its usual port, and those private ones that the configuration names.
    pub(crate) fn new(web: &outside::Web, limits: &outside::Egress, egress: &Egress) -> Result<Self> {
        let grant = |origin: &str, private: bool| HttpGrant {
            origin: origin.to_owned(),
            path: String::new(),
            methods: vec![HttpMethod::Get],
            private,
            headers: vec![("accept".to_owned(), "text/html,*/*;q=0.8".to_owned())],
        };
        let mut grants: Vec<HttpGrant> =
            web.private_origins.iter().map(|origin| grant(origin, true)).collect();
        grants.extend([grant("https://*", false), grant("http://*", false)]);
        let limits = outside::Egress { response_bytes_max: web.page_bytes_max, ..limits.clone() };
        Ok(WebReader {
            http: egress.with(limits).granted("reading the web", grants)?,
            enabled: web.enabled,
            delay: Duration::from_millis(web.delay_ms),
            sites: Mutex::new(HashMap::new()),
        })
    }

    /// Follows redirects, each to where it is allowed only; robots.txt itself is read without asking it.
    async fn follow(&self, mut url: Url, obey: bool) -> Result<(Url, HttpResponse)> {
        for _ in 0..=REDIRECTS_MAX {
            if obey {
                self.wait_for_turn(&url).await?;
            }
            let request = HttpRequest {
                method: HttpMethod::Get,
                url: url.to_string(),
                headers: Vec::new(),
                body: None,
            };
            let response = self.http.fetch(request).await?;
            let location = match response.status {
                301 | 302 | 303 | 307 | 308 => header(&response, "location"),
                _ => None,
            };
            let Some(location) = location else { return Ok((url, response)) };
            let next = url.join(location).map_err(|_| Error::Unavailable {
                message: format!("{url} leads to an address that cannot be read"),
            })?;
            url = egress::parse(next.as_str())?;
        }
        Err(Error::invalid(format!("the address leads to others more than {REDIRECTS_MAX} times")))
    }

    /// Asks the site's robots.txt, then waits so that its pages are not asked for one right after the other.
    async fn wait_for_turn(&self, url: &Url) -> Result<()> {
        let origin = url.origin().ascii_serialization();
        let known = self.sites().get(&origin).filter(|site| site.read.elapsed() < ROBOTS_AGE).cloned();
        let robots = match known {
            Some(site) => site.robots,
            None => Arc::new(self.read_robots(url).await?),
        };
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let allowed = robots.allow(&path);
        let wait = {
            let mut sites = self.sites();
            if sites.len() >= SITES_MAX {
                sites.retain(|_, site| site.read.elapsed() < ROBOTS_AGE);
            }
            if sites.len() >= SITES_MAX {
                sites.clear();
            }
            let now = Instant::now();
            let site = sites.entry(origin).or_insert_with(|| Site { robots, read: now, next: now });
            let turn = site.next.max(now);
            if allowed {
                site.next = turn + self.delay.max(site.robots.delay());
            }
            turn - now
        };
        if !allowed {
            return Err(Error::Denied { message: format!("robots.txt of the site forbids reading {url}") });
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }

    async fn read_robots(&self, url: &Url) -> Result<Robots> {
        let address = url
            .join("/robots.txt")
            .map_err(|error| Error::internal(format!("no address of robots.txt: {error}")))?;
        let (_, response) = Box::pin(self.follow(address, false)).await?;
        match response.status {
            200..=299 => Ok(Robots::parse(&String::from_utf8_lossy(&response.body))),
            400..=499 => Ok(Robots::default()),
            // A site that cannot say what it allows allows nothing for now.
            status => Err(Error::Unavailable {
                message: format!(
                    "robots.txt of {} answers with status {status}",
                    url.origin().ascii_serialization()
                ),
            }),
        }
    }

    fn sites(&self) -> std::sync::MutexGuard<'_, HashMap<String, Site>> {
        self.sites.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Web for WebReader {
    fn address(&self, url: &str) -> Result<WebLink> {
        if !self.enabled {
            return Err(Error::Denied {
                message: "reading the web is switched off on this host (setting web.enabled)".to_owned(),
            });
        }
        let url = egress::parse(url.trim())?;
        Ok(WebLink { origin: url.origin().ascii_serialization(), url: url.to_string() })
    }

    async fn page(&self, url: &str) -> Result<WebPage> {
        let start = self.address(url)?;
        let (url, response) = self.follow(egress::parse(&start.url)?, true).await?;
        check_status(&url, response.status)?;
        let name = name_of(&url);
        let given = header(&response, "content-type").and_then(media::known).map(str::to_owned);
        let head = response.body.get(..media::SNIFF_BYTES as usize).unwrap_or(&response.body);
        let media_type = match given.as_deref() {
            // Servers call whatever they do not know so.
            None | Some("text/plain" | "binary/octet-stream") => media::sniff(&name, head).to_owned(),
            Some("application/xhtml+xml") => "text/html".to_owned(),
            Some(known) => known.to_owned(),
        };
        let links = match media_type.as_str() {
            "text/html" => links::links(&url, &String::from_utf8_lossy(&response.body)),
            _ => Vec::new(),
        };
        Ok(WebPage {
            origin: url.origin().ascii_serialization(),
            url: url.to_string(),
            name,
            media_type,
            body: response.body,
            links,
        })
    }
}

fn header<'a>(response: &'a HttpResponse, name: &str) -> Option<&'a str> {
    let found = response.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}

fn check_status(url: &Url, status: u16) -> Result<()> {
    match status {
        200..=299 => Ok(()),
        404 | 410 => Err(Error::NotFound { what: "page", name: url.to_string() }),
        401 | 403 | 407 => {
            Err(Error::Denied { message: format!("{url} is not for everybody (status {status})") })
        }
        408 | 425 | 429 | 500..=599 => {
            Err(Error::Unavailable { message: format!("{url} answers with status {status}") })
        }
        _ => Err(Error::invalid(format!("{url} answers with status {status}"))),
    }
}

/// A document's name: server and path, readable, with a short mark where it had to be cut.
fn name_of(url: &Url) -> String {
    let mut name = url.host_str().unwrap_or("page").to_owned();
    for part in url.path_segments().into_iter().flatten() {
        let part = percent_decoded(part);
        let part: String =
            part.chars().map(|c| if c.is_control() || c == '/' || c == '\\' { '_' } else { c }).collect();
        if !part.is_empty() && part != "." && part != ".." {
            name.push('/');
            name.push_str(&part);
        }
    }
    if let Some(query) = url.query() {
        name.push('?');
        name.extend(
            percent_decoded(query).chars().map(|c| if c.is_control() || "/\\".contains(c) { '_' } else { c }),
        );
    }
    if name.len() > limits::DOCUMENT_NAME_BYTES_MAX {
        let mark: String =
            Sha256::digest(url.as_str()).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        name.truncate(name.floor_char_boundary(limits::DOCUMENT_NAME_BYTES_MAX - mark.len() - 1));
        name.push('~');
        name.push_str(&mark);
    }
    name
}

/// With `%E6%96%87` as the characters that they stand for; what is no UTF-8 stays as it is.
fn percent_decoded(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8().unwrap_or(Cow::Borrowed(text))
}
