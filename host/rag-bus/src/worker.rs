//! Offers a service behind a proxy: connects, says what it can do, answers, drains, and comes back after a break.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rag_core::{Error, Result};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::connection::{self, ConnectionId, Handler, Incoming, Outbox};
use crate::endpoint::Endpoint;
use crate::envelope::{FLAG_LEGACY, Header, Hello, Kind, message};
use crate::fault;
use crate::security::Security;
use crate::value::Value;
use crate::wire::{Reply, Request};
use crate::zmtp::handshake::handshake;

/// Waits between attempts to reach the proxy: doubled from the first to the last.
pub(crate) const RECONNECT: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(50)..=Duration::from_secs(2);

/// What a worker does. Each call is a task of its own, dropped when nobody waits for it any more.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// Name of the service, number of requests taken at once, name of this worker.
    fn hello(&self) -> Hello;

    /// One of RWKV-RAG's commands.
    async fn legacy(&self, request: Request) -> Result<Value>;

    /// One of our own calls; `sink` takes parts of the answer while it grows.
    async fn call(&self, operation: &str, arguments: &Value, sink: &mut Sink) -> Result<Value>;
}

/// Where and how a worker serves.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// The proxy's back end.
    pub back: Endpoint,
    pub security: Security,
    /// Between two signs of life of an idle connection.
    pub heartbeat: Duration,
    /// Time for requests under way once the worker stops.
    pub drain: Duration,
}

/// Parts of an answer on their way to the client.
#[derive(Debug)]
pub struct Sink {
    id: u64,
    sequence: u32,
    outbox: Arc<Outbox>,
}

impl Sink {
    /// Sends the next part.
    pub fn chunk(&mut self, body: &Value) {
        let header = Header { sequence: self.sequence, ..Header::new(Kind::Chunk, self.id) };
        self.sequence += 1;
        self.outbox.push(message(header, body));
    }

    /// Tells how far the work is: `done` of `total`, 0 for unknown.
    pub fn progress(&mut self, done: u64, total: u64) {
        let body = Value::map([("done", done.into()), ("total", total.into())]);
        self.outbox.push(message(Header::new(Kind::Progress, self.id), &body));
    }
}

/// Serves until `shutdown` is ready and what was under way has ended or `drain` has passed.
///
/// # Errors
/// Only for settings that forbid the connection; a proxy that is not there is waited for.
pub async fn serve(
    service: Arc<dyn Service>,
    settings: WorkerSettings,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let identity = settings.security.connecting(&settings.back)?;
    let mut shutdown = pin!(shutdown);
    let mut pause = *RECONNECT.start();
    loop {
        let connecting = async {
            let (mut read, mut write) = settings.back.connect().await?;
            let session = handshake(&mut read, &mut write, "DEALER", identity.as_ref()).await?;
            Ok::<_, crate::zmtp::ZmtpError>(((read, write), session))
        };
        let connected = tokio::select! {
            () = &mut shutdown => return Ok(()),
            connected = connecting => connected,
        };
        match connected {
            Ok((halves, session)) => {
                tracing::info!(proxy = %settings.back, service = service.hello().service, "serving");
                pause = *RECONNECT.start();
                let worker = Worker::new(service.clone());
                let mut running = pin!(connection::run(halves, session, settings.heartbeat, &worker));
                tokio::select! {
                    _ = &mut running => tracing::warn!(proxy = %settings.back, "the proxy is gone; trying again"),
                    () = &mut shutdown => {
                        let ended = tokio::time::timeout(settings.drain, worker.drain());
                        tokio::select! {
                            _ = &mut running => {}
                            _ = ended => {
                                worker.close();
                                // The last answers leave; a proxy that does not take them is not waited for.
                                let _ = tokio::time::timeout(Duration::from_secs(1), running).await;
                            }
                        }
                        return Ok(());
                    }
                }
            }
            Err(error) => tracing::debug!(proxy = %settings.back, %error, "no proxy"),
        }
        tokio::select! {
            () = &mut shutdown => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(*RECONNECT.end());
    }
}

/// One connection's requests.
struct Worker {
    service: Arc<dyn Service>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    idle: Notify,
}

#[derive(Default)]
struct State {
    running: HashMap<u64, Option<AbortHandle>>,
    outbox: Option<Arc<Outbox>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Worker {
    fn new(service: Arc<dyn Service>) -> Self {
        Worker { service, shared: Arc::default() }
    }

    /// Asks for no more and waits until everything is answered.
    async fn drain(&self) {
        if let Some(outbox) = &self.shared.lock().outbox {
            outbox.push(vec![Header::new(Kind::Drain, 0).encode(), Bytes::new()]);
        }
        loop {
            let idle = self.shared.idle.notified();
            if self.shared.lock().running.is_empty() {
                return;
            }
            idle.await;
        }
    }

    fn close(&self) {
        if let Some(outbox) = &self.shared.lock().outbox {
            outbox.close();
        }
    }

    fn request(&self, header: Header, body: Bytes) {
        let Some(outbox) = self.shared.lock().outbox.clone() else { return };
        let capacity = self.service.hello().capacity as usize;
        {
            let mut state = self.shared.lock();
            // A proxy keeps to our capacity; requests that were cancelled may still be ending.
            if state.running.len() >= capacity.saturating_mul(2) {
                let error = Error::Busy { what: "the service", limit: capacity };
                return outbox.push(message(Header::new(Kind::Error, header.id), &fault::encode(&error)));
            }
            state.running.insert(header.id, None);
        }
        let answer = Answer { id: header.id, outbox, shared: self.shared.clone(), sent: false };
        let task = tokio::spawn(work(self.service.clone(), header, body, answer));
        // A task that has ended already has taken itself out.
        if let Some(running) = self.shared.lock().running.get_mut(&header.id) {
            *running = Some(task.abort_handle());
        }
    }
}

impl Handler for Worker {
    fn opened(&self, _: ConnectionId, _: &str, outbox: &Arc<Outbox>) {
        self.shared.lock().outbox = Some(outbox.clone());
        outbox.push(self.service.hello().encode());
    }

    fn received(&self, _: ConnectionId, messages: Vec<Incoming>) {
        for incoming in messages {
            let Incoming::Message(frames) = incoming else { continue };
            let [header, body] = &frames[..] else { continue };
            let Some(header) = Header::decode(header) else { continue };
            match header.kind {
                Kind::Request => self.request(header, body.clone()),
                Kind::Cancel => {
                    let task = self.shared.lock().running.remove(&header.id).flatten();
                    if let Some(task) = task {
                        task.abort();
                    }
                    self.shared.idle.notify_waiters();
                }
                Kind::Error => {
                    let why = Value::decode(body).map_or_else(Error::from, |body| fault::decode(&body));
                    tracing::error!(error = %why, "the proxy refuses this worker");
                }
                Kind::Hello | Kind::Chunk | Kind::Progress | Kind::Reply | Kind::Drain => {}
            }
        }
    }

    /// Nobody can be answered any more.
    fn closed(&self, _: ConnectionId) {
        let running = std::mem::take(&mut self.shared.lock().running);
        running.into_values().flatten().for_each(|task| task.abort());
        self.shared.idle.notify_waiters();
    }
}

/// Does one request within its time.
async fn work(service: Arc<dyn Service>, header: Header, body: Bytes, mut answer: Answer) {
    let time = match header.deadline_ms {
        0 => Duration::from_secs(3600),
        millis => Duration::from_millis(millis.into()),
    };
    let late = || Error::Timeout {
        what: "the request".to_owned(),
        limit_ms: u64::from(header.deadline_ms),
        setting: "bus.request_timeout_ms",
    };
    if header.legacy() {
        let result = match Request::decode(&body) {
            Ok(request) => tokio::time::timeout(time, service.legacy(request)).await,
            Err(error) => Ok(Err(error.into())),
        };
        answer.legacy(&Reply::from(result.unwrap_or_else(|_| Err(late()))));
        return;
    }
    let result = match Call::decode(&body) {
        Ok(call) => {
            let mut sink = Sink { id: header.id, sequence: 0, outbox: answer.outbox.clone() };
            let calling = service.call(&call.operation, &call.arguments, &mut sink);
            tokio::time::timeout(time, calling).await.unwrap_or_else(|_| Err(late()))
        }
        Err(error) => Err(error),
    };
    answer.ours(result);
}

/// What a request of ours asks for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    pub(crate) operation: String,
    pub(crate) arguments: Value,
}

impl Call {
    pub(crate) fn encode(&self) -> Value {
        Value::map([("op", self.operation.as_str().into()), ("args", self.arguments.clone())])
    }

    fn decode(body: &[u8]) -> Result<Call> {
        let body = Value::decode(body)?;
        let operation = body.get("op").and_then(Value::as_str);
        let operation = operation.ok_or_else(|| Error::invalid("a request has a text 'op' and 'args'"))?;
        let arguments = body.get("args").cloned().unwrap_or(Value::Nil);
        Ok(Call { operation: operation.to_owned(), arguments })
    }
}

/// Owes a client an answer: when the work ends without one, that is an error of ours and told as such.
struct Answer {
    id: u64,
    outbox: Arc<Outbox>,
    shared: Arc<Shared>,
    sent: bool,
}

impl Answer {
    fn legacy(&mut self, reply: &Reply) {
        let header = Header { flags: FLAG_LEGACY, ..Header::new(Kind::Reply, self.id) };
        self.send(vec![header.encode(), reply.encode().into()]);
    }

    fn ours(&mut self, result: Result<Value>) {
        self.send(match result {
            Ok(value) => message(Header::new(Kind::Reply, self.id), &value),
            Err(error) => message(Header::new(Kind::Error, self.id), &fault::encode(&error)),
        });
    }

    fn send(&mut self, frames: Vec<Bytes>) {
        self.sent = true;
        self.outbox.push(frames);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.sent && std::thread::panicking() {
            self.ours(Err(Error::internal("the service failed on this request")));
        }
        self.shared.lock().running.remove(&self.id);
        self.shared.idle.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
