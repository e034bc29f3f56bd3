//! What surrounds every request: shapes of errors, limits, the Host check, headers, panics.

use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::Request;
use rag_core::Error;
use rag_core::error::PluginFault;
use serde_json::json;

use super::world::{ADMIN, READER, World, json_request, piece, request};
use crate::Settings;

#[tokio::test]
async fn every_error_has_one_shape() {
    let world = World::new().await;
    for (method, path, status) in [
        ("GET", "/nothing/here", 404),
        ("GET", "/api/v1/kbs/unknown_kb", 404),
        ("PUT", "/api/v1/kbs", 405),
        ("POST", "/healthz", 405),
        ("GET", "/api/v1/kbs/a-b", 400),
        ("GET", "/api/v1/jobs?limit=many", 400),
        ("GET", "/api/v1/jobs?surprise=1", 400),
        ("GET", "/api/v1/kbs/%ff%fe", 400),
    ] {
        let got = world.send(request(method, READER, path).body(Body::empty()).unwrap()).await.is(status);
        let error = &got.json()["error"];
        assert_eq!(error["request_id"], got.header("x-request-id"), "{path}");
        assert!(
            error["code"].is_string() && error["message"].is_string() && error["retryable"] == false,
            "{path}: {error}"
        );
        assert_eq!(got.header("content-type"), "application/json");
        assert_eq!(status == 405, !got.header("allow").is_empty(), "{path}");
    }
    let got = world.get("", "/v1/models").await.is(401).json();
    assert_eq!(got["error"]["type"], "authentication_error");
    assert_eq!(got["error"]["code"], "unauthenticated");
}

#[tokio::test]
async fn every_failure_of_a_port_has_its_status_and_keeps_its_secrets() {
    let world = World::new().await;
    let secret = || "/secret/path".to_owned();
    let plugin = |fault| Error::Plugin { plugin: "store-x@1".into(), fault, message: secret() };
    for (error, status, code) in [
        (Error::Storage { message: secret() }, 503, "storage"),
        (Error::internal(secret()), 500, "internal"),
        (Error::Model { path: secret(), message: secret() }, 500, "internal"),
        (plugin(PluginFault::Trap), 502, "plugin"),
        (plugin(PluginFault::WallLimit), 502, "plugin"),
        (Error::Busy { what: "the queue", limit: 1 }, 429, "too_many"),
        (Error::Unavailable { message: "away".into() }, 503, "unavailable"),
        (Error::Timeout { what: "it".into(), limit_ms: 1, setting: "a.b" }, 504, "timeout"),
    ] {
        world.fake.kept().broken = Some(error);
        let got = world.get(READER, "/api/v1/kbs").await.is(status);
        assert_eq!(got.code(), code);
        assert!(!got.text().contains("secret"), "{}", got.text());
    }
}

#[tokio::test]
async fn malformed_json_is_the_callers_fault() {
    let world = World::new().await;
    let send = |kind: &'static str, body: &'static [u8]| {
        let request = request("POST", ADMIN, "/api/v1/kbs").header("content-type", kind);
        request.body(Body::from(body)).unwrap()
    };
    for body in [
        &b""[..],
        b"{",
        b"null",
        b"[]",
        b"\"x\"",
        b"{\"name\": 3}",
        b"{\"name\": \"\xff\"}",
        b"{\"name\": \"abc\"} x",
        b"{\"name\": \"abc\", \"name\": \"abd\"}",
    ] {
        assert_eq!(world.send(send("application/json", body)).await.is(400).code(), "invalid_input");
    }
    let deep: &'static [u8] = Box::leak("[".repeat(500_000).into_bytes().into_boxed_slice());
    world.send(send("application/json", deep)).await.is(400);
    for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
        assert_eq!(world.send(send(kind, b"{\"name\": \"abc\"}")).await.is(415).code(), "unsupported");
    }
}

#[tokio::test]
async fn json_bodies_are_bounded() {
    let world = World::new().await;
    let body = json!({"name": "a.md", "text": "x".repeat(1 << 20)});
    assert_eq!(world.post(ADMIN, "/api/v1/kbs/initial/texts", body.clone()).await.is(413).code(), "quota");
    let body = json!({"model": "default", "input": "x".repeat(1 << 20)});
    world.post(ADMIN, "/v1/embeddings", body).await.is(413);
    world.post("", "/api/v1/session", json!({"key": "x".repeat(1 << 20)})).await.is(413);
}

#[tokio::test]
async fn only_our_own_names_are_answered() {
    let world = World::new().await;
    let get = |host: &str| {
        let request = Request::builder().uri("/healthz");
        let request = if host.is_empty() { request } else { request.header("host", host) };
        request.body(Body::empty()).unwrap()
    };
    for host in ["localhost", "localhost:7780", "LOCALHOST:1", "127.0.0.1:7780", "[::1]:7780"] {
        world.send(get(host)).await.is(200);
    }
    for host in [
        "",
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example:80",
        "localhost:80@evil",
        "::1",
    ] {
        assert_eq!(world.send(get(host)).await.is(403).code(), "denied", "{host}");
    }
    let absolute =
        Request::get("http://evil.example/healthz").header("host", "localhost").body(Body::empty());
    world.send(absolute.unwrap()).await.is(403);
    let named =
        World::with(Settings { allowed_hosts: vec!["rag.example".into()], ..Settings::default() }).await;
    named.send(get("rag.example:443")).await.is(200);
    named.send(get("localhost")).await.is(403);
    let open = World::with(Settings { allowed_hosts: vec![], ..Settings::default() }).await;
    open.send(get("anything.example")).await.is(200);
}

#[tokio::test]
async fn every_answer_carries_the_safe_headers() {
    let world = World::new().await;
    for path in ["/", "/ui/app.js", "/healthz", "/nothing", "/api/v1/kbs", "/v1/models"] {
        let got = world.get("", path).await;
        assert_eq!(
            got.header("content-security-policy"),
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        assert_eq!(got.header("x-content-type-options"), "nosniff");
        assert_eq!(got.header("x-frame-options"), "DENY");
        assert_eq!(got.header("referrer-policy"), "no-referrer");
        assert!(got.headers.get("access-control-allow-origin").is_none(), "no other origin may read answers");
        assert!(!got.header("cache-control").is_empty());
    }
    let preflight = request("OPTIONS", "", "/api/v1/kbs").header("origin", "http://evil.example");
    let preflight = preflight.header("access-control-request-method", "POST").body(Body::empty()).unwrap();
    let got = world.send(preflight).await;
    assert!(got.headers.get("access-control-allow-origin").is_none() && got.status.is_client_error());
}

#[tokio::test]
async fn as_many_requests_run_as_are_allowed() {
    let world = World::with(Settings { requests_max: 1, ..Settings::default() }).await;
    world.post(ADMIN, "/api/v1/kbs/initial/texts", json!({"name": "a.md", "text": "alpha"})).await.is(202);
    let events = request("GET", READER, "/api/v1/jobs/job0000/events").body(Body::empty()).unwrap();
    let mut events = world.open(events).await.into_body().into_data_stream();
    piece(&mut events).await.unwrap();
    let refused = world.get(READER, "/api/v1/kbs").await.is(429);
    assert_eq!((refused.code().as_str(), refused.header("retry-after")), ("too_many", "1"));
    world.get("", "/healthz").await.is(200);
    drop(events);
    world.get(READER, "/api/v1/kbs").await.is(200);
}

#[tokio::test]
async fn a_panic_is_an_internal_error_and_the_server_goes_on() {
    let world = World::new().await;
    world.fake.panics.store(true, Ordering::SeqCst);
    let got = world.get(READER, "/api/v1/kbs").await.is(500);
    assert_eq!(got.code(), "internal");
    assert!(!got.text().contains("secret"));
    assert_eq!(got.header("x-content-type-options"), "nosniff");
    let chat = json_request("GET", READER, "/v1/models", &json!({}));
    assert_eq!(world.send(chat).await.is(500).json()["error"]["type"], "server_error");
    world.fake.panics.store(false, Ordering::SeqCst);
    world.get(READER, "/api/v1/kbs").await.is(200);
}
