//! HTTP to this machine, in place of the host's own way out; what stands before a server may ask for a key.

use async_trait::async_trait;
use rag_core::ports::{Http, HttpRequest, HttpResponse};
use rag_core::{Error, Result};

pub(crate) struct Loopback {
    client: reqwest::Client,
    /// Any but `right` is refused before the server sees the request.
    key: Option<&'static str>,
    /// What a grant adds to every request.
    headers: &'static [(&'static str, &'static str)],
}

impl Loopback {
    pub(crate) fn new(key: Option<&'static str>) -> Self {
        Loopback { client: reqwest::Client::builder().no_proxy().build().unwrap(), key, headers: &[] }
    }

    pub(crate) fn with(headers: &'static [(&'static str, &'static str)]) -> Self {
        Loopback { headers, ..Loopback::new(None) }
    }
}

#[async_trait]
impl Http for Loopback {
    async fn fetch(&self, request: HttpRequest) -> Result<HttpResponse> {
        if self.key.is_some_and(|key| key != "right") {
            let body = br#"{"error": "no such key"}"#.to_vec();
            return Ok(HttpResponse { status: 401, headers: vec![], body });
        }
        let method = reqwest::Method::from_bytes(request.method.name().as_bytes()).unwrap();
        let mut sent = self.client.request(method, &request.url);
        for (name, value) in self.headers {
            sent = sent.header(*name, *value);
        }
        for (name, value) in &request.headers {
            sent = sent.header(name, value);
        }
        if let Some(body) = request.body {
            sent = sent.body(body);
        }
        let away = |error: reqwest::Error| Error::Unavailable { message: error.to_string() };
        let answer = sent.send().await.map_err(away)?;
        let status = answer.status().as_u16();
        let body = answer.bytes().await.map_err(away)?.to_vec();
        Ok(HttpResponse { status, headers: vec![], body })
    }
}
