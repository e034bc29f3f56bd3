//! A power cut at every stage of a swap leaves a knowledge base that answers, whole, and that can be swapped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::host::{Data, Events, Host, fixture, guest, root};

const PLUGINS: &str = "/api/v1/kbs/initial/plugins";
const QUESTION: &str = "How long should the anchor chain be?";

/// A host that tells what becomes of components, with documents enough to be met while they are read anew.
async fn with_documents() -> (Data, Host) {
    let mut data = Data::new().set("LOG", "FILTER", "info,rag_wasm=debug");
    let host = data.start();
    host.ingest("initial", "sailing.md", fixture("sailing.md")).await;
    for n in 0..4 {
        let text = format!("# 第 {n} 号灯塔\n\nThe lighthouse number {n} has {n} lamps. 它有 {n} 盏灯。\n");
        host.ingest("initial", &format!("light-{n}.md"), text.repeat(3)).await;
    }
    (data, host)
}

async fn hits(host: &Host) -> Vec<Value> {
    let found = host.post("/api/v1/kbs/initial/search", &json!({"question": QUESTION})).await;
    assert_eq!(found["status"], 200, "{found}");
    let hits = found["hits"].as_array().unwrap();
    assert!(!hits.is_empty(), "{found}");
    hits.iter().map(|hit| hit["chunk"].clone()).collect()
}

/// Waits until the host's log has come to say this so many times.
async fn logged(data: &Data, words: &str, times: usize) {
    let start = Instant::now();
    loop {
        let log = fs_err::read_to_string(data.dir.path().join("log.txt")).unwrap();
        if log.matches(words).count() >= times {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "the log never says '{words}': {log}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn count(data: &Data, words: &str) -> usize {
    fs_err::read_to_string(data.dir.path().join("log.txt")).unwrap().matches(words).count()
}

#[tokio::test]
async fn while_a_component_is_compiled_linked_and_asked() {
    let (mut data, host) = with_documents().await;
    let before = hits(&host).await;
    let mut host = Arc::new(host);
    let spinning = fs_err::read(guest("describe_loop")).unwrap();
    for (at, stage) in
        ["compiling a component", "linking a component", "asking a component who it is"].iter().enumerate()
    {
        // Another custom section each time, of each run: a component that no cache knows.
        let mut component = spinning.clone();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        component.extend([0, 18, 1, b'a' + u8::try_from(at).unwrap()]);
        component.extend(now.as_nanos().to_le_bytes());
        let already = count(&data, stage);
        let sending = host.clone();
        let sent = tokio::spawn(async move {
            sending.request(Method::POST, "/api/v1/plugins").body(component).send().await
        });
        logged(&data, stage, already + 1).await;
        host.kill();
        let _ = sent.await;
        host = Arc::new(data.start());
        assert_eq!(hits(&host).await, before, "after a power cut: {stage}");
    }
    let listed = host.get("/api/v1/plugins").await;
    let ids: Vec<&Value> = listed["plugins"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
    assert!(!ids.iter().any(|id| id.as_str().unwrap().contains("hostile")), "{ids:?}");
    let component = fs_err::read(root().join("plugins/dist/chunk-lines.wasm")).unwrap();
    let installed = crate::host::answer(host.request(Method::POST, "/api/v1/plugins").body(component)).await;
    assert_eq!(installed["status"], 201, "{installed}");
}

/// Waits until the generation has come so far, by this host or one before.
async fn until(host: &Host, number: u64, state: &str) -> Value {
    let start = Instant::now();
    loop {
        let found = host.get(&format!("{PLUGINS}/generations/{number}")).await;
        if found["state"] == state {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "never {state}: {found}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn while_the_second_index_is_filled_and_compared() {
    let (mut data, host) = with_documents().await;
    let before = hits(&host).await;
    let body = json!({"chunker": {"id": "chunk-fixed", "settings": {"size": 200}}});
    let staged = host.post(&format!("{PLUGINS}/swap"), &body).await;
    assert_eq!((&staged["status"], &staged["state"]), (&json!(202), &json!("building")), "{staged}");
    // At once, then further and further on; the job is taken up again each time.
    let path = format!("/api/v1/jobs/{}/events", staged["job"].as_str().unwrap());
    let mut host = host;
    for percent in [0, 50] {
        let mut events = Events::open(host.request(Method::GET, &path)).await;
        while let Some((name, state)) = events.next().await {
            if name == "end" || state["percent"].as_u64().unwrap_or_default() >= percent {
                break;
            }
        }
        host.kill();
        host = data.start();
        assert_eq!(hits(&host).await, before, "the old index answers after a power cut at {percent} %");
    }
    let ready = until(&host, 2, "ready").await;
    host.kill();
    let host = data.start();
    assert_eq!(host.get(PLUGINS).await["staged"]["number"], 2);
    assert_eq!(hits(&host).await, before);
    let live = host.post(&format!("{PLUGINS}/generations/2/publish"), &json!({})).await;
    assert_eq!(live["state"], "live", "{live}");
    let kb = host.get("/api/v1/kbs/initial").await;
    assert_eq!((&kb["documents"], &kb["chunks"]), (&json!(5), &ready["report"]["chunks_after"]), "{kb}");
    assert_ne!(hits(&host).await, before);
}

#[tokio::test]
async fn while_a_generation_is_published_on_probation_retired_and_taken_back() {
    let (mut data, host) = with_documents().await;
    let first = hits(&host).await;
    let mut host = Arc::new(host);
    let mut generation = 1;
    for (round, wait_us) in [0, 500, 4_000].into_iter().enumerate() {
        // Each round publishes another index, which retires the one before the last.
        let size = 150 + 30 * round;
        let old = hits(&host).await;
        let body = json!({"chunker": {"id": "chunk-fixed", "settings": {"size": size}}});
        let staged = host.post(&format!("{PLUGINS}/swap"), &body).await;
        assert_eq!(staged["status"], 202, "{staged}");
        let number = staged["number"].as_u64().unwrap();
        until(&host, number, "ready").await;
        let publishing = host.clone();
        let path = format!("{PLUGINS}/generations/{number}/publish");
        let sent =
            tokio::spawn(
                async move { publishing.request(Method::POST, &path).json(&json!({})).send().await },
            );
        tokio::time::sleep(Duration::from_micros(wait_us)).await;
        host.kill();
        let _ = sent.await;
        host = Arc::new(data.start());
        let live = host.get(PLUGINS).await["generation"].as_u64().unwrap();
        let now = hits(&host).await;
        if live == number {
            assert!(now.iter().all(|hit| !old.contains(hit)), "round {round}: an index of two generations");
        } else {
            assert_eq!((live, &now), (generation, &old), "round {round}: neither the old nor the new");
            let published = host.post(&format!("{PLUGINS}/generations/{number}/publish"), &json!({})).await;
            assert_eq!(published["state"], "live", "{published}");
        }
        generation = number;
    }
    // On probation, and then in the middle of the way back.
    host.kill();
    let host = Arc::new(data.start());
    assert_eq!(host.get(PLUGINS).await["generation"], generation);
    let newest = hits(&host).await;
    let rolling = host.clone();
    let sent = tokio::spawn(async move {
        rolling.request(Method::POST, &format!("{PLUGINS}/rollback")).json(&json!({})).send().await
    });
    tokio::time::sleep(Duration::from_micros(500)).await;
    host.kill();
    let _ = sent.await;
    let host = data.start();
    let now = hits(&host).await;
    match host.get(PLUGINS).await["generation"].as_u64().unwrap() {
        same if same == generation => assert_eq!(now, newest),
        _ => assert!(now.iter().all(|hit| !newest.contains(hit)), "an index of two generations"),
    }
    let kb = host.get("/api/v1/kbs/initial").await;
    assert_eq!(kb["documents"], 5, "{kb}");
    // Back to the plugins of the start: everything still works.
    let body = json!({"chunker": {"id": "chunk-sentence"}, "publish": true});
    let staged = host.post(&format!("{PLUGINS}/swap"), &body).await;
    assert_eq!(staged["status"], 202, "{staged}");
    until(&host, staged["number"].as_u64().unwrap(), "live").await;
    assert_eq!(hits(&host).await.len(), first.len());
}
