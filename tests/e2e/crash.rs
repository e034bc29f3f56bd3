//! A power cut in the middle of an ingest: the next start completes the job, with the very same index.

use reqwest::Method;
use serde_json::Value;

use crate::host::{Data, Events, Host, root};

/// A document of several sections, long enough to be met at work.
fn document() -> String {
    sections(200)
}

fn sections(count: usize) -> String {
    let section = |i: usize| {
        format!(
            "# 第 {i} 章\n\n本章第 {i} 段说明编号为 {n} 的部件怎样安装与维护。先断开电源，再取下外壳，然后更换编号 {n} 的滤芯。\n\nPart {n} is replaced every {i} months. Keep the spare part dry and note its date in the log.\n",
            n = i * 37
        )
    };
    (1..=count).map(section).collect::<Vec<_>>().join("\n")
}

/// Waits until the job has come so far; whether it had not ended by then.
async fn until(host: &Host, job: &Value, percent: u64) -> bool {
    let path = format!("/api/v1/jobs/{}/events", job["id"].as_str().unwrap());
    let mut events = Events::open(host.request(Method::GET, &path)).await;
    while let Some((name, state)) = events.next().await {
        if name != "progress" {
            return false;
        }
        if state["percent"].as_u64().unwrap() >= percent {
            return true;
        }
    }
    false
}

/// One document of each kind, most of them long enough to be met at work.
fn mixed() -> Vec<(&'static str, Vec<u8>)> {
    let rows = (0..200).map(|i| format!("{i},第 {i} 号部件,Part {i},{}\n", i % 7));
    let html = (0..60).map(|i| {
        format!("<h2>Chapter {i}</h2><p>第 {i} 章：部件 {i} 的安装。Part {i} is checked daily.</p>")
    });
    let file = |name: &str| fs_err::read(root().join("tests/e2e/fixtures").join(name)).unwrap();
    vec![
        ("parts.md", sections(100).into_bytes()),
        ("青石港手册.pdf", file("青石港手册.pdf")),
        ("parts.csv", ("number,名称,name,shelf\n".to_owned() + &rows.collect::<String>()).into_bytes()),
        ("parts.html", format!("<html><body>{}</body></html>", html.collect::<String>()).into_bytes()),
        ("notes.txt", sections(100).replace('#', "").into_bytes()),
    ]
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
        assert!(until(&host, &job, percent).await, "the document is too short for this test");
        host.kill();
        let host = data.start();
        let end = host.follow(&job).await.pop().unwrap();
        assert_eq!(end["state"], "done", "killed at {percent} %: {end}");
        assert_eq!(host.index("initial").await, undisturbed, "killed at {percent} %");
        host.stop();
    }
}

/// Points spread over five documents that wait and run together. A hundred take many minutes, in five parts of twenty
/// that have no point in common: `KILLS=20 SEED=0 cargo test --workspace --test e2e -- --nocapture mixed`, then 1 to 4.
#[tokio::test]
async fn killed_at_many_points_of_a_mixed_ingest_the_index_is_the_same() {
    let given = |name: &str| std::env::var(name).ok().map(|number| number.parse::<usize>().unwrap());
    let (kills, seed) = (given("KILLS").unwrap_or(2), given("SEED").unwrap_or(0));
    let mut data = Data::new();
    let host = data.start();
    for (name, bytes) in mixed() {
        let done = host.ingest("initial", name, bytes).await;
        assert_eq!(done["state"], "done", "{done}");
    }
    let undisturbed = host.index("initial").await;
    host.stop();

    let mut met = 0;
    for kill in 0..kills {
        // A hundred places: five documents at each twentieth of their way.
        let point = (kill * 100 / kills + seed) % 100;
        let mut data = Data::new();
        let host = data.start();
        let mut jobs = Vec::new();
        for (name, bytes) in mixed() {
            jobs.push(host.upload("initial", name, bytes).await);
        }
        let (document, percent) = (point % jobs.len(), point / jobs.len() * 5);
        met += u32::from(until(&host, &jobs[document], percent as u64).await);
        host.kill();
        let host = data.start();
        for job in &jobs {
            let end = host.follow(job).await.pop().unwrap();
            assert_eq!(end["state"], "done", "point {point}: {end}");
        }
        assert_eq!(host.index("initial").await, undisturbed, "point {point}");
        host.stop();
    }
    println!(
        "seed {seed}: killed at {kills} points, {met} of them in the middle of the document that was watched; \
         the index was the same each time"
    );
}
