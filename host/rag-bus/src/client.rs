//! Asks a service through its proxy: many requests at once over one connection that comes back by itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rag_core::{Error, Result};
use tokio::sync::{mpsc, watch};

use crate::connection::{self, ConnectionId, Frames, Handler, Incoming, Outbox};
use crate::endpoint::Endpoint;
use crate::envelope::{FLAG_LEGACY, FLAG_REPEATABLE, Header, Kind};
use crate::fault;
use crate::security::Security;
use crate::value::Value;
use crate::wire::{Reply, Request};
use crate::worker::{Call, RECONNECT};
use crate::zmtp::ZmtpError;
use crate::zmtp::curve::Identity;
use crate::zmtp::handshake::handshake;

/// Requests under way in one client.
const OPEN_MAX: usize = 4096;
/// A proxy that is away for longer is told to the caller.
const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// Where and how to ask.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// The proxy's front end.
    pub front: Endpoint,
    pub security: Security,
    /// Between two signs of life of an idle connection.
    pub heartbeat: Duration,
    /// How long one request may take.
    pub timeout: Duration,
}

/// Whether a request may be done twice when a worker or the connection breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    Safe,
    Never,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Chunk(Value),
    /// `done` of `total`.
    Progress(Value),
    Reply(Value),
}

/// A connection to one service. Clones share it; it ends with the last of them.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: ClientSettings,
    state: Mutex<State>,
    connected: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    outbox: Option<Arc<Outbox>>,
    open: HashMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    events: mpsc::Sender<Result<Event>>,
    header: Header,
    body: Bytes,
    deadline: Instant,
    /// Whether it went out over a connection that broke since.
    resent: bool,
    begun: bool,
}

impl Client {
    /// Starts connecting; call within a runtime. `Denied` or `InvalidInput` when the settings forbid it.
    pub fn start(settings: ClientSettings) -> Result<Client> {
        let identity = settings.security.connecting(&settings.front)?;
        let (connected, _) = watch::channel(false);
        let shared = Arc::new(Shared { settings, state: Mutex::default(), connected });
        tokio::spawn(keep_connected(Arc::downgrade(&shared), identity));
        Ok(Client { shared })
    }

    /// Where it connects.
    pub fn front(&self) -> &Endpoint {
        &self.shared.settings.front
    }

    /// One request of ours with one answer.
    pub async fn call(&self, operation: &str, arguments: Value, repeat: Repeat) -> Result<Value> {
        let mut events = self.stream(operation, arguments, repeat, 1).await?;
        events.last().await
    }

    /// One request of ours whose answer comes in parts, of which `parts_max` may wait to be taken.
    pub async fn stream(
        &self,
        operation: &str,
        arguments: Value,
        repeat: Repeat,
        parts_max: usize,
    ) -> Result<Events> {
        let call = Call { operation: operation.to_owned(), arguments };
        let flags = if repeat == Repeat::Safe { FLAG_REPEATABLE } else { 0 };
        self.send(flags, call.encode().encode().into(), parts_max).await
    }

    /// One of RWKV-RAG's commands.
    pub async fn legacy(&self, request: &Request) -> Result<Value> {
        let mut events = self.send(FLAG_LEGACY, request.encode().into(), 1).await?;
        events.last().await
    }

    async fn send(&self, flags: u8, body: Bytes, parts_max: usize) -> Result<Events> {
        let shared = &self.shared;
        let mut connected = shared.connected.subscribe();
        let waited = tokio::time::timeout(CONNECT_WAIT, connected.wait_for(|connected| *connected)).await;
        if !matches!(waited, Ok(Ok(_))) {
            return Err(shared.away());
        }
        let deadline = Instant::now() + shared.settings.timeout;
        // Room for every part and the end, so that the connection never waits for this caller.
        let (sender, events) = mpsc::channel(parts_max + 1);
        let mut state = shared.lock();
        if state.open.len() >= OPEN_MAX {
            return Err(Error::Busy { what: "the service", limit: OPEN_MAX });
        }
        state.next_id += 1;
        let id = state.next_id;
        let header = Header { flags, ..Header::new(Kind::Request, id) };
        let open = Open { events: sender, header, body, deadline, resent: false, begun: false };
        if let Some(outbox) = &state.outbox {
            outbox.push(open.frames());
        }
        state.open.insert(id, open);
        drop(state);
        Ok(Events { shared: shared.clone(), id, events, deadline, ended: false })
    }
}

impl Open {
    fn frames(&self) -> Frames {
        let left = self.deadline.saturating_duration_since(Instant::now()).as_millis();
        let deadline_ms = u32::try_from(left).unwrap_or(u32::MAX).max(1);
        vec![Header { deadline_ms, ..self.header }.encode(), self.body.clone()]
    }
}

/// The answer to one request as it comes in. Dropping it before the end cancels the request.
#[derive(Debug)]
pub struct Events {
    shared: Arc<Shared>,
    id: u64,
    events: mpsc::Receiver<Result<Event>>,
    deadline: Instant,
    ended: bool,
}

impl Events {
    /// The next part; none after `Reply` or an error.
    pub async fn next(&mut self) -> Option<Result<Event>> {
        if self.ended {
            return None;
        }
        // The proxy knows the same deadline and answers first, if it is there.
        let late = self.deadline + self.shared.settings.heartbeat * 4;
        let event = match tokio::time::timeout_at(late.into(), self.events.recv()).await {
            Ok(Some(event)) => event,
            Ok(None) | Err(_) => Err(self.shared.away()),
        };
        self.ended = !matches!(event, Ok(Event::Chunk(_) | Event::Progress(_)));
        Some(event)
    }

    /// The answer, parts left out.
    pub async fn last(&mut self) -> Result<Value> {
        loop {
            match self.next().await {
                Some(Ok(Event::Chunk(_) | Event::Progress(_))) => {}
                Some(Ok(Event::Reply(value))) => return Ok(value),
                Some(Err(error)) => return Err(error),
                None => return Err(Error::internal("an answer was asked for twice")),
            }
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if state.open.remove(&self.id).is_some()
            && let Some(outbox) = &state.outbox
        {
            outbox.push(vec![Header::new(Kind::Cancel, self.id).encode(), Bytes::new()]);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn away(&self) -> Error {
        let front = &self.settings.front;
        Error::Unavailable {
            message: format!("nothing answers at {front}: is `rwkv-rag serve --role proxy` running?"),
        }
    }

    fn receive(&self, header: Header, body: &[u8]) {
        let mut state = self.lock();
        let Some(open) = state.open.get_mut(&header.id) else { return };
        let body = Value::decode(body).map_err(Error::from);
        let event = match header.kind {
            Kind::Chunk => body.map(Event::Chunk),
            Kind::Progress => body.map(Event::Progress),
            Kind::Reply if header.legacy() => body.and_then(legacy).map(Event::Reply),
            Kind::Reply => body.map(Event::Reply),
            Kind::Error => Err(body.map_or_else(|error| error, |body| fault::decode(&body))),
            Kind::Hello | Kind::Request | Kind::Cancel | Kind::Drain => return,
        };
        open.begun = true;
        let ends = header.kind.is_last() || event.is_err();
        // A caller that leaves parts lying loses them: its request then ends with an error.
        let kept = open.events.try_send(event).is_ok();
        if ends || !kept {
            state.open.remove(&header.id);
        }
    }
}

fn legacy(body: Value) -> Result<Value> {
    match Reply::from_value(body)? {
        Reply::Value(value) => Ok(value),
        Reply::Error(message) => Err(Error::InvalidInput { message }),
    }
}

/// The state while one connection lives.
struct Connection(Arc<Shared>);

impl Handler for Connection {
    fn opened(&self, _: ConnectionId, _: &str, outbox: &Arc<Outbox>) {
        let mut state = self.0.lock();
        state.outbox = Some(outbox.clone());
        // What the last connection lost and may be repeated.
        let mut again: Vec<&mut Open> = state.open.values_mut().collect();
        again.sort_by_key(|open| open.header.id);
        for open in again {
            open.resent = true;
            outbox.push(open.frames());
        }
        drop(state);
        self.0.connected.send_replace(true);
    }

    fn received(&self, _: ConnectionId, messages: Vec<Incoming>) {
        for incoming in messages {
            let Incoming::Message(frames) = incoming else { continue };
            let [header, body] = &frames[..] else { continue };
            if let Some(header) = Header::decode(header) {
                self.0.receive(header, body);
            }
        }
    }

    fn closed(&self, _: ConnectionId) {
        self.0.connected.send_replace(false);
        let mut state = self.0.lock();
        state.outbox = None;
        let message =
            format!("the connection to {} broke in the middle of the request", self.0.settings.front);
        state.open.retain(|_, open| {
            let again = open.header.repeatable() && !open.resent && !open.begun;
            if !again {
                let _ = open.events.try_send(Err(Error::Unavailable { message: message.clone() }));
            }
            again
        });
    }
}

/// Connects, and again whenever the connection ends, as long as there is a client.
async fn keep_connected(shared: Weak<Shared>, identity: Option<Identity>) {
    let mut pause = *RECONNECT.start();
    loop {
        let Some(strong) = shared.upgrade() else { return };
        let connecting = async {
            let (mut read, mut write) = strong.settings.front.connect().await?;
            let session = handshake(&mut read, &mut write, "DEALER", identity.as_ref()).await?;
            Ok::<_, ZmtpError>(((read, write), session))
        };
        match connecting.await {
            Ok((halves, session)) => {
                pause = *RECONNECT.start();
                let heartbeat = strong.settings.heartbeat;
                let connection = Connection(strong);
                tokio::select! {
                    _ = connection::run(halves, session, heartbeat, &connection) => {}
                    () = only_mine(&connection.0) => return,
                }
            }
            Err(error) => tracing::debug!(front = %strong.settings.front, %error, "no proxy"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(*RECONNECT.end());
    }
}

/// Ready when the last client and the last answer are gone.
async fn only_mine(shared: &Arc<Shared>) {
    while Arc::strong_count(shared) > 1 {
        tokio::time::sleep(*RECONNECT.end()).await;
    }
}
