//! `wasi:http` beside `ragkit:host/http`: the same port, the same counts, and WASI's own words for what is refused.

use std::future::pending;
use std::sync::Arc;

use async_trait::async_trait;
use rag_core::error::PluginFault::{HostcallLimit, WallLimit};
use rag_core::ports::{Connect, Http, HttpRequest, HttpResponse};
use rag_core::{Error, ErrorCode, Result};
use rag_wasm::{Compiler, PluginHost, WasmConfig};
use tokio::sync::watch;

use crate::{Code, Expected, Fault, assert_error, guest, guests, limits};

/// Answers as the path says, and knows how many requests are under way.
struct FakeHttp {
    under_way: watch::Sender<usize>,
}

struct Leaving<'a>(&'a watch::Sender<usize>);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[async_trait]
impl Http for FakeHttp {
    async fn fetch(&self, request: HttpRequest) -> Result<HttpResponse> {
        self.under_way.send_modify(|count| *count += 1);
        let _leaving = Leaving(&self.under_way);
        let path = request.url.split('/').nth(3).unwrap_or_default();
        match path {
            "hang" => pending().await,
            "panic" => panic!("a defect of the host"),
            "denied" => Err(Error::Denied { message: "not granted".to_owned() }),
            "away" => Err(Error::Unavailable { message: "it does not answer".to_owned() }),
            "slow" => {
                Err(Error::Timeout { what: "it".to_owned(), limit_ms: 1, setting: "egress.timeout_ms" })
            }
            "large" => Err(Error::TooLarge {
                what: "a response".to_owned(),
                size: 9,
                limit: 8,
                unit: "bytes",
                setting: "egress.response_bytes_max",
            }),
            _ => {
                let headers: Vec<String> = request.headers.iter().map(|(n, v)| format!("{n}={v}")).collect();
                let bytes = request.body.as_ref().map_or(0, Vec::len);
                let told = format!("{} {} {} {bytes}", request.method.name(), request.url, headers.join(","));
                Ok(HttpResponse { status: 200, headers: Vec::new(), body: told.into_bytes() })
            }
        }
    }
}

/// A connector of its own, and how many of its requests are under way.
fn connector() -> (Arc<dyn Connect>, watch::Receiver<usize>) {
    let mut limits = limits();
    limits.connector.wall_ms_max = 1_500;
    limits.connector.host_calls_max = 50;
    limits.connector.crossing_bytes_max = 1 << 20;
    let config = WasmConfig { limits, ..WasmConfig::new(guests().join("compiled"), Compiler::Here) };
    let host = PluginHost::new(config).unwrap();
    let loaded = host.load_file(&guest("wasi_http")).unwrap();
    assert_eq!(loaded.asks.iter().map(|ask| ask.interface.as_str()).collect::<Vec<_>>(), ["http"]);
    let (under_way, watched) = watch::channel(0);
    (host.connector("hostile-wasi-http", "{}", Arc::new(FakeHttp { under_way })).unwrap(), watched)
}

async fn ask(connector: &Arc<dyn Connect>, query: &str) -> Result<String> {
    connector.search(query, 1).await.map(|mut found| found.remove(0).title)
}

async fn assert_good(connector: &Arc<dyn Connect>, after: &str) {
    let told = ask(connector, "GET|http|a.example|/x?q=1|header=x-a=1").await.unwrap();
    assert_eq!(told, "200 34 GET http://a.example/x?q=1 x-a=1 0", "after {after}");
}

#[tokio::test]
async fn a_request_reaches_the_port_whole() {
    let (connector, _) = connector();
    assert_good(&connector, "nothing").await;
    let told = ask(&connector, "POST|https|a.example:8443|/x|body=100000").await.unwrap();
    assert_eq!(told, "200 37 POST https://a.example:8443/x  100000");
    // Responses that were read are not held: many more than eight, one after the other.
    let told = ask(&connector, "GET|http|a.example|/x|times=50").await.unwrap();
    assert!(told.starts_with("200 ") && !told.contains(';'), "{told}");
}

#[tokio::test]
async fn what_goes_wrong_is_told_in_the_words_of_wasi() {
    let (connector, _) = connector();
    for (query, words) in [
        ("GET|http|a.example|/denied", "HttpRequestDenied"),
        ("GET|http|a.example|/away", "DestinationUnavailable"),
        ("GET|http|a.example|/slow", "HttpResponseTimeout"),
        ("GET|http|a.example|/large", "HttpResponseBodySize(Some(8))"),
        ("POST|http|a.example|/x|body=2000000", "HttpRequestBodySize(Some(1048576))"),
        ("POST|http|a.example|/x|header=content-length=5", "HttpProtocolError"),
        ("CONNECT|http|a.example|/x", "HttpRequestMethodInvalid"),
        ("TRACE|http|a.example|/x", "HttpRequestMethodInvalid"),
        ("GET|ftp|a.example|/x", "HttpProtocolError"),
        ("GET|http||/x", "authority refused"),
        ("GET|http|a.example|/x\r\nx-b: 1", "path refused"),
        ("GET|http|a.example|http://b.example/", "path refused"),
        ("GET|http|a.example\r\nx-b: 1|/x", "authority refused"),
        (r"GET|http|a.example|/x|header=x-a=1\r\nx-b: 1", "HeaderError::InvalidSyntax"),
        (r"GET|http|a.example|/x|header=x-a\n=1", "HeaderError::InvalidSyntax"),
        ("GET|http|a.example|/x|header=host=b.example", "HeaderError::Forbidden"),
        ("GET|http|a.example|/x|header=transfer-encoding=chunked", "HeaderError::Forbidden"),
        ("GET|http|a.example|/x|header=proxy-authorization=Basic eA==", "HeaderError::Forbidden"),
    ] {
        let told = ask(&connector, query).await.unwrap();
        assert!(told.contains(words), "{query}: {told}");
        assert_good(&connector, query).await;
    }
}

#[tokio::test]
async fn requests_count_as_calls_of_the_host_and_refusals_as_refusals() {
    let (connector, _) = connector();
    let check = async |query: &str, expected: Expected| {
        let err = ask(&connector, query).await.unwrap_err();
        assert_error(&err, &expected, query);
        assert_good(&connector, query).await;
    };
    check("GET|http|a.example|/x|times=200", Fault(HostcallLimit, "more than 50 calls")).await;
    check("GET|http|a.example|/denied|times=20", Fault(HostcallLimit, "asked more than 10 times")).await;
    check("GET|http|a.example|/panic", Code(ErrorCode::Internal, "the host panicked")).await;
    // Ten refusals in each of two calls are not twenty.
    for _ in 0..2 {
        let told = ask(&connector, "GET|http|a.example|/denied|times=10").await.unwrap();
        assert!(told.contains("HttpRequestDenied"), "{told}");
    }
    // No more bodies are held than there are places, sent at once or kept.
    let told = ask(&connector, "GET|http|a.example|/x|at-once=20").await.unwrap();
    assert_eq!(told, "200; ErrorCode::ConnectionLimitReached");
    assert_good(&connector, "at-once").await;
}

#[tokio::test]
async fn nothing_outlives_the_call_that_began_it() {
    let (connector, mut under_way) = connector();
    let told = ask(&connector, "GET|http|a.example|/hang|at-once=8|leave").await.unwrap();
    assert_eq!(told, "left 8");
    under_way.wait_for(|count| *count == 0).await.unwrap();
    assert_good(&connector, "leave").await;
    for query in ["GET|http|a.example|/hang", "POST|http|a.example|/x|body=10|unfinished"] {
        let err = ask(&connector, query).await.unwrap_err();
        assert_error(&err, &Fault(WallLimit, "longer than 1500 ms"), query);
        under_way.wait_for(|count| *count == 0).await.unwrap();
        assert_good(&connector, query).await;
    }
}
