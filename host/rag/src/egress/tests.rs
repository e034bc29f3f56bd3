//! Requests against a server of ours on this machine, and names that lead elsewhere.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use rag_core::ports::{Http, HttpGrant, HttpMethod, HttpRequest, HttpResponse};
use rag_core::{Error, ErrorCode, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{Egress, Lookup, SystemLookup};
use crate::config::outside;

/// Serves the same answer to everybody; remembers the heads of requests.
struct Server {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(answer: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (heads.clone(), answer.to_owned());
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && socket.read_exact(&mut byte).await.is_ok() {
                    head.push(byte[0]);
                }
                seen.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        Server { port, heads }
    }

    fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";

fn grant(origin: &str, private: bool) -> HttpGrant {
    HttpGrant { origin: origin.to_owned(), path: String::new(), methods: vec![], private, headers: vec![] }
}

fn limits() -> outside::Egress {
    outside::Egress { response_bytes_max: 1_000, request_bytes_max: 1_000, ..Default::default() }
}

fn granted(grants: Vec<HttpGrant>) -> Arc<dyn Http> {
    Egress::new(limits(), Arc::new(SystemLookup)).granted("a test", grants).unwrap()
}

async fn get(http: &Arc<dyn Http>, url: &str) -> Result<HttpResponse> {
    let request = HttpRequest { method: HttpMethod::Get, url: url.to_owned(), headers: vec![], body: None };
    http.fetch(request).await
}

fn denied(outcome: &Result<HttpResponse>) -> bool {
    matches!(outcome, Err(Error::Denied { .. }))
}

#[tokio::test]
async fn a_granted_server_is_asked_and_no_other() {
    let server = Server::start(HELLO).await;
    let http = granted(vec![grant(&server.origin(), true)]);
    let answer = get(&http, &format!("{}/a?b=c", server.origin())).await.unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"hello"[..]));
    assert!(server.heads()[0].starts_with("GET /a?b=c HTTP/1.1\r\n"), "{:?}", server.heads());

    let other = Server::start(HELLO).await;
    for url in [
        format!("{}/", other.origin()),
        format!("http://localhost:{}/", server.port),
        format!("https://127.0.0.1:{}/", server.port),
        "http://127.0.0.1/".to_owned(),
        "http://example.org/".to_owned(),
    ] {
        assert!(denied(&get(&http, &url).await), "{url}");
    }
    // Without `private` the very same server is out of reach, by every spelling of its address.
    let public = granted(vec![grant(&server.origin(), false), grant("http://*", false)]);
    let port = server.port;
    for host in ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0"]
    {
        let outcome = get(&public, &format!("http://{host}:{port}/")).await;
        assert!(denied(&outcome), "{host}: {outcome:?}");
        let outcome = get(&public, &format!("http://{host}/")).await;
        assert!(denied(&outcome), "{host}: {outcome:?}");
    }
    assert_eq!(server.heads().len(), 1);
    assert!(other.heads().is_empty());
}

/// Answers each lookup with the next of its lists.
struct Scripted(Mutex<VecDeque<Vec<IpAddr>>>);

impl Lookup for Scripted {
    fn lookup(
        &self,
        _: String,
    ) -> Pin<Box<dyn std::future::Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        let next = self.0.lock().unwrap().pop_front().unwrap_or_default();
        Box::pin(async move { Ok(next) })
    }
}

#[tokio::test]
async fn names_are_connected_to_where_they_were_checked_to_lead() {
    let server = Server::start(HELLO).await;
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let public: IpAddr = "93.184.216.34".parse().unwrap();
    let metadata: IpAddr = "169.254.169.254".parse().unwrap();
    let origin = format!("http://rebind.example:{}", server.port);
    let url = format!("{origin}/");
    let ask = async |private: bool, answers: Vec<Vec<IpAddr>>| {
        let lookup = Arc::new(Scripted(Mutex::new(answers.into())));
        let http = Egress::new(limits(), lookup).granted("a test", vec![grant(&origin, private)]).unwrap();
        get(&http, &url).await
    };
    assert!(denied(&ask(false, vec![vec![here]]).await), "a public name that leads here");
    assert!(denied(&ask(false, vec![vec![public, here]]).await), "one bad address refuses the name");
    assert!(denied(&ask(true, vec![vec![metadata]]).await), "no grant reaches metadata");
    assert!(ask(true, vec![vec![]]).await.is_err());
    assert!(server.heads().is_empty());
    // One lookup serves check and connection: a second answer is never asked for.
    let answer = ask(true, vec![vec![here], vec![metadata]]).await.unwrap();
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn redirects_come_back_unfollowed() {
    let inside = Server::start(HELLO).await;
    let location = format!("{}/secret", inside.origin());
    let answer = format!(
        "HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    let server = Server::start(&answer).await;
    let http = granted(vec![grant(&server.origin(), true), grant(&inside.origin(), true)]);
    let answer = get(&http, &server.origin()).await.unwrap();
    assert_eq!(answer.status, 302);
    assert!(answer.headers.contains(&("location".to_owned(), location)));
    assert!(inside.heads().is_empty());
}

#[tokio::test]
async fn secrets_are_the_hosts_and_the_connection_too() {
    let server = Server::start(HELLO).await;
    let with_key = HttpGrant {
        headers: vec![("Authorization".to_owned(), "Bearer real".to_owned())],
        methods: vec![HttpMethod::Post],
        path: "/api".to_owned(),
        ..grant(&server.origin(), true)
    };
    let http = granted(vec![with_key]);
    let headers = [
        ("authorization", "Bearer guessed"),
        ("host", "evil.example"),
        ("proxy-authorization", "x"),
        ("transfer-encoding", "chunked"),
        ("x-own", "kept"),
    ];
    let request = HttpRequest {
        method: HttpMethod::Post,
        url: format!("{}/api/items", server.origin()),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        body: Some(b"{}".to_vec()),
    };
    http.fetch(request.clone()).await.unwrap();
    let head = server.heads()[0].to_ascii_lowercase();
    assert!(head.contains("authorization: bearer real") && head.contains("x-own: kept"), "{head}");
    for absent in ["guessed", "evil.example", "proxy-authorization", "transfer-encoding"] {
        assert!(!head.contains(absent), "{absent} in {head}");
    }
    for (method, path) in
        [(HttpMethod::Get, "/api"), (HttpMethod::Post, "/admin"), (HttpMethod::Post, "/api/../admin")]
    {
        let url = format!("{}{path}", server.origin());
        let outcome = http.fetch(HttpRequest { method, url, ..request.clone() }).await;
        assert!(denied(&outcome), "{method:?} {path}: {outcome:?}");
    }
    let split = vec![("x-a".to_owned(), "b\r\nx-injected: c".to_owned())];
    let outcome = http.fetch(HttpRequest { headers: split, ..request }).await;
    assert_eq!(outcome.unwrap_err().code(), ErrorCode::InvalidInput);
}

#[tokio::test]
async fn bodies_and_times_are_bounded() {
    let code = |outcome: Result<HttpResponse>| outcome.unwrap_err().code();
    let announced = Server::start("HTTP/1.1 200 OK\r\ncontent-length: 5000000000\r\n\r\n").await;
    let http = granted(vec![grant(&announced.origin(), true)]);
    assert_eq!(code(get(&http, &announced.origin()).await), ErrorCode::Quota);
    let endless = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}", "x".repeat(5_000));
    let endless = Server::start(&endless).await;
    let http = granted(vec![grant(&endless.origin(), true)]);
    assert_eq!(code(get(&http, &endless.origin()).await), ErrorCode::Quota);
    let request = HttpRequest {
        method: HttpMethod::Post,
        url: endless.origin(),
        headers: vec![],
        body: Some(vec![0; 1_001]),
    };
    assert_eq!(code(http.fetch(request).await), ErrorCode::Quota);

    // Accepts, and never says a word.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let brief = outside::Egress { timeout_ms: 50, ..limits() };
    let http =
        Egress::new(brief, Arc::new(SystemLookup)).granted("a test", vec![grant(&origin, true)]).unwrap();
    assert_eq!(code(get(&http, &origin).await), ErrorCode::Timeout);
    drop(listener);
    let refused = get(&granted(vec![grant(&origin, true)]), &origin).await;
    assert_eq!(code(refused), ErrorCode::Unavailable);
}
