//! A running `rwkv-rag serve` on a data folder of its own, and HTTP to it in few words.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;

use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;

/// A data folder that outlives the hosts that run on it, with its administrator's key.
pub struct Data {
    pub dir: TempDir,
    pub key: Option<String>,
    /// Settings as environment variables: section, key, value.
    pub settings: Vec<(String, String)>,
}

/// A host. Dropping it kills it as a crash would.
pub struct Host {
    child: Mutex<Child>,
    pub url: String,
    pub key: String,
    http: reqwest::Client,
}

impl Data {
    pub fn new() -> Self {
        Data { dir: tempfile::tempdir().unwrap(), key: None, settings: Vec::new() }
    }

    /// With a setting, e.g. `("DATA", "DOCUMENT_BYTES_MAX", "1000")`.
    pub fn set(mut self, section: &str, key: &str, value: impl ToString) -> Self {
        self.settings.push((format!("RWKV_RAG__{section}__{key}"), value.to_string()));
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(binary());
        // The models and plugins of the tree are found from its root.
        command.current_dir(root());
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(self.dir.path().join("data"));
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts a host and waits until it listens.
    pub fn start(&mut self) -> Host {
        let cache = self.dir.path().join("data/plugin-cache");
        if !cache.exists() && compiled().exists() {
            copy(&compiled(), &cache);
        }
        let host = self.launch();
        if files(&compiled()) != files(&cache) {
            // Another test may be first: then its copy is as good.
            let mine = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            copy(&cache, &mine.path().join("new"));
            let _ = fs_err::rename(compiled(), mine.path().join("old"));
            let _ = fs_err::rename(mine.path().join("new"), compiled());
        }
        host
    }

    fn launch(&mut self) -> Host {
        let log = self.dir.path().join("log.txt");
        let mut command = self.command();
        command.stdout(Stdio::piped()).stderr(File::options().create(true).append(true).open(&log).unwrap());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut url = None;
        for line in lines.by_ref() {
            let line = line.unwrap();
            if let Some(key) = line.strip_prefix("admin key: ") {
                assert!(self.key.is_none(), "the key is shown at the first start only");
                self.key = Some(key.trim().to_owned());
            }
            if let Some(found) = line.strip_prefix("listening on ") {
                url = Some(found.trim().to_owned());
                break;
            }
        }
        let Some(url) = url else {
            let _ = child.wait();
            panic!("the host ended: {}", fs_err::read_to_string(&log).unwrap());
        };
        std::thread::spawn(move || lines.for_each(drop));
        let key = self.key.clone().expect("the first start shows the administrator's key");
        Host { child: Mutex::new(child), url, key, http: reqwest::Client::new() }
    }

    /// Runs a host that must refuse to start; returns its one line.
    pub fn refused(&self) -> String {
        let mut child = self.command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let last = lines.map_while(Result::ok).filter(|line| line.starts_with("rwkv-rag: ")).last();
        assert!(!child.wait().unwrap().success());
        last.expect("a host that does not start says why in one line")
    }
}

impl Host {
    /// Ends it in order, as systemd would.
    pub fn stop(self) {
        let mut child = self.child.lock().unwrap();
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        assert!(child.wait().unwrap().success(), "an ordered stop succeeds");
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.key)
    }

    pub async fn get(&self, path: &str) -> Value {
        answer(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Value {
        answer(self.request(Method::POST, path).json(body)).await
    }

    pub async fn delete(&self, path: &str) -> Value {
        answer(self.request(Method::DELETE, path)).await
    }

    /// Uploads a document as a raw body; returns its job.
    pub async fn upload(&self, kb: &str, name: &str, bytes: impl Into<reqwest::Body>) -> Value {
        let request =
            self.request(Method::POST, &format!("/api/v1/kbs/{kb}/documents")).query(&[("name", name)]);
        let accepted = answer(request.body(bytes)).await;
        assert_eq!(accepted["status"], 202, "{accepted}");
        accepted["jobs"][0].clone()
    }

    /// Follows a job to its end; returns every state that was told.
    pub async fn follow(&self, job: &Value) -> Vec<Value> {
        let path = format!("/api/v1/jobs/{}/events", job["id"].as_str().unwrap());
        let mut told = Vec::new();
        let mut events = Events::open(self.request(Method::GET, &path)).await;
        while let Some((name, data)) = events.next().await {
            told.push(data);
            if name == "end" {
                return told;
            }
        }
        panic!("the job's events ended before the job: {told:?}");
    }

    /// Uploads and waits; returns the job in its end state.
    pub async fn ingest(&self, kb: &str, name: &str, bytes: impl Into<reqwest::Body>) -> Value {
        let job = self.upload(kb, name, bytes).await;
        self.follow(&job).await.pop().unwrap()
    }

    /// Names, ordinals, ids and texts of everything that is indexed.
    pub async fn index(&self, kb: &str) -> Vec<Value> {
        let mut index = Vec::new();
        let listed = self.get(&format!("/api/v1/kbs/{kb}/documents?limit=1000")).await;
        for document in listed["documents"].as_array().unwrap() {
            let id = document["id"].as_str().unwrap();
            let chunks = self.get(&format!("/api/v1/kbs/{kb}/documents/{id}/chunks?limit=1000")).await;
            index.push(serde_json::json!([
                document["name"],
                document["id"],
                document["chunks"],
                chunks["chunks"]
            ]));
        }
        index
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Ok(child) = self.child.get_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Sends; an object as answer, with the status beside its own fields.
pub async fn answer(request: reqwest::RequestBuilder) -> Value {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    let mut value = serde_json::from_str(&text).unwrap_or_else(|_| serde_json::json!({ "text": text }));
    value["status"] = status.into();
    value
}

/// Server-sent events, one at a time.
pub struct Events {
    body: std::pin::Pin<Box<dyn futures_util::Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    rest: Vec<u8>,
}

impl Events {
    pub async fn open(request: reqwest::RequestBuilder) -> Self {
        let response = request.header("accept", "text/event-stream").send().await.unwrap();
        assert_eq!(response.status(), 200);
        Events { body: Box::pin(response.bytes_stream()), rest: Vec::new() }
    }

    /// Name and data; data that is no JSON comes as a text.
    pub async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(end) = self.rest.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = self.rest.drain(..end + 2).collect();
                let event = String::from_utf8(event).unwrap();
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                let Some(data) = field("data:") else { continue };
                let data = serde_json::from_str(data).unwrap_or_else(|_| data.into());
                return Some((field("event:").unwrap_or_default().to_owned(), data));
            }
            self.rest.extend_from_slice(&self.body.next().await?.unwrap());
        }
    }
}

/// Components that an earlier test compiled: a host takes them over as it would its own after a restart.
pub fn compiled() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin-cache")
}

/// Every file below a folder, as paths relative to it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs_err::read_dir(next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

pub fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(&file);
        fs_err::create_dir_all(target.parent().unwrap()).unwrap();
        // A file may go while another test puts its own copy there; the host compiles what is missing.
        let _ = fs_err::copy(from.join(&file), target);
    }
}

/// One of the components that misbehave, built by `cargo xtask guests`.
pub fn guest(name: &str) -> PathBuf {
    root().join(format!("target/guests/wasm32-wasip2/release/hostile_{name}.wasm"))
}

/// Puts two models of the engine's tests into a folder, as the hub has them: `small`, an encoder of 32 values, and `cross`,
/// a reranker.
pub fn small_models(folder: &Path) {
    for (source, name) in [("tiny-e5-small", "small"), ("cross", "cross")] {
        let (from, to) = (root().join("host/rag-engine/tests/hub").join(source), folder.join(name));
        fs_err::create_dir_all(&to).unwrap();
        for file in ["config.json", "tokenizer.json", "model.safetensors"] {
            fs_err::copy(from.join(file), to.join(file)).unwrap();
        }
        if name == "small" {
            let config = fs_err::read_to_string(to.join("config.json")).unwrap();
            let config = config.replace("BertForSequenceClassification", "BertModel");
            fs_err::write(to.join("config.json"), config).unwrap();
        }
    }
}

/// The project's root folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

pub fn fixture(name: &str) -> String {
    fs_err::read_to_string(root().join("tests/e2e/fixtures").join(name)).unwrap()
}

/// The program under test: RWKV_RAG_BIN, else the one built beside this test.
pub fn binary() -> PathBuf {
    if let Some(given) = std::env::var_os("RWKV_RAG_BIN") {
        return given.into();
    }
    let beside = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("rwkv-rag");
    assert!(
        beside.is_file(),
        "build the program first: cargo build -p rag ({} is not there)",
        beside.display()
    );
    beside
}

/// Runs the program with other arguments to its end.
pub fn run(arguments: &[&str]) -> Output {
    Command::new(binary()).current_dir(root()).args(arguments).output().unwrap()
}
