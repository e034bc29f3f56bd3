//! The proxy between clients (front) and workers (back) of one service: sockets around the decisions of `exchange`.
//!
//! RWKV-RAG's REQ clients and REP workers connect as to its own proxies; clients and workers of ours do so with the
//! same sockets and more to say.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rag_core::Result;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::connection::{self, ConnectionId, Handler, Incoming, Outbox};
use crate::endpoint::{Endpoint, Listener};
use crate::exchange::{Exchange, Limits, Stats};
use crate::security::Security;
use crate::zmtp::curve::Identity;
use crate::zmtp::handshake::handshake;

/// Connections of one end; a further one waits to be accepted.
const CONNECTIONS_MAX: usize = 4096;
/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(50);
/// Time for last answers to leave once the proxy stops.
const FLUSH: Duration = Duration::from_secs(1);
/// Wait after the system refused to accept, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One pair of sockets.
#[derive(Debug, Clone)]
pub struct ProxySettings {
    /// Name of the service, as its workers say it: `llm`, `index`, `tuning`, or any other.
    pub service: String,
    /// Where clients connect, e.g. `tcp://127.0.0.1:7781`.
    pub front: Endpoint,
    /// Where workers connect, e.g. `tcp://127.0.0.1:7782`.
    pub back: Endpoint,
    /// Requests under way before further ones are refused.
    pub queue_max: usize,
    /// Bytes of requests under way, likewise.
    pub queue_bytes_max: usize,
    /// How long a request may take, waiting for a worker included; RWKV-RAG's clients wait 300 s.
    pub request_timeout: Duration,
    /// How long requests wait while no worker is connected at all.
    pub worker_wait: Duration,
    /// Between two signs of life of an idle connection; a peer that is silent for four counts as gone.
    pub heartbeat: Duration,
    /// Time for requests under way once the proxy stops.
    pub drain: Duration,
    pub security: Security,
}

/// Both sockets, bound and not yet serving.
#[derive(Debug)]
pub struct Proxy {
    front: Side,
    back: Side,
    settings: ProxySettings,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Side {
    listener: Listener,
    endpoint: Endpoint,
    identity: Option<Identity>,
    socket_type: &'static str,
}

/// Reads a running proxy's numbers.
#[derive(Debug, Clone)]
pub struct Watch {
    service: String,
    shared: Arc<Shared>,
}

impl Watch {
    pub fn service(&self) -> &str {
        &self.service
    }

    pub fn stats(&self) -> Stats {
        self.shared.lock().exchange.stats()
    }
}

#[derive(Debug)]
struct Shared(Mutex<State>);

#[derive(Debug)]
struct State {
    exchange: Exchange,
    outboxes: HashMap<ConnectionId, Arc<Outbox>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the exchange and sends what it decides.
    fn act(&self, change: impl FnOnce(&mut Exchange)) {
        let mut state = self.lock();
        state.exchange.at(Instant::now());
        change(&mut state.exchange);
        for (to, frames) in state.exchange.take_output() {
            if let Some(outbox) = state.outboxes.get(&to) {
                outbox.push(frames);
            }
        }
    }
}

struct Front(Arc<Shared>);
struct Back(Arc<Shared>);

impl Handler for Front {
    fn opened(&self, id: ConnectionId, _: &str, outbox: &Arc<Outbox>) {
        self.0.lock().outboxes.insert(id, outbox.clone());
    }

    fn received(&self, id: ConnectionId, messages: Vec<Incoming>) {
        self.0.act(|exchange| {
            messages.into_iter().for_each(|message| exchange.client_says(id, message));
        });
    }

    fn closed(&self, id: ConnectionId) {
        self.0.lock().outboxes.remove(&id);
        self.0.act(|exchange| exchange.client_closed(id));
    }
}

impl Handler for Back {
    fn opened(&self, id: ConnectionId, socket_type: &str, outbox: &Arc<Outbox>) {
        self.0.lock().outboxes.insert(id, outbox.clone());
        if socket_type == "REP" {
            self.0.act(|exchange| exchange.rep_worker_opened(id));
        }
    }

    fn received(&self, id: ConnectionId, messages: Vec<Incoming>) {
        self.0.act(|exchange| {
            messages.into_iter().for_each(|message| exchange.worker_says(id, message));
        });
    }

    fn closed(&self, id: ConnectionId) {
        self.0.lock().outboxes.remove(&id);
        self.0.act(|exchange| exchange.worker_closed(id));
    }
}

impl Proxy {
    /// Binds both sockets. Port 0 takes a free one; `front` and `back` then tell which.
    pub async fn bind(settings: ProxySettings) -> Result<Proxy> {
        let front = Side::bind(&settings.front, &settings.security, "ROUTER").await?;
        let back = Side::bind(&settings.back, &settings.security, "DEALER").await?;
        let limits = Limits {
            service: settings.service.clone(),
            queue_max: settings.queue_max,
            queue_bytes_max: settings.queue_bytes_max,
            timeout: settings.request_timeout,
            worker_wait: settings.worker_wait,
        };
        let exchange = Exchange::new(limits, Instant::now());
        let shared = Arc::new(Shared(Mutex::new(State { exchange, outboxes: HashMap::new() })));
        Ok(Proxy { front, back, settings, shared })
    }

    /// Where clients connect.
    pub fn front(&self) -> &Endpoint {
        &self.front.endpoint
    }

    /// Where workers connect.
    pub fn back(&self) -> &Endpoint {
        &self.back.endpoint
    }

    pub fn watch(&self) -> Watch {
        Watch { service: self.settings.service.clone(), shared: self.shared.clone() }
    }

    /// Passes requests and replies until `shutdown` is ready; then lets what is open end within `drain`, answers the
    /// rest and closes every connection.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Proxy { front, back, settings, shared } = self;
        let heartbeat = settings.heartbeat;
        let mut sides = JoinSet::new();
        let connections = Arc::new(tokio::sync::Mutex::new(JoinSet::new()));
        sides.spawn(front.serve(Arc::new(Front(shared.clone())), heartbeat, connections.clone()));
        sides.spawn(back.serve(Arc::new(Back(shared.clone())), heartbeat, connections.clone()));
        let ticking = async {
            loop {
                tokio::time::sleep(TICK).await;
                shared.act(Exchange::expire);
            }
        };
        tokio::select! {
            () = shutdown => {}
            () = ticking => {}
        }
        // No new connections; the ports are free from here on.
        sides.shutdown().await;
        shared.act(Exchange::stop);
        let until = Instant::now() + settings.drain;
        while shared.lock().exchange.stats().open > 0 && Instant::now() < until {
            tokio::time::sleep(TICK).await;
            shared.act(Exchange::expire);
        }
        shared.act(Exchange::abort);
        shared.lock().outboxes.values().for_each(|outbox| outbox.close());
        let mut connections = connections.lock().await;
        let flushed = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(FLUSH, flushed).await;
        connections.shutdown().await;
    }
}

impl Side {
    async fn bind(endpoint: &Endpoint, security: &Security, socket_type: &'static str) -> Result<Side> {
        let identity = security.listening(endpoint)?;
        let listener = endpoint.bind().await?;
        Ok(Side { endpoint: listener.endpoint()?, listener, identity, socket_type })
    }

    async fn serve(
        self,
        handler: Arc<dyn Handler>,
        heartbeat: Duration,
        connections: Arc<tokio::sync::Mutex<JoinSet<()>>>,
    ) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let identity = self.identity.map(Arc::new);
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let (mut read, mut write) = match self.listener.accept().await {
                Ok(halves) => halves,
                Err(error) => {
                    tracing::warn!(%error, endpoint = %self.endpoint, "no connection could be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (handler, identity, socket_type) = (handler.clone(), identity.clone(), self.socket_type);
            let mut connections = connections.lock().await;
            while connections.try_join_next().is_some() {}
            connections.spawn(async move {
                match handshake(&mut read, &mut write, socket_type, identity.as_deref()).await {
                    Ok(session) => {
                        connection::run((read, write), session, heartbeat, handler.as_ref()).await;
                    }
                    Err(error) => tracing::debug!(%error, "a peer was turned away"),
                }
                drop(place);
            });
        }
    }
}

#[cfg(test)]
mod tests;
