//! A power cut in the middle of an import: the knowledge base is there whole or not at all, and nothing is in the way.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::Value;

use crate::host::{Data, Host, answer};

const KB: &str = "/api/v1/kbs/manuals";
const DOCUMENTS: usize = 30;

async fn import(host: &Host, file: &[u8]) -> Value {
    answer(host.request(Method::POST, "/api/v1/imports").body(file.to_vec())).await
}

/// Documents of the import that are in the catalogue by now.
async fn written(host: &Host) -> usize {
    let listed = host.get("/api/v1/jobs?limit=1000").await;
    let jobs = listed["jobs"].as_array().unwrap();
    jobs.iter().filter(|job| job["kb"] == "manuals" && job["state"] == "done").count()
}

fn originals(folder: &Path) -> usize {
    let entries = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { originals(&path) } else { 1 }).sum()
}

/// What was left of the import is gone, or it is there: how many documents it has.
async fn settled(host: &Host) -> Option<u64> {
    let start = Instant::now();
    loop {
        let kb = host.get(KB).await;
        match kb["status"].as_u64().unwrap() {
            200 => return kb["documents"].as_u64(),
            404 => return None,
            409 => assert!(kb.to_string().contains("import left"), "{kb}"),
            _ => panic!("{kb}"),
        }
        assert!(start.elapsed() < Duration::from_secs(60), "it is never removed: {kb}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_killed_is_there_whole_or_not_at_all() {
    let mut data = Data::new();
    let host = data.start();
    let made = host.post("/api/v1/kbs", &serde_json::json!({"name": "manuals"})).await;
    assert_eq!(made["status"], 201, "{made}");
    let mut last = Value::Null;
    for n in 0..DOCUMENTS {
        let text = format!("# 第 {n} 号灯塔\n\nThe lighthouse number {n} has {n} lamps. 它有 {n} 盏灯。\n");
        last = host.upload("manuals", &format!("light-{n}.md"), text).await;
    }
    let done = host.follow(&last).await.pop().unwrap();
    assert_eq!(done["state"], "done", "{done}");
    let want = host.index("manuals").await;
    assert_eq!(want.len(), DOCUMENTS);
    let file = host.request(Method::GET, &format!("{KB}/export")).send().await.unwrap();
    let file = Arc::new(file.bytes().await.unwrap().to_vec());
    assert_eq!(host.delete(KB).await["status"], 204);

    let blobs = data.dir.path().join("data/blobs");
    let mut host = Arc::new(host);
    let mut halves = 0;
    for documents in [0, 1, 7, 15, 25] {
        let (sending, body) = (host.clone(), file.clone());
        let importing = tokio::spawn(async move {
            let sent = sending.request(Method::POST, "/api/v1/imports").body(body.to_vec()).send().await;
            sent.map(|response| response.status().as_u16())
        });
        loop {
            // Before it is whole nobody sees it.
            let seen = host.get(KB).await;
            match seen["status"].as_u64().unwrap() {
                200 => assert_eq!(seen["documents"], DOCUMENTS, "{seen}"),
                status => assert!(status == 404 || status == 409, "{seen}"),
            }
            if written(&host).await >= documents || importing.is_finished() {
                break;
            }
        }
        host.kill();
        let _ = importing.await;
        host = Arc::new(data.start());
        match settled(&host).await {
            Some(whole) => assert_eq!(whole as usize, DOCUMENTS, "killed after {documents} documents"),
            None => {
                halves += 1;
                let listed = host.get("/api/v1/kbs").await;
                assert!(!listed.to_string().contains("manuals"), "{listed}");
                // They go after the knowledge base.
                let start = Instant::now();
                while originals(&blobs) > 0 {
                    assert!(
                        start.elapsed() < Duration::from_secs(60),
                        "originals stay: {documents} documents"
                    );
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                assert_eq!(written(&host).await, 0);
                let again = import(&host, &file).await;
                assert_eq!(again["status"], 201, "{again}");
            }
        }
        assert_eq!(host.index("manuals").await, want, "killed after {documents} documents");
        assert_eq!(host.delete(KB).await["status"], 204);
    }
    assert!(halves > 0, "every import ended before it was killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_finds_the_disk_full_says_so_and_leaves_nothing() {
    let mut data = Data::new();
    let host = data.start();
    host.ingest("initial", "light.md", "The lighthouse has 7 lamps. 它有七盏灯。").await;
    let file = host.request(Method::GET, "/api/v1/kbs/initial/export").send().await.unwrap();
    let file = file.bytes().await.unwrap();
    host.stop();
    // More than any disk has.
    let mut data = data.set("DATA", "DISK_FREE_MIN_BYTES", 1_u64 << 60);
    let host = data.start();
    let refused = answer(host.request(Method::POST, "/api/v1/imports?name=second").body(file.to_vec())).await;
    assert_eq!(refused["status"], 503, "{refused}");
    assert!(refused.to_string().contains("a full disk"), "{refused}");
    assert_eq!(host.get("/api/v1/kbs/second").await["status"], 404);
    let kept = host.get("/api/v1/kbs/initial").await;
    assert_eq!(kept["documents"], 1, "{kept}");
}
