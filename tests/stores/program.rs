//! A knowledge base in a database answers as one in the host's own store does: documents in, questions, a deletion and a
//! restart, through the program and its HTTP interface.

use reqwest::Method;
use serde_json::{Value, json};

use crate::host::{Data, Host, answer, fixture};
use crate::servers;

const ZH: &str = "apt-手册.md";
const EN: &str = "sailing.md";

/// Question, the document that answers it, words of the passage that does; none where the comparison is enough.
const QUESTIONS: [(&str, &str, &str); 10] = [
    ("怎样连同配置文件一起删除软件包？", ZH, "apt purge"),
    ("静态 IP 地址写在哪个文件里？", ZH, "/etc/network/interfaces"),
    ("数字 755 表示什么权限？", ZH, "755"),
    ("软件源", ZH, ""),
    ("磁盘空间不够怎么办", ZH, ""),
    ("How long should the anchor chain be?", EN, "five times the depth"),
    ("Which knot makes a loop that never slips?", EN, "bowline"),
    ("What does a falling barometer announce?", EN, "gale"),
    ("sail", EN, ""),
    ("fog", EN, ""),
];

/// The embedded store first: the others are compared with it.
const KBS: [(&str, &str); 4] = [
    ("embedded", "store-local"),
    ("in_chroma", "store-chroma"),
    ("in_pgvector", "store-pgvector"),
    ("in_typesense", "store-typesense"),
];

/// What these knowledge bases need beside their stores: a program with fewer components starts sooner.
const PLUGINS: [&str; 4] = ["chunk-sentence", "parse-markdown", "retrieve-dense", "retrieve-hybrid"];

/// A folder with a few of the built components.
fn some_plugins() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for id in PLUGINS.into_iter().chain(KBS.map(|(_, store)| store)) {
        for file in [format!("{id}.wasm"), format!("{id}.toml")] {
            let built = servers::tree().join("plugins/dist").join(&file);
            std::fs::copy(&built, folder.path().join(file)).unwrap();
        }
    }
    folder
}

/// The nearest passages by vectors alone: document, text, score.
async fn nearest(host: &Host, kb: &str, question: &str) -> Vec<(String, String, f64)> {
    let body = json!({"question": question, "k": 10, "retriever": "retrieve-dense", "rerank": false});
    let found = host.post(&format!("/api/v1/kbs/{kb}/search"), &body).await;
    assert_eq!(found["status"], 200, "{kb}: {found}");
    let hit = |hit: &Value| {
        let text = |key: &str| hit[key].as_str().unwrap().to_owned();
        (text("document"), text("text"), hit["score"].as_f64().unwrap())
    };
    found["hits"].as_array().unwrap().iter().map(hit).collect()
}

/// Every question finds the same passages with the same scores in all databases, equal scores in any order.
async fn finds_the_same(host: &Host, deleted: Option<&str>) {
    for (question, document, words) in QUESTIONS {
        let expected = nearest(host, "embedded", question).await;
        assert!(!expected.is_empty(), "{question}");
        if deleted.is_none() && !words.is_empty() {
            let near =
                expected.iter().take(3).any(|(name, text, _)| name == document && text.contains(words));
            assert!(near, "{question}: {expected:?}");
        }
        for (kb, _) in &KBS[1..] {
            let found = nearest(host, kb, question).await;
            assert_eq!(found.len(), expected.len(), "{kb}: {question}: {found:?}");
            for ((name, text, score), wanted) in found.iter().zip(&expected) {
                assert!(Some(name.as_str()) != deleted, "{kb}: deleted and found: {text}");
                let tied = (score - wanted.2).abs() < 2e-5;
                assert!(tied, "{kb}: {question}: {text} ({score}) for {wanted:?}");
                let same = text == &wanted.1;
                let elsewhere =
                    expected.iter().any(|(_, other, at)| other == text && (at - score).abs() < 2e-5);
                assert!(same || elsewhere, "{kb}: {question}: {text} for {wanted:?}");
            }
        }
    }
}

async fn cites(host: &Host, kb: &str, question: &str, document: &str, words: &str) {
    let body = json!({"question": question, "answer_tokens_max": 8});
    let got = host.post(&format!("/api/v1/kbs/{kb}/ask"), &body).await;
    assert_eq!(got["refused"], false, "{kb}: {got}");
    let first = &got["citations"][0];
    assert_eq!(first["document"], document, "{kb}: {question}");
    assert!(first["passage"].as_str().unwrap().contains(words), "{kb}: {first}");
}

async fn delete_document(host: &Host, kb: &str, name: &str) {
    let listed = host.get(&format!("/api/v1/kbs/{kb}/documents")).await;
    let documents = listed["documents"].as_array().unwrap();
    let document = documents.iter().find(|document| document["name"] == name).unwrap();
    let path = format!("/api/v1/kbs/{kb}/documents/{}", document["id"].as_str().unwrap());
    assert_eq!(host.delete(&path).await["status"], 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_finds_the_same_in_every_database() {
    let (chroma, postgres, typesense) = (servers::chroma(), servers::postgres(), servers::typesense());
    let http = format!(
        r#"[{{plugin = "store-chroma", origin = "{}", private = true}},
            {{plugin = "store-typesense", origin = "{}", private = true, headers = {{x-typesense-api-key = "secret"}}}}]"#,
        chroma.url("http"),
        typesense.url("http")
    );
    let sql = format!(
        r#"[{{plugin = "store-pgvector", name = "vectors", url = "postgres://rag:secret@127.0.0.1:{}/postgres"}}]"#,
        postgres.port
    );
    let plugins = some_plugins();
    let mut data = Data::new().set("PLUGINS", "HTTP", http).set("PLUGINS", "SQL", sql);
    data = data.set("PLUGINS", "DIR", plugins.path().display());
    let host = data.start();
    for server in [&chroma, &postgres, &typesense] {
        server.ready().await;
    }
    for (kb, store) in KBS {
        let settings = match store {
            "store-chroma" => json!({"url": chroma.url("http")}),
            "store-typesense" => json!({"url": typesense.url("http")}),
            _ => json!({}),
        };
        let body = json!({"name": kb, "settings": {"store": {"id": store, "settings": settings}}});
        let made = answer(host.request(Method::POST, "/api/v1/kbs").json(&body)).await;
        assert_eq!(made["status"], 201, "{kb}: {made}");
        for name in [ZH, EN] {
            let job = host.ingest(kb, name, fixture(name)).await;
            assert_eq!(job["state"], "done", "{kb}: {job}");
        }
        cites(&host, kb, QUESTIONS[0].0, ZH, QUESTIONS[0].2).await;
        cites(&host, kb, QUESTIONS[5].0, EN, QUESTIONS[5].2).await;
    }
    finds_the_same(&host, None).await;
    for (kb, _) in KBS {
        delete_document(&host, kb, EN).await;
    }
    finds_the_same(&host, Some(EN)).await;
    host.stop();

    let host = data.start();
    finds_the_same(&host, Some(EN)).await;
    for (kb, _) in KBS {
        let shown = host.get(&format!("/api/v1/kbs/{kb}")).await;
        assert_eq!(shown["documents"], 1, "{kb}: {shown}");
        cites(&host, kb, QUESTIONS[1].0, ZH, QUESTIONS[1].2).await;
    }
    host.stop();
}
