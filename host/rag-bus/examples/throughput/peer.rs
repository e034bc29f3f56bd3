//! Clients and workers that cost as little as they can: ZMTP with NULL, frames read from and written to one buffer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rag_bus::envelope::{Header, Hello, Kind};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinHandle;

const GREETING_BYTES: usize = 64;
const BUFFER_BYTES: usize = 256 << 10;

/// Who asks how much.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) clients: usize,
    pub(crate) workers: usize,
    /// Requests under way of one client.
    pub(crate) window: usize,
    pub(crate) bytes: usize,
    /// RWKV-RAG's envelope with REQ clients and REP workers, else version 2 with DEALERs.
    pub(crate) rep: bool,
    /// Whether the proxy is ours, which workers of version 2 greet; libzmq's puts the client's address before a request.
    pub(crate) ours: bool,
}

type Read = Box<dyn AsyncRead + Unpin + Send>;
type Write = Box<dyn AsyncWrite + Unpin + Send>;

/// One connection after its handshake.
pub(crate) struct Peer {
    read: Read,
    write: Write,
    buffer: Vec<u8>,
    /// Where in `buffer` what was not used yet begins.
    at: usize,
    out: Vec<u8>,
}

impl Peer {
    pub(crate) async fn connect(endpoint: &str, socket_type: &str) -> std::io::Result<Peer> {
        match endpoint.strip_prefix("ipc://") {
            Some(path) => {
                let (read, write) = UnixStream::connect(path).await?.into_split();
                Peer::over(Box::new(read), Box::new(write)).greet(socket_type).await
            }
            None => {
                let stream = TcpStream::connect(endpoint.trim_start_matches("tcp://")).await?;
                stream.set_nodelay(true)?;
                let (read, write) = stream.into_split();
                Peer::over(Box::new(read), Box::new(write)).greet(socket_type).await
            }
        }
    }

    fn over(read: Read, write: Write) -> Peer {
        Peer { read, write, buffer: Vec::new(), at: 0, out: Vec::new() }
    }

    async fn greet(mut self, socket_type: &str) -> std::io::Result<Peer> {
        let mut greeting = [0; GREETING_BYTES];
        (greeting[0], greeting[8], greeting[9], greeting[10]) = (0xff, 1, 0x7f, 3);
        greeting[12..16].copy_from_slice(b"NULL");
        self.write.write_all(&greeting).await?;
        let mut theirs = [0; GREETING_BYTES];
        self.read.read_exact(&mut theirs).await?;
        let mut ready = b"\x05READY\x0bSocket-Type".to_vec();
        ready.extend_from_slice(&(socket_type.len() as u32).to_be_bytes());
        ready.extend_from_slice(socket_type.as_bytes());
        self.write.write_all(&[&[4, ready.len() as u8], ready.as_slice()].concat()).await?;
        // Their READY.
        self.frame().await?;
        Ok(self)
    }

    /// Flags of the next frame and where it lies; reads more where it must, and sends what waits before that.
    async fn frame(&mut self) -> std::io::Result<(u8, std::ops::Range<usize>)> {
        loop {
            let rest = &self.buffer[self.at..];
            let head = match rest.first() {
                Some(flags) if flags & 2 != 0 => 9,
                _ => 2,
            };
            if rest.len() >= head {
                let length = match head {
                    2 => usize::from(rest[1]),
                    _ => rest[1..9].iter().fold(0, |value, byte| value << 8 | usize::from(*byte)),
                };
                if rest.len() >= head + length {
                    let (flags, start) = (rest[0], self.at + head);
                    self.at = start + length;
                    return Ok((flags, start..start + length));
                }
            }
            self.flush().await?;
            // What was used is dropped only where nobody points at it: between messages `at` may move back.
            if self.at > BUFFER_BYTES {
                self.buffer.drain(..self.at);
                self.at = 0;
            }
            self.buffer.reserve(BUFFER_BYTES);
            if self.read.read_buf(&mut self.buffer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Frames of the next message, copied.
    async fn message(&mut self) -> std::io::Result<Vec<Vec<u8>>> {
        let mut frames = Vec::with_capacity(3);
        loop {
            let (flags, at) = self.frame().await?;
            if flags & 4 != 0 {
                continue;
            }
            frames.push(self.buffer[at].to_vec());
            if flags & 1 == 0 {
                return Ok(frames);
            }
        }
    }

    /// Puts a message before what is sent with the next read.
    fn put(&mut self, frames: &[impl AsRef<[u8]>]) {
        let last = frames.len() - 1;
        for (at, frame) in frames.iter().enumerate() {
            let (frame, more) = (frame.as_ref(), u8::from(at < last));
            match u8::try_from(frame.len()) {
                Ok(length) => self.out.extend_from_slice(&[more, length]),
                Err(_) => {
                    self.out.push(more | 2);
                    self.out.extend_from_slice(&(frame.len() as u64).to_be_bytes());
                }
            }
            self.out.extend_from_slice(frame);
        }
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        if !self.out.is_empty() {
            self.write.write_all(&self.out).await?;
            self.out.clear();
        }
        Ok(())
    }
}

/// Clients and workers at work; dropping it ends them.
pub(crate) struct Load {
    answered: Arc<AtomicU64>,
    /// Of clients that ask one by one.
    latencies_ns: Arc<Mutex<Vec<u64>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Load {
    /// Connects everybody, waiting for a proxy that is about to bind.
    pub(crate) async fn start([front, back]: [&str; 2], shape: Shape) -> Load {
        let (answered, latencies_ns) = (Arc::new(AtomicU64::new(0)), Arc::default());
        let mut load = Load { answered, latencies_ns, tasks: Vec::new() };
        for _ in 0..shape.workers {
            let peer = patient(back, if shape.rep { "REP" } else { "DEALER" }).await;
            load.tasks.push(tokio::spawn(async move { drop(work(peer, shape).await) }));
        }
        for _ in 0..shape.clients {
            let peer = patient(front, if shape.rep { "REQ" } else { "DEALER" }).await;
            let (answered, latencies) = (load.answered.clone(), load.latencies_ns.clone());
            load.tasks.push(tokio::spawn(async move { drop(ask(peer, shape, &answered, &latencies).await) }));
        }
        load
    }

    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Of round trips, in microseconds: 50 and 99 of a hundred.
    pub(crate) fn percentiles(&self) -> [f64; 2] {
        percentiles(&mut self.latencies_ns.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn percentiles(nanos: &mut [u64]) -> [f64; 2] {
    nanos.sort_unstable();
    [50, 99].map(|share| nanos.get(nanos.len() * share / 100).map_or(f64::NAN, |ns| *ns as f64 / 1e3))
}

async fn patient(endpoint: &str, socket_type: &str) -> Peer {
    loop {
        match Peer::connect(endpoint, socket_type).await {
            Ok(peer) => return peer,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// A worker that gives back what it got.
async fn work(mut peer: Peer, shape: Shape) -> std::io::Result<()> {
    if shape.ours && !shape.rep {
        let hello = Hello { service: "s".to_owned(), capacity: 1 << 14, name: "w".to_owned() };
        peer.put(&hello.encode());
    }
    loop {
        let mut frames = peer.message().await?;
        if !shape.rep {
            // The header: before it stands the client's address, behind libzmq's proxy.
            let header = frames.len() - 2;
            frames[header][4] = Kind::Reply as u8;
        }
        peer.put(&frames);
    }
}

async fn ask(
    mut peer: Peer,
    shape: Shape,
    answered: &AtomicU64,
    latencies: &Mutex<Vec<u64>>,
) -> std::io::Result<()> {
    let body = vec![7; shape.bytes];
    let mut id = 0;
    let mut request = |peer: &mut Peer| {
        id += 1;
        match shape.rep {
            true => peer.put(&[&[], body.as_slice()]),
            false => {
                let header = Header { deadline_ms: 60_000, ..Header::new(Kind::Request, id) }.encode();
                peer.put(&[&header, body.as_slice()]);
            }
        }
    };
    (0..shape.window).for_each(|_| request(&mut peer));
    let mut since = Instant::now();
    loop {
        let frames = peer.message().await?;
        if frames.last().is_none_or(|last| last.len() != shape.bytes) {
            return Err(std::io::Error::other("not the answer"));
        }
        answered.fetch_add(1, Ordering::Relaxed);
        if shape.window == 1 && shape.clients == 1 {
            let took = since.elapsed().as_nanos() as u64;
            latencies.lock().unwrap_or_else(PoisonError::into_inner).push(took);
            since = Instant::now();
        }
        request(&mut peer);
    }
}

/// Round trips of one client that is connected to its worker, in microseconds: 50 and 99 of a hundred.
pub(crate) async fn direct(endpoint: &str, time: Duration) -> std::io::Result<[f64; 2]> {
    let shape = Shape { clients: 1, workers: 1, window: 1, bytes: 100, rep: false, ours: false };
    let listening = match endpoint.strip_prefix("ipc://") {
        Some(path) => Listening::Ipc(UnixListener::bind(path)?),
        None => Listening::Tcp(TcpListener::bind(endpoint.trim_start_matches("tcp://")).await?),
    };
    let working = tokio::spawn(async move { work(listening.accept().await?, shape).await });
    let (answered, latencies) = (AtomicU64::new(0), Mutex::default());
    let peer = Peer::connect(endpoint, "DEALER").await?;
    let _ = tokio::time::timeout(time, ask(peer, shape, &answered, &latencies)).await;
    working.abort();
    Ok(percentiles(&mut latencies.lock().unwrap_or_else(PoisonError::into_inner)))
}

enum Listening {
    Tcp(TcpListener),
    Ipc(UnixListener),
}

impl Listening {
    async fn accept(self) -> std::io::Result<Peer> {
        match self {
            Listening::Tcp(listener) => {
                let stream = listener.accept().await?.0;
                stream.set_nodelay(true)?;
                let (read, write) = stream.into_split();
                Peer::over(Box::new(read), Box::new(write)).greet("DEALER").await
            }
            Listening::Ipc(listener) => {
                let (read, write) = listener.accept().await?.0.into_split();
                Peer::over(Box::new(read), Box::new(write)).greet("DEALER").await
            }
        }
    }
}
