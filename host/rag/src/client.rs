//! How a command reaches the system: over HTTP to a running host, or through the same API in this process.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use reqwest::Method;
use serde_json::Value;

use crate::local::Local;

/// Where requests go.
pub(crate) enum Client {
    Remote { http: reqwest::Client, base: String, key: Option<String> },
    Local(Box<Local>),
}

/// An answer whose body is still coming.
pub(crate) struct Reply {
    status: u16,
    body: std::pin::Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>,
}

impl Client {
    /// A client of a running host.
    pub(crate) fn remote(url: &str, key: Option<String>) -> Result<Self> {
        if !(url.starts_with("http://") || url.starts_with("https://")) {
            bail!("--url '{url}' does not begin with http:// or https://");
        }
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Client::Remote { http, base: url.trim_end_matches('/').to_owned(), key })
    }

    /// GET that answers JSON.
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        self.send(Method::GET, path, None, reqwest::Body::from("")).await?.json().await
    }

    /// DELETE; JSON null when there is no body.
    pub(crate) async fn delete(&self, path: &str) -> Result<Value> {
        self.send(Method::DELETE, path, None, reqwest::Body::from("")).await?.json().await
    }

    /// POST of JSON that answers JSON.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.send_json(Method::POST, path, body).await
    }

    /// PUT of JSON that answers JSON.
    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.send_json(Method::PUT, path, body).await
    }

    /// A change of some fields.
    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Result<Value> {
        self.send_json(Method::PATCH, path, body).await
    }

    async fn send_json(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        let body = reqwest::Body::from(body.to_string());
        self.send(method, path, Some(("application/json", "application/json")), body).await?.json().await
    }

    /// POST of JSON that answers server-sent events.
    pub(crate) async fn post_events(&self, path: &str, body: &Value) -> Result<Reply> {
        let body = reqwest::Body::from(body.to_string());
        self.send(Method::POST, path, Some(("application/json", "text/event-stream")), body).await
    }

    /// GET that answers server-sent events or a file.
    pub(crate) async fn get_stream(&self, path: &str) -> Result<Reply> {
        self.send(Method::GET, path, None, reqwest::Body::from("")).await
    }

    /// POST of a file's bytes that answers JSON.
    pub(crate) async fn post_file(&self, path: &str, body: reqwest::Body) -> Result<Value> {
        let types = ("application/octet-stream", "application/json");
        self.send(Method::POST, path, Some(types), body).await?.json().await
    }

    /// PUT of a text that answers JSON.
    pub(crate) async fn put_text(&self, path: &str, text: String) -> Result<Value> {
        let types = ("application/jsonl", "application/json");
        self.send(Method::PUT, path, Some(types), reqwest::Body::from(text)).await?.json().await
    }

    /// Ends what runs in this process for the client.
    pub(crate) fn close(self) {
        if let Client::Local(local) = self {
            local.close();
        }
    }

    /// Sends a request; an error status becomes an error that carries the host's own words.
    async fn send(
        &self,
        method: Method,
        path: &str,
        types: Option<(&str, &str)>,
        body: reqwest::Body,
    ) -> Result<Reply> {
        let reply = match self {
            Client::Remote { http, base, key } => {
                let mut request = http.request(method, format!("{base}{path}")).body(body);
                if let Some((content, accept)) = types {
                    request = request.header("content-type", content).header("accept", accept);
                }
                if let Some(key) = key {
                    request = request.bearer_auth(key);
                }
                let response =
                    request.send().await.with_context(|| format!("cannot reach the host at {base}"))?;
                let status = response.status().as_u16();
                Reply { status, body: Box::pin(response.bytes_stream().map(|chunk| Ok(chunk?))) }
            }
            Client::Local(local) => {
                let (status, body) = local.send(method.as_str(), path, types, body).await?;
                Reply { status, body }
            }
        };
        reply.check().await
    }
}

impl Reply {
    async fn check(self) -> Result<Self> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let status = self.status;
        let text = self.text().await.unwrap_or_default();
        let error: Value = serde_json::from_str(&text).unwrap_or_default();
        match error["error"]["message"].as_str() {
            Some(message) => bail!("{message}"),
            None => bail!("the host answered {status}"),
        }
    }

    /// The whole body as text.
    pub(crate) async fn text(mut self) -> Result<String> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.body.next().await {
            bytes.extend_from_slice(&chunk?);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The next piece of the body.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        self.body.next().await.transpose()
    }

    async fn json(self) -> Result<Value> {
        let text = self.text().await?;
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).context("the host's answer is not JSON; is --url really a rwkv-rag host?")
    }

    /// Calls `event(name, data)` for each server-sent event until it returns false or the stream ends.
    pub(crate) async fn events(mut self, mut event: impl FnMut(&str, Value) -> Result<bool>) -> Result<()> {
        let mut pending = Vec::new();
        while let Some(chunk) = self.body.next().await {
            pending.extend_from_slice(&chunk?);
            while let Some(end) = pending.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = pending.drain(..end + 2).collect();
                let (name, data) = parse_event(&String::from_utf8_lossy(&block));
                if !data.is_empty() && !event(&name, serde_json::from_str(&data)?)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Name and data of one event of a `text/event-stream`.
fn parse_event(block: &str) -> (String, String) {
    let mut name = "message".to_owned();
    let mut data = Vec::new();
    for line in block.lines() {
        if let Some(value) = line.strip_prefix("event:") {
            name = value.trim().to_owned();
        } else if let Some(value) = line.strip_prefix("data:") {
            data.push(value.strip_prefix(' ').unwrap_or(value));
        }
    }
    (name, data.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn events_arrive_whole_however_the_bytes_are_cut() {
        let bytes =
            "event: token\ndata: {\"text\":\"你\"}\n\n: keep-alive\n\nevent: done\ndata: {}\n\n".as_bytes();
        let cut: Vec<Result<Bytes>> =
            bytes.chunks(3).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let reply = Reply { status: 200, body: Box::pin(futures_util::stream::iter(cut)) };
        let mut seen = Vec::new();
        let collect = |name: &str, data: Value| {
            seen.push(format!("{name} {data}"));
            Ok(true)
        };
        reply.events(collect).await.unwrap();
        assert_eq!(seen, ["token {\"text\":\"你\"}", "done {}"]);
    }
}
