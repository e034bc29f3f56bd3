//! The one way out over HTTP, for plugins and for reading the web: grants, checked and pinned addresses, limits.
//!
//! A request is parsed strictly and matched with a grant before a name is looked up. Each grant has a client of its
//! own, whose connections go to exactly the addresses that its resolver checked, so an answer that changes between
//! check and use changes nothing. Nothing follows redirects here, reads proxy settings or keeps cookies.

pub(crate) mod address;
mod pattern;
mod resolver;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::StreamExt;
use rag_core::ports::{Http, HttpGrant, HttpMethod, HttpRequest, HttpResponse};
use rag_core::{Error, Result};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::Semaphore;

use crate::config::outside::Egress as Limits;
use pattern::{Pattern, Target};
pub(crate) use resolver::{Lookup, SystemLookup};
use resolver::{Refused, Resolver};

/// Headers of one request and their bytes in all.
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 32 << 10;
/// Bounds the body of a response.
const RESPONSE_SETTING: &str = "egress.response_bytes_max";
/// What a guest may not set: it belongs to the connection, or says who is asked.
const HEADERS_OF_HOST: [&str; 14] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "accept-encoding",
    "via",
];

/// Makes clients that are bound to grants.
#[derive(Clone)]
pub(crate) struct Egress {
    limits: Limits,
    lookup: Arc<dyn Lookup>,
}

impl Egress {
    pub(crate) fn new(limits: Limits, lookup: Arc<dyn Lookup>) -> Self {
        Egress { limits, lookup }
    }

    /// The same under other limits.
    pub(crate) fn with(&self, limits: Limits) -> Self {
        Egress { limits, lookup: self.lookup.clone() }
    }

    /// HTTP within `grants`; `label` names who asks in the log and in refusals.
    pub(crate) fn granted(&self, label: &str, grants: Vec<HttpGrant>) -> Result<Arc<dyn Http>> {
        let channels: Result<Vec<Channel>> = grants.into_iter().map(|grant| self.channel(grant)).collect();
        let limits = self.limits.clone();
        Ok(Arc::new(Granted { label: label.to_owned(), channels: channels?, limits }))
    }

    /// A client that connects to checked addresses only and follows nothing; `private` lets in this machine and
    /// private networks. A host that is an address itself is no name to look up: `check_address` is asked before.
    pub(crate) fn client(&self, private: bool) -> Result<reqwest::Client> {
        reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .user_agent(concat!("rwkv-rag/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_millis(self.limits.connect_timeout_ms))
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(4)
            .tcp_nodelay(true)
            .dns_resolver(Arc::new(Resolver { lookup: self.lookup.clone(), private }))
            .build()
            .map_err(|error| Error::internal(format!("no HTTP client: {error}")))
    }

    fn channel(&self, grant: HttpGrant) -> Result<Channel> {
        let pattern = Pattern::parse(&grant.origin)?;
        let client = self.client(grant.private)?;
        let injected = headers(&grant.headers)?;
        let permits = Semaphore::new(self.limits.requests_max);
        Ok(Channel { pattern, grant, client, injected, permits })
    }
}

/// Refuses a grant that could never be used, saying why.
pub(crate) fn check_grant(grant: &HttpGrant) -> Result<()> {
    Pattern::parse(&grant.origin)?;
    if !grant.path.is_empty() && !grant.path.starts_with('/') {
        return Err(Error::invalid(format!("the path '{}' of a grant begins with '/'", grant.path)));
    }
    headers(&grant.headers).map(|_| ())
}

/// An address in the form that is compared and kept; the error says what is wrong with it.
pub(crate) fn parse(url: &str) -> Result<url::Url> {
    Target::parse(url).map(|target| target.url)
}

/// Refuses an address that is not asked, in words of its own; a name is checked when it is looked up.
pub(crate) fn check_address(url: &url::Url, private: bool) -> Result<()> {
    check_target(&Target::parse(url.as_str())?, private)
}

fn check_target(target: &Target, private: bool) -> Result<()> {
    let Some(address) = target.address() else { return Ok(()) };
    address::check(address, private).map_err(|reason| Error::Denied {
        message: format!("{} is not reached: it is {reason}", target.shown()),
    })
}

/// One grant with its connections.
struct Channel {
    pattern: Pattern,
    grant: HttpGrant,
    client: reqwest::Client,
    injected: HeaderMap,
    permits: Semaphore,
}

impl Channel {
    fn covers(&self, target: &Target, method: HttpMethod) -> bool {
        self.pattern.matches(target)
            && target.is_below(&self.grant.path)
            && (self.grant.methods.is_empty() || self.grant.methods.contains(&method))
    }
}

struct Granted {
    label: String,
    channels: Vec<Channel>,
    limits: Limits,
}

#[async_trait]
impl Http for Granted {
    async fn fetch(&self, request: HttpRequest) -> Result<HttpResponse> {
        let target = Target::parse(&request.url)?;
        let method = request.method;
        let channel = self.channels.iter().find(|channel| channel.covers(&target, method));
        let channel = channel.ok_or_else(|| Error::Denied {
            message: format!("{} is not granted {} {}", self.label, method.name(), target.shown()),
        })?;
        check_target(&target, channel.grant.private)?;
        let bytes = request.body.as_ref().map_or(0, Vec::len);
        if bytes > self.limits.request_bytes_max {
            return Err(too_large(
                "a request",
                bytes,
                self.limits.request_bytes_max,
                "egress.request_bytes_max",
            ));
        }
        let started = Instant::now();
        let limit_ms = self.limits.timeout_ms;
        let exchange = self.exchange(channel, &target, request);
        let outcome = match tokio::time::timeout(Duration::from_millis(limit_ms), exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Timeout {
                what: format!("{} {}", method.name(), target.shown()),
                limit_ms,
                setting: "egress.timeout_ms",
            }),
        };
        tracing::debug!(
            target: "egress",
            who = self.label,
            method = method.name(),
            server = target.shown(),
            sent = bytes,
            received = outcome.as_ref().map_or(0, |response| response.body.len()),
            status = outcome.as_ref().map_or(0, |response| response.status),
            ms = started.elapsed().as_millis() as u64,
            "request"
        );
        outcome
    }
}

impl Granted {
    async fn exchange(
        &self,
        channel: &Channel,
        target: &Target,
        request: HttpRequest,
    ) -> Result<HttpResponse> {
        let _permit = channel.permits.acquire().await.map_err(|_| Error::Cancelled)?;
        let mut fields = headers(&request.headers)?;
        for name in HEADERS_OF_HOST {
            fields.remove(name);
        }
        // What the host adds wins over what the guest wrote.
        for (name, value) in &channel.injected {
            fields.insert(name, value.clone());
        }
        let method = reqwest::Method::from_bytes(request.method.name().as_bytes())
            .map_err(|_| Error::internal("a method without a name"))?;
        let mut sent = channel.client.request(method, target.url.clone()).headers(fields);
        if let Some(body) = request.body {
            sent = sent.body(body);
        }
        let response = sent.send().await.map_err(|error| failed(&target.shown(), &error))?;
        self.receive(target, response).await
    }

    async fn receive(&self, target: &Target, response: reqwest::Response) -> Result<HttpResponse> {
        let limit = self.limits.response_bytes_max;
        let status = response.status().as_u16();
        let mut fields = Vec::new();
        let mut bytes = 0;
        for (name, value) in response.headers().iter().take(HEADERS_MAX) {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            bytes += name.as_str().len() + value.len();
            if bytes > HEADER_BYTES_MAX {
                break;
            }
            fields.push((name.as_str().to_owned(), value));
        }
        let announced = response.content_length().unwrap_or(0) as usize;
        if announced > limit {
            return Err(too_large("a response", announced, limit, RESPONSE_SETTING));
        }
        let mut body = Vec::with_capacity(announced);
        let mut stream = response.bytes_stream();
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|error| failed(&target.shown(), &error))?;
            if body.len() + piece.len() > limit {
                return Err(too_large("a response", body.len() + piece.len(), limit, RESPONSE_SETTING));
            }
            body.extend_from_slice(&piece);
        }
        Ok(HttpResponse { status, headers: fields, body })
    }
}

fn too_large(what: &str, size: usize, limit: usize, setting: &'static str) -> Error {
    Error::TooLarge { what: what.to_owned(), size: size as u64, limit: limit as u64, unit: "bytes", setting }
}

/// Headers that can be sent; a name or value with control characters is refused.
fn headers(pairs: &[(String, String)]) -> Result<HeaderMap> {
    if pairs.len() > HEADERS_MAX
        || pairs.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>() > HEADER_BYTES_MAX
    {
        return Err(Error::invalid(format!("at most {HEADERS_MAX} headers of {HEADER_BYTES_MAX} bytes")));
    }
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        let field = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| Error::invalid(format!("'{}' cannot name a header", name.escape_debug())))?;
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| Error::invalid(format!("header '{field}' holds control characters")))?;
        value.set_sensitive(true);
        map.append(field, value);
    }
    Ok(map)
}

/// What a failed exchange means; a refusal of the resolver comes out as one.
pub(crate) fn failed(server: &str, error: &reqwest::Error) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut last = String::new();
    while let Some(inner) = cause {
        if let Some(Refused(reason)) = inner.downcast_ref::<Refused>() {
            return Error::Denied { message: format!("{server} is not reached: {reason}") };
        }
        last = inner.to_string();
        cause = inner.source();
    }
    Error::Unavailable { message: format!("{server} does not answer: {last}") }
}
