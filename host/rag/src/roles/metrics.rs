//! The proxies' numbers in Prometheus' text format, over the least of HTTP: any GET gets the page.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use rag_bus::exchange::Stats;
use rag_bus::proxy::Watch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Bytes of a request's head; what does not fit is not Prometheus.
const HEAD_BYTES_MAX: usize = 8 << 10;
const TIME_MAX: Duration = Duration::from_secs(5);

/// Name, help and number of a series; counters end in `_total`.
type Series = (&'static str, &'static str, fn(&Stats) -> u64);

const SERIES: &[Series] = &[
    ("requests_total", "Requests taken.", |s| s.requests),
    ("answered_total", "Requests that a worker answered.", |s| s.answered),
    ("refused_total", "Requests refused because the queue was full or the proxy stopping.", |s| s.refused),
    ("malformed_total", "Messages that made no sense.", |s| s.malformed),
    ("retried_total", "Requests given to a second worker because the first one died.", |s| s.retried),
    ("timed_out_total", "Requests that took too long.", |s| s.timed_out),
    ("lost_total", "Requests answered with an error because their worker died.", |s| s.lost),
    ("open", "Requests under way.", |s| s.open as u64),
    ("waiting", "Of these, waiting for a worker.", |s| s.waiting as u64),
    ("workers", "Workers connected.", |s| s.workers as u64),
];

/// The address, and what answers there as long as it runs; one scrape at a time.
pub(super) async fn bind(
    listen: &str,
    watches: Vec<Watch>,
) -> Result<(SocketAddr, impl Future<Output = ()> + Send + 'static)> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("bus.metrics_listen {listen}"))?;
    let address = listener.local_addr()?;
    let serving = async move {
        while let Ok((stream, _)) = listener.accept().await {
            let numbers: Vec<(String, Stats)> =
                watches.iter().map(|watch| (watch.service().to_owned(), watch.stats())).collect();
            let _ = tokio::time::timeout(TIME_MAX, answer(stream, page(&numbers))).await;
        }
    };
    Ok((address, serving))
}

async fn answer(mut stream: TcpStream, page: String) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > HEAD_BYTES_MAX || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let (status, body) =
        if head.starts_with(b"GET ") { ("200 OK", page) } else { ("405 Method Not Allowed", String::new()) };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

fn page(numbers: &[(String, Stats)]) -> String {
    let mut page = String::new();
    for (name, help, number) in SERIES {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        let _ = writeln!(page, "# HELP rwkv_rag_bus_{name} {help}\n# TYPE rwkv_rag_bus_{name} {kind}");
        for (service, stats) in numbers {
            let _ = writeln!(page, "rwkv_rag_bus_{name}{{service=\"{service}\"}} {}", number(stats));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_has_its_numbers() {
        let stats = Stats { requests: 7, workers: 2, ..Stats::default() };
        let page = page(&[("llm".to_owned(), stats), ("index".to_owned(), Stats::default())]);
        for line in [
            "# TYPE rwkv_rag_bus_requests_total counter",
            "rwkv_rag_bus_requests_total{service=\"llm\"} 7",
            "rwkv_rag_bus_requests_total{service=\"index\"} 0",
            "rwkv_rag_bus_workers{service=\"llm\"} 2",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
    }
}
