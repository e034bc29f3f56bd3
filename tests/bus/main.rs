//! Roles in processes of their own: RWKV-RAG's Python client against them, and the main job with the same answers as
//! in one process.

#[expect(dead_code, reason = "the suite e2e uses all of it")]
#[path = "../e2e/host.rs"]
mod host;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use host::{Data, Host, binary, fixture, root};
use serde_json::{Value, json};

/// A role without HTTP. Dropping it kills it.
struct Role {
    child: Child,
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sockets in a folder: no ports to collide.
fn ends(dir: &Path) -> Vec<(String, String)> {
    let mut settings = vec![("RWKV_RAG__BUS__METRICS_LISTEN".to_owned(), "127.0.0.1:0".to_owned())];
    for service in ["llm", "index", "tuning"] {
        for end in ["front", "back"] {
            let name = format!("RWKV_RAG__BUS__{}_{}", service.to_uppercase(), end.to_uppercase());
            settings.push((name, format!("ipc://{}", dir.join(format!("{service}-{end}")).display())));
        }
    }
    settings
}

impl Role {
    /// Starts a role and waits until it says that it runs.
    fn start(name: &str, data: &Path, settings: &[(String, String)]) -> Role {
        let mut command = Command::new(binary());
        command.current_dir(root()).args(["serve", "--role", name, "--data-dir"]).arg(data);
        command.envs(settings.iter().map(|(name, value)| (name, value)));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = format!("role {name} is running");
        assert!(lines.by_ref().any(|line| line.unwrap() == ready), "role {name} did not start");
        std::thread::spawn(move || lines.for_each(drop));
        Role { child }
    }

    /// Ends it in order; it must succeed.
    fn stop(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }
}

/// The interpreter that has `tests/requirements.txt`: RAG_PYTHON, else the one that `cargo xtask test` prepares.
fn python() -> PathBuf {
    let given = std::env::var_os("RAG_PYTHON").map(PathBuf::from);
    let python = given.unwrap_or_else(|| root().join("target/python/bin/python"));
    assert!(python.is_file(), "{} is not there: `cargo xtask test bus` makes it", python.display());
    python
}

/// Answers and citations to fixed questions, as far as they must be equal everywhere.
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
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn six_processes_answer_as_one_does_and_rwkv_rags_client_is_served() {
    let mut alone = Data::new();
    let host = alone.start();
    let expected = main_job(&host).await;
    host.stop();

    let dir = tempfile::tempdir().unwrap();
    let settings = ends(dir.path());
    let start = |name: &str, data: &str| Role::start(name, &dir.path().join(data), &settings);
    let proxy = start("proxy", "proxy");
    let llm = [start("llm", "llm-1"), start("llm", "llm-2")];
    let (index, tuning) = (start("index", "index"), start("tuning", "tuning"));
    let mut web = Data::new();
    web.settings = settings.clone();
    web.settings.push(("RWKV_RAG_ROLE".to_owned(), "web".to_owned()));
    let host = web.start();
    assert_eq!(main_job(&host).await, expected, "the flows cannot tell where the models are");

    let mut client = Command::new(python());
    client.current_dir(root()).arg("tests/bus/rwkv_rag_client.py");
    for service in ["llm", "index", "tuning"] {
        let front = format!("ipc://{}", dir.path().join(format!("{service}-front")).display());
        client.env(format!("RAG_{}", service.to_uppercase()), front);
    }
    let ran = tokio::task::spawn_blocking(move || client.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success() && said.ends_with("ok\n"),
        "{said}\n{}",
        String::from_utf8_lossy(&ran.stderr)
    );

    // One worker dies: the other goes on.
    let [first, second] = llm;
    drop(first);
    let body = json!({"question": "静态 IP 地址写在哪个文件里？", "answer_tokens_max": 4});
    assert_eq!(host.post("/api/v1/kbs/initial/ask", &body).await["status"], 200);
    host.stop();
    [second, index, tuning, proxy].into_iter().for_each(Role::stop);
}
