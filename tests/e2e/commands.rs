//! The command line against a running host: ingest, search, ask, export, import.

use reqwest::Method;
use serde_json::{Value, json};

use crate::host::{Data, Host, answer, root, run};

/// Runs a command that must succeed; its output as JSON.
pub(crate) fn told(host: &Host, arguments: &[&str]) -> Value {
    let all = [&["--url", &host.url, "--key", &host.key, "--json"], arguments].concat();
    let output = run(&all);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}"))
}

/// What a search tells, without ids, which hold the knowledge base's name.
async fn answers(host: &Host, kb: &str) -> Vec<Value> {
    let mut all = Vec::new();
    for question in ["How long should the anchor chain be?", "如何安装软件包？", "barometer"] {
        let body = json!({"question": question, "k": 20});
        let found = host.post(&format!("/api/v1/kbs/{kb}/search"), &body).await;
        for hit in found["hits"].as_array().unwrap() {
            all.push(json!([
                hit["document"],
                hit["text"],
                hit["heading"],
                hit["start"],
                hit["end"],
                (hit["score"].as_f64().unwrap() * 1_000.0).round()
            ]));
        }
    }
    assert!(!all.is_empty());
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_knowledge_base_moves_as_one_file_and_answers_alike() {
    let mut data = Data::new();
    let host = data.start();
    let fixtures = root().join("tests/e2e/fixtures");
    let file = data.dir.path().join("manuals.kb.zip");
    let (path, kb) = (file.to_str().unwrap(), "/api/v1/kbs/manuals");
    told(&host, &["kb", "create", "manuals", "--chunker", "chunk-parent-child"]);
    for name in ["sailing.md", "apt-手册.md"] {
        let bytes = fs_err::read(fixtures.join(name)).unwrap();
        assert_eq!(host.ingest("manuals", name, bytes).await["state"], "done");
    }
    // What people changed goes along.
    let index = host.index("manuals").await;
    let (document, chunks) = (index[0][1].as_str().unwrap(), index[0][3].as_array().unwrap());
    let chunk = |at: usize| format!("{kb}/chunks/{}", chunks[at]["id"].as_str().unwrap());
    let last = chunks.len() - 1;
    for (path, change) in [
        (format!("{kb}/documents/{document}"), json!({"metadata": [{"key": "owner", "value": "王"}]})),
        (chunk(last), json!({"text": "The barometer was repaired in 2026."})),
        (chunk(last - 1), json!({"enabled": false})),
    ] {
        let changed = answer(host.request(Method::PATCH, &path).json(&change)).await;
        assert_eq!(changed["status"], 200, "{changed}");
    }
    assert_eq!(host.delete(&chunk(0)).await["status"], 204);
    let before = answers(&host, "manuals").await;
    told(&host, &["kb", "export", "manuals", path]);

    // Under another name beside it, and under its own once it is gone: nothing is embedded.
    let other = told(&host, &["kb", "import", path, "--name", "manuals2"]);
    assert_eq!((&other["embedded"], &other["exchanged"]), (&json!(0), &json!([])), "{other}");
    assert_eq!(answers(&host, "manuals2").await, before);
    let shown = |kb: Value| (kb["documents"].clone(), kb["chunks"].clone(), kb["settings"].clone());
    let was = shown(host.get(kb).await);
    assert_eq!(shown(host.get("/api/v1/kbs/manuals2").await), was);
    told(&host, &["kb", "delete", "manuals", "--yes"]);
    told(&host, &["kb", "import", path]);
    assert_eq!(answers(&host, "manuals").await, before);
    assert_eq!(shown(host.get(kb).await), was);
    let again =
        host.ingest("manuals", "sailing.md", fs_err::read(fixtures.join("sailing.md")).unwrap()).await;
    assert_eq!(again["unchanged"], true, "it is the same document still: {again}");
    let answered = told(&host, &["ask", "--kb", "manuals", "How long should the anchor chain be?"]);
    assert_eq!(answered["citations"][0]["document"], "sailing.md", "{answered}");

    // Cut off, changed, or there already: nothing is imported.
    let whole = fs_err::read(&file).unwrap();
    let mut bent = whole.clone();
    let middle = whole.len() / 2;
    bent[middle] ^= 1;
    for bytes in [&whole[..middle], &bent[..], &b"no zip file"[..]] {
        let imported = host.request(Method::POST, "/api/v1/imports?name=broken").body(bytes.to_vec());
        let refused = answer(imported).await;
        assert_eq!(refused["status"], 400, "{refused}");
        assert_eq!(host.get("/api/v1/kbs/broken").await["status"], 404);
    }
    let taken = answer(host.request(Method::POST, "/api/v1/imports").body(whole)).await;
    assert_eq!(taken["status"], 409, "{taken}");
    assert_eq!(answers(&host, "manuals").await, before);

    // The first version exported a folder.
    let old = data.dir.path().join("old");
    fs_err::create_dir_all(old.join("originals")).unwrap();
    let manifest = json!({"format": 1, "kb": {"name": "old_one", "settings": {}},
        "documents": [{"name": "knots.md", "media_type": "text/markdown"}]});
    fs_err::write(old.join("kb.json"), manifest.to_string()).unwrap();
    fs_err::write(old.join("originals/0"), "The bowline makes a loop that never slips.").unwrap();
    told(&host, &["kb", "import", old.to_str().unwrap()]);
    assert_eq!(host.index("old_one").await[0][0], "knots.md");
}
