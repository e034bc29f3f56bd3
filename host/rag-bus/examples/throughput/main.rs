//! Messages a second and latency of the proxy, beside libzmq's own proxy under the same load in the same run.
//!
//! The proxy under test is a process of its own; clients and workers are one thread here that speaks ZMTP with as few
//! system calls as it can, so that both cores go to the proxy where it wants them. `BENCHMARKS.md` has the results:
//!
//! `cargo run --release -p rag-bus --example throughput -- [PYTHON WITH PYZMQ] [SECONDS A FIGURE]`

#![expect(clippy::print_stdout, reason = "a table is what it is for")]
#![expect(clippy::expect_used, reason = "a benchmark that cannot run ends")]

mod peer;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use peer::Shape;
use rag_bus::{Endpoint, Proxy, ProxySettings, Security};

/// libzmq's proxy as RWKV-RAG starts it, with high-water marks that drop nothing.
const LIBZMQ: &str = "import sys, zmq
c = zmq.Context()
f, b = c.socket(zmq.ROUTER), c.socket(zmq.DEALER)
for s in (f, b): s.setsockopt(zmq.SNDHWM, 0); s.setsockopt(zmq.RCVHWM, 0)
f.bind(sys.argv[1]); b.bind(sys.argv[2])
zmq.proxy(f, b)";
const SMALL: usize = 100;
const LARGE: usize = 1 << 20;
const FIGURES: [&str; 5] = ["messages/s", "one by one/s", "MB/s", "p50 µs", "p99 µs"];

/// A process that is killed when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, front, back] = &arguments[..]
        && command == "proxy"
    {
        return proxy(front, back);
    }
    let python = arguments.first().map_or("python3", String::as_str);
    let seconds = arguments.get(1).and_then(|text| text.parse().ok()).unwrap_or(3.0);
    let time = Duration::from_secs_f64(seconds);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    println!("{SMALL} bytes a request and an answer, {LARGE} for MB/s; {seconds} s a figure");
    let dir = std::env::temp_dir().join(format!("rag-bus-throughput-{}", std::process::id()));
    fs_err::create_dir_all(&dir).expect("a folder for sockets");
    for transport in ["ipc", "tcp"] {
        let end = |name: &str, port: u16| match transport {
            "ipc" => format!("ipc://{}", dir.join(name).display()),
            _ => format!("tcp://127.0.0.1:{port}"),
        };
        let direct = runtime.block_on(peer::direct(&end("direct", 18_779), time)).expect("free sockets");
        println!("\n{transport}: without a proxy p50 {:.0} µs, p99 {:.0} µs", direct[0], direct[1]);
        println!("{:10}{}", "proxy", FIGURES.map(|name| format!("{name:>14}")).concat());
        let mut rows = Vec::new();
        for (name, port) in [("rag-bus", 18_781), ("libzmq", 18_783)] {
            let (front, back) = (end(&format!("{name}-front"), port), end(&format!("{name}-back"), port + 1));
            let _running = start(name, python, &front, &back);
            let figures = runtime.block_on(measure([&front, &back], name == "rag-bus", time));
            println!("{name:10}{}", figures.map(|figure| format!("{figure:14.0}")).concat());
            rows.push(figures);
        }
        let ratio = |at: usize| format!("{:14.2}", rows[0][at] / rows[1][at]);
        println!("{:10}{}", "ratio", (0..FIGURES.len()).map(ratio).collect::<String>());
        println!(
            "added at p50: rag-bus {:.0} µs, libzmq {:.0} µs",
            rows[0][3] - direct[0],
            rows[1][3] - direct[0]
        );
    }
    let _ = fs_err::remove_dir_all(dir);
}

fn start(name: &str, python: &str, front: &str, back: &str) -> Running {
    let mut command = match name {
        "rag-bus" => {
            let mut command =
                Command::new(std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe")));
            command.arg("proxy");
            command
        }
        _ => {
            let mut command = Command::new(python);
            command.args(["-c", LIBZMQ]);
            command
        }
    };
    let child = command.args([front, back]).stdout(Stdio::null()).spawn();
    Running(child.expect("the proxy starts: is pyzmq there?"))
}

/// The figures of one proxy.
async fn measure(ends: [&str; 2], ours: bool, time: Duration) -> [f64; 5] {
    let rate = |count: u64, since: Instant| count as f64 / since.elapsed().as_secs_f64();
    // Four clients with 128 requests under way each, two workers that take them as they come.
    let pipelined = Shape { clients: 4, workers: 2, window: 128, bytes: SMALL, rep: false, ours };
    // As RWKV-RAG's clients and workers do: one request at a time each.
    let one_by_one = Shape { clients: 32, workers: 32, window: 1, bytes: SMALL, rep: true, ours };
    let large = Shape { clients: 2, workers: 2, window: 2, bytes: LARGE, rep: false, ours };
    let mut figures = [0.0; 5];
    for (at, shape) in [pipelined, one_by_one, large].into_iter().enumerate() {
        let load = peer::Load::start(ends, shape).await;
        let before = (load.answered(), Instant::now());
        tokio::time::sleep(time).await;
        figures[at] = rate(load.answered() - before.0, before.1);
    }
    // There and back.
    figures[2] *= 2.0 * LARGE as f64 / 1e6;
    let single = Shape { clients: 1, workers: 1, window: 1, bytes: SMALL, rep: false, ours };
    let load = peer::Load::start(ends, single).await;
    tokio::time::sleep(time).await;
    let [p50, p99] = load.percentiles();
    figures[3] = p50;
    figures[4] = p99;
    figures
}

/// The process under test.
fn proxy(front: &str, back: &str) {
    let end = |text: &str| text.parse::<Endpoint>().expect("an endpoint");
    let settings = ProxySettings {
        service: "s".to_owned(),
        front: end(front),
        back: end(back),
        queue_max: 1 << 16,
        queue_bytes_max: 1 << 30,
        request_timeout: Duration::from_secs(60),
        worker_wait: Duration::from_secs(60),
        heartbeat: Duration::from_secs(2),
        drain: Duration::ZERO,
        security: Security::default(),
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let proxy = Proxy::bind(settings).await.expect("free sockets");
        proxy.run(std::future::pending()).await;
    });
}
