//! The plugins of a knowledge base are swapped while it answers, and taken back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::Method;
use serde_json::{Value, json};

use crate::host::{Data, Host, answer, fixture, root};

const PLUGINS: &str = "/api/v1/kbs/initial/plugins";
const QUESTION: &str = "How long should the anchor chain be?";

async fn with_document() -> (Data, Host) {
    let mut data = Data::new();
    let host = data.start();
    host.ingest("initial", "sailing.md", fixture("sailing.md")).await;
    (data, host)
}

async fn search(host: &Host) -> Value {
    host.post("/api/v1/kbs/initial/search", &json!({"question": QUESTION})).await
}

/// Swaps and waits until the generation neither is being built nor will be.
async fn swap(host: &Host, body: &Value) -> Value {
    let staged = host.post(&format!("{PLUGINS}/swap"), body).await;
    assert_eq!(staged["status"], 202, "{staged}");
    if staged["state"] == "building" {
        host.follow(&json!({"id": staged["job"]})).await;
    }
    host.get(&format!("{PLUGINS}/generations/{}", staged["number"])).await
}

/// Asks without a pause until told to stop; every answer must have hits, of one generation's chunks only.
fn asking(host: &Arc<Host>, stop: &Arc<AtomicBool>) -> tokio::task::JoinHandle<Vec<Vec<String>>> {
    let (host, stop) = (host.clone(), stop.clone());
    tokio::spawn(async move {
        let mut seen = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let found = search(&host).await;
            assert_eq!(found["status"], 200, "{found}");
            let hits = found["hits"].as_array().unwrap();
            assert!(!hits.is_empty(), "{found}");
            let mut chunks: Vec<String> =
                hits.iter().map(|hit| hit["chunk"].as_str().unwrap().to_owned()).collect();
            chunks.sort();
            if !seen.contains(&chunks) {
                seen.push(chunks);
            }
        }
        seen
    })
}

/// The report shows what was asked lately: the passages of before, best first, beside shorter ones of the same places.
fn assert_difference(report: &Value, before: &Value) {
    assert_eq!(
        (&report["questions"].as_array().unwrap().len(), &report["changed"]),
        (&1, &json!(1)),
        "{report}"
    );
    let compared = &report["questions"][0];
    assert_eq!((&compared["question"], &compared["error"]), (&json!(QUESTION), &Value::Null), "{report}");
    let text = |hit: &Value| hit["text"].as_str().unwrap().to_owned();
    let (old, new) = (compared["before"].as_array().unwrap(), compared["after"].as_array().unwrap());
    for (shown, hit) in old.iter().zip(before["hits"].as_array().unwrap()) {
        assert_eq!(shown["document"], "sailing.md");
        assert!(text(hit).starts_with(&text(shown)), "{shown} {hit}");
    }
    assert!(!old.is_empty() && !new.is_empty() && text(&new[0]) != text(&old[0]), "{report}");
    let whole = fixture("sailing.md");
    let stands = |hit: &Value| text(hit).lines().all(|line| whole.contains(line.trim()));
    assert!(new.iter().all(stands), "{report}");
    let kept = compared["kept"].as_u64().unwrap() as usize;
    assert!((1..=old.len()).contains(&kept), "the same places are found: {report}");
}

#[tokio::test]
async fn a_chunker_is_swapped_while_the_old_index_answers_and_taken_back() {
    let (mut data, host) = with_document().await;
    let host = Arc::new(host);
    host.post(
        "/api/v1/kbs/initial/ask",
        &json!({"question": QUESTION, "conversation": "c", "answer_tokens_max": 4}),
    )
    .await;
    let before = search(&host).await;
    let stop = Arc::new(AtomicBool::new(false));
    let asking = asking(&host, &stop);

    let body = json!({"chunker": {"id": "chunk-fixed", "settings": {"size": 200}}, "expected": 1});
    let ready = swap(&host, &body).await;
    assert_eq!(ready["state"], "ready", "{ready}");
    assert_eq!(ready["report"]["chunks_before"], host.get("/api/v1/kbs/initial").await["chunks"]);
    assert!(ready["report"]["chunks_after"].as_u64().unwrap() > 0, "{ready}");
    assert_difference(&ready["report"], &before);
    assert_eq!(search(&host).await["hits"], before["hits"], "the old index answers until the flip");
    let bound = host.get(PLUGINS).await;
    assert_eq!((&bound["generation"], &bound["staged"]["number"]), (&json!(1), &json!(2)), "{bound}");

    let late = host.ingest("initial", "late.md", "The buoy off the pier is painted green.".to_owned()).await;
    assert_eq!(late["state"], "done");
    let published = host.post(&format!("{PLUGINS}/generations/2/publish"), &json!({})).await;
    assert_eq!(published["state"], "building", "a document came meanwhile: {published}");
    host.follow(&json!({"id": published["job"]})).await;
    let live = host.get(&format!("{PLUGINS}/generations/2")).await;
    assert_eq!(live["state"], "live", "{live}");
    let after = search(&host).await;
    assert_ne!(after["hits"][0]["chunk"], before["hits"][0]["chunk"]);
    assert_eq!(host.get("/api/v1/kbs/initial").await["documents"], 2);

    let back = host.post(&format!("{PLUGINS}/rollback"), &json!({"reason": "try", "expected": 2})).await;
    assert_eq!((&back["state"], &back["number"]), (&json!("live"), &json!(3)), "{back}");
    assert_eq!(search(&host).await["hits"][0]["chunk"], before["hits"][0]["chunk"]);
    stop.store(true, Ordering::Relaxed);
    let seen = asking.await.unwrap();
    let ids = |hits: &Value| -> Vec<String> {
        hits["hits"].as_array().unwrap().iter().map(|hit| hit["chunk"].as_str().unwrap().to_owned()).collect()
    };
    let (old, new) = (ids(&before), ids(&after));
    for chunks in &seen {
        let of = |side: &[String]| chunks.iter().any(|chunk| side.contains(chunk));
        assert!(!(of(&old) && of(&new)), "one answer from two generations: {chunks:?}");
    }

    // A power cut leaves what was published.
    Arc::into_inner(host).unwrap().kill();
    let host = data.start();
    assert_eq!(host.get(PLUGINS).await["generation"], 3);
    assert_eq!(search(&host).await["hits"][0]["chunk"], before["hits"][0]["chunk"]);
    host.stop();
}

#[tokio::test]
async fn a_retriever_is_swapped_at_once_and_nonsense_is_refused() {
    let (_data, host) = with_document().await;
    let live = swap(&host, &json!({"retriever": {"id": "retrieve-dense"}, "publish": true})).await;
    assert_eq!((&live["state"], &live["number"]), (&json!("live"), &json!(2)), "{live}");
    assert_eq!(search(&host).await["status"], 200);
    for (body, status, part) in [
        (json!({"retriever": {"id": "retrieve-dense"}}), 409, "exactly these"),
        (json!({"retriever": {"id": "retrieve-nothing"}}), 404, "retrieve-nothing"),
        (json!({"retriever": {"id": "chunk-fixed"}}), 404, "chunk-fixed"),
        (json!({"retriever": {"id": "retrieve-hybrid", "digest": "00"}}), 404, "00"),
        (json!({"retriever": {"id": "retrieve-hybrid"}, "expected": 1}), 409, "generation 2"),
        (json!({"chunker": {"id": "chunk-fixed", "settings": {"size": "big"}}}), 400, "size"),
    ] {
        let refused = host.post(&format!("{PLUGINS}/swap"), &body).await;
        assert_eq!(refused["status"], status, "{body} {refused}");
        assert!(refused["error"]["message"].as_str().unwrap().contains(part), "{body} {refused}");
    }
    let none = host.post(&format!("{PLUGINS}/generations/9/publish"), &json!({})).await;
    assert_eq!(none["status"], 404);
}

/// Sends a component of `chunk-lines` and binds it by its digest.
async fn install_and_bind(host: &Host, component: Vec<u8>) -> String {
    let installed = answer(host.request(Method::POST, "/api/v1/plugins").body(component)).await;
    assert_eq!((&installed["status"], &installed["id"]), (&json!(201), &json!("chunk-lines")), "{installed}");
    let digest = installed["digest"].as_str().unwrap().to_owned();
    let live =
        swap(host, &json!({"chunker": {"id": "chunk-lines", "digest": digest}, "publish": true})).await;
    assert_eq!((&live["state"], &live["chunker"]["digest"]), (&json!("live"), &json!(digest)), "{live}");
    digest
}

/// Somebody who works on a plugin sends build after build of one version.
#[tokio::test]
async fn another_build_of_the_same_version_is_installed_and_bound() {
    let (mut data, host) = with_document().await;
    let mut component = fs_err::read(root().join("plugins/dist/chunk-lines.wasm")).unwrap();
    // A custom section of the name "b" without content.
    component.extend([0, 2, 1, b'b']);
    let digest = install_and_bind(&host, component).await;
    host.kill();
    let bound = data.start().get(PLUGINS).await;
    assert_eq!(bound["slots"][0]["plugin"]["digest"], json!(digest), "{bound}");
}

#[tokio::test]
async fn a_version_is_installed_bound_and_kept_from_removal() {
    let (mut data, host) = with_document().await;
    let mut component = fs_err::read(root().join("plugins/dist/chunk-lines.wasm")).unwrap();
    // Its own description of itself, and its manifest: another version of the same plugin.
    for told in [&b"chunk-lines0.1.0"[..], b"version = \"0.1.0"] {
        let at = component.windows(told.len()).position(|bytes| bytes == told).unwrap() + told.len() - 1;
        component[at] = b'9';
    }
    let digest = install_and_bind(&host, component).await;
    let refused = host.delete(&format!("/api/v1/plugins/{digest}")).await;
    assert_eq!(refused["status"], 409);
    assert!(refused["error"]["message"].as_str().unwrap().contains("bound by initial"), "{refused}");
    host.kill();

    let host = data.start();
    let bound = host.get(PLUGINS).await;
    assert_eq!(bound["slots"][0]["plugin"]["digest"], json!(digest), "{bound}");
    assert_eq!(bound["slots"][0]["version"], "0.1.9", "{bound}");
    let junk = answer(host.request(Method::POST, "/api/v1/plugins").body("no component")).await;
    assert!(junk["status"].as_u64().unwrap() >= 400, "{junk}");
    assert!(junk["error"]["message"].as_str().unwrap().contains("not WebAssembly"), "{junk}");
}
