//! A plugin that passes every check and then fails in use is taken back by itself, with the generation that brought it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::host::{Data, Host, answer, fixture, guest};

const PLUGINS: &str = "/api/v1/kbs/initial/plugins";
const QUESTION: &str = "How long should the anchor chain be?";

/// Installs one of the hostile components.
async fn install(host: &Host, name: &str) {
    let component = fs_err::read(guest(name)).unwrap();
    let installed = answer(host.request(Method::POST, "/api/v1/plugins").body(component)).await;
    assert_eq!(installed["status"], 201, "{installed}");
}

/// Swaps and returns the generation once it answers.
async fn swap(host: &Host, body: &Value) -> Value {
    let staged = host.post(&format!("{PLUGINS}/swap"), body).await;
    assert_eq!(staged["status"], 202, "{staged}");
    if staged["state"] == "building" {
        host.follow(&json!({"id": staged["job"]})).await;
    }
    let live = host.get(&format!("{PLUGINS}/generations/{}", staged["number"])).await;
    assert_eq!(live["state"], "live", "{live}");
    live
}

async fn search(host: &Host, question: &str) -> Value {
    host.post("/api/v1/kbs/initial/search", &json!({"question": question})).await
}

async fn taken_back(host: &Host, number: u64, plugin: &str) {
    let generation = host.get(&format!("{PLUGINS}/generations/{number}")).await;
    assert_eq!(generation["state"], "rolled_back", "{generation}");
    let reason = generation["reason"].as_str().unwrap();
    assert!(reason.contains(plugin) && reason.contains("failed too often"), "{reason}");
}

#[tokio::test]
async fn a_retriever_that_traps_at_questions_is_taken_back_and_the_question_answered() {
    let mut data = Data::new();
    let host = data.start();
    host.ingest("initial", "sailing.md", fixture("sailing.md")).await;
    let before = search(&host, QUESTION).await;
    install(&host, "retriever").await;
    let settings = json!({"do": "trap-on-pirates"});
    let body = json!({"retriever": {"id": "hostile-retriever", "settings": settings}, "publish": true});
    let live = swap(&host, &body).await;
    assert_eq!(live["number"], 2, "{live}");

    // It answers other questions, and one poisonous question is one strike however often it is asked.
    assert_eq!(search(&host, QUESTION).await["status"], 200);
    for question in
        ["Where is the pirate?", "Where is the pirate?", "海盗 pirate 在哪里？", "Where is the pirate?"]
    {
        let failed = search(&host, question).await;
        assert_eq!(failed["status"], 502, "{failed}");
        assert!(failed["error"]["message"].as_str().unwrap().contains("hostile-retriever"), "{failed}");
    }
    assert_eq!(host.get(PLUGINS).await["generation"], 2);

    let saved = search(&host, "Which pirate drops the anchor?").await;
    assert_eq!(saved["status"], 200, "{saved}");
    assert!(!saved["hits"].as_array().unwrap().is_empty(), "{saved}");
    taken_back(&host, 2, "hostile-retriever").await;
    let bound = host.get(PLUGINS).await;
    assert_eq!(bound["generation"], 3, "{bound}");
    assert_eq!(search(&host, QUESTION).await["hits"], before["hits"]);
    // After a power cut it stays so.
    host.kill();
    let host = data.start();
    assert_eq!(host.get(PLUGINS).await["generation"], 3);
    assert_eq!(search(&host, QUESTION).await["hits"], before["hits"]);
}

#[tokio::test]
async fn a_chunker_that_traps_at_documents_is_taken_back_and_the_document_ingested() {
    let mut data = Data::new();
    let host = data.start();
    host.ingest("initial", "sailing.md", fixture("sailing.md")).await;
    let before = search(&host, QUESTION).await;
    install(&host, "chunker").await;
    let settings = json!({"do": "trap-on-pirates"});
    let body = json!({"chunker": {"id": "hostile-chunker", "settings": settings}, "publish": true});
    assert_eq!(swap(&host, &body).await["number"], 2);
    let good = host.ingest("initial", "harbour.md", "The harbour master speaks 中文.".to_owned()).await;
    assert_eq!(good["state"], "done", "{good}");

    for name in ["one.md", "two.md"] {
        let failed = host.ingest("initial", name, format!("The pirate of {name}.")).await;
        assert_eq!(failed["state"], "failed", "{failed}");
    }
    let saved = host.ingest("initial", "three.md", "The pirate of the third island.".to_owned()).await;
    assert_eq!(saved["state"], "done", "{saved}");
    taken_back(&host, 2, "hostile-chunker").await;
    assert_eq!(search(&host, QUESTION).await["hits"][0]["chunk"], before["hits"][0]["chunk"]);
    // What came to the generation that went is read again by the one that stayed.
    for job in host.get("/api/v1/jobs?kb=initial").await["jobs"].as_array().unwrap() {
        host.follow(job).await;
    }
    let found = search(&host, "Who speaks 中文?").await;
    assert_eq!(found["hits"][0]["document"], "harbour.md", "{found}");
}
