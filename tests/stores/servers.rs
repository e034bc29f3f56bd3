//! Servers as child processes on this machine's own address, each with a folder that goes with it.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// A server may take this many pauses to answer.
pub(crate) const TRIES: usize = 600;
pub(crate) const PAUSE: Duration = Duration::from_millis(100);
/// The user `nobody`: PostgreSQL refuses to run as root.
const NOBODY: u32 = 65_534;

pub(crate) fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A running server.
pub(crate) struct Server {
    pub(crate) port: u16,
    child: Option<Child>,
    /// What ends it in order; PostgreSQL waits for its clients to leave on TERM.
    signal: &'static str,
    start: Box<dyn Fn() -> Command>,
    folder: tempfile::TempDir,
}

impl Server {
    fn new(
        port: u16,
        folder: tempfile::TempDir,
        signal: &'static str,
        start: impl Fn() -> Command + 'static,
    ) -> Self {
        let mut server = Server { port, child: None, signal, start: Box::new(start), folder };
        server.restart();
        server
    }

    pub(crate) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Ends the server and waits until it is gone.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = Command::new("kill").args([self.signal, &child.id().to_string()]).status();
            child.wait().unwrap();
        }
    }

    pub(crate) fn restart(&mut self) {
        self.stop();
        let log =
            std::fs::File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = (self.start)();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")));
    }

    /// Returns once the port is open.
    pub(crate) async fn ready(&self) {
        for _ in 0..TRIES {
            if tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        panic!("the server does not answer: {log}");
    }

    /// What another program would do.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Value {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.post(format!("{}{path}", self.url("http"))).json(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
        answer.json().await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Where pip put the packages of `requirements.txt`.
fn packages() -> PathBuf {
    let lib = tree().join("target/stores/lib");
    let version = std::fs::read_dir(&lib).ok().and_then(|mut found| found.next()?.ok());
    let version =
        version.unwrap_or_else(|| panic!("no servers in {}: run `cargo xtask test stores`", lib.display()));
    version.path().join("site-packages").canonicalize().unwrap()
}

/// Chroma: the whole server is one library of its wheel.
pub(crate) fn chroma() -> Server {
    let folder = tempfile::tempdir().unwrap();
    let (port, data) = (free_port(), folder.path().join("data"));
    let python = tree().join("target/stores/bin/python");
    packages();
    Server::new(port, folder, "-TERM", move || {
        let run = format!(
            "import chromadb_rust_bindings as b; b.cli(['chroma', 'run', '--path', '{}', '--host', '127.0.0.1', '--port', '{port}'])",
            data.display()
        );
        let mut command = Command::new(&python);
        command.args(["-c", &run]);
        command
    })
}

/// Runs as `nobody` when these tests run as root.
fn unprivileged(program: &Path, root: bool) -> Command {
    let mut command = Command::new(program);
    if root {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// PostgreSQL with pgvector, with a user `rag` whose password is `secret`.
pub(crate) fn postgres() -> Server {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let folder = tempfile::tempdir().unwrap();
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    // Copied, since another user may not reach the tree.
    for part in ["pgserver", "pgserver.libs"] {
        let copied =
            Command::new("cp").arg("-r").arg(packages().join(part)).arg(folder.path()).status().unwrap();
        assert!(copied.success());
    }
    let home = folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    if root {
        std::os::unix::fs::chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let password = folder.path().join("password");
    std::fs::write(&password, "secret\n").unwrap();
    let (bin, data, port) = (folder.path().join("pgserver/pginstall/bin"), home.join("data"), free_port());
    let made = unprivileged(&bin.join("initdb"), root)
        .args(["-U", "rag", "-A", "scram-sha-256", "-E", "UTF8", "--no-locale", "--no-sync"])
        .arg(format!("--pwfile={}", password.display()))
        .arg("-D")
        .arg(&data)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Server::new(port, folder, "-INT", move || {
        let mut command = unprivileged(&bin.join("postgres"), root);
        command.arg("-D").arg(&data).args(["-h", "127.0.0.1", "-p", &port.to_string(), "-k", ""]);
        // Nothing here outlives the machine.
        command.args(["-c", "fsync=off"]);
        command
    })
}
