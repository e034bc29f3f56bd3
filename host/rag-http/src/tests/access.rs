//! Who may do what: every path of the OpenAPI document, every role, own and other knowledge bases, and the cookie.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::Request;
use rag_core::kb::KbName;
use rag_core::ports::{Accounts as _, Rights, Role};
use serde_json::{Value, json};

use super::world::{ADMIN, EDITOR, Got, READER, SCOPED, SCOPED_ADMIN, World, request};

/// What a path needs.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Needs {
    Nothing,
    /// The role of the caller, wherever.
    Base(Role),
    /// The role in the knowledge base of the path.
    Kb(Role),
    /// The role in some knowledge base.
    Anywhere(Role),
    UnscopedAdmin,
    /// To administer the knowledge base `fresh`, which is not there.
    Fresh,
}
use Needs::{Anywhere, Base, Fresh, Kb, Nothing, UnscopedAdmin};
use Role::{Admin, Editor, Reader};

/// Every path with a body that it takes. Parameters but `{kb}` name nothing that exists.
fn paths() -> Vec<(&'static str, &'static str, Needs, Option<Value>)> {
    let mut paths = open_and_own();
    paths.extend(of_knowledge_bases());
    paths.extend(of_documents());
    paths.extend(of_question_sets());
    paths.extend(of_plugins());
    paths.extend(of_jobs_and_people());
    paths.extend(of_tuning());
    paths
}

fn open_and_own() -> Vec<(&'static str, &'static str, Needs, Option<Value>)> {
    let chat = json!({"model": "fake-rwkv", "messages": [{"role": "user", "content": "hi"}]});
    let password = json!({"old": "a", "new": "b"});
    vec![
        ("get", "/healthz", Nothing, None),
        ("get", "/readyz", Nothing, None),
        ("post", "/api/v1/session", Nothing, Some(json!({"key": READER}))),
        ("get", "/api/v1/session", Base(Reader), None),
        ("put", "/api/v1/session/password", Base(Reader), Some(password)),
        ("delete", "/api/v1/session", Base(Reader), None),
        ("get", "/api/v1/status", Base(Reader), None),
        ("get", "/api/v1/models", Base(Reader), None),
        ("get", "/metrics", Base(Reader), None),
        ("get", "/api/v1/conversations", Base(Reader), None),
        ("post", "/v1/chat/completions", Base(Reader), Some(chat)),
        ("post", "/v1/completions", Base(Reader), Some(json!({"model": "default", "prompt": "hi"}))),
        ("post", "/v1/embeddings", Base(Reader), Some(json!({"model": "default", "input": "hi"}))),
        ("post", "/v1/rerank", Base(Reader), Some(json!({"query": "q", "documents": ["d"]}))),
        ("get", "/v1/models", Base(Reader), None),
        ("get", "/v1/models/{model}", Base(Reader), None),
    ]
}

fn of_knowledge_bases() -> Vec<(&'static str, &'static str, Needs, Option<Value>)> {
    let question = json!({"question": "what?"});
    let (title, mark) = (json!({"title": "t"}), json!({"mark": "good"}));
    vec![
        ("get", "/api/v1/kbs", Base(Reader), None),
        ("post", "/api/v1/kbs", Fresh, Some(json!({"name": "fresh"}))),
        ("get", "/api/v1/kbs/{kb}", Kb(Reader), None),
        ("patch", "/api/v1/kbs/{kb}", Kb(Admin), Some(json!({"rerank": true}))),
        ("delete", "/api/v1/kbs/{kb}", Kb(Admin), None),
        ("get", "/api/v1/kbs/{kb}/export", Kb(Admin), None),
        ("post", "/api/v1/imports", UnscopedAdmin, None),
        ("post", "/api/v1/kbs/{kb}/search", Kb(Reader), Some(question.clone())),
        ("post", "/api/v1/kbs/{kb}/ask", Kb(Reader), Some(question)),
        ("get", "/api/v1/kbs/{kb}/conversations/{id}", Kb(Reader), None),
        ("patch", "/api/v1/kbs/{kb}/conversations/{id}", Kb(Reader), Some(title)),
        ("delete", "/api/v1/kbs/{kb}/conversations/{id}", Kb(Reader), None),
        ("put", "/api/v1/kbs/{kb}/conversations/{id}/rounds/{round}/mark", Kb(Reader), Some(mark)),
        ("get", "/api/v1/kbs/{kb}/marks", Kb(Editor), None),
    ]
}

fn of_documents() -> Vec<(&'static str, &'static str, Needs, Option<Value>)> {
    let batch = json!({"action": "delete", "documents": []});
    vec![
        ("get", "/api/v1/kbs/{kb}/documents", Kb(Reader), None),
        ("get", "/api/v1/kbs/{kb}/documents/{document}", Kb(Reader), None),
        ("get", "/api/v1/kbs/{kb}/documents/{document}/text", Kb(Reader), None),
        ("get", "/api/v1/kbs/{kb}/documents/{document}/original", Kb(Reader), None),
        ("get", "/api/v1/kbs/{kb}/documents/{document}/chunks", Kb(Reader), None),
        ("get", "/api/v1/kbs/{kb}/chunks/{chunk}", Kb(Reader), None),
        ("post", "/api/v1/kbs/{kb}/documents", Kb(Editor), None),
        ("post", "/api/v1/kbs/{kb}/documents/batch", Kb(Editor), Some(batch)),
        ("post", "/api/v1/kbs/{kb}/texts", Kb(Editor), Some(json!({"name": "a", "text": "b"}))),
        ("post", "/api/v1/kbs/{kb}/paths", Kb(Editor), Some(json!({"path": "papers"}))),
        ("patch", "/api/v1/kbs/{kb}/documents/{document}", Kb(Editor), Some(json!({"enabled": false}))),
        ("delete", "/api/v1/kbs/{kb}/documents/{document}", Kb(Editor), None),
        ("post", "/api/v1/kbs/{kb}/documents/{document}/rechunk", Kb(Editor), Some(json!({}))),
        ("patch", "/api/v1/kbs/{kb}/chunks/{chunk}", Kb(Editor), Some(json!({"enabled": false}))),
        ("delete", "/api/v1/kbs/{kb}/chunks/{chunk}", Kb(Editor), None),
        ("post", "/api/v1/kbs/{kb}/uploads", Kb(Editor), Some(json!({"name": "a.md", "size": 3}))),
        ("get", "/api/v1/kbs/{kb}/uploads/{id}", Kb(Editor), None),
        ("patch", "/api/v1/kbs/{kb}/uploads/{id}", Kb(Editor), None),
        ("delete", "/api/v1/kbs/{kb}/uploads/{id}", Kb(Editor), None),
        ("get", "/api/v1/folders", Anywhere(Editor), None),
        ("get", "/api/v1/web/engines", Anywhere(Editor), None),
        ("post", "/api/v1/kbs/{kb}/web", Kb(Editor), Some(json!({"url": "http://example.org/"}))),
        ("post", "/api/v1/kbs/{kb}/web/search", Kb(Editor), Some(json!({"query": "words"}))),
        ("post", "/api/v1/kbs/{kb}/web/preview", Kb(Editor), Some(json!({"url": "http://example.org/"}))),
    ]
}

fn of_question_sets() -> Vec<(&'static str, &'static str, Needs, Option<Value>)> {
    let set = json!({"name": "s", "questions": [{"question": "q", "documents": ["d"]}]});
    vec![
        ("get", "/api/v1/kbs/{kb}/question-sets", Kb(Reader), None),
        ("post", "/api/v1/kbs/{kb}/question-sets", Kb(Editor), Some(set.clone())),
        ("get", "/api/v1/kbs/{kb}/question-sets/{set}", Kb(Reader), None),
        ("put", "/api/v1/kbs/{kb}/question-sets/{set}", Kb(Editor), Some(set)),
        ("delete", "/api/v1/kbs/{kb}/question-sets/{set}", Kb(Editor), None),
        ("get", "/api/v1/kbs/{kb}/question-sets/{set}/export", Kb(Reader), None),
        ("get", "/api/v1/kbs/{kb}/question-sets/{set}/runs", Kb(Reader), None),
        ("post", "/api/v1/kbs/{kb}/question-sets/{set}/runs", Kb(Editor), Some(json!({}))),
        ("get", "/api/v1/kbs/{kb}/question-sets/{set}/runs/{run}", Kb(Reader), None),
        ("delete", "/api/v1/kbs/{kb}/question-sets/{set}/runs/{run}", Kb(Editor), None),
    ]
}

fn of_plugins() -> Vec<(&'static str, &'static str, Needs, Option<Value>)> {
    let swap = json!({"retriever": {"id": "retrieve-dense"}});
    vec![
        ("get", "/api/v1/plugins", Base(Reader), None),
        ("post", "/api/v1/plugins", UnscopedAdmin, None),
        ("delete", "/api/v1/plugins/{digest}", UnscopedAdmin, None),
        ("get", "/api/v1/plugins/{id}/grants", UnscopedAdmin, None),
        ("put", "/api/v1/plugins/{id}/grants", UnscopedAdmin, Some(json!({"http": [], "sql": []}))),
        ("get", "/api/v1/kbs/{kb}/plugins", Kb(Reader), None),
        ("post", "/api/v1/kbs/{kb}/plugins/swap", Kb(Admin), Some(swap)),
        ("post", "/api/v1/kbs/{kb}/plugins/rollback", Kb(Admin), Some(json!({}))),
        ("get", "/api/v1/kbs/{kb}/plugins/generations", Kb(Reader), None),
        ("get", "/api/v1/kbs/{kb}/plugins/generations/{generation}", Kb(Reader), None),
        ("delete", "/api/v1/kbs/{kb}/plugins/generations/{generation}", Kb(Admin), None),
        ("post", "/api/v1/kbs/{kb}/plugins/generations/{generation}/publish", Kb(Admin), None),
    ]
}

fn of_jobs_and_people() -> Vec<(&'static str, &'static str, Needs, Option<Value>)> {
    let user = json!({"name": "new", "password": "a long password", "role": "reader"});
    vec![
        ("get", "/api/v1/jobs", Base(Reader), None),
        ("get", "/api/v1/jobs/{id}", Anywhere(Reader), None),
        ("get", "/api/v1/jobs/{id}/events", Anywhere(Reader), None),
        ("patch", "/api/v1/jobs/{id}", Anywhere(Editor), Some(json!({"priority": 1}))),
        ("post", "/api/v1/jobs/{id}/pause", Anywhere(Editor), None),
        ("post", "/api/v1/jobs/{id}/resume", Anywhere(Editor), None),
        ("post", "/api/v1/jobs/{id}/cancel", Anywhere(Editor), None),
        ("post", "/api/v1/jobs/{id}/retry", Anywhere(Editor), None),
        ("get", "/api/v1/keys", UnscopedAdmin, None),
        ("post", "/api/v1/keys", UnscopedAdmin, Some(json!({"name": "n", "role": "reader"}))),
        ("delete", "/api/v1/keys/{id}", UnscopedAdmin, None),
        ("get", "/api/v1/users", UnscopedAdmin, None),
        ("post", "/api/v1/users", UnscopedAdmin, Some(user)),
        ("patch", "/api/v1/users/{id}", UnscopedAdmin, Some(json!({}))),
        ("delete", "/api/v1/users/{id}", UnscopedAdmin, None),
        ("get", "/api/v1/audit", UnscopedAdmin, None),
        ("get", "/api/v1/services", UnscopedAdmin, None),
        ("get", "/api/v1/logs", UnscopedAdmin, None),
        ("get", "/api/v1/models/entries", UnscopedAdmin, None),
        ("post", "/api/v1/models/entries", UnscopedAdmin, Some(json!({"name": "new", "path": "a.pth"}))),
        ("patch", "/api/v1/models/entries/{name}", UnscopedAdmin, Some(json!({}))),
        ("delete", "/api/v1/models/entries/{name}", UnscopedAdmin, None),
        ("put", "/api/v1/models/choices/{kind}", UnscopedAdmin, Some(json!({"name": "none"}))),
        ("post", "/api/v1/models/restart", UnscopedAdmin, None),
        ("get", "/api/v1/models/pulls", UnscopedAdmin, None),
        ("post", "/api/v1/models/pulls", UnscopedAdmin, Some(json!({"repository": "owner/missing"}))),
        ("get", "/api/v1/models/pulls/{id}", UnscopedAdmin, None),
        ("delete", "/api/v1/models/pulls/{id}", UnscopedAdmin, None),
    ]
}

fn of_tuning() -> Vec<(&'static str, &'static str, Needs, Option<Value>)> {
    let job = json!({"dataset": "none"});
    let collection = json!({"kb": "initial", "marks": true});
    vec![
        ("get", "/api/v1/tuning/defaults", UnscopedAdmin, None),
        ("post", "/api/v1/tuning/estimate", UnscopedAdmin, Some(job.clone())),
        ("get", "/api/v1/tuning/datasets", UnscopedAdmin, None),
        ("put", "/api/v1/tuning/datasets/{name}", UnscopedAdmin, Some(json!({"text": "a"}))),
        ("get", "/api/v1/tuning/datasets/{name}", UnscopedAdmin, None),
        ("delete", "/api/v1/tuning/datasets/{name}", UnscopedAdmin, None),
        ("post", "/api/v1/tuning/datasets/{name}/binidx", UnscopedAdmin, Some(json!({}))),
        ("post", "/api/v1/tuning/datasets/{name}/collect", UnscopedAdmin, Some(collection)),
        ("get", "/api/v1/tuning/jobs", UnscopedAdmin, None),
        ("post", "/api/v1/tuning/jobs", UnscopedAdmin, Some(job)),
        ("get", "/api/v1/tuning/jobs/{id}", UnscopedAdmin, None),
        ("delete", "/api/v1/tuning/jobs/{id}", UnscopedAdmin, None),
        ("post", "/api/v1/tuning/jobs/{id}/stop", UnscopedAdmin, None),
        ("post", "/api/v1/tuning/jobs/{id}/resume", UnscopedAdmin, None),
        ("post", "/api/v1/tuning/jobs/{id}/merge", UnscopedAdmin, None),
        ("post", "/api/v1/tuning/jobs/{id}/offer", UnscopedAdmin, Some(json!({"name": "new"}))),
        ("get", "/api/v1/tuning/jobs/{id}/points", UnscopedAdmin, None),
        ("get", "/api/v1/tuning/jobs/{id}/events", UnscopedAdmin, None),
        ("get", "/api/v1/tuning/jobs/{id}/files/{file}", UnscopedAdmin, None),
    ]
}

/// A request in somebody's name: of a key, or of a user whose cookie comes from our own page.
enum As<'a> {
    Key(&'a str),
    User { cookie: String, csrf: String },
}

async fn call(world: &World, who: &As<'_>, method: &str, path: &str, body: Option<&Value>) -> Got {
    let path = path.split('/').map(|part| if part.starts_with('{') { "none" } else { part });
    let path = path.collect::<Vec<_>>().join("/");
    let mut request = request(&method.to_uppercase(), if let As::Key(key) = who { key } else { "" }, &path);
    if let As::User { cookie, csrf } = who {
        request = request.header("cookie", cookie).header("x-csrf-token", csrf);
        request = request.header("sec-fetch-site", "same-origin");
    }
    let request = match body {
        Some(body) => request.header("content-type", "application/json").body(Body::from(body.to_string())),
        None => request.body(Body::empty()),
    };
    world.send(request.unwrap()).await
}

/// Everybody who may come, the strongest last: what they change meets nobody else.
fn everybody() -> Vec<(&'static str, Option<Rights>)> {
    let other = || Some(vec![KbName::parse("other").unwrap()]);
    let key = |role, kbs| Some(Rights { role, kbs, of_kbs: Vec::new() });
    vec![
        ("", None),
        ("wrong", None),
        (READER, key(Reader, None)),
        (EDITOR, key(Editor, None)),
        (SCOPED, key(Editor, other())),
        (MIXED, Some(mixed())),
        (SCOPED_ADMIN, key(Admin, other())),
        (ADMIN, key(Admin, None)),
    ]
}

/// Name of a user who reads everything and edits one knowledge base.
const MIXED: &str = "mixed";

fn mixed() -> Rights {
    Rights { role: Reader, kbs: None, of_kbs: vec![(KbName::parse("other").unwrap(), Editor)] }
}

/// What the first line of defence answers, before anything is looked up.
fn expected(needs: Needs, rights: Option<&Rights>, kb: &str) -> Option<u16> {
    let Some(rights) = rights else { return (needs != Nothing).then_some(401) };
    let in_kb = |kb: &str| rights.in_kb(&KbName::parse(kb).unwrap());
    let highest = rights.of_kbs.iter().map(|(_, role)| *role).fold(rights.role, Role::max);
    let may = match needs {
        Nothing => true,
        Base(role) => rights.role >= role,
        Kb(role) => in_kb(kb).is_some_and(|has| has >= role),
        Anywhere(role) => highest >= role,
        UnscopedAdmin => rights.role == Admin && rights.kbs.is_none(),
        Fresh => in_kb("fresh") == Some(Admin),
    };
    (!may).then_some(403)
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

/// Every path, everybody, a knowledge base of their own, another's, and one that does not exist: what may not be seen
/// is answered in the same way whether it is there or not.
#[tokio::test]
async fn everybody_meets_every_path_in_every_knowledge_base() {
    for (method, path, needs, body) in paths() {
        let world = World::new().await;
        world.fake.create_user(MIXED, "a long password", &mixed()).await.unwrap();
        for (name, rights) in everybody() {
            for kb in ["other", "initial", "unknown_kb"] {
                if !path.contains("{kb}") && kb != "other" {
                    continue;
                }
                let who = if name == MIXED { user(&world, MIXED).await } else { As::Key(name) };
                let got = call(&world, &who, method, &path.replace("{kb}", kb), body.as_ref()).await;
                let status = got.status.as_u16();
                let told = format!("{method} {path} in {kb} as {name:?}: {status}");
                match expected(needs, rights.as_ref(), kb) {
                    Some(expected) => assert_eq!(status, expected, "{told}"),
                    None => assert!(status != 401 && status != 403, "{told} {}", got.text()),
                }
            }
        }
    }
}

/// Logs a user in.
async fn user(world: &World, name: &str) -> As<'static> {
    let body = json!({"name": name, "password": "a long password"});
    let got = world.post("", "/api/v1/session", body).await.is(200);
    let cookie = got.header("set-cookie").split(';').next().unwrap().to_owned();
    As::User { cookie, csrf: got.json()["csrf"].as_str().unwrap().to_owned() }
}

#[tokio::test]
async fn what_belongs_to_another_scope_does_not_exist() {
    let world = World::new().await;
    let id = world.ingest("initial", "a.md", "secret alpha words").await;
    for (method, path) in [("get", ""), ("get", "/events"), ("post", "/cancel"), ("post", "/retry")] {
        let got = call(&world, &As::Key(SCOPED), method, &format!("/api/v1/jobs/job0000{path}"), None).await;
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

/// Logs in as the administrator; returns the cookie as a browser sends it, and what changes must carry.
async fn login(world: &World) -> (String, String) {
    let got = world.post("", "/api/v1/session", json!({"key": ADMIN})).await.is(200);
    let cookie = got.header("set-cookie").to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=2592000"] {
        assert!(cookie.split("; ").any(|found| found == part), "{cookie}");
    }
    (cookie.split(';').next().unwrap().to_owned(), got.json()["csrf"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn the_page_logs_in_and_out() {
    let world = World::new().await;
    let (cookie, csrf) = login(&world).await;
    let who = world.send(with_cookie("GET", "/api/v1/session", &cookie, &[])).await.is(200).json();
    let told = json!({"id": "k0", "name": "admin", "user": false, "role": "admin", "kbs": null, "kb_roles": [], "csrf": csrf});
    assert_eq!(who, told);
    let same = [("sec-fetch-site", "same-origin"), ("x-csrf-token", csrf.as_str())];
    world.send(with_cookie("POST", "/api/v1/kbs", &cookie, &same)).await.is(201);
    let gone = world.send(with_cookie("DELETE", "/api/v1/session", &cookie, &same)).await.is(204);
    assert!(gone.header("set-cookie").contains("Max-Age=0"));
    world.send(with_cookie("GET", "/api/v1/session", &cookie, &[])).await.is(401);
}

#[tokio::test]
async fn another_site_changes_nothing_with_our_cookie() {
    let world = World::new().await;
    let (cookie, csrf) = login(&world).await;
    let csrf = ("x-csrf-token", csrf.as_str());
    for headers in [
        &[csrf][..],
        // From our own page, but by somebody who cannot read our answers.
        &[("sec-fetch-site", "same-origin")],
        &[("sec-fetch-site", "same-origin"), ("x-csrf-token", "guess")],
        &[("sec-fetch-site", "same-origin"), ("x-csrf-token", "")],
        &[("sec-fetch-site", "cross-site"), csrf],
        &[("sec-fetch-site", "same-site"), csrf],
        &[("origin", "http://evil.example"), csrf],
        &[("origin", "http://localhost:9999"), csrf],
        &[("origin", "null"), csrf],
    ] {
        world.send(with_cookie("POST", "/api/v1/kbs", &cookie, headers)).await.is(403);
        world.send(with_cookie("DELETE", "/api/v1/kbs/initial", &cookie, headers)).await.is(403);
    }
    assert_eq!(world.fake.kept().kbs.len(), 2);
    let own = [("origin", "http://localhost:7780"), csrf];
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
    let (cookie, _) = login(&world).await;
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
