//! HTTP through the bus: a web role passes its requests on, an index role answers them. `PROTOCOL.md` has the messages.

use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use rag_core::ports::{Site, SiteBody, SiteHead, SiteRequest};
use rag_core::{Error, Result};

use crate::client::{Client, Event, Events, Repeat};
use crate::value::{FRAME_BYTES_MAX, Value};
use crate::worker::Sink;

/// One HTTP request; the first chunk of the answer is its head, the others its body.
pub const HTTP: &str = "index.http";

/// Parts of one answer that may wait for a slow reader; one that is slower loses the rest.
const PARTS_MAX: usize = 4096;
/// Bytes of one answer: what its reader is slow to take waits in memory.
const ANSWER_BYTES_MAX: usize = FRAME_BYTES_MAX;
const HEADERS_MAX: usize = 256;

fn wrong(what: &str) -> Error {
    Error::invalid(format!("'{what}' is missing or of another type"))
}

fn headers(given: &[(String, Bytes)]) -> Value {
    let header =
        |(name, value): &(String, Bytes)| Value::Array(vec![name.as_str().into(), Value::Bin(value.clone())]);
    Value::Array(given.iter().map(header).collect())
}

fn headers_of(value: &Value) -> Result<Vec<(String, Bytes)>> {
    let list = value.get("headers").and_then(Value::as_list).filter(|list| list.len() <= HEADERS_MAX);
    let pair = |pair: &Value| match pair.as_list() {
        Some([Value::Str(name), Value::Bin(value)]) => Ok((name.clone(), value.clone())),
        _ => Err(wrong("headers")),
    };
    list.ok_or_else(|| wrong("headers"))?.iter().map(pair).collect()
}

fn arguments(request: &SiteRequest) -> Value {
    Value::map([
        ("method", request.method.as_str().into()),
        ("target", request.target.as_str().into()),
        ("headers", headers(&request.headers)),
        ("body", Value::Bin(request.body.clone())),
        ("peer", request.peer.to_string().into()),
    ])
}

fn request_of(arguments: &Value) -> Result<SiteRequest> {
    let text = |name| arguments.get(name).and_then(Value::as_str).ok_or_else(|| wrong(name));
    let Some(Value::Bin(body)) = arguments.get("body") else { return Err(wrong("body")) };
    Ok(SiteRequest {
        method: text("method")?.to_owned(),
        target: text("target")?.to_owned(),
        headers: headers_of(arguments)?,
        body: body.clone(),
        peer: text("peer")?.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
    })
}

/// Answers one request from `site`.
pub(crate) async fn answer(site: &dyn Site, arguments: &Value, sink: &mut Sink) -> Result<Value> {
    let (head, mut body) = site.answer(request_of(arguments)?).await?;
    sink.chunk(&Value::map([("status", u64::from(head.status).into()), ("headers", headers(&head.headers))]));
    let mut sent = 0;
    while let Some(piece) = std::future::poll_fn(|context| body.as_mut().poll_next(context)).await {
        let piece = piece?;
        sent += piece.len();
        if sent > ANSWER_BYTES_MAX {
            return Err(Error::TooLarge {
                what: "an answer through a web role".to_owned(),
                size: sent as u64,
                limit: ANSWER_BYTES_MAX as u64,
                unit: "bytes",
                setting: "bus.web_keeps_data, with which a web role answers by itself",
            });
        }
        sink.chunk(&Value::Bin(piece));
    }
    Ok(Value::Nil)
}

/// The site of an index service.
#[derive(Debug)]
pub struct RemoteSite {
    pub client: Client,
}

#[async_trait]
impl Site for RemoteSite {
    async fn answer(&self, request: SiteRequest) -> Result<(SiteHead, SiteBody)> {
        // What only reads may be done twice when the index role ends in the middle.
        let repeat = match request.method.as_str() {
            "GET" | "HEAD" | "OPTIONS" => Repeat::Safe,
            _ => Repeat::Never,
        };
        let mut events = self.client.stream(HTTP, arguments(&request), repeat, PARTS_MAX).await?;
        let head = match events.next().await {
            Some(Ok(Event::Chunk(head))) => head,
            Some(Err(error)) => return Err(error),
            _ => return Err(Error::internal("an answer without a head")),
        };
        let status = head.get("status").and_then(Value::as_int).and_then(|status| u16::try_from(status).ok());
        let head = SiteHead { status: status.ok_or_else(|| wrong("status"))?, headers: headers_of(&head)? };
        Ok((head, Box::pin(Pieces { next: None, events: Some(events) })))
    }
}

type Next = Pin<Box<dyn Future<Output = (Events, Option<Result<Event>>)> + Send>>;

/// Chunks as they come; dropping it cancels the request.
struct Pieces {
    events: Option<Events>,
    next: Option<Next>,
}

impl Stream for Pieces {
    type Item = Result<Bytes>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        use std::task::Poll;
        let this = &mut *self;
        if let Some(mut events) = this.events.take() {
            this.next = Some(Box::pin(async move {
                let event = events.next().await;
                (events, event)
            }));
        }
        let Some(next) = &mut this.next else { return Poll::Ready(None) };
        let Poll::Ready((events, event)) = next.as_mut().poll(context) else { return Poll::Pending };
        this.next = None;
        match event {
            Some(Ok(Event::Chunk(Value::Bin(piece)))) => {
                this.events = Some(events);
                Poll::Ready(Some(Ok(piece)))
            }
            Some(Ok(Event::Reply(_))) | None => Poll::Ready(None),
            Some(Ok(_)) => Poll::Ready(Some(Err(wrong("a part of an answer")))),
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_arrives_as_it_was_sent() {
        let request = SiteRequest {
            method: "POST".into(),
            target: "/api/v1/kbs?名=1".into(),
            headers: vec![("cookie".into(), Bytes::from_static(b"\xff=1")), ("cookie".into(), "b".into())],
            body: Bytes::from_static(b"\0{}"),
            peer: "::1".parse().unwrap(),
        };
        let sent = Value::decode(&arguments(&request).encode()).unwrap();
        assert_eq!(request_of(&sent).unwrap(), request);
        assert!(request_of(&Value::Nil).is_err());
        let many = Value::map([("headers", headers(&vec![("a".to_owned(), Bytes::new()); HEADERS_MAX + 1]))]);
        assert!(headers_of(&many).is_err());
    }
}
