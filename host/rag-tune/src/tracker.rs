//! Who follows trainings elsewhere, and what it is told.

use std::fmt::Debug;

use rag_core::ports::{TuneJob, TunePoint};
use serde_json::{Map, Value, json};

use crate::settings::Kept;

/// Is told of trainings as they go. It must not block and cannot fail them: what it does not bring to its place is its
/// own affair, and the job's files have it all.
pub trait Tracker: Debug + Send + Sync {
    /// A training begins, or goes on after `job.step` updates.
    fn begin(&self, job: &TuneJob);

    /// The next update of `job`.
    fn point(&self, job: &str, point: &TunePoint);

    /// The training has ended: done, stopped by a person, or failed.
    fn end(&self, job: &str, end: End);
}

/// How a training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Done,
    Stopped,
    Failed,
}

impl End {
    /// As processes say it: 0 is success, 255 a stop by a person.
    pub fn exit_code(self) -> u8 {
        match self {
            End::Done => 0,
            End::Failed => 1,
            End::Stopped => 255,
        }
    }
}

/// What was set, for people who compare trainings: the settings by name, base and data.
pub fn config(job: &TuneJob) -> Map<String, Value> {
    let mut config = match serde_json::to_value(Kept::from(&job.request.settings)) {
        Ok(Value::Object(settings)) => settings,
        _ => Map::new(),
    };
    config.insert("base".to_owned(), job.request.base.as_deref().into());
    config.insert("dataset".to_owned(), job.request.dataset.as_str().into());
    config.insert("trained_values".to_owned(), job.estimate.trained_values.into());
    config
}

/// An update's numbers by the names that curves have, its time counted from `start_ms`.
pub fn values(point: &TunePoint, start_ms: i64) -> [(&'static str, Value); 9] {
    [
        ("loss", json!(point.loss)),
        ("lr", json!(point.lr)),
        ("gradient_norm", json!(point.gradient_norm)),
        ("tokens", json!(point.tokens)),
        ("tokens_per_s", json!(point.tokens_per_s)),
        ("memory_bytes", json!(point.memory_bytes)),
        ("_step", json!(point.step)),
        ("_timestamp", json!(point.time_ms as f64 / 1_000.0)),
        ("_runtime", json!((point.time_ms - start_ms).max(0) as f64 / 1_000.0)),
    ]
}
