//! A knowledge base takes an encoder and a reranker of its own beside those for all, and goes back.

use reqwest::Method;
use serde_json::{Value, json};

use crate::host::{Data, Host, answer, fixture, small_models};

const KB: &str = "/api/v1/kbs/initial";
const QUESTION: &str = "How long should the anchor chain be?";

async fn patch(host: &Host, path: &str, body: &Value) -> Value {
    answer(host.request(Method::PATCH, path).json(body)).await
}

/// A host that knows `small`, an encoder of 32 values, and `cross`, a reranker.
async fn with_models() -> (Data, Host) {
    let data = Data::new();
    let roots = data.dir.path().join("more");
    small_models(&roots);
    let mut data = data.set("MODELS", "ROOTS", format!("[{:?}]", roots.display().to_string()));
    let host = data.start();
    for name in ["small", "cross"] {
        let path = roots.join(name).display().to_string();
        let added = host.post("/api/v1/models/entries", &json!({"name": name, "path": path})).await;
        assert_eq!(added["status"], 201, "{added}");
        let online = patch(&host, &format!("/api/v1/models/entries/{name}"), &json!({"online": true})).await;
        assert_eq!(online["online"], true, "{online}");
    }
    (data, host)
}

async fn found(host: &Host) -> Value {
    host.post(&format!("{KB}/search"), &json!({"question": QUESTION})).await
}

#[tokio::test]
async fn a_knowledge_base_is_embedded_anew_and_finds_with_its_own_models() {
    let (mut data, host) = with_models().await;
    host.ingest("initial", "sailing.md", fixture("sailing.md")).await;
    let before = host.get(KB).await;
    assert_eq!((&before["dim"], &before["settings"]["encoder"]), (&json!(384), &Value::Null), "{before}");
    let old = found(&host).await;

    let staged = host.post(&format!("{KB}/plugins/swap"), &json!({"encoder": "small"})).await;
    assert_eq!((&staged["state"], &staged["encoder"]), (&json!("building"), &json!("small")), "{staged}");
    host.follow(&json!({"id": staged["job"]})).await;
    assert_eq!(found(&host).await["hits"], old["hits"], "the old index answers until the flip");
    let published = host.post(&format!("{KB}/plugins/generations/2/publish"), &json!({})).await;
    assert_eq!(published["state"], "live", "{published}");
    let live = host.get(KB).await;
    assert_eq!((&live["dim"], &live["settings"]["encoder"]), (&json!(32), &json!("small")), "{live}");
    assert!(live["embedder"].as_str().unwrap().starts_with("small@"), "{live}");
    assert_eq!(found(&host).await["status"], 200);
    // Documents that come later are of the same dimension.
    host.ingest("initial", "late.md", "The buoy off the pier is painted green.".to_owned()).await;
    assert_eq!(host.get(KB).await["documents"], 2);

    let reranked = patch(&host, KB, &json!({"reranker": "cross"})).await;
    assert_eq!(reranked["settings"]["reranker"], "cross", "{reranked}");
    let steps = found(&host).await["trace"]["steps"].to_string();
    assert!(steps.contains("cross:cross@"), "{steps}");
    let wrong = patch(&host, KB, &json!({"reranker": "nothing"})).await;
    assert_eq!(wrong["status"], 404, "{wrong}");
    let wrong = host.post(&format!("{KB}/plugins/swap"), &json!({"encoder": "cross"})).await;
    assert_eq!(wrong["status"], 404, "a reranker is no encoder: {wrong}");

    // Without its encoder it is refused; with it back it answers as before.
    host.stop();
    let host = data.start();
    assert_eq!(found(&host).await["status"], 200);
    let entry = "/api/v1/models/entries/small";
    assert_eq!(patch(&host, entry, &json!({"online": false})).await["online"], false);
    let refused = found(&host).await;
    assert_eq!(refused["status"], 503, "{refused}");
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("small") && message.contains("model online small"), "{message}");
    let back = host.post(&format!("{KB}/plugins/rollback"), &json!({})).await;
    assert_eq!(back["state"], "live", "{back}");
    assert_eq!(host.get(KB).await["dim"], 384);
    assert_eq!(found(&host).await["hits"][0]["document"], "sailing.md");
    host.stop();
}

#[tokio::test]
async fn one_is_created_with_its_models_and_nothing_is_created_with_wrong_ones() {
    let (_data, host) = with_models().await;
    let new = |name: &str, encoder: &str| json!({"name": name, "settings": {"encoder": encoder, "reranker": "small"}});
    let created = host.post("/api/v1/kbs", &new("little", "small")).await;
    assert_eq!(
        (&created["status"], &created["settings"]["encoder"]),
        (&json!(201), &json!("small")),
        "{created}"
    );
    host.ingest("little", "sailing.md", fixture("sailing.md")).await;
    assert_eq!(host.get("/api/v1/kbs/little").await["dim"], 32);
    let hits = host.post("/api/v1/kbs/little/search", &json!({"question": QUESTION})).await;
    assert!(hits["trace"]["steps"].to_string().contains("maxsim:small@"), "{hits}");
    let refused = host.post("/api/v1/kbs", &new("other", "nothing")).await;
    assert_eq!(refused["status"], 404, "{refused}");
    assert_eq!(host.get("/api/v1/kbs/other").await["status"], 404);
    host.stop();
}
