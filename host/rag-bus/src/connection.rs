//! One connection after its handshake: messages in, messages out, heartbeats between them.
//!
//! A connection's task owns its socket. Others put messages into its `Outbox`, which is bounded: a peer that does not
//! read loses its connection instead of growing our memory.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use crate::endpoint::{ReadHalf, WriteHalf};
use crate::value::FRAME_BYTES_MAX;
use crate::zmtp::ZmtpError;
use crate::zmtp::curve::{Keys, MESSAGE_OVERHEAD, Opener, Sealer};
use crate::zmtp::frame::{COMMAND, Decoder, Event, MORE, command, put_header, split_command};
use crate::zmtp::handshake::Session;

/// Frames of one message.
pub(crate) const FRAMES_MAX: usize = 16;
/// Bytes that may wait for a peer to read them.
const OUTBOX_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;
/// Bytes asked of the socket at once, and written to it at once.
const READ_BYTES: usize = 64 << 10;
const WRITE_BYTES: usize = 256 << 10;
/// Heartbeats without an answer before a peer counts as gone.
const SILENT_BEATS_MAX: u32 = 3;

/// Frames of one message.
pub type Frames = Vec<Bytes>;

/// A connection's number, never used twice in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

impl ConnectionId {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        ConnectionId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What came from a peer.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    Message(Frames),
    /// The frames before the one that broke a limit; the rest of the message is skipped.
    Refused {
        frames: Frames,
        reason: String,
    },
}

/// Whoever deals with the messages of connections. Calls come from the connections' tasks and must not block.
pub(crate) trait Handler: Send + Sync + 'static {
    fn opened(&self, id: ConnectionId, socket_type: &str, outbox: &Arc<Outbox>);
    fn received(&self, id: ConnectionId, messages: Vec<Incoming>);
    fn closed(&self, id: ConnectionId);
}

/// Messages on their way to one peer.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<(u8, Frames)>,
    bytes: usize,
    /// Nothing more is taken; the connection ends when everything is written.
    closing: bool,
    /// The connection ends at once.
    broken: bool,
}

impl Outbox {
    /// Takes a message, unless the connection is ending. A peer that lets too much wait loses its connection.
    pub(crate) fn push(&self, frames: Frames) {
        self.put(0, frames);
    }

    /// Ends the connection once everything is written.
    pub(crate) fn close(&self) {
        self.lock().closing = true;
        self.wake.notify_one();
    }

    fn put(&self, flags: u8, frames: Frames) {
        let mut waiting = self.lock();
        if waiting.closing || waiting.broken {
            return;
        }
        waiting.bytes += frames.iter().map(Bytes::len).sum::<usize>();
        if waiting.bytes > OUTBOX_BYTES_MAX {
            tracing::warn!("a peer does not read: its connection is closed");
            waiting.broken = true;
            waiting.messages.clear();
        } else {
            waiting.messages.push_back((flags, frames));
        }
        drop(waiting);
        self.wake.notify_one();
    }

    /// Everything that waits; none when the connection is to end.
    async fn take(&self) -> Option<VecDeque<(u8, Frames)>> {
        loop {
            {
                let mut waiting = self.lock();
                if waiting.broken {
                    return None;
                }
                if !waiting.messages.is_empty() {
                    waiting.bytes = 0;
                    return Some(std::mem::take(&mut waiting.messages));
                }
                if waiting.closing {
                    return None;
                }
            }
            self.wake.notified().await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves a connection until either side ends it.
pub(crate) async fn run(
    (read, write): (ReadHalf, WriteHalf),
    session: Session,
    heartbeat: Duration,
    handler: &dyn Handler,
) -> ConnectionId {
    let id = ConnectionId::next();
    let outbox = Arc::new(Outbox::default());
    let (sealer, opener) = match session.keys {
        Some(Keys { sealer, opener }) => (Some(sealer), Some(opener)),
        None => (None, None),
    };
    handler.opened(id, &session.socket_type, &outbox);
    // Heartbeats came with ZMTP 3.1; an older peer would not answer them.
    let heartbeat = (session.minor > 0).then_some(heartbeat);
    let mut reading = Reading::new(read, opener);
    let ended = tokio::select! {
        ended = reading.run(id, &outbox, heartbeat, handler) => ended,
        ended = write_all(write, &outbox, sealer) => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(connection = id.0, %error, "a connection ended");
    }
    outbox.lock().broken = true;
    handler.closed(id);
    id
}

/// The incoming direction.
struct Reading {
    read: ReadHalf,
    buffer: BytesMut,
    decoder: Decoder,
    opener: Option<Opener>,
    /// Of the message that is coming in.
    frames: Frames,
    bytes: usize,
    /// The message broke a limit and was told: its remaining frames are dropped.
    dropping: bool,
    ready: Vec<Incoming>,
}

impl Reading {
    fn new(read: ReadHalf, opener: Option<Opener>) -> Self {
        Reading {
            read,
            buffer: BytesMut::new(),
            decoder: Decoder::new(FRAME_BYTES_MAX + MESSAGE_OVERHEAD),
            opener,
            frames: Vec::new(),
            bytes: 0,
            dropping: false,
            ready: Vec::new(),
        }
    }

    async fn run(
        &mut self,
        id: ConnectionId,
        outbox: &Outbox,
        heartbeat: Option<Duration>,
        handler: &dyn Handler,
    ) -> Result<(), ZmtpError> {
        let mut beats = tokio::time::interval(heartbeat.unwrap_or(Duration::from_secs(3600)));
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beats.reset();
        let mut silent = 0;
        loop {
            self.buffer.reserve(READ_BYTES);
            let count = tokio::select! {
                count = self.read.read_buf(&mut self.buffer) => count?,
                _ = beats.tick(), if heartbeat.is_some() => {
                    silent += 1;
                    if silent > SILENT_BEATS_MAX {
                        return Err(ZmtpError::Silent);
                    }
                    // Time to live 0: the peer sets its own limits.
                    outbox.put(COMMAND, vec![command("PING", &[0, 0]).into()]);
                    continue;
                }
            };
            if count == 0 {
                return Ok(());
            }
            silent = 0;
            while let Some(event) = self.decoder.next(&mut self.buffer)? {
                self.event(event, outbox)?;
            }
            if !self.ready.is_empty() {
                handler.received(id, std::mem::take(&mut self.ready));
            }
        }
    }

    fn event(&mut self, event: Event, outbox: &Outbox) -> Result<(), ZmtpError> {
        match event {
            Event::Frame { flags, body } => {
                let (flags, body) = match &mut self.opener {
                    Some(opener) => {
                        let (flags, body) = opener.open(&body)?;
                        // Inside, bit 0 is more and bit 1 command.
                        (flags & MORE | (flags & 2) << 1, Bytes::from(body))
                    }
                    None => (flags, body),
                };
                if flags & COMMAND != 0 {
                    if let Some(("PING", data)) = split_command(&body) {
                        let context = data.get(2..).unwrap_or_default();
                        outbox.put(COMMAND, vec![command("PONG", context).into()]);
                    }
                    return Ok(());
                }
                self.frame(flags & MORE != 0, body);
            }
            // Whether more follows a sealed one is sealed too: what is too large is a body, and a body is the last.
            Event::Oversized { flags, length } => {
                if !self.dropping {
                    self.refuse(format!("a frame has {length} bytes, more than {FRAME_BYTES_MAX}"));
                }
                self.dropping = flags & MORE != 0;
            }
        }
        Ok(())
    }

    fn frame(&mut self, more: bool, body: Bytes) {
        if !self.dropping {
            self.bytes += body.len();
            if self.frames.len() >= FRAMES_MAX {
                self.refuse(format!("a message has more than {FRAMES_MAX} frames"));
            } else if self.bytes > FRAME_BYTES_MAX {
                self.refuse(format!("a message has {} bytes, more than {FRAME_BYTES_MAX}", self.bytes));
            } else {
                self.frames.push(body);
            }
        }
        if !more {
            if !self.dropping {
                self.ready.push(Incoming::Message(std::mem::take(&mut self.frames)));
            }
            self.dropping = false;
            self.bytes = 0;
        }
    }

    fn refuse(&mut self, reason: String) {
        self.dropping = true;
        self.bytes = 0;
        self.ready.push(Incoming::Refused { frames: std::mem::take(&mut self.frames), reason });
    }
}

/// The outgoing direction: whatever waits together is written together.
async fn write_all(
    mut write: WriteHalf,
    outbox: &Outbox,
    mut sealer: Option<Sealer>,
) -> Result<(), ZmtpError> {
    let mut out = BytesMut::with_capacity(WRITE_BYTES);
    while let Some(messages) = outbox.take().await {
        for (kind, frames) in messages {
            let last = frames.len().saturating_sub(1);
            for (at, body) in frames.into_iter().enumerate() {
                let flags = kind | if at < last { MORE } else { 0 };
                let body = match &mut sealer {
                    Some(sealer) => {
                        let inner = flags & MORE | (flags & COMMAND) >> 1;
                        let sealed = sealer.seal(inner, &body);
                        put_header(0, sealed.len(), &mut out);
                        Bytes::from(sealed)
                    }
                    None => {
                        put_header(flags, body.len(), &mut out);
                        body
                    }
                };
                if body.len() > WRITE_BYTES {
                    write.write_all(&out).await?;
                    out.clear();
                    write.write_all(&body).await?;
                } else {
                    out.extend_from_slice(&body);
                }
                if out.len() >= WRITE_BYTES {
                    write.write_all(&out).await?;
                    out.clear();
                }
            }
        }
        write.write_all(&out).await?;
        out.clear();
    }
    write.shutdown().await?;
    Ok(())
}
