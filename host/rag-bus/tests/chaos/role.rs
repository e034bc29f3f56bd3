//! Proxies and workers in processes of their own, and what happens to them.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rag_bus::envelope::Hello;
use rag_bus::worker::{self, Service, Sink, WorkerSettings};
use rag_bus::{Endpoint, Proxy, ProxySettings, Request, Security, Value};
use rag_core::{Error, Result};

const HEARTBEAT: Duration = Duration::from_millis(250);
/// A request takes at most so long.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(8);
/// Parts of a streamed answer.
pub(crate) const PARTS: u64 = 8;

/// A child process; dropping it kills it.
pub(crate) struct Role(Child);

impl Drop for Role {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Role {
    pub(crate) fn proxy(dir: &Path) -> Role {
        Role::start(dir, "proxy")
    }

    pub(crate) fn worker(dir: &Path, at: usize) -> Role {
        Role::start(dir, &format!("worker-{at}"))
    }

    fn start(dir: &Path, name: &str) -> Role {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "role"]).stdout(Stdio::null());
        command.env("RAG_CHAOS_ROLE", name).env("RAG_CHAOS_DIR", dir);
        Role(command.spawn().unwrap())
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// As an orderly stop does; it must end well.
    pub(crate) fn end(&mut self) {
        self.signal("TERM");
        // One that was told before it could listen is ended by the signal itself.
        let _ = self.0.wait().unwrap();
    }

    pub(crate) fn freeze(&mut self) {
        self.signal("STOP");
    }

    pub(crate) fn thaw_and_kill(mut self) {
        self.signal("CONT");
        self.kill();
    }

    fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    pub(crate) fn memory_kib(&self) -> Option<u64> {
        memory_kib(self.0.id())
    }
}

/// Resident memory of a process.
pub(crate) fn memory_kib(id: u32) -> Option<u64> {
    let status = fs_err::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

pub(crate) fn end(dir: &Path, name: &str) -> Endpoint {
    format!("ipc://{}", dir.join(name).display()).parse().unwrap()
}

/// What the environment says; ends with SIGTERM.
pub(crate) fn run() {
    let Ok(name) = std::env::var("RAG_CHAOS_ROLE") else { return };
    let dir = std::env::var_os("RAG_CHAOS_DIR").unwrap();
    let dir = Path::new(&dir);
    let (front, back) = (end(dir, "front"), end(dir, "back"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        let stop = async move {
            term.recv().await;
        };
        if name == "proxy" {
            proxy(front, back, stop).await;
        } else {
            let security = Security::default();
            let settings = WorkerSettings { back, security, heartbeat: HEARTBEAT, drain: TIMEOUT };
            worker::serve(Arc::new(Sums { name }), settings, stop).await.unwrap();
        }
    });
}

async fn proxy(front: Endpoint, back: Endpoint, stop: impl Future<Output = ()>) {
    let settings = ProxySettings {
        service: "sums".to_owned(),
        front,
        back,
        queue_max: 1024,
        queue_bytes_max: 64 << 20,
        request_timeout: TIMEOUT,
        worker_wait: TIMEOUT,
        heartbeat: HEARTBEAT,
        drain: Duration::from_secs(1),
        security: Security::default(),
    };
    Proxy::bind(settings).await.unwrap().run(stop).await;
}

/// The answer to a number: nobody gets it right by chance, or by another's answer.
pub(crate) fn sum(number: u64) -> u64 {
    (number ^ 0x5bd1_e995_9e37_79b9).wrapping_mul(0x2545_F491_4F6C_DD1D).rotate_left(23)
}

struct Sums {
    name: String,
}

fn asked(value: Option<&Value>) -> Result<u64> {
    let number = value.and_then(Value::as_int).and_then(|number| u64::try_from(number).ok());
    number.ok_or_else(|| Error::invalid("no number"))
}

/// Some requests take their time.
async fn work(number: u64) {
    if number.is_multiple_of(7) {
        tokio::time::sleep(Duration::from_millis(number % 31)).await;
    }
}

#[async_trait]
impl Service for Sums {
    fn hello(&self) -> Hello {
        Hello { service: "sums".to_owned(), capacity: 16, name: self.name.clone() }
    }

    async fn legacy(&self, request: Request) -> Result<Value> {
        let number = asked(request.field("number"))?;
        work(number).await;
        Ok(sum(number).into())
    }

    async fn call(&self, operation: &str, arguments: &Value, sink: &mut Sink) -> Result<Value> {
        let number = asked(Some(arguments))?;
        if operation == "stream" {
            for part in 0..PARTS {
                sink.chunk(&sum(number + part).into());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        work(number).await;
        Ok(sum(number).into())
    }
}
