//! A knowledge base with an encoder and a reranker of its own, when its models are in another process than its index.

use reqwest::Method;
use serde_json::{Value, json};

use crate::host::{Data, Host, answer, fixture, small_models};
use crate::roles::{Place, Role};

const KB: &str = "/api/v1/kbs/own_models";
const QUESTIONS: [&str; 2] = ["怎样连同配置文件一起删除软件包？", "How long should the anchor chain be?"];

/// Chunks and scores for fixed questions; the steps tell whose they are.
async fn found(host: &Host) -> Vec<Value> {
    let mut all = Vec::new();
    for question in QUESTIONS {
        let told = host.post(&format!("{KB}/search"), &json!({"question": question})).await;
        assert_eq!(told["status"], 200, "{told}");
        let steps = told["trace"]["steps"].to_string();
        assert!(steps.contains("cross:cross@"), "{steps}");
        let hits = told["hits"].as_array().unwrap().iter();
        let hits: Vec<Value> = hits.map(|hit| json!([hit["chunk"], hit["score"], hit["text"]])).collect();
        assert!(!hits.is_empty());
        all.push(hits.into());
    }
    all
}

/// Makes it, fills it and asks it. Its chunker counts characters, since tokens are counted by another vocabulary where
/// the encoder is in another process.
async fn main_job(host: &Host) -> Vec<Value> {
    let settings = json!({"encoder": "small", "reranker": "cross", "chunker": {"id": "chunk-fixed"}});
    let made = host.post("/api/v1/kbs", &json!({"name": "own_models", "settings": settings})).await;
    assert_eq!(made["status"], 201, "{made}");
    for name in ["apt-手册.md", "sailing.md"] {
        assert_eq!(host.ingest("own_models", name, fixture(name)).await["state"], "done");
    }
    let kb = host.get(KB).await;
    assert_eq!((&kb["dim"], &kb["settings"]["encoder"]), (&json!(32), &json!("small")), "{kb}");
    assert!(kb["embedder"].as_str().unwrap().starts_with("small@"), "{kb}");
    found(host).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_knowledge_base_keeps_its_own_models_across_processes() {
    let dir = tempfile::tempdir().unwrap();
    let models = dir.path().join("models");
    small_models(&models);
    // One registry for all of them.
    let shared = [
        ("RWKV_RAG__MODELS__REGISTRY".to_owned(), dir.path().join("models.json").display().to_string()),
        ("RWKV_RAG__MODELS__ROOTS".to_owned(), format!("[{:?}]", models.display().to_string())),
    ];
    let mut alone = Data::new();
    alone.settings.extend(shared.clone());
    let host = alone.start();
    for name in ["small", "cross"] {
        let body = json!({"name": name, "path": models.join(name).display().to_string()});
        let added = host.post("/api/v1/models/entries", &body).await;
        assert_eq!(added["status"], 201, "{added}");
        let path = format!("/api/v1/models/entries/{name}");
        let online = answer(host.request(Method::PATCH, &path).json(&json!({"online": true}))).await;
        assert_eq!(online["online"], true, "{online}");
    }
    let expected = main_job(&host).await;
    host.stop();

    let place = Place::Folder(dir.path().to_owned());
    let start = |name: &str| Role::start_with(name, &dir.path().join(name), &place, &shared);
    let (proxy, llm, index) = (start("proxy"), start("llm"), start("index"));
    let mut web = Data::new();
    web.settings = place.settings("web");
    web.settings.push(("RWKV_RAG_ROLE".to_owned(), "web".to_owned()));
    web.key = index.admin_key.clone();
    let host = web.start();
    assert_eq!(main_job(&host).await, expected, "nobody can tell where its models are");
    let nothing = json!({"name": "nothing", "settings": {"encoder": "no-such-encoder"}});
    assert_eq!(host.post("/api/v1/kbs", &nothing).await["status"], 404);

    // Another index service over the same data finds the same with them.
    index.stop();
    let index = start("index");
    assert_eq!(found(&host).await, expected);

    // It goes back to the encoder for all: embedded anew through the other process, then flipped.
    let body = json!({"encoder": null, "publish": true});
    let staged = host.post(&format!("{KB}/plugins/swap"), &body).await;
    assert_eq!(staged["status"], 202, "{staged}");
    host.follow(&json!({"id": staged["job"]})).await;
    let kb = host.get(KB).await;
    assert_eq!((&kb["dim"], &kb["settings"]["encoder"]), (&json!(384), &Value::Null), "{kb}");
    let told = host.post(&format!("{KB}/search"), &json!({"question": QUESTIONS[1]})).await;
    assert_eq!(told["hits"][0]["document"], "sailing.md", "{told}");
    let back = host.post(&format!("{KB}/plugins/rollback"), &json!({})).await;
    assert_eq!(back["state"], "live", "{back}");
    assert_eq!(found(&host).await, expected);
    host.stop();
    [index, llm, proxy].into_iter().for_each(Role::stop);
}
