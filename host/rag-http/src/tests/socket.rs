//! Over a real socket: slow heads, broken uploads, hung-up listeners, a graceful end.

use std::future::pending;
use std::sync::atomic::Ordering;

use rag_core::ports::Keys as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::world::{ADMIN, READER, World};
use crate::{Settings, serve};

struct Server {
    world: World,
    address: std::net::SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<std::io::Result<()>>,
}

async fn start(settings: Settings) -> Server {
    let world = World::with(settings).await;
    world.ingest("initial", "geo.md", "The capital of France is Paris.").await;
    world.fake.kept().jobs.clear();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move {
        if stopped.await.is_err() {
            pending::<()>().await;
        }
    };
    let ended = tokio::spawn(serve(listener, world.state.clone(), shutdown));
    Server { world, address, stop: Some(stop), ended }
}

impl Server {
    async fn send(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    fn ask(question: &str) -> String {
        let body = format!("{{\"question\": \"{question}\"}}");
        format!(
            "POST /api/v1/kbs/initial/ask HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {READER}\r\nAccept: text/event-stream\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

/// Waits for something that other tasks bring about; the test runner's own limit ends a wait in vain.
async fn until(done: impl Fn() -> bool) {
    while !done() {
        tokio::task::yield_now().await;
    }
}

/// Reads until `wanted` was seen.
async fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut seen = Vec::new();
    loop {
        let mut buffer = [0; 1024];
        let read = stream.read(&mut buffer).await.unwrap();
        seen.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&seen);
        assert!(read > 0, "ended before {wanted}: {text}");
        if text.contains(wanted) {
            return text.into_owned();
        }
    }
}

#[tokio::test]
async fn requests_are_answered_and_connections_kept() {
    let server = start(Settings::default()).await;
    let get = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut stream = server.send(get).await;
    read_until(&mut stream, "ok\n").await;
    stream.write_all(get.as_bytes()).await.unwrap();
    read_until(&mut stream, "ok\n").await;
}

#[tokio::test]
async fn a_head_that_never_ends_is_given_up() {
    let server = start(Settings { header_timeout_ms: 50, ..Settings::default() }).await;
    let mut stream = server.send("GET / HTTP/1.1\r\nHost: local").await;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(!String::from_utf8_lossy(&rest).contains("200"));
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let server = start(Settings::default()).await;
    let mut stream = server.send("GET / HTTP/1.1\r\nHost: localhost\r\nX: ").await;
    // The server may close before it read all that was sent.
    let _ = stream.write_all(&[b'x'; 1 << 20]).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    let many: String = (0..200).map(|i| format!("X{i}: x\r\n")).collect();
    let mut stream = server.send(&format!("GET / HTTP/1.1\r\nHost: localhost\r\n{many}\r\n")).await;
    read_until(&mut stream, "HTTP/1.1 431").await;
}

#[tokio::test]
async fn an_upload_whose_sender_vanishes_leaves_nothing() {
    let server = start(Settings::default()).await;
    let head = format!(
        "POST /api/v1/kbs/initial/documents?name=a.txt HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN}\r\nContent-Length: 1000\r\n\r\nonly some bytes"
    );
    let stream = server.send(&head).await;
    let fake = server.world.fake.clone();
    until(|| fake.writers.load(Ordering::SeqCst) == 1).await;
    let before = fake.kept().blobs.len();
    drop(stream);
    until(|| fake.writers.load(Ordering::SeqCst) == 0).await;
    assert!(fake.kept().jobs.is_empty());
    assert_eq!(fake.kept().blobs.len(), before);
}

#[tokio::test]
async fn who_vanishes_while_listening_frees_the_model() {
    let server = start(Settings::default()).await;
    for question in ["capital ENDLESS?", "capital SILENT?"] {
        let mut stream = server.send(&Server::ask(question)).await;
        read_until(&mut stream, "event: token").await;
        let fake = server.world.fake.clone();
        assert_eq!(fake.generations.load(Ordering::SeqCst), 1);
        drop(stream);
        until(|| fake.generations.load(Ordering::SeqCst) == 0).await;
    }
}

#[tokio::test]
async fn a_waiting_caller_who_vanishes_frees_the_model() {
    let server = start(Settings::default()).await;
    let whole = Server::ask("capital SILENT?").replace("Accept: text/event-stream\r\n", "");
    let stream = server.send(&whole).await;
    let fake = server.world.fake.clone();
    until(|| fake.generations.load(Ordering::SeqCst) == 1).await;
    drop(stream);
    until(|| fake.generations.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn a_stop_lets_short_requests_finish_and_ends_the_rest() {
    let mut server = start(Settings { shutdown_grace_ms: 50, ..Settings::default() }).await;
    let mut stream = server.send(&Server::ask("capital SILENT?")).await;
    read_until(&mut stream, "event: token").await;
    server.stop.take().unwrap().send(()).unwrap();
    server.ended.await.unwrap().unwrap();
    let fake = server.world.fake.clone();
    until(|| fake.generations.load(Ordering::SeqCst) == 0).await;
    assert!(TcpStream::connect(server.address).await.is_err(), "nothing listens any more");
}

#[tokio::test]
async fn guessers_are_told_apart_by_address() {
    let server = start(Settings { login_failures_max: 1, ..Settings::default() }).await;
    let get = "GET /api/v1/kbs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer guess\r\nConnection: close\r\n\r\n";
    read_until(&mut server.send(get).await, "HTTP/1.1 401").await;
    read_until(&mut server.send(get).await, "HTTP/1.1 429").await;
    assert!(server.world.fake.verify(READER).await.unwrap().is_some());
    read_until(&mut server.send(&get.replace("guess", READER)).await, "HTTP/1.1 200").await;
}
