//! Uploads, documents, chunks: right ones, wrong ones, broken ones.

use axum::body::{Body, Bytes};
use futures_util::stream;
use serde_json::json;
use std::sync::atomic::Ordering;

use super::world::{ADMIN, READER, World, request};
use crate::Settings;

const DOCUMENTS: &str = "/api/v1/kbs/initial/documents";

fn form(parts: &[(&str, &str)]) -> String {
    let part = |(name, text): &(&str, &str)| {
        format!("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n{text}\r\n")
    };
    parts.iter().map(part).collect::<String>() + "--b--\r\n"
}

fn form_request(body: impl Into<Body>) -> axum::http::Request<Body> {
    let request = request("POST", ADMIN, DOCUMENTS);
    request.header("content-type", "multipart/form-data; boundary=b").body(body.into()).unwrap()
}

#[tokio::test]
async fn a_document_comes_in_is_read_and_goes() {
    let world = World::new().await;
    let text = "# 安装\n\n安装软件包使用 apt install 命令。\n\n升级用 apt upgrade。";
    let upload = request("POST", ADMIN, &format!("{DOCUMENTS}?name=%E6%89%8B%E5%86%8C/apt.md"));
    let job = world.send(upload.body(Body::from(text)).unwrap()).await.is(202).json();
    assert_eq!(job["jobs"][0]["name"], "手册/apt.md");
    assert_eq!(job["jobs"][0]["media_type"], "text/markdown");
    world.run_jobs().await;

    let listed = world.get(READER, DOCUMENTS).await.is(200).json();
    let document = &listed["documents"][0];
    let path = format!("{DOCUMENTS}/{}", document["id"].as_str().unwrap());
    assert_eq!(&world.get(READER, &path).await.is(200).json(), document);
    assert_eq!(document["chunks"], 2);

    let chunks = world.get(READER, &format!("{path}/chunks?limit=1")).await.is(200).json();
    assert_eq!(chunks["chunks"][0]["heading"], "安装");
    let rest = world.get(READER, &format!("{path}/chunks?after={}", chunks["next"])).await.is(200).json();
    assert_eq!(rest["chunks"][0]["text"], "升级用 apt upgrade。");

    let whole = world.get(READER, &format!("{path}/text")).await.is(200).json();
    assert!(whole["text"].as_str().unwrap().contains("安装软件包"));
    let part = world.get(READER, &format!("{path}/text?start=1&end=4")).await.is(200).json();
    assert_eq!(part["text"], "安装", "a range is widened to whole characters");
    world.get(READER, &format!("{path}/text?start=9&end=4")).await.is(400);

    let original = world.get(READER, &format!("{path}/original")).await.is(200);
    assert_eq!(original.text(), text);
    assert_eq!(original.header("content-type"), "application/octet-stream");
    assert_eq!(
        original.header("content-disposition"),
        "attachment; filename=\"apt.md\"; filename*=UTF-8''apt.md"
    );
    assert_eq!(original.header("x-content-type-options"), "nosniff");

    let chunk = rest["chunks"][0]["id"].as_str().unwrap();
    world.delete(ADMIN, &format!("/api/v1/kbs/initial/chunks/{chunk}")).await.is(204);
    world.delete(ADMIN, &format!("/api/v1/kbs/initial/chunks/{chunk}")).await.is(404);
    world.delete(ADMIN, &path).await.is(204);
    world.get(READER, &path).await.is(404);
    assert!(world.fake.kept().blobs.is_empty(), "the original goes with its last document");
}

#[tokio::test]
async fn lists_come_in_pages() {
    let world = World::new().await;
    for name in ["c.md", "a.md", "b.md"] {
        world.ingest("initial", name, "some words").await;
    }
    let first = world.get(READER, &format!("{DOCUMENTS}?limit=2")).await.is(200).json();
    assert_eq!(first["next"], "b.md");
    let last = world.get(READER, &format!("{DOCUMENTS}?limit=2&after=b.md")).await.is(200).json();
    assert_eq!((last["documents"][0]["name"].as_str(), &last["next"]), (Some("c.md"), &json!(null)));
}

#[tokio::test]
async fn a_form_brings_several_files() {
    let world = World::new().await;
    let jobs = world.send(form_request(form(&[("a.md", "alpha"), ("乙.txt", "beta")]))).await.is(202).json();
    assert_eq!(
        (jobs["jobs"][0]["name"].as_str(), jobs["jobs"][1]["name"].as_str()),
        (Some("a.md"), Some("乙.txt"))
    );
    assert_eq!(world.send(form_request(form(&[]))).await.is(400).code(), "invalid_input");
    world.send(form_request("no form at all")).await.is(400);
    let many: Vec<_> = (0..65).map(|_| ("a.md", "x")).collect();
    world.send(form_request(form(&many))).await.is(413);
    // One file of a form being wrong, none of it is kept.
    let before = world.fake.kept().jobs.len();
    world.send(form_request(form(&[("good.md", "x"), ("../bad.md", "x")]))).await.is(400);
    assert_eq!(world.fake.kept().jobs.len(), before);
    assert_eq!(world.fake.writers.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn names_cannot_leave_the_knowledge_base() {
    let world = World::new().await;
    for name in [
        "../etc/passwd",
        "%2e%2e/passwd",
        "/etc/passwd",
        "a/../../b",
        "..%5C..%5Cb",
        "a%00b",
        "a%0D%0Ab",
        "%2Fetc",
        "",
        "%20",
        "a//b",
        &"x".repeat(600),
    ] {
        let upload =
            request("POST", ADMIN, &format!("{DOCUMENTS}?name={name}")).body(Body::from("x")).unwrap();
        assert_eq!(world.send(upload).await.is(400).code(), "invalid_input", "{name}");
    }
    let unnamed = request("POST", ADMIN, DOCUMENTS).body(Body::from("x")).unwrap();
    world.send(unnamed).await.is(400);
    for path in [
        "/api/v1/kbs/..%2Finitial/documents",
        "/api/v1/kbs/initial/documents/..%2F..%2Fetc%2Fpasswd",
        "/api/v1/kbs/initial/documents/../../../../etc/passwd/original",
        "/ui/..%2f..%2fetc/passwd",
        "/ui/../Cargo.toml",
        "//etc/passwd",
    ] {
        let got = world.get(ADMIN, path).await;
        assert!(got.status == 404 || got.status == 400, "{path}: {}", got.status);
    }
    assert!(world.fake.kept().blobs.is_empty());
}

#[tokio::test]
async fn a_document_of_another_knowledge_base_does_not_exist_here() {
    let world = World::new().await;
    let id = world.ingest("initial", "a.md", "alpha words").await;
    for path in ["", "/text", "/original", "/chunks"] {
        world.get(ADMIN, &format!("/api/v1/kbs/other/documents/{id}{path}")).await.is(404);
    }
    world.delete(ADMIN, &format!("/api/v1/kbs/other/documents/{id}")).await.is(404);
    let chunk = world.fake.kept().chunks[0].1.id.0.clone();
    world.delete(ADMIN, &format!("/api/v1/kbs/other/chunks/{chunk}")).await.is(404);
    world.get(ADMIN, &format!("{DOCUMENTS}/{id}")).await.is(200);
}

#[tokio::test]
async fn too_large_is_refused_before_and_while_reading() {
    let world = World::with(Settings { document_bytes_max: 1_000, ..Settings::default() }).await;
    let path = format!("{DOCUMENTS}?name=a.txt");
    let told =
        request("POST", ADMIN, &path).header("content-length", "1001").body(Body::from("x".repeat(1_001)));
    assert_eq!(world.send(told.unwrap()).await.is(413).code(), "quota");
    let pieces = stream::iter((0..20).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 100]))));
    let untold = request("POST", ADMIN, &path).body(Body::from_stream(pieces)).unwrap();
    world.send(untold).await.is(413);
    world.send(form_request(form(&[("a.md", &"x".repeat(1_001))]))).await.is(413);
    assert_nothing_left(&world);
    let fits = request("POST", ADMIN, &path).body(Body::from("x".repeat(1_000))).unwrap();
    world.send(fits).await.is(202);
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let world = World::new().await;
    let broken = || {
        let pieces =
            [Ok(Bytes::from(form(&[("a.md", "x")])).slice(..60)), Err(std::io::Error::other("gone"))];
        Body::from_stream(stream::iter(pieces))
    };
    let raw = request("POST", ADMIN, &format!("{DOCUMENTS}?name=a.txt")).body(broken()).unwrap();
    world.send(raw).await.is(408);
    let got = world.send(form_request(broken())).await;
    assert!(got.status.is_client_error(), "{}", got.status);
    assert_nothing_left(&world);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_stands_still_is_given_up() {
    let world = World::new().await;
    let slow = || Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let raw = request("POST", ADMIN, &format!("{DOCUMENTS}?name=a.txt")).body(slow()).unwrap();
    assert_eq!(world.send(raw).await.is(408).code(), "timeout");
    let json = request("POST", ADMIN, "/api/v1/kbs")
        .header("content-type", "application/json")
        .body(slow())
        .unwrap();
    assert_eq!(world.send(json).await.is(408).code(), "timeout");
    assert_nothing_left(&world);
}

#[tokio::test]
async fn endless_headers_of_a_part_end_the_upload() {
    let world = World::new().await;
    let head = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(
        b"--b\r\nContent-Disposition: form-data; x=\"",
    ))]);
    let pieces = stream::iter((0..10_000).map(|_| Ok(Bytes::from_static(&[b'x'; 4_096]))));
    let body = Body::from_stream(futures_util::StreamExt::chain(head, pieces));
    world.send(form_request(body)).await.is(400);
    assert_nothing_left(&world);
}

#[tokio::test]
async fn texts_are_checked() {
    let world = World::new().await;
    let path = "/api/v1/kbs/initial/texts";
    for bad in
        [json!({"name": "a.md", "text": "  "}), json!({"name": "..", "text": "x"}), json!({"name": "a.md"})]
    {
        world.post(ADMIN, path, bad).await.is(400);
    }
    world.post(ADMIN, "/api/v1/kbs/unknown/texts", json!({"name": "a", "text": "x"})).await.is(404);
    assert_nothing_left(&world);
}

fn assert_nothing_left(world: &World) {
    let kept = world.fake.kept();
    assert!(kept.blobs.is_empty() && kept.jobs.is_empty());
    assert_eq!(world.fake.writers.load(Ordering::SeqCst), 0, "every unfinished upload was dropped");
}
