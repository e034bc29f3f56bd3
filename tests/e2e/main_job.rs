//! The main job: upload, progress, cited answers, restart, deletion.

use reqwest::Method;
use serde_json::{Value, json};

use crate::host::{Data, Events, Host, answer, fixture};

const ZH: &str = "apt-手册.md";
const EN: &str = "sailing.md";

/// Question, the document that answers it, words of the passage that does.
const QUESTIONS: [(&str, &str, &str); 6] = [
    ("怎样连同配置文件一起删除软件包？", ZH, "apt purge"),
    ("静态 IP 地址写在哪个文件里？", ZH, "/etc/network/interfaces"),
    ("数字 755 表示什么权限？", ZH, "755"),
    ("How long should the anchor chain be?", EN, "five times the depth"),
    ("Which knot makes a loop that never slips?", EN, "bowline"),
    ("What does a falling barometer announce?", EN, "gale"),
];

/// Asks everything: the right passage is cited first, and each quote stands verbatim in document and original.
async fn ask_all(host: &Host) {
    for (question, document, words) in QUESTIONS {
        let body = json!({"question": question, "answer_tokens_max": 24});
        let got = host.post("/api/v1/kbs/initial/ask", &body).await;
        assert_eq!(
            (got["status"].as_u64(), got["refused"].as_bool()),
            (Some(200), Some(false)),
            "{question}: {got}"
        );
        let first = &got["citations"][0];
        assert_eq!(first["document"], document, "{question}");
        assert!(first["passage"].as_str().unwrap().contains(words), "{question}: {first}");
        assert!(!got["answer"].as_str().unwrap().is_empty(), "{question}");
        assert!(got["usage"]["output_tokens"].as_u64().unwrap() <= 24);
        for citation in got["citations"].as_array().unwrap() {
            check_quote(host, citation).await;
        }
    }
}

async fn check_quote(host: &Host, citation: &Value) {
    let path = format!("/api/v1/kbs/initial/documents/{}", citation["document_id"].as_str().unwrap());
    let range = format!("{path}/text?start={}&end={}", citation["start"], citation["end"]);
    assert_eq!(host.get(&range).await["text"], citation["quote"]);
    let original =
        host.request(Method::GET, &format!("{path}/original")).send().await.unwrap().text().await.unwrap();
    assert!(original.contains(citation["quote"].as_str().unwrap()), "{citation}");
}

/// The job's percentages never go back and end at 100.
fn check_progress(told: &[Value]) {
    let percents: Vec<u64> = told.iter().map(|state| state["percent"].as_u64().unwrap()).collect();
    assert!(percents.is_sorted(), "{percents:?}");
    let last = told.last().unwrap();
    assert_eq!((last["state"].as_str(), last["percent"].as_u64()), (Some("done"), Some(100)), "{last}");
}

#[tokio::test]
async fn documents_in_cited_answers_out_and_again_after_a_restart() {
    let mut data = Data::new();
    let host = data.start();
    let job = host.upload("initial", ZH, fixture(ZH)).await;
    check_progress(&host.follow(&job).await);
    let form = reqwest::multipart::Form::new()
        .part("file", reqwest::multipart::Part::text(fixture(EN)).file_name(EN));
    let jobs = answer(host.request(Method::POST, "/api/v1/kbs/initial/documents").multipart(form)).await;
    check_progress(&host.follow(&jobs["jobs"][0]).await);

    let again = host.ingest("initial", ZH, fixture(ZH)).await;
    assert_eq!(again["unchanged"], true, "the same file again costs nothing");
    ask_all(&host).await;

    let index = host.index("initial").await;
    assert_eq!(index.len(), 2);
    host.stop();
    let host = data.start();
    assert_eq!(host.index("initial").await, index, "a restart changes nothing");
    ask_all(&host).await;

    // Replaced: only the new version answers.
    let changed = fixture(EN).replace("five times the depth", "seven times the depth");
    host.ingest("initial", EN, changed).await;
    let found =
        host.post("/api/v1/kbs/initial/search", &json!({"question": "anchor chain length", "k": 50})).await;
    assert!(
        found.to_string().contains("seven times the depth")
            && !found.to_string().contains("five times the depth")
    );

    // Deleted: it answers nothing, and its original and text are gone.
    let listed = host.get("/api/v1/kbs/initial/documents").await;
    let document = listed["documents"].as_array().unwrap().iter().find(|d| d["name"] == EN).unwrap().clone();
    let path = format!("/api/v1/kbs/initial/documents/{}", document["id"].as_str().unwrap());
    assert_eq!(host.delete(&path).await["status"], 204);
    assert_eq!(host.get(&format!("{path}/original")).await["status"], 404);
    for question in ["Which knot makes a loop that never slips?", "barometer gale fog"] {
        let found = host.post("/api/v1/kbs/initial/search", &json!({"question": question, "k": 100})).await;
        assert!(!found.to_string().contains(EN), "{found}");
    }
    host.stop();
    let blobs = walk(&data.dir.path().join("data"));
    let bytes: Vec<u8> = "bowline makes a loop".into();
    for file in blobs {
        let content = fs_err::read(&file).unwrap();
        // The catalogue may keep freed pages; an original is a file of its own.
        let original = content.starts_with(b"# Sailing handbook");
        assert!(!original || !content.windows(bytes.len()).any(|part| part == bytes), "{}", file.display());
    }
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn an_answer_streams_remembers_and_refuses() {
    let mut data = Data::new();
    let host = data.start();
    host.ingest("initial", ZH, fixture(ZH)).await;
    let question = QUESTIONS[0].0;
    let body = json!({"question": question, "conversation": "c1", "answer_tokens_max": 24});
    let mut events = Events::open(host.request(Method::POST, "/api/v1/kbs/initial/ask").json(&body)).await;
    let mut names = Vec::new();
    let mut text = String::new();
    let mut done = Value::Null;
    while let Some((name, event)) = events.next().await {
        text.push_str(event["text"].as_str().unwrap_or_default());
        done = event;
        names.push(name);
    }
    assert_eq!(
        (names.first().map(String::as_str), names.last().map(String::as_str)),
        (Some("citations"), Some("done"))
    );
    assert!(names[1..names.len() - 1].iter().all(|name| name == "token"));
    assert_eq!(done["answer"].as_str().unwrap(), text.trim());
    let kept = host.get("/api/v1/kbs/initial/conversations/c1").await;
    assert_eq!(kept["rounds"][0]["question"], question);

    let empty = host.post("/api/v1/kbs", &json!({"name": "empty_one"})).await;
    assert_eq!(empty["status"], 201);
    let refused = host.post("/api/v1/kbs/empty_one/ask", &json!({"question": question})).await;
    assert_eq!((refused["refused"].as_bool(), &refused["citations"]), (Some(true), &json!([])), "{refused}");

    // A greedy answer is the same twice, alone or beside another.
    let greedy = json!({"question": question, "temperature": 0, "answer_tokens_max": 16});
    let first = host.post("/api/v1/kbs/initial/ask", &greedy).await;
    let (a, b) = tokio::join!(
        host.post("/api/v1/kbs/initial/ask", &greedy),
        host.post("/api/v1/kbs/initial/ask", &greedy)
    );
    assert_eq!((&a["answer"], &b["answer"]), (&first["answer"], &first["answer"]));
    host.stop();
}

#[tokio::test]
async fn keys_and_knowledge_bases_are_kept_apart() {
    let mut data = Data::new();
    let host = data.start();
    assert_eq!(host.post("/api/v1/kbs", &json!({"name": "team_a"})).await["status"], 201);
    let body = json!({"name": "a", "role": "editor", "kbs": ["team_a"]});
    let made = host.post("/api/v1/keys", &body).await;
    host.ingest("initial", ZH, fixture(ZH)).await;
    host.stop();

    // The key works after a restart, within its scope, until it is revoked.
    let host = data.start();
    let secret = made["secret"].as_str().unwrap();
    let get = |path: &str| {
        let request = reqwest::Client::new().get(format!("{}{path}", host.url)).bearer_auth(secret);
        async { answer(request).await["status"].clone() }
    };
    assert_eq!(get("/api/v1/kbs/team_a").await, 200);
    assert_eq!(get("/api/v1/kbs/initial").await, 403);
    assert_eq!(get("/api/v1/keys").await, 403);
    assert_eq!(
        host.delete(&format!("/api/v1/keys/{}", made["key"]["id"].as_str().unwrap())).await["status"],
        204
    );
    assert_eq!(get("/api/v1/kbs/team_a").await, 401);
    let unkeyed = answer(reqwest::Client::new().get(format!("{}/api/v1/kbs", host.url))).await;
    assert_eq!(unkeyed["error"]["code"], "unauthenticated");
    let kept = fs_err::read(data.dir.path().join("log.txt")).unwrap();
    let log = String::from_utf8_lossy(&kept);
    assert!(!log.contains(secret) && !log.contains(&host.key), "no key is ever logged");
    host.stop();
}
