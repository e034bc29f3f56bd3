//! Bad input: each gets a clear typed error, and nothing is lost.

use std::path::{Path, PathBuf};

use futures_util::stream;
use reqwest::{Body, Method};
use serde_json::json;

use crate::host::{Data, Host, answer, fixture, root, run};

/// Ingests what must fail; returns why.
async fn failure(host: &Host, name: &str, bytes: impl Into<Body>) -> String {
    let job = host.ingest("initial", name, bytes).await;
    assert_eq!(job["state"], "failed", "{name}: {job}");
    job["error"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn wrong_documents_say_what_is_wrong_and_harm_no_other() {
    let mut data = Data::new();
    let host = data.start();
    host.ingest("initial", "good.md", fixture("sailing.md")).await;
    let before = host.index("initial").await;

    let why = failure(&host, "empty.txt", "").await;
    assert!(why.contains("empty.txt") && why.contains("empty"), "{why}");
    let why = failure(&host, "blank.md", " \n\n \t\n").await;
    assert!(why.contains("no text"), "{why}");
    let program = fs_err::read(std::env::current_exe().unwrap()).unwrap();
    let why = failure(&host, "notes.txt", program[..4_096].to_vec()).await;
    assert!(why.contains("notes.txt") && why.contains("no installed parser"), "{why}");
    let why = failure(&host, "noise.txt", vec![0_u8; 100_000]).await;
    assert!(!why.is_empty());
    let why = failure(&host, "picture.txt", &b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..]).await;
    assert!(why.contains("picture") || why.contains("tesseract"), "{why}");
    assert_eq!(host.index("initial").await, before, "what failed leaves nothing, what was there stays");

    // Bytes that are no UTF-8 are read in the encoding that they are in, or refused: never garbage in silence.
    let mut broken = b"# Kept\n\nThe lighthouse is painted red. ".to_vec();
    broken.extend([0xff, 0xfe, 0xc3, 0x28]);
    broken.extend(b" The end.");
    let job = host.ingest("initial", "broken.md", broken).await;
    match job["state"].as_str() {
        Some("failed") => assert!(!job["error"].as_str().unwrap().is_empty()),
        _ => {
            let found = host.post("/api/v1/kbs/initial/search", &json!({"question": "lighthouse red"})).await;
            assert!(found.to_string().contains("The lighthouse is painted red."), "{found}");
        }
    }
    // GB18030 text is Chinese text.
    let gb = b"\xb5\xc6\xcb\xfe\xcd\xbf\xb3\xc9\xba\xec\xc9\xab\xa1\xa3\xb5\xc6\xcb\xfe\xc3\xbf\xcc\xec\xb5\xe3\xc1\xc1\xa1\xa3\xb4\xac\xd6\xbb\xbf\xbf\xcb\xfc\xd5\xd2\xb5\xbd\xb8\xdb\xbf\xda\xa1\xa3";
    assert_eq!(host.ingest("initial", "gb.txt", &gb[..]).await["state"], "done");
    let found = host.post("/api/v1/kbs/initial/search", &json!({"question": "灯塔是什么颜色？"})).await;
    assert!(found.to_string().contains("灯塔涂成红色"), "{found}");
    host.stop();
}

#[tokio::test]
async fn an_endless_line_is_bounded() {
    let mut data = Data::new().set("DATA", "DOCUMENT_BYTES_MAX", 1_000_000);
    let host = data.start();
    // A gigabyte of one line is refused by what the head says, before anything is sent,
    let path = "/api/v1/kbs/initial/documents?name=line.txt";
    let told = host.request(Method::POST, path).header("content-length", 1_u64 << 30);
    let endless = || Body::wrap_stream(stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b'a'; 65_536])));
    match told.body(endless()).send().await {
        Ok(response) => assert_eq!(response.status(), 413),
        // The server answered and hung up while bytes were still on their way.
        Err(error) => assert!(error.is_request() || error.is_body(), "{error}"),
    }
    // and by counting when the head says nothing.
    match host.request(Method::POST, path).body(endless()).send().await {
        Ok(response) => assert_eq!(response.status(), 413),
        Err(error) => assert!(error.is_request() || error.is_body(), "{error}"),
    }
    assert_eq!(host.get("/api/v1/jobs").await["jobs"], json!([]));

    // A long line within the limit becomes many chunks.
    let line: String = (0..1_500).map(|i| format!("word{i} ")).collect();
    let job = host.ingest("initial", "line.txt", line).await;
    assert_eq!(job["state"], "done", "{job}");
    let index = host.index("initial").await;
    assert!(index[0][2].as_u64().unwrap() > 5, "{}", index[0][2]);
    host.stop();
}

#[tokio::test]
async fn wrong_names_are_refused() {
    let mut data = Data::new();
    let host = data.start();
    for name in ["", "ab", "_abc", "a-b", "知识库", "../etc", "abc\n", &"x".repeat(34)] {
        let got = host.post("/api/v1/kbs", &json!({"name": name})).await;
        assert_eq!(
            (got["status"].as_u64(), got["error"]["code"].as_str()),
            (Some(400), Some("invalid_input")),
            "{name:?}"
        );
    }
    assert_eq!(
        host.post("/api/v1/kbs", &json!({"name": "INITIAL"})).await["status"],
        409,
        "names differ by more than case"
    );
    for (method, path, body) in [
        (Method::GET, "/api/v1/kbs/unknown_kb", json!(null)),
        (Method::POST, "/api/v1/kbs/unknown_kb/ask", json!({"question": "x"})),
        (Method::POST, "/api/v1/kbs/unknown_kb/search", json!({"question": "x"})),
        (Method::POST, "/api/v1/kbs/unknown_kb/texts", json!({"name": "a", "text": "b"})),
        (Method::DELETE, "/api/v1/kbs/unknown_kb", json!(null)),
    ] {
        let got = answer(host.request(method, path).json(&body)).await;
        assert_eq!(
            (got["status"].as_u64(), got["error"]["code"].as_str()),
            (Some(404), Some("not_found")),
            "{path}"
        );
        assert!(got["error"]["message"].as_str().unwrap().contains("unknown_kb"));
    }
    for plugin in ["chunker", "store", "retriever"] {
        let body = json!({"name": "fresh", "settings": {plugin: {"id": "not-installed"}}});
        let got = host.post("/api/v1/kbs", &body).await;
        assert_eq!(got["status"], 404, "{plugin}: {got}");
    }
    let overlap = json!({"name": "fresh", "settings": {"chunker": {"id": "chunk-fixed", "settings": {"size": 10, "overlap": 10}}}});
    assert_eq!(
        host.post("/api/v1/kbs", &overlap).await["status"],
        400,
        "an overlap as large as the size never ends"
    );
    host.stop();
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn names_of_documents_never_become_names_of_files() {
    let mut data = Data::new();
    let host = data.start();
    // Refused, or shown as it is: what other systems take for a device, a path or another direction.
    let names = [
        "CON.md",
        "aux",
        "C:\\windows\\x.md",
        "\\\\server\\share\\x.md",
        "．．／etc／passwd",
        "..\u{2215}..\u{2044}etc",
        "报告\u{202e}dm.exe",
        "e\u{301}te\u{301}.md",
        "a:stream.md",
        "%2e%2e%2fx.md",
        "~root.md",
        "-rf.md",
        "$(id).md",
        "x;reboot.md",
    ];
    let mut kept = 0;
    for name in names {
        let path = "/api/v1/kbs/initial/documents";
        let request = host.request(Method::POST, path).query(&[("name", name)]);
        let told = answer(request.body(format!("The lamp called {name} is lit."))).await;
        match told["status"].as_u64().unwrap() {
            202 => {
                let done = host.follow(&told["jobs"][0]).await.pop().unwrap();
                assert_eq!(done["state"], "done", "{name}: {done}");
                kept += 1;
            }
            status => assert_eq!(status, 400, "{name}: {told}"),
        }
    }
    let documents = host.get("/api/v1/kbs/initial/documents").await["documents"].as_array().unwrap().clone();
    assert_eq!(documents.len(), kept);
    for document in &documents {
        let name = document["name"].as_str().unwrap();
        assert!(names.iter().any(|given| given.replace('\\', "/") == name), "{document}");
        let path = format!("/api/v1/kbs/initial/documents/{}/original", document["id"].as_str().unwrap());
        let original = host.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(original.status(), 200, "{document}");
        let told = original.headers()["content-disposition"].to_str().unwrap().to_owned();
        assert!(told.starts_with("attachment") && !told.contains(['/', '\\', '\n']), "{told}");
    }
    // One file each, called by its hash, and nothing anywhere else.
    let blobs = files(&data.dir.path().join("data/blobs"));
    assert_eq!(blobs.len(), kept);
    let hashed = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.len() == 62 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    assert!(blobs.iter().all(hashed), "{blobs:?}");
    let mut beside: Vec<PathBuf> =
        fs_err::read_dir(data.dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    beside.sort();
    assert_eq!(beside, [data.dir.path().join("data"), data.dir.path().join("log.txt")]);
}

#[tokio::test]
async fn a_full_disk_takes_nothing_away() {
    let mut data = Data::new();
    let host = data.start();
    host.ingest("initial", "good.md", fixture("sailing.md")).await;
    let before = host.index("initial").await;
    host.stop();

    // As good as full: more free space is demanded than any disk has.
    let mut data = data.set("DATA", "DISK_FREE_MIN_BYTES", i64::MAX);
    let host = data.start();
    let upload =
        host.request(Method::POST, "/api/v1/kbs/initial/documents?name=more.md").body("# More\n\nmore words");
    let got = answer(upload).await;
    if got["status"] == 202 {
        let job = host.follow(&got["jobs"][0]).await.pop().unwrap();
        assert_eq!(job["state"], "failed", "{job}");
    } else {
        assert_eq!(
            (got["status"].as_u64(), got["error"]["code"].as_str()),
            (Some(503), Some("storage")),
            "{got}"
        );
        assert_eq!(got["error"]["retryable"], true);
    }
    assert_eq!(host.index("initial").await, before);
    let body = json!({"question": "How long should the anchor chain be?", "answer_tokens_max": 4});
    let asked = host.post("/api/v1/kbs/initial/ask", &body).await;
    assert_eq!(asked["citations"][0]["document"], "good.md", "{asked}");
    host.stop();
}

#[tokio::test]
async fn two_hosts_never_share_a_data_folder() {
    let mut data = Data::new();
    let host = data.start();
    let why = data.refused();
    assert!(why.contains("data"), "{why}");
    let folder = data.dir.path().join("data");
    let local = run(&["kb", "list", "--data-dir", folder.to_str().unwrap()]);
    assert!(!local.status.success());
    let said = String::from_utf8_lossy(&local.stderr);
    assert_eq!(said.trim().lines().count(), 1, "one clear line: {said}");
    assert_eq!(host.get("/api/v1/kbs").await["status"], 200, "the first is not disturbed");
    host.stop();
}

#[test]
fn broken_models_are_named_and_run_no_code() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = fs_err::read_dir(root().join("models")).unwrap().map(|entry| entry.unwrap().path());
    let weights: Vec<_> =
        shipped.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect();
    assert!(!weights.is_empty(), "models come with the program");
    for path in weights {
        let name = path.file_name().unwrap().to_str().unwrap();
        let whole = fs_err::read(&path).unwrap();
        let cut = folder.path().join(name);
        fs_err::write(&cut, &whole[..whole.len() / 2]).unwrap();
        let setting = if name.contains("e5") { "ENCODER" } else { "LANGUAGE" };
        let why = Data::new().set("MODELS", setting, cut.display()).refused();
        assert!(why.contains(name), "{why}");
    }

    // A pickle that would create a file, as PyTorch once let it.
    let trap = folder.path().join("code-ran");
    let pickle = format!("cposix\nsystem\n(S'touch {}'\ntR.", trap.display());
    let hostile = folder.path().join("hostile.pth");
    fs_err::write(&hostile, pickle).unwrap();
    let why = Data::new().set("MODELS", "LANGUAGE", hostile.display()).refused();
    assert!(why.contains("hostile.pth"), "{why}");
    assert!(!trap.exists(), "no code of a model file ever runs");
}

#[tokio::test]
async fn what_is_no_component_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs_err::read_dir(root().join("plugins/dist")).unwrap() {
        let path = entry.unwrap().path();
        fs_err::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    fs_err::write(folder.path().join("text.wasm"), "no component at all").unwrap();
    fs_err::write(folder.path().join("module.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let whole = fs_err::read(folder.path().join("parse-text.wasm")).unwrap();
    fs_err::write(folder.path().join("cut.wasm"), &whole[..whole.len() / 2]).unwrap();
    let mut data = Data::new().set("PLUGINS", "DIR", folder.path().display());
    let host = data.start();
    let installed = host.get("/api/v1/plugins").await;
    let ids: Vec<_> =
        installed["plugins"].as_array().unwrap().iter().map(|plugin| plugin["id"].clone()).collect();
    assert!(
        ids.contains(&json!("parse-text"))
            && !ids.iter().any(|id| id == "text" || id == "module" || id == "cut"),
        "{ids:?}"
    );
    assert_eq!(host.ingest("initial", "good.md", fixture("sailing.md")).await["state"], "done");
    let log = fs_err::read_to_string(data.dir.path().join("log.txt")).unwrap();
    for name in ["text.wasm", "module.wasm", "cut.wasm"] {
        assert!(log.contains(name), "the log names {name}: {log}");
    }
    let checked = run(&["plugin", "check", folder.path().join("text.wasm").to_str().unwrap()]);
    assert!(!checked.status.success());
    host.stop();
}
