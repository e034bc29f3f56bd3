//! Knowledge bases, jobs, keys, status: every path's right answer.

use rag_core::Error;
use serde_json::json;

use super::world::{ADMIN, READER, SCOPED, World, piece, request};

#[tokio::test]
async fn a_knowledge_base_lives_and_dies() {
    let world = World::new().await;
    let created = world.post(ADMIN, "/api/v1/kbs", json!({"name": "manuals"})).await.is(201).json();
    assert_eq!(created["name"], "manuals");
    assert_eq!(created["settings"]["chunker"], json!({"id": "chunk-sentence", "settings": {}}));
    world.post(ADMIN, "/api/v1/kbs", json!({"name": "manuals"})).await.is(409);

    let change = json!({"rerank": false, "answer": {"passages": 5}, "retriever": {"id": "retrieve-dense", "settings": {"k": 3}}});
    let changed = world.json("PATCH", ADMIN, "/api/v1/kbs/manuals", change).await.is(200).json();
    assert_eq!(changed["settings"]["answer"]["passages"], 5);
    assert_eq!(changed["settings"]["answer"]["candidates"], 10, "what is left out stays");
    assert_eq!(changed["settings"]["retriever"], json!({"id": "retrieve-dense", "settings": {"k": 3}}));
    assert_eq!(world.get(READER, "/api/v1/kbs/manuals").await.is(200).json(), changed);

    let names = world.get(READER, "/api/v1/kbs").await.is(200).json();
    let names: Vec<_> = names["kbs"].as_array().unwrap().iter().map(|kb| kb["name"].clone()).collect();
    assert_eq!(names, ["initial", "manuals", "other"]);
    world.delete(ADMIN, "/api/v1/kbs/manuals").await.is(204);
    world.get(READER, "/api/v1/kbs/manuals").await.is(404);
    world.delete(ADMIN, "/api/v1/kbs/manuals").await.is(404);
}

#[tokio::test]
async fn wrong_settings_are_refused_and_nothing_is_made() {
    let world = World::new().await;
    for (settings, status) in [
        (json!({"answer": {"passages": 0}}), 400),
        (json!({"answer": {"temperature": -1}}), 400),
        (json!({"answer": {"top_p": 1.5}}), 400),
        (json!({"answer": {"template": "no names"}}), 400),
        (json!({"answer": {"surprise": 1}}), 400),
        (json!({"chunker": {"id": "x", "settings": [1]}}), 400),
        (json!({"chunker": {"id": "missing-one"}}), 404),
        (json!([]), 400),
    ] {
        let body = json!({"name": "fresh", "settings": settings});
        world.post(ADMIN, "/api/v1/kbs", body).await.is(status);
    }
    for name in ["", "ab", "a-b", "知识库", "a/../b", "_abc"] {
        assert_eq!(
            world.post(ADMIN, "/api/v1/kbs", json!({"name": name})).await.is(400).code(),
            "invalid_input"
        );
    }
    world.get(ADMIN, "/api/v1/kbs/fresh").await.is(404);
}

#[tokio::test]
async fn a_job_is_listed_followed_cancelled_and_run_again() {
    let world = World::new().await;
    let path = "/api/v1/kbs/initial/texts";
    let job = world.post(ADMIN, path, json!({"name": "a.md", "text": "alpha words"})).await.is(202).json();
    let id = job["jobs"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(job["jobs"][0]["state"], "queued");
    let listed = world.get(READER, "/api/v1/jobs?kb=initial&limit=5").await.is(200).json();
    assert_eq!(listed["jobs"], job["jobs"]);
    assert_eq!(world.get(SCOPED, "/api/v1/jobs").await.is(200).json(), json!({"jobs": []}));

    let job_path = format!("/api/v1/jobs/{id}");
    world.post(ADMIN, &format!("{job_path}/retry"), json!({})).await.is(409);
    let cancelled = world.post(ADMIN, &format!("{job_path}/cancel"), json!({})).await.is(200).json();
    assert_eq!(cancelled["state"], "cancelled");
    let again = world.post(ADMIN, &format!("{job_path}/retry"), json!({})).await.is(200).json();
    assert_eq!(again["state"], "queued");

    let events =
        request("GET", READER, &format!("{job_path}/events")).body(axum::body::Body::empty()).unwrap();
    let mut events = world.open(events).await.into_body().into_data_stream();
    let first = piece(&mut events).await.unwrap();
    assert!(first.starts_with("event: progress\ndata: {"), "{first}");
    world.run_jobs().await;
    let last = piece(&mut events).await.unwrap();
    assert!(last.starts_with("event: end\n") && last.contains("\"state\":\"done\""), "{last}");
    assert_eq!(piece(&mut events).await, None, "nothing follows the end");
    world.get(READER, "/api/v1/jobs/unknown").await.is(404);
}

#[tokio::test]
async fn a_failed_job_says_why() {
    let world = World::new().await;
    let upload = request("POST", ADMIN, "/api/v1/kbs/initial/documents?name=x.txt");
    let upload = upload.body(axum::body::Body::from(&b"\xff\xfe\xff broken"[..])).unwrap();
    let job = world.send(upload).await.is(202).json();
    world.run_jobs().await;
    let id = job["jobs"][0]["id"].as_str().unwrap();
    let job = world.get(READER, &format!("/api/v1/jobs/{id}")).await.is(200).json();
    assert_eq!(
        (job["state"].as_str(), job["error"].as_str()),
        (Some("failed"), Some("the document is not UTF-8"))
    );
}

#[tokio::test]
async fn a_watcher_whose_key_is_revoked_hears_no_more() {
    let world = World::new().await;
    world.post(ADMIN, "/api/v1/kbs/initial/texts", json!({"name": "a.md", "text": "alpha"})).await.is(202);
    let events =
        request("GET", READER, "/api/v1/jobs/job0000/events").body(axum::body::Body::empty()).unwrap();
    let mut events = world.open(events).await.into_body().into_data_stream();
    piece(&mut events).await.unwrap();
    world.delete(ADMIN, "/api/v1/keys/k2").await.is(204);
    world.run_jobs().await;
    assert_eq!(piece(&mut events).await, None);
}

#[tokio::test]
async fn keys_are_made_shown_once_and_revoked() {
    let world = World::new().await;
    let body = json!({"name": "ci", "role": "editor", "kbs": ["other"]});
    let made = world.post(ADMIN, "/api/v1/keys", body).await.is(201).json();
    let secret = made["secret"].as_str().unwrap();
    assert_eq!(made["key"]["kbs"], json!(["other"]));
    world.get(secret, "/api/v1/kbs/other").await.is(200);
    let listed = world.get(ADMIN, "/api/v1/keys").await.is(200);
    assert!(!listed.text().contains("secret-"), "a secret is never shown again");
    let id = made["key"]["id"].as_str().unwrap();
    world.delete(ADMIN, &format!("/api/v1/keys/{id}")).await.is(204);
    assert_eq!(world.get(secret, "/api/v1/kbs/other").await.is(401).code(), "unauthenticated");
    world.delete(ADMIN, &format!("/api/v1/keys/{id}")).await.is(404);
    for bad in [
        json!({"name": "", "role": "admin"}),
        json!({"name": "x\n", "role": "nobody"}),
        json!({"name": "x", "role": "reader", "kbs": ["a/b"]}),
        json!({"name": {"$gt": ""}, "role": "admin"}),
        json!({"name": "x"}),
    ] {
        world.post(ADMIN, "/api/v1/keys", bad).await.is(400);
    }
}

#[tokio::test]
async fn the_system_tells_about_itself() {
    let world = World::new().await;
    world.ingest("initial", "a.md", "alpha words").await;
    let plugins = world.get(READER, "/api/v1/plugins").await.is(200).json();
    assert_eq!(plugins["plugins"][0]["kind"], "parser");
    assert_eq!(plugins["plugins"][0]["settings_schema"]["properties"]["mode"]["enum"], json!(["a", "b"]));
    let models = world.get(READER, "/api/v1/models").await.is(200).json();
    assert_eq!(models["generator"], json!({"id": "fake-rwkv", "demonstration": true}));
    let status = world.get(READER, "/api/v1/status").await.is(200).json();
    assert_eq!((status["kbs"].as_u64(), status["documents"].as_u64()), (Some(2), Some(1)));
    let scoped = world.get(SCOPED, "/api/v1/status").await.is(200).json();
    assert_eq!((scoped["kbs"].as_u64(), scoped["documents"].as_u64()), (Some(1), Some(0)));

    let metrics = world.get(READER, "/metrics").await.is(200);
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"));
    for line in [
        r#"rwkv_rag_http_requests_total{method="GET",route="/api/v1/status",status="200"} 2"#,
        r#"rwkv_rag_http_requests_total{method="POST",route="/api/v1/kbs/{kb}/texts",status="202"} 1"#,
        r#"rwkv_rag_jobs{state="done"} 1"#,
        "rwkv_rag_documents 1",
    ] {
        assert!(metrics.text().lines().any(|found| found == line), "{line}\n{}", metrics.text());
    }
}

#[tokio::test]
async fn nothing_is_granted_that_was_not_asked_for_and_what_is_missing_is_told() {
    let world = World::new().await;
    let listed = world.get(READER, "/api/v1/plugins").await.is(200).json();
    let asker = listed["plugins"].as_array().unwrap().iter().find(|plugin| plugin["id"] == "retrieve-hybrid");
    let rights = asker.unwrap()["rights"].as_array().unwrap().clone();
    let http = rights.iter().find(|right| right["interface"] == "http").unwrap();
    assert_eq!(http["granted"], false);
    assert_eq!(http["missing"], json!(["https://a.example", "https://b.example"]));
    for (id, origin, words) in [
        ("parse-text", "https://a.example", "does not ask for http"),
        (
            "retrieve-hybrid",
            "https://c.example",
            "asks for https://a.example, https://b.example and not for https://c",
        ),
    ] {
        let path = format!("/api/v1/plugins/{id}/grants");
        let refused = world.json("PUT", ADMIN, &path, json!({"http": [{"origin": origin}]})).await.is(400);
        assert!(refused.text().contains(words), "{}", refused.text());
    }
}

#[tokio::test]
async fn health_needs_no_key_and_readiness_tells_the_truth() {
    let world = World::new().await;
    world.get("", "/healthz").await.is(200);
    world.get("", "/readyz").await.is(200);
    world.fake.kept().broken = Some(Error::Storage { message: "/secret/path is gone".into() });
    world.get("", "/healthz").await.is(200);
    let not_ready = world.get("", "/readyz").await.is(503);
    assert!(!not_ready.text().contains("secret"), "{}", not_ready.text());
}
