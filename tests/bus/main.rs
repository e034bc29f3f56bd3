//! Roles in processes of their own: RWKV-RAG's Python client against them, and the main job with the same answers as
//! in one process.

#[expect(dead_code, reason = "the suite e2e uses all of it")]
#[path = "../e2e/host.rs"]
mod host;
mod models;
mod namespaces;
mod roles;

use std::process::Command;

use host::{Data, Host, fixture, root};
use namespaces::Namespaces;
use roles::{Place, Role, SERVICES, python};
use serde_json::{Value, json};

/// Answers and citations to fixed questions, and a search, as far as they must be equal everywhere.
async fn main_job(host: &Host) -> Vec<Value> {
    for name in ["apt-手册.md", "sailing.md"] {
        assert_eq!(host.ingest("initial", name, fixture(name)).await["state"], "done");
    }
    let mut answers = Vec::new();
    for question in ["怎样连同配置文件一起删除软件包？", "How long should the anchor chain be?"]
    {
        let body = json!({"question": question, "answer_tokens_max": 24, "temperature": 0});
        let got = host.post("/api/v1/kbs/initial/ask", &body).await;
        assert_eq!((got["status"].as_u64(), got["refused"].as_bool()), (Some(200), Some(false)), "{got}");
        let cited = got["citations"].as_array().unwrap().iter();
        let cited: Vec<Value> =
            cited.map(|c| json!([c["document"], c["quote"], c["start"], c["score"]])).collect();
        assert!(!cited.is_empty());
        answers.push(json!([got["answer"], cited, got["usage"]]));
        let found = host.post("/api/v1/kbs/initial/search", &json!({"question": question})).await;
        let found = found["hits"].as_array().unwrap().iter();
        let found: Vec<Value> = found.map(|hit| json!([hit["chunk"], hit["score"], hit["text"]])).collect();
        assert!(!found.is_empty());
        answers.push(found.into());
    }
    answers
}

/// Every command of RWKV-RAG's, by its client's library.
async fn rwkv_rags_client(place: &Place) {
    let mut client = Command::new(python());
    client.current_dir(root()).arg("tests/bus/rwkv_rag_client.py");
    for service in SERVICES {
        client.env(format!("RAG_{}", service.to_uppercase()), place.end(service, "front"));
    }
    client.env("RAG_FURTHER_FRONT", place.end("further", "front"));
    client.env("RAG_FURTHER_BACK", place.end("further", "back"));
    if let Place::Networks(networks) = place {
        client.envs(networks.client_keys());
    }
    let ran = tokio::task::spawn_blocking(move || client.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success() && said.ends_with("ok\n"),
        "{said}\n{}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

/// Six processes do what one does.
async fn six_processes(place: Place) {
    let mut alone = Data::new();
    let host = alone.start();
    let expected = main_job(&host).await;
    host.stop();

    let dir = tempfile::tempdir().unwrap();
    let start = |name: &str, data: &str| Role::start(name, &dir.path().join(data), &place);
    let proxy = start("proxy", "proxy");
    let llm = [start("llm", "llm-1"), start("llm", "llm-2")];
    let (index, tuning) = (start("index", "index"), start("tuning", "tuning"));
    let mut web = Data::new();
    web.settings = place.settings("web");
    web.settings.push(("RWKV_RAG_ROLE".to_owned(), "web".to_owned()));
    // The index role keeps the knowledge bases, and so the keys.
    web.key = index.admin_key.clone();
    let host = web.start();
    assert_eq!(main_job(&host).await, expected, "nobody can tell where the parts are");
    refusals_are_clear(&host).await;
    rwkv_rags_client(&place).await;
    what_python_indexed_is_found(&host).await;
    if let Place::Folder(_) = place {
        // Within namespaces it is the proxy's own loopback.
        numbers_are_shown(proxy.metrics.as_deref().unwrap()).await;
    }

    // One worker dies: the other goes on.
    let [first, second] = llm;
    drop(first);
    let body = json!({"question": "静态 IP 地址写在哪个文件里？", "answer_tokens_max": 4});
    assert_eq!(host.post("/api/v1/kbs/initial/ask", &body).await["status"], 200);
    // Without an index service the web role says what is missing, and serves again once it is back.
    index.stop();
    assert_eq!(host.get("/api/v1/kbs").await["status"], 503);
    let index = start("index", "index");
    assert_eq!(index.admin_key, None, "the key is shown at the first start only");
    assert_eq!(host.get("/api/v1/kbs").await["status"], 200);
    host.stop();
    [second, index, tuning, proxy].into_iter().for_each(Role::stop);
}

/// What a role has not itself is told with where it is.
async fn refusals_are_clear(host: &Host) {
    let restart = host.post("/api/v1/models/restart", &json!({})).await;
    assert!(restart.to_string().contains("llm service"), "{restart}");
    let tuning = host.get("/api/v1/tuning/jobs").await;
    assert!(tuning.to_string().contains("tuning"), "{tuning}");
    assert_ne!((restart["status"].as_u64(), tuning["status"].as_u64()), (Some(200), Some(200)));
    let stranger = host.get("/api/v1/kbs/nowhere").await;
    assert_eq!(stranger["status"], 404);
}

/// What the proxy counted, for Prometheus.
async fn numbers_are_shown(url: &str) {
    let page = reqwest::get(url).await.unwrap().text().await.unwrap();
    let number = |name: &str| {
        let line =
            page.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {page}"));
        line.trim().parse::<f64>().unwrap()
    };
    for (service, workers) in [("llm", 2.0), ("index", 1.0), ("tuning", 1.0)] {
        assert_eq!(number(&format!("rwkv_rag_bus_workers{{service=\"{service}\"}}")), workers);
        assert!(number(&format!("rwkv_rag_bus_answered_total{{service=\"{service}\"}}")) > 5.0);
        assert!(number(&format!("rwkv_rag_bus_malformed_total{{service=\"{service}\"}}")) > 0.0);
    }
    assert!(number("rwkv_rag_bus_answered_total{service=\"further\"}") > 0.0);
}

/// Collections of RWKV-RAG's clients are the page's knowledge bases.
async fn what_python_indexed_is_found(host: &Host) {
    let found =
        host.post("/api/v1/kbs/left_by_python/search", &json!({"question": "水果有什么营养？"})).await;
    assert!(found["hits"][0]["text"].as_str().is_some_and(|text| text.contains("苹果")), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn six_processes_answer_as_one_does_and_rwkv_rags_client_is_served() {
    let dir = tempfile::tempdir().unwrap();
    six_processes(Place::Folder(dir.path().to_owned())).await;
}

#[test]
fn the_same_on_machines_of_their_own_with_sealed_connections() {
    let Some(mut inner) = namespaces::enter("within_namespaces") else {
        println!("skipped: this system makes no network namespaces");
        return;
    };
    let ran = inner.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}\n{}", String::from_utf8_lossy(&ran.stderr));
    assert!(said.contains("1 passed"), "{said}");
}

/// What the test before starts where it may; nothing elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn within_namespaces() {
    if std::env::var_os("RAG_IN_NAMESPACE").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    six_processes(Place::Networks(Namespaces::new(dir.path().to_owned()))).await;
}
