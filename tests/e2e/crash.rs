//! A power cut in the middle of an ingest: the next start completes the job, with the very same index.

use reqwest::Method;
use serde_json::Value;

use crate::host::{Data, Events, Host};

/// A document of several sections, long enough to be met at work.
fn document() -> String {
    let section = |i: usize| {
        format!(
            "# 第 {i} 章\n\n本章第 {i} 段说明编号为 {n} 的部件怎样安装与维护。先断开电源，再取下外壳，然后更换编号 {n} 的滤芯。\n\nPart {n} is replaced every {i} months. Keep the spare part dry and note its date in the log.\n",
            n = i * 37
        )
    };
    (1..=200).map(section).collect::<Vec<_>>().join("\n")
}

/// Waits until the job has come so far; it must not have ended by then.
async fn until(host: &Host, job: &Value, percent: u64) {
    let path = format!("/api/v1/jobs/{}/events", job["id"].as_str().unwrap());
    let mut events = Events::open(host.request(Method::GET, &path)).await;
    while let Some((name, state)) = events.next().await {
        assert_eq!(name, "progress", "the document is too short for this test: {state}");
        if state["percent"].as_u64().unwrap() >= percent {
            return;
        }
    }
}

#[tokio::test]
async fn killed_anywhere_then_a_restart_completes_with_the_same_index() {
    let mut data = Data::new();
    let host = data.start();
    let done = host.ingest("initial", "parts.md", document()).await;
    assert_eq!(done["state"], "done", "{done}");
    let undisturbed = host.index("initial").await;
    host.stop();

    for percent in [0, 1, 30, 60] {
        let mut data = Data::new();
        let host = data.start();
        let job = host.upload("initial", "parts.md", document()).await;
        until(&host, &job, percent).await;
        host.kill();
        let host = data.start();
        let end = host.follow(&job).await.pop().unwrap();
        assert_eq!(end["state"], "done", "killed at {percent} %: {end}");
        assert_eq!(host.index("initial").await, undisturbed, "killed at {percent} %");
        host.stop();
    }
}
