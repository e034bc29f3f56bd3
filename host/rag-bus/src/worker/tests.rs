//! Our own clients and workers around a real proxy: streaming, cancelling, breaking, coming back, sealed.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::*;
use crate::client::{Client, ClientSettings, Event, Repeat};
use crate::proxy::{Proxy, ProxySettings, Watch};
use crate::zmtp::keys::Secret;

/// Echoes, counts, waits for a permit, fails.
struct Test {
    name: &'static str,
    capacity: u32,
    gate: Semaphore,
    began: mpsc::Sender<&'static str>,
    dropped: Arc<AtomicUsize>,
}

struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Service for Test {
    fn hello(&self) -> Hello {
        Hello { service: "llm".into(), capacity: self.capacity, name: self.name.into() }
    }

    async fn legacy(&self, request: Request) -> Result<Value> {
        request.field("text").cloned().ok_or_else(|| Error::invalid("no text"))
    }

    async fn call(&self, operation: &str, arguments: &Value, sink: &mut Sink) -> Result<Value> {
        match operation {
            "echo" => Ok(arguments.clone()),
            "count" => {
                sink.progress(0, 3);
                (0..3u64).for_each(|number| sink.chunk(&number.into()));
                Ok(self.name.into())
            }
            "wait" => {
                let _dropped = Dropped(self.dropped.clone());
                let _ = self.began.try_send(self.name);
                let _permit = self.gate.acquire().await;
                Ok(self.name.into())
            }
            "panic" => panic!("on purpose"),
            _ => Err(Error::Unsupported { message: operation.to_owned() }),
        }
    }
}

struct World {
    settings: ProxySettings,
    watch: Watch,
    stop: oneshot::Sender<()>,
    proxy: JoinHandle<()>,
    client: Client,
    began: mpsc::Receiver<&'static str>,
    say: mpsc::Sender<&'static str>,
    dropped: Arc<AtomicUsize>,
}

async fn start_proxy(settings: &ProxySettings) -> (Proxy, ProxySettings) {
    let proxy = Proxy::bind(settings.clone()).await.unwrap();
    let settings =
        ProxySettings { front: proxy.front().clone(), back: proxy.back().clone(), ..settings.clone() };
    (proxy, settings)
}

fn run(proxy: Proxy) -> (oneshot::Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(proxy.run(async {
        let _ = stopped.await;
    }));
    (stop, task)
}

impl World {
    async fn new(server: Security, peer: Security) -> World {
        let free: Endpoint = "tcp://127.0.0.1:0".parse().unwrap();
        let settings = ProxySettings {
            service: "llm".into(),
            front: free.clone(),
            back: free,
            queue_max: 64,
            queue_bytes_max: 64 << 20,
            request_timeout: Duration::from_secs(30),
            worker_wait: Duration::from_secs(60),
            heartbeat: Duration::from_millis(500),
            drain: Duration::from_secs(10),
            security: server,
        };
        let (proxy, mut settings) = start_proxy(&settings).await;
        let watch = proxy.watch();
        let (stop, proxy) = run(proxy);
        settings.security = peer.clone();
        let client = Client::start(ClientSettings {
            front: settings.front.clone(),
            security: peer,
            heartbeat: settings.heartbeat,
            timeout: Duration::from_secs(30),
        })
        .unwrap();
        let (say, began) = mpsc::channel(64);
        World { settings, watch, stop, proxy, client, began, say, dropped: Arc::default() }
    }

    async fn plain() -> World {
        World::new(Security::default(), Security::default()).await
    }

    /// Starts a worker; returns what stops it in order, and its task.
    fn worker(
        &self,
        name: &'static str,
        capacity: u32,
        permits: usize,
    ) -> (oneshot::Sender<()>, JoinHandle<()>) {
        let service = Arc::new(Test {
            name,
            capacity,
            gate: Semaphore::new(permits),
            began: self.say.clone(),
            dropped: self.dropped.clone(),
        });
        let settings = WorkerSettings {
            back: self.settings.back.clone(),
            security: self.settings.security.clone(),
            heartbeat: self.settings.heartbeat,
            drain: Duration::from_secs(10),
        };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            serve(service, settings, stopped).await.unwrap();
        });
        (stop, task)
    }

    async fn until(&self, what: impl Fn(crate::exchange::Stats) -> bool) {
        while !what(self.watch.stats()) {
            tokio::task::yield_now().await;
        }
    }

    /// A call that waits at the worker until a permit comes; returns its task once a worker has begun.
    async fn waiting(&mut self, repeat: Repeat) -> (JoinHandle<Result<Value>>, &'static str) {
        let client = self.client.clone();
        let call = tokio::spawn(async move { client.call("wait", Value::Nil, repeat).await });
        (call, self.began.recv().await.unwrap())
    }
}

#[tokio::test]
async fn calls_stream_and_fail_with_types() {
    let world = World::plain().await;
    let _worker = world.worker("w", 4, 0);
    let echoed = world.client.call("echo", "知识库".into(), Repeat::Safe).await;
    assert_eq!(echoed.unwrap(), "知识库".into());
    let mut events = world.client.stream("count", Value::Nil, Repeat::Safe, 8).await.unwrap();
    let mut told = Vec::new();
    while let Some(event) = events.next().await {
        told.push(event.unwrap());
    }
    let numbers = (0..3u64).map(|number| Event::Chunk(number.into()));
    assert!(matches!(told[0], Event::Progress(_)));
    assert_eq!(told[1..4], numbers.collect::<Vec<_>>());
    assert_eq!(told[4], Event::Reply("w".into()));
    let error = world.client.call("juggle", Value::Nil, Repeat::Safe).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
    let error = world.client.call("panic", Value::Nil, Repeat::Never).await.unwrap_err();
    assert!(matches!(error, Error::Internal { .. }), "{error:?}");
    let legacy = world.client.legacy(&Request::new("ECHO").with("text", "旧".into())).await;
    assert_eq!(legacy.unwrap(), "旧".into());
    let error = world.client.legacy(&Request::new("ECHO")).await.unwrap_err();
    assert_eq!(error.to_string(), "no text");
}

#[tokio::test]
async fn a_caller_that_leaves_frees_the_worker() {
    let mut world = World::plain().await;
    let _worker = world.worker("w", 1, 0);
    let (call, _) = world.waiting(Repeat::Safe).await;
    call.abort();
    let echoed = world.client.call("echo", Value::Int(1), Repeat::Safe).await;
    assert_eq!(echoed.unwrap(), Value::Int(1), "the only place is free again");
    assert_eq!(world.dropped.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_worker_that_dies_gives_its_request_to_another_once() {
    let mut world = World::plain().await;
    let (_stop_first, first) = world.worker("first", 1, 0);
    let (call, began) = world.waiting(Repeat::Safe).await;
    assert_eq!(began, "first");
    first.abort();
    let _second = world.worker("second", 1, 1);
    assert_eq!(call.await.unwrap().unwrap(), "second".into());
    assert_eq!(world.began.recv().await, Some("second"));
    world.until(|stats| stats.workers == 1).await;

    let (_stop, third) = world.worker("third", 1, 0);
    world.until(|stats| stats.workers == 2).await;
    let mut calls = Vec::new();
    loop {
        let (call, began) = world.waiting(Repeat::Never).await;
        calls.push(call);
        if began == "third" {
            break;
        }
        calls.pop().unwrap().await.unwrap().unwrap();
    }
    third.abort();
    let error = calls.pop().unwrap().await.unwrap().unwrap_err();
    assert!(matches!(&error, Error::Unavailable { message } if message.contains("worker ended")), "{error}");
}

#[tokio::test]
async fn everybody_comes_back_when_the_proxy_was_restarted() {
    let world = World::plain().await;
    let _worker = world.worker("w", 1, 0);
    world.client.call("echo", Value::Nil, Repeat::Safe).await.unwrap();
    let settings = world.settings.clone();
    world.stop.send(()).unwrap();
    world.proxy.await.unwrap();
    let (proxy, _) = start_proxy(&settings).await;
    let _running = run(proxy);
    assert_eq!(world.client.call("echo", Value::Int(2), Repeat::Safe).await.unwrap(), Value::Int(2));
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_ends_what_it_has() {
    let mut world = World::plain().await;
    let (stop, task) = world.worker("old", 1, 0);
    let (call, _) = world.waiting(Repeat::Never).await;
    stop.send(()).unwrap();
    let _new = world.worker("new", 1, 1);
    world.until(|stats| stats.workers == 2).await;
    let other = world.client.call("wait", Value::Nil, Repeat::Never).await.unwrap();
    assert_eq!(other, "new".into(), "the old one takes nothing more");
    assert!(!task.is_finished());
    call.abort();
    task.await.unwrap();
    world.until(|stats| stats.workers == 1).await;
}

#[tokio::test]
async fn sealed_connections_need_known_keys() {
    let (server, peer) = (Secret::generate(), Secret::generate());
    let listening = Security {
        secret: Some(server.clone()),
        allowed: vec![peer.public()],
        encrypt_loopback: true,
        ..Security::default()
    };
    let connecting = Security {
        secret: Some(peer),
        server: Some(server.public()),
        encrypt_loopback: true,
        ..Security::default()
    };
    let world = World::new(listening, connecting.clone()).await;
    let _worker = world.worker("w", 1, 0);
    let long = "密".repeat(200_000);
    let echoed = world.client.call("echo", long.as_str().into(), Repeat::Safe).await;
    assert_eq!(echoed.unwrap(), long.as_str().into());
    let stranger = Client::start(ClientSettings {
        front: world.settings.front.clone(),
        security: Security { secret: Some(Secret::generate()), ..connecting },
        heartbeat: Duration::from_millis(100),
        timeout: Duration::from_secs(1),
    })
    .unwrap();
    let error = stranger.call("echo", Value::Nil, Repeat::Safe).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
}
