//! The way to the hub: redirects one by one, to public servers only, and never from TLS to none.

use std::time::Duration;

use rag_core::{Error, Result};
use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{Method, Response, Url};

use crate::egress::{self, Egress};

/// Hubs hand on to the servers that keep the files.
const REDIRECTS_MAX: usize = 5;
/// Bytes of a description.
const TEXT_BYTES_MAX: usize = 8 << 20;

/// Clients of one hub.
pub(super) struct Way {
    hub: Url,
    /// For the hub itself, which the operator may have in a private network.
    near: reqwest::Client,
    /// For where it leads.
    far: reqwest::Client,
    /// Silence that counts as a break.
    silence: Duration,
}

impl Way {
    /// `hub` is the address that the operator configured.
    pub(super) fn new(egress: &Egress, hub: &str, silence: Duration) -> Result<Self> {
        let hub = egress::parse(&format!("{}/", hub.trim_end_matches('/')))?;
        if hub.query().is_some() {
            return Err(Error::invalid("the hub's address ends with its path (setting models.hub)"));
        }
        Ok(Way { hub, near: egress.client(true)?, far: egress.client(false)?, silence })
    }

    /// An address of the hub; `path` is escaped and has no leading slash.
    pub(super) fn address(&self, path: &str) -> Result<Url> {
        let address = self.hub.join(path).map_err(|error| Error::internal(error.to_string()))?;
        match address.as_str().starts_with(self.hub.as_str()) {
            true => Ok(address),
            false => Err(Error::invalid(format!("'{}' leads out of the hub", path.escape_debug()))),
        }
    }

    /// A request, with the redirects that answer it.
    pub(super) async fn get(&self, url: &Url, headers: &HeaderMap) -> Result<Response> {
        let mut url = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let answer = self.once(Method::GET, &url, headers).await?;
            if !answer.status().is_redirection() {
                return Ok(answer);
            }
            url = self.next(&url, &answer)?;
        }
        Err(Error::Unavailable {
            message: format!("{} leads to other servers more than {REDIRECTS_MAX} times", shown(&url)),
        })
    }

    /// What the hub says of a file, without going where it leads.
    pub(super) async fn head(&self, url: &Url) -> Result<Response> {
        self.once(Method::HEAD, url, &HeaderMap::new()).await
    }

    /// A description, of bounded length. `NotFound` says what was not found.
    pub(super) async fn text(&self, url: &Url, what: &'static str, name: &str) -> Result<Vec<u8>> {
        let mut answer = self.get(url, &HeaderMap::new()).await?;
        match answer.status().as_u16() {
            200 => {}
            // Hubs say so of private ones and of those that are not there.
            401 | 403 | 404 => return Err(Error::NotFound { what, name: name.to_owned() }),
            status => return Err(answers(&answer, status)),
        }
        let mut text = Vec::new();
        while let Some(piece) = self.chunk(&mut answer).await? {
            if text.len() + piece.len() > TEXT_BYTES_MAX {
                return Err(Error::invalid(format!("{} sends more than a description", shown(url))));
            }
            text.extend_from_slice(&piece);
        }
        Ok(text)
    }

    /// The next piece of a body.
    pub(super) async fn chunk(&self, answer: &mut Response) -> Result<Option<bytes::Bytes>> {
        let server = shown(answer.url());
        let next = tokio::time::timeout(self.silence, answer.chunk()).await;
        let next = next.map_err(|_| self.silent(&server))?;
        next.map_err(|error| egress::failed(&server, &error))
    }

    async fn once(&self, method: Method, url: &Url, headers: &HeaderMap) -> Result<Response> {
        let near = url.origin() == self.hub.origin();
        egress::check_address(url, near)?;
        let client = if near { &self.near } else { &self.far };
        let sent = client.request(method, url.clone()).headers(headers.clone()).send();
        let answer = tokio::time::timeout(self.silence, sent).await;
        let answer = answer.map_err(|_| self.silent(&shown(url)))?;
        answer.map_err(|error| egress::failed(&shown(url), &error))
    }

    pub(super) fn next(&self, from: &Url, answer: &Response) -> Result<Url> {
        let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let next = location.and_then(|location| from.join(location).ok());
        let next = next.ok_or_else(|| answers(answer, answer.status().as_u16()))?;
        if from.scheme() == "https" && next.scheme() != "https" {
            return Err(Error::Denied {
                message: format!("{} leads to {}, which is not sealed", shown(from), shown(&next)),
            });
        }
        egress::parse(next.as_str())
    }

    fn silent(&self, server: &str) -> Error {
        Error::Unavailable { message: format!("{server} said nothing for {} s", self.silence.as_secs()) }
    }
}

/// What a status means: one that passes is worth another try.
pub(super) fn answers(answer: &Response, status: u16) -> Error {
    let message = format!("{} answers with status {status}", shown(answer.url()));
    match status {
        408 | 429 | 500.. => Error::Unavailable { message },
        401 | 403 => Error::Denied { message },
        _ => Error::invalid(message),
    }
}

/// Scheme, host and port: what follows may be a secret that opens a file for an hour.
fn shown(url: &Url) -> String {
    url.origin().ascii_serialization()
}
