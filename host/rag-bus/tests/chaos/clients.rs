//! Clients that ask all the time and know what the answer must be.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rag_bus::{Client, ClientEvent, ClientSettings, Repeat, Request, Security, Value};
use rag_core::{ErrorCode, Result};

use crate::random::Random;
use crate::role::{PARTS, TIMEOUT, end, sum};

/// Beyond its own time a request is one without an answer.
const PATIENCE: Duration = Duration::from_secs(12);

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) stop: AtomicBool,
    /// Requests that ended in any way.
    pub(crate) ended: AtomicU64,
    pub(crate) values: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) wrong: AtomicU64,
    pub(crate) unanswered: AtomicU64,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of = |count: &AtomicU64| count.load(Ordering::SeqCst);
        write!(
            f,
            "{} answers: {} right, {} errors, {} wrong, {} missing",
            of(&self.ended),
            of(&self.values),
            of(&self.errors),
            of(&self.wrong),
            of(&self.unanswered)
        )
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) dir: PathBuf,
    pub(crate) seed: u64,
    pub(crate) counts: Arc<Counts>,
}

fn connect(settings: &Settings) -> Client {
    Client::start(ClientSettings {
        front: end(&settings.dir, "front"),
        security: Security::default(),
        heartbeat: Duration::from_millis(250),
        timeout: TIMEOUT,
    })
    .unwrap()
}

/// Asks until it is told to stop.
pub(crate) async fn ask(settings: Settings, number: u64) {
    let (client, counts) = (connect(&settings), &settings.counts);
    let mut random = Random::new((settings.seed << 8) | (number + 1));
    while !counts.stop.load(Ordering::SeqCst) {
        let asked = random.next() >> 1;
        let answer = tokio::time::timeout(PATIENCE, one(&client, random.below(4), asked)).await;
        let count = match answer {
            Ok(Ok(true)) => &counts.values,
            Ok(Ok(false)) => &counts.wrong,
            Ok(Err(error)) => {
                // RWKV-RAG's envelope has one kind of error; ours says that it may be tried again.
                let clear = matches!(
                    error.code(),
                    ErrorCode::Unavailable | ErrorCode::Timeout | ErrorCode::Quota | ErrorCode::InvalidInput
                );
                if clear { &counts.errors } else { &counts.wrong }
            }
            Err(_) => &counts.unanswered,
        };
        count.fetch_add(1, Ordering::SeqCst);
        counts.ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// Whether one request was answered rightly.
async fn one(client: &Client, how: u64, asked: u64) -> Result<bool> {
    let right = Value::from(sum(asked));
    let number = Value::from(asked);
    match how {
        // Safe to repeat by its name, and not.
        0 => Ok(client.legacy(&Request::new("GET_EMBEDDINGS").with("number", number)).await? == right),
        1 => Ok(client.legacy(&Request::new("SOMETHING").with("number", number)).await? == right),
        2 => Ok(client.call("sum", number, Repeat::Safe).await? == right),
        _ => {
            let mut events = client.stream("stream", number, Repeat::Safe, PARTS as usize + 1).await?;
            let mut part = 0;
            loop {
                match events.next().await {
                    Some(Ok(ClientEvent::Chunk(value))) if value == Value::from(sum(asked + part)) => {
                        part += 1
                    }
                    Some(Ok(ClientEvent::Reply(value))) => return Ok(value == right && part == PARTS),
                    Some(Err(error)) => return Err(error),
                    _ => return Ok(false),
                }
            }
        }
    }
}

/// Each client gets right answers, at the latest after its connection came back.
pub(crate) async fn all_well(settings: &Settings, clients: u64) {
    for number in 0..clients {
        let client = connect(settings);
        let answer = tokio::time::timeout(PATIENCE, one(&client, 2, number)).await;
        assert!(matches!(answer, Ok(Ok(true))), "client {number} at the end: {answer:?}");
    }
}
