//! A component put into the plugins folder of a running host is checked, offered and can be bound.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::host::{Data, Host, answer, fixture, root};

/// How long a component may take until it is listed; it takes a second on an idle machine.
const OFFERED_WITHIN: Duration = Duration::from_secs(60);

async fn ids(host: &Host) -> Vec<String> {
    let told = host.get("/api/v1/plugins").await;
    let id = |plugin: &Value| plugin["id"].as_str().unwrap().to_owned();
    told["plugins"].as_array().unwrap().iter().map(id).collect()
}

#[tokio::test]
async fn a_component_put_into_the_folder_is_offered_and_bound() {
    let folder = tempfile::tempdir().unwrap();
    let dist = root().join("plugins/dist");
    for entry in fs_err::read_dir(&dist).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if !name.to_str().unwrap().starts_with("retrieve-dense") {
            fs_err::copy(&path, folder.path().join(name)).unwrap();
        }
    }
    let mut data = Data::new().set("PLUGINS", "DIR", folder.path().display());
    let host = data.start();
    host.ingest("initial", "sailing.md", fixture("sailing.md")).await;
    assert!(!ids(&host).await.contains(&"retrieve-dense".to_owned()));

    fs_err::write(folder.path().join("a-junk.wasm"), "no component").unwrap();
    for name in ["retrieve-dense.toml", "retrieve-dense.wasm"] {
        fs_err::copy(dist.join(name), folder.path().join(name)).unwrap();
    }
    let start = Instant::now();
    while !ids(&host).await.contains(&"retrieve-dense".to_owned()) {
        assert!(start.elapsed() < OFFERED_WITHIN, "not offered: {:?}", ids(&host).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let change = json!({"retriever": {"id": "retrieve-dense"}});
    let bound = answer(host.request(Method::PATCH, "/api/v1/kbs/initial").json(&change)).await;
    assert_eq!(bound["status"], 200, "{bound}");
    let body = json!({"question": "How long should the anchor chain be?", "answer_tokens_max": 8});
    let got = host.post("/api/v1/kbs/initial/ask", &body).await;
    assert_eq!(got["citations"][0]["document"], "sailing.md", "{got}");
}
