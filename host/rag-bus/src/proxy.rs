//! The proxy between clients (REQ) and workers (REP): a ROUTER and a DEALER socket with a bounded queue between them.

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_core::Stream;
use rag_core::{Error, Result};
use zeromq::{
    DealerRecvHalf, DealerSendHalf, DealerSocket, Endpoint, Host, RouterRecvHalf, RouterSendHalf,
    RouterSocket, Socket, SocketEvent, SocketRecv, SocketSend, ZmqError, ZmqMessage,
};

use crate::exchange::{Decision, Exchange, Frames};

/// How long a client that does not read may hold up its answer before that is dropped.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// One pair of sockets.
#[derive(Debug, Clone)]
pub struct ProxySettings {
    /// Where clients connect, e.g. `tcp://127.0.0.1:7781`.
    pub front: String,
    /// Where workers connect, e.g. `tcp://127.0.0.1:7782`.
    pub back: String,
    /// Requests under way before further ones are refused.
    pub queue_max: usize,
    /// How long a request may take, waiting for a worker included; RWKV-RAG's clients wait 300 s.
    pub request_timeout: Duration,
    /// Bind beyond loopback although nothing on the wire is encrypted or authenticated.
    pub plaintext_beyond_loopback: bool,
}

/// Both sockets, bound and not yet serving.
pub struct Proxy {
    front_end: RouterSocket,
    back_end: DealerSocket,
    front: Endpoint,
    back: Endpoint,
    exchange: Exchange,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("front", &self.front).field("back", &self.back).finish_non_exhaustive()
    }
}

impl Proxy {
    /// Binds both sockets. Port 0 takes a free one; `front` and `back` then tell which.
    pub async fn bind(settings: &ProxySettings) -> Result<Proxy> {
        let (mut front_end, mut back_end) = (RouterSocket::new(), DealerSocket::new());
        let front = checked(&settings.front, settings)?;
        let back = checked(&settings.back, settings)?;
        let front = front_end.bind(&settings.front).await.map_err(|error| not_bound(&front, &error))?;
        let back = back_end.bind(&settings.back).await.map_err(|error| not_bound(&back, &error))?;
        let exchange = Exchange::new(settings.queue_max, settings.request_timeout);
        Ok(Proxy { front_end, back_end, front, back, exchange })
    }

    /// Where clients connect.
    pub fn front(&self) -> String {
        self.front.to_string()
    }

    /// Where workers connect.
    pub fn back(&self) -> String {
        self.back.to_string()
    }

    /// Passes requests and replies until `shutdown` is ready, then answers what is still open and closes both sockets.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Proxy { front_end, mut back_end, exchange, .. } = self;
        let mut events = back_end.monitor();
        let (to_clients, mut from_clients) = front_end.split();
        let (to_workers, mut from_workers) = back_end.split();
        let mut loop_ = Loop { exchange, to_clients, to_workers };
        let mut shutdown = pin!(shutdown);
        loop {
            let deadline = loop_.exchange.next_deadline();
            tokio::select! {
                () = &mut shutdown => break,
                frames = next_request(&mut from_clients) => loop_.request(frames).await,
                frames = next_reply(&mut from_workers) => loop_.reply(&frames).await,
                event = next_event(&mut events) => {
                    if let SocketEvent::Accepted(..) = event {
                        loop_.send_waiting().await;
                    }
                }
                () = until(deadline) => loop_.expire().await,
            }
        }
        for answer in loop_.exchange.stop() {
            loop_.answer(answer).await;
        }
    }
}

struct Loop {
    exchange: Exchange,
    to_clients: RouterSendHalf,
    to_workers: DealerSendHalf,
}

impl Loop {
    async fn request(&mut self, frames: Frames) {
        match self.exchange.request(Instant::now(), frames) {
            Decision::Forward { ticket, frames } => self.forward(ticket, frames).await,
            Decision::Answer(frames) => self.answer(frames).await,
            Decision::Drop => {}
        }
    }

    async fn reply(&mut self, frames: &[Bytes]) {
        if let Some(answer) = self.exchange.reply(frames) {
            self.answer(answer).await;
        }
    }

    async fn expire(&mut self) {
        for answer in self.exchange.expire(Instant::now()) {
            self.answer(answer).await;
        }
    }

    /// Sends what waited for a worker; each still waits when this one is gone again.
    async fn send_waiting(&mut self) {
        for _ in 0..self.exchange.open() {
            let Some((ticket, frames)) = self.exchange.next_waiting() else { return };
            self.forward(ticket, frames).await;
        }
    }

    async fn forward(&mut self, ticket: u64, frames: Frames) {
        let Ok(message) = ZmqMessage::try_from(frames.clone()) else { return };
        if let Err(error) = self.to_workers.send(message).await {
            tracing::debug!(%error, "no worker took the request; it waits for one");
            self.exchange.wait(ticket, frames);
        }
    }

    async fn answer(&mut self, frames: Frames) {
        let Ok(message) = ZmqMessage::try_from(frames) else { return };
        match tokio::time::timeout(SEND_TIMEOUT, self.to_clients.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a client left before its answer"),
            Err(_) => tracing::warn!("a client does not read: its answer is dropped"),
        }
    }
}

/// The next message of a client. An error concerns one connection, which the socket has closed.
async fn next_request(from_clients: &mut RouterRecvHalf) -> Frames {
    loop {
        match from_clients.recv().await {
            Ok(message) => return message.into_vec(),
            Err(error) => tracing::debug!(%error, "a client's connection broke"),
        }
        tokio::task::yield_now().await;
    }
}

/// See `next_request`.
async fn next_reply(from_workers: &mut DealerRecvHalf) -> Frames {
    loop {
        match from_workers.recv().await {
            Ok(message) => return message.into_vec(),
            Err(error) => tracing::debug!(%error, "a worker's connection broke"),
        }
        tokio::task::yield_now().await;
    }
}

/// Connections that come and go on the workers' side. The end of this stream would mean the end of the socket.
async fn next_event(events: &mut (impl Stream<Item = SocketEvent> + Unpin)) -> SocketEvent {
    match poll_fn(|context| Pin::new(&mut *events).poll_next(context)).await {
        Some(event) => event,
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// The endpoint, if it may be bound: only this machine hears what is sent in the clear.
fn checked(endpoint: &str, settings: &ProxySettings) -> Result<Endpoint> {
    let parsed: Endpoint =
        endpoint.parse().map_err(|error| Error::invalid(format!("endpoint '{endpoint}': {error}")))?;
    let local = match &parsed {
        Endpoint::Tcp(host, _) => match host {
            Host::Ipv4(address) => IpAddr::from(*address).is_loopback(),
            Host::Ipv6(address) => IpAddr::from(*address).is_loopback(),
            Host::Domain(name) => name == "localhost",
        },
        _ => false,
    };
    if local || settings.plaintext_beyond_loopback {
        return Ok(parsed);
    }
    Err(Error::Denied {
        message: format!(
            "{endpoint} is not on loopback, and messages are neither encrypted nor authenticated"
        ),
    })
}

fn not_bound(endpoint: &Endpoint, error: &ZmqError) -> Error {
    Error::Unavailable { message: format!("cannot listen on {endpoint}: {error}") }
}

#[cfg(test)]
mod tests;
