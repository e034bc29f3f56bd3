//! Who may do what: every path of the OpenAPI document, every role, own and other knowledge bases, and the cookie.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use super::world::{ADMIN, EDITOR, Got, READER, SCOPED, SCOPED_ADMIN, World, request};

/// What a path needs.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
enum Needs {
    Nothing,
    Reader,
    Editor,
    Admin,
    UnscopedAdmin,
}
use Needs::{Admin, Editor, Nothing, Reader, UnscopedAdmin};

/// Every path with a body that it takes. `{kb}` is `initial`; other parameters name nothing that exists.
fn paths() -> Vec<(&'static str, &'static str, Needs, Option<Value>)> {
    let chat = json!({"model": "fake-rwkv", "messages": [{"role": "user", "content": "hi"}]});
    let question = json!({"question": "what?"});
    vec![
        ("get", "/healthz", Nothing, None),
        ("get", "/readyz", Nothing, None),
        ("post", "/api/v1/session", Nothing, Some(json!({"key": READER}))),
        ("get", "/api/v1/session", Reader, None),
        ("delete", "/api/v1/session", Reader, None),
        ("get", "/api/v1/status", Reader, None),
        ("get", "/api/v1/models", Reader, None),
        ("get", "/api/v1/plugins", Reader, None),
        ("get", "/metrics", Reader, None),
        ("get", "/api/v1/kbs", Reader, None),
        ("get", "/api/v1/kbs/{kb}", Reader, None),
        ("get", "/api/v1/kbs/{kb}/documents", Reader, None),
        ("get", "/api/v1/kbs/{kb}/documents/{document}", Reader, None),
        ("get", "/api/v1/kbs/{kb}/documents/{document}/text", Reader, None),
        ("get", "/api/v1/kbs/{kb}/documents/{document}/original", Reader, None),
        ("get", "/api/v1/kbs/{kb}/documents/{document}/chunks", Reader, None),
        ("get", "/api/v1/kbs/{kb}/conversations/{id}", Reader, None),
        ("post", "/api/v1/kbs/{kb}/search", Reader, Some(question.clone())),
        ("post", "/api/v1/kbs/{kb}/ask", Reader, Some(question)),
        ("get", "/api/v1/jobs", Reader, None),
        ("get", "/api/v1/jobs/{id}", Reader, None),
        ("get", "/api/v1/jobs/{id}/events", Reader, None),
        ("post", "/v1/chat/completions", Reader, Some(chat)),
        ("post", "/v1/completions", Reader, Some(json!({"model": "default", "prompt": "hi"}))),
        ("post", "/v1/embeddings", Reader, Some(json!({"model": "default", "input": "hi"}))),
        ("post", "/v1/rerank", Reader, Some(json!({"query": "q", "documents": ["d"]}))),
        ("get", "/v1/models", Reader, None),
        ("get", "/v1/models/{model}", Reader, None),
        ("post", "/api/v1/kbs/{kb}/documents", Editor, None),
        ("post", "/api/v1/kbs/{kb}/texts", Editor, Some(json!({"name": "a", "text": "b"}))),
        ("delete", "/api/v1/kbs/{kb}/documents/{document}", Editor, None),
        ("delete", "/api/v1/kbs/{kb}/chunks/{chunk}", Editor, None),
        ("post", "/api/v1/jobs/{id}/cancel", Editor, None),
        ("post", "/api/v1/jobs/{id}/retry", Editor, None),
        ("post", "/api/v1/kbs", Admin, Some(json!({"name": "fresh"}))),
        ("patch", "/api/v1/kbs/{kb}", Admin, Some(json!({"rerank": true}))),
        ("delete", "/api/v1/kbs/{kb}", Admin, None),
        ("get", "/api/v1/keys", UnscopedAdmin, None),
        ("post", "/api/v1/keys", UnscopedAdmin, Some(json!({"name": "n", "role": "reader"}))),
        ("delete", "/api/v1/keys/{id}", UnscopedAdmin, None),
    ]
}

async fn call(world: &World, key: &str, method: &str, path: &str, body: Option<&Value>) -> Got {
    let path = path.replace("{kb}", "initial");
    let path = path.split('/').map(|part| if part.starts_with('{') { "none" } else { part });
    let path = path.collect::<Vec<_>>().join("/");
    let request = request(&method.to_uppercase(), key, &path);
    let request = match body {
        Some(body) => request.header("content-type", "application/json").body(Body::from(body.to_string())),
        None => request.body(Body::empty()),
    };
    world.send(request.unwrap()).await
}

#[test]
fn the_table_holds_every_path() {
    let document = serde_json::to_value(crate::openapi()).unwrap();
    let mut told = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            told.insert((method.clone(), path.clone()));
        }
    }
    let table: BTreeSet<_> =
        paths().into_iter().map(|(method, path, ..)| (method.to_owned(), path.to_owned())).collect();
    assert_eq!(table, told);
}

#[tokio::test]
async fn every_role_meets_every_path() {
    for (method, path, needs, body) in paths() {
        // The strongest comes last: what it changes meets nobody else.
        let world = World::new().await;
        for (key, has) in
            [("", Nothing), ("wrong", Nothing), (READER, Reader), (EDITOR, Editor), (ADMIN, UnscopedAdmin)]
        {
            let status = call(&world, key, method, path, body.as_ref()).await.status.as_u16();
            let expected = match (needs, has) {
                (Nothing, _) => None,
                (_, Nothing) => Some(401),
                (needs, has) if has < needs => Some(403),
                _ => None,
            };
            match expected {
                Some(expected) => assert_eq!(status, expected, "{method} {path} as {key:?}"),
                None => assert!(status != 401 && status != 403, "{method} {path} as {key:?}: {status}"),
            }
        }
    }
}

#[tokio::test]
async fn a_scoped_key_reaches_only_its_own() {
    for (method, path, needs, body) in paths() {
        let world = World::new().await;
        let status = call(&world, SCOPED_ADMIN, method, path, body.as_ref()).await.status.as_u16();
        if path.contains("{kb}") || needs == UnscopedAdmin || path == "/api/v1/kbs" && method == "post" {
            assert_eq!(status, 403, "{method} {path}");
        } else {
            assert_ne!(status, 403, "{method} {path}");
        }
        // The same for a knowledge base that does not exist: the answer tells nothing.
        let unknown = path.replace("{kb}", "unknown_kb");
        if unknown != path {
            assert_eq!(
                call(&world, SCOPED_ADMIN, method, &unknown, body.as_ref()).await.status,
                403,
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn what_belongs_to_another_scope_does_not_exist() {
    let world = World::new().await;
    let id = world.ingest("initial", "a.md", "secret alpha words").await;
    for (method, path) in [("get", ""), ("get", "/events"), ("post", "/cancel"), ("post", "/retry")] {
        let got = call(&world, SCOPED, method, &format!("/api/v1/jobs/job0000{path}"), None).await;
        assert_eq!(got.status, 404, "{path}");
    }
    for path in ["", "/text", "/original", "/chunks"] {
        let got = world.get(SCOPED, &format!("/api/v1/kbs/other/documents/{id}{path}")).await.is(404);
        assert!(!got.text().contains("secret"));
    }
    world.get(SCOPED, "/api/v1/jobs?kb=initial").await.is(403);
    let listed = world.get(SCOPED, "/api/v1/kbs").await.is(200);
    assert!(!listed.text().contains("initial"));
    let models = world.get(SCOPED, "/v1/models").await.is(200);
    assert!(models.text().contains("kb:other") && !models.text().contains("kb:initial"));
    world.get(SCOPED, "/v1/models/kb:initial").await.is(404);
    let body = json!({"model": "kb:initial", "messages": [{"role": "user", "content": "secret?"}]});
    world.post(SCOPED, "/v1/chat/completions", body).await.is(403);
    let body = json!({"question": "secret words?", "k": 10});
    let found = world.post(SCOPED, "/api/v1/kbs/other/search", body).await.is(200);
    assert!(!found.text().contains("secret alpha"));
}

fn with_cookie(method: &str, path: &str, cookie: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request =
        request(method, "", path).header("cookie", cookie).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from("{\"name\": \"fresh\"}")).unwrap()
}

/// Logs in as the administrator; returns the cookie as a browser sends it.
async fn login(world: &World) -> String {
    let got = world.post("", "/api/v1/session", json!({"key": ADMIN})).await.is(200);
    let cookie = got.header("set-cookie").to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=2592000"] {
        assert!(cookie.split("; ").any(|found| found == part), "{cookie}");
    }
    cookie.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn the_page_logs_in_and_out() {
    let world = World::new().await;
    let cookie = login(&world).await;
    let who = world.send(with_cookie("GET", "/api/v1/session", &cookie, &[])).await.is(200).json();
    assert_eq!(who, json!({"name": "admin", "role": "admin", "kbs": null}));
    let same = [("sec-fetch-site", "same-origin")];
    world.send(with_cookie("POST", "/api/v1/kbs", &cookie, &same)).await.is(201);
    let gone = world.send(with_cookie("DELETE", "/api/v1/session", &cookie, &same)).await.is(204);
    assert!(gone.header("set-cookie").contains("Max-Age=0"));
    world.send(with_cookie("GET", "/api/v1/session", &cookie, &[])).await.is(401);
}

#[tokio::test]
async fn another_site_changes_nothing_with_our_cookie() {
    let world = World::new().await;
    let cookie = login(&world).await;
    for headers in [
        &[][..],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("origin", "http://evil.example")],
        &[("origin", "http://localhost:9999")],
        &[("origin", "null")],
    ] {
        world.send(with_cookie("POST", "/api/v1/kbs", &cookie, headers)).await.is(403);
        world.send(with_cookie("DELETE", "/api/v1/kbs/initial", &cookie, headers)).await.is(403);
    }
    assert_eq!(world.fake.kept().kbs.len(), 2);
    let own = [("origin", "http://localhost:7780")];
    world.send(with_cookie("POST", "/api/v1/kbs", &cookie, &own)).await.is(201);
    // Nor may it log a browser in under a key of its own.
    let login = request("POST", "", "/api/v1/session").header("origin", "http://evil.example");
    let login =
        login.header("content-type", "application/json").body(Body::from("{\"key\": \"secret-admin\"}"));
    world.send(login.unwrap()).await.is(403);
}

#[tokio::test]
async fn a_revoked_key_takes_its_session_along() {
    let world = World::new().await;
    let cookie = login(&world).await;
    world.fake.kept().keys.retain(|(secret, _)| secret != ADMIN);
    world.send(with_cookie("GET", "/api/v1/session", &cookie, &[])).await.is(401);
}

#[tokio::test]
async fn guessing_is_braked_and_a_right_key_is_not() {
    let world = World::new().await;
    for _ in 0..10 {
        world.post("", "/api/v1/session", json!({"key": "guess"})).await.is(401);
    }
    let braked = world.post("", "/api/v1/session", json!({"key": ADMIN})).await.is(429);
    assert!(braked.header("retry-after").parse::<u64>().unwrap() <= 60);
    assert_eq!(braked.code(), "too_many");
    world.get("guess", "/api/v1/kbs").await.is(429);
    world.get(READER, "/api/v1/kbs").await.is(200);
}

#[tokio::test]
async fn only_bearer_keys_and_our_cookie_count() {
    let world = World::new().await;
    for value in
        ["secret-admin", "Basic c2VjcmV0LWFkbWlu", "Bearer", "Bearer  ", "Bearer secret-admin secret-admin"]
    {
        let got =
            request("GET", "", "/api/v1/kbs").header("authorization", value).body(Body::empty()).unwrap();
        let got = world.send(got).await.is(401);
        assert_eq!(got.header("www-authenticate"), "Bearer");
    }
    let long = "x".repeat(100_000);
    world.get(&long, "/api/v1/kbs").await.is(401);
    world.send(with_cookie("GET", "/api/v1/kbs", "rwkv_rag_session=guess", &[])).await.is(401);
    world.send(with_cookie("GET", "/api/v1/kbs", "rwkv_rag_session=", &[])).await.is(401);
    for query in ["?key=secret-admin", "?api_key=secret-admin"] {
        world.get("", &format!("/api/v1/kbs{query}")).await.is(401);
    }
    world.post("", "/api/v1/session", json!({"key": {"$ne": ""}})).await.is(400);
}
