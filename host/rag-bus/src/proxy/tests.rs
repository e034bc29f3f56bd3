//! Real sockets on loopback: REQ clients and REP workers on both sides of a proxy.

use rag_core::Error;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use zeromq::{RepSocket, ReqSocket, Socket, SocketRecv, SocketSend};

use super::*;
use crate::value::Value;
use crate::wire::{Reply, Request, UNSUPPORTED_COMMAND};

struct Running {
    front: Endpoint,
    back: Endpoint,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

fn settings() -> ProxySettings {
    let free: Endpoint = "tcp://127.0.0.1:0".parse().unwrap();
    ProxySettings {
        service: "llm".to_owned(),
        front: free.clone(),
        back: free,
        queue_max: 16,
        queue_bytes_max: 64 << 20,
        request_timeout: Duration::from_secs(60),
        worker_wait: Duration::from_secs(60),
        heartbeat: Duration::from_secs(1),
        drain: Duration::ZERO,
        security: Security::default(),
    }
}

async fn start(settings: &ProxySettings) -> Running {
    let proxy = Proxy::bind(settings.clone()).await.unwrap();
    let (front, back) = (proxy.front().clone(), proxy.back().clone());
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(proxy.run(async {
        let _ = stopped.await;
    }));
    Running { front, back, stop, task }
}

/// A worker as RWKV-RAG's services are: one request, one reply, and a bad frame costs an error reply.
async fn worker(back: &Endpoint) -> JoinHandle<()> {
    let mut socket = RepSocket::new();
    socket.connect(&back.to_string()).await.unwrap();
    tokio::spawn(async move {
        while let Ok(message) = socket.recv().await {
            let body = message.into_vec().pop().unwrap_or_default();
            let reply = match Request::decode(&body) {
                Ok(request) if request.cmd == "ECHO" => {
                    Reply::Value(request.field("text").cloned().unwrap_or(Value::Nil))
                }
                Ok(_) => Reply::Error(UNSUPPORTED_COMMAND.to_owned()),
                Err(error) => Reply::Error(error.to_string()),
            };
            if socket.send(reply.encode().into()).await.is_err() {
                return;
            }
        }
    })
}

async fn client(front: &Endpoint) -> ReqSocket {
    let mut socket = ReqSocket::new();
    socket.connect(&front.to_string()).await.unwrap();
    socket
}

async fn ask(client: &mut ReqSocket, body: Vec<u8>) -> Reply {
    client.send(body.into()).await.unwrap();
    answer(client).await
}

async fn answer(client: &mut ReqSocket) -> Reply {
    Reply::decode(&client.recv().await.unwrap().into_vec()[0]).unwrap()
}

fn echo(text: &str) -> Vec<u8> {
    Request::new("echo").with("text", text.into()).encode()
}

#[tokio::test]
async fn requests_and_replies_pass_and_a_malformed_frame_costs_one_reply() {
    let proxy = start(&settings()).await;
    let worker = worker(&proxy.back).await;
    let mut client = client(&proxy.front).await;
    assert_eq!(ask(&mut client, echo("知识库")).await, Reply::Value("知识库".into()));
    for malformed in [vec![0xc1], vec![], vec![0xdd, 0xff, 0xff, 0xff, 0xff], vec![0x91; 1000]] {
        let reply = ask(&mut client, malformed).await;
        assert!(matches!(reply, Reply::Error(_)), "{reply:?}");
    }
    let unknown = ask(&mut client, Request::new("BEAM_GENERATE").encode()).await;
    assert_eq!(unknown, Reply::Error(UNSUPPORTED_COMMAND.to_owned()));
    assert_eq!(ask(&mut client, echo("still there")).await, Reply::Value("still there".into()));
    proxy.stop.send(()).unwrap();
    proxy.task.await.unwrap();
    worker.abort();
}

#[tokio::test]
async fn many_clients_get_their_own_answers_from_several_workers() {
    let proxy = start(&settings()).await;
    let workers = [worker(&proxy.back).await, worker(&proxy.back).await];
    let clients = (0..8).map(|number| {
        let front = proxy.front.clone();
        tokio::spawn(async move {
            let mut client = client(&front).await;
            for round in 0..25 {
                let text = format!("{number}/{round}");
                assert_eq!(ask(&mut client, echo(&text)).await, Reply::Value(text.as_str().into()));
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    workers.iter().for_each(JoinHandle::abort);
}

/// Two clients ask a proxy that has room for one request and no worker: one is refused, which proves that the other
/// is in. Returns the refused client, its reply, and the waiting client.
async fn one_in_one_refused(front: &Endpoint) -> (ReqSocket, Reply, ReqSocket) {
    let (mut first, mut second) = (client(front).await, client(front).await);
    first.send(echo("wait").into()).await.unwrap();
    second.send(echo("wait").into()).await.unwrap();
    let (message, first_is_refused) = tokio::select! {
        message = first.recv() => (message, true),
        message = second.recv() => (message, false),
    };
    let reply = Reply::decode(&message.unwrap().into_vec()[0]).unwrap();
    if first_is_refused { (first, reply, second) } else { (second, reply, first) }
}

#[tokio::test]
async fn a_request_waits_for_the_first_worker_and_a_full_queue_refuses_at_once() {
    let proxy = start(&ProxySettings { queue_max: 1, ..settings() }).await;
    let (mut refused, refusal, mut waiting) = one_in_one_refused(&proxy.front).await;
    assert!(matches!(&refusal, Reply::Error(reason) if reason.contains("queue of 1 is full")), "{refusal:?}");
    let worker = worker(&proxy.back).await;
    assert_eq!(answer(&mut waiting).await, Reply::Value("wait".into()));
    assert_eq!(ask(&mut refused, echo("again")).await, Reply::Value("again".into()));
    worker.abort();
}

#[tokio::test]
async fn without_a_worker_the_answer_is_an_error_after_the_time_limit() {
    let proxy = start(&ProxySettings { request_timeout: Duration::from_millis(30), ..settings() }).await;
    let mut client = client(&proxy.front).await;
    let reply = ask(&mut client, echo("anybody?")).await;
    assert!(matches!(&reply, Reply::Error(why) if why.contains("longer than 30 ms")), "{reply:?}");
}

#[tokio::test]
async fn stopping_answers_what_is_open_and_frees_the_ports() {
    let proxy = start(&ProxySettings { queue_max: 1, ..settings() }).await;
    let (_refused, _, mut waiting) = one_in_one_refused(&proxy.front).await;
    proxy.stop.send(()).unwrap();
    proxy.task.await.unwrap();
    assert_eq!(answer(&mut waiting).await, Reply::Error("the service is stopping".to_owned()));
    let again = Proxy::bind(ProxySettings { front: proxy.front, back: proxy.back, ..settings() }).await;
    assert!(again.is_ok(), "{:?}", again.err());
}

#[tokio::test]
async fn what_cannot_or_must_not_be_bound_is_refused() {
    let refused = async |front: &str| {
        Proxy::bind(ProxySettings { front: front.parse().unwrap(), ..settings() }).await.unwrap_err()
    };
    assert!(matches!(refused("tcp://0.0.0.0:0").await, Error::Denied { .. }));
    assert!(matches!(refused("tcp://example.org:7781").await, Error::Denied { .. }));
    let taken = start(&settings()).await;
    let error = refused(&taken.front.to_string()).await;
    assert!(matches!(&error, Error::Unavailable { message } if message.contains("cannot listen")), "{error}");
    let open = Security { plaintext_beyond_loopback: true, ..Security::default() };
    let open = ProxySettings { front: "tcp://0.0.0.0:0".parse().unwrap(), security: open, ..settings() };
    assert!(Proxy::bind(open).await.is_ok());
}

#[tokio::test]
async fn an_oversized_frame_costs_one_reply_and_no_memory() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let proxy = start(&settings()).await;
    let Endpoint::Tcp { host, port } = &proxy.front else { unreachable!() };
    let mut stream = tokio::net::TcpStream::connect((host.as_str(), *port)).await.unwrap();
    let mut greeting = [0; 64];
    greeting[..14].copy_from_slice(b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NU");
    greeting[14..16].copy_from_slice(b"LL");
    stream.write_all(&greeting).await.unwrap();
    stream.write_all(b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03REQ").await.unwrap();
    // An empty frame, then the header of one of four exabytes, of which only a little ever comes.
    stream.write_all(&[1, 0, 2, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]).await.unwrap();
    let mut told = Vec::new();
    while !String::from_utf8_lossy(&told).contains("more than 67108864") {
        assert_ne!(stream.read_buf(&mut told).await.unwrap(), 0, "closed without a word");
    }
    let worker = worker(&proxy.back).await;
    let mut client = client(&proxy.front).await;
    assert_eq!(ask(&mut client, echo("still there")).await, Reply::Value("still there".into()));
    worker.abort();
}
