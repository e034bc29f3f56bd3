//! How a job stands on disk: `job.json`, replaced whole, and `points.jsonl`, one update a line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;

use rag_core::Result;
use rag_core::ports::{TuneEstimate, TuneJob, TunePoint, TuneRequest, TuneState};
use serde::{Deserialize, Serialize};

use crate::files::{replace, storage};
use crate::settings::Kept;

const JOB: &str = "job.json";
const POINTS: &str = "points.jsonl";

#[derive(Serialize, Deserialize)]
struct JobFile {
    id: String,
    name: String,
    base: Option<String>,
    dataset: String,
    settings: Kept,
    /// `queued`, `running`, `stopped`, `done` or `failed`.
    state: String,
    error: Option<String>,
    step: u64,
    steps: u64,
    last: Option<PointLine>,
    memory_bytes: u64,
    available_bytes: Option<u64>,
    trained_values: u64,
    created_ms: i64,
    updated_ms: i64,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct PointLine {
    step: u64,
    loss: f64,
    lr: f64,
    gradient_norm: f64,
    tokens: u64,
    tokens_per_s: f64,
    memory_bytes: u64,
    time_ms: i64,
}

/// Every job of the folder. One that cannot be read is left out, and said so.
pub(super) fn all(dir: &Path) -> Result<Vec<TuneJob>> {
    let mut jobs = Vec::new();
    for entry in fs_err::read_dir(dir).map_err(|e| storage(dir, e))? {
        let path = entry.map_err(|e| storage(dir, e))?.path();
        let file = path.join(JOB);
        let read = fs_err::read(&file).map_err(|e| e.to_string());
        match read.and_then(|bytes| serde_json::from_slice::<JobFile>(&bytes).map_err(|e| e.to_string())) {
            Ok(kept) => jobs.push(job(kept, &path)),
            Err(error) => tracing::warn!(path = %file.display(), error, "not a tuning job"),
        }
    }
    Ok(jobs)
}

pub(super) fn write(dir: &Path, job: &TuneJob) -> Result<()> {
    let (state, error) = match &job.state {
        TuneState::Queued => ("queued", None),
        TuneState::Running => ("running", None),
        TuneState::Stopped => ("stopped", None),
        TuneState::Done => ("done", None),
        TuneState::Failed(error) => ("failed", Some(error.clone())),
    };
    let TuneJob { id, request, step, steps, last, estimate, created_ms, updated_ms, .. } = job.clone();
    let kept = JobFile {
        id,
        name: request.name,
        base: request.base,
        dataset: request.dataset,
        settings: (&request.settings).into(),
        state: state.to_owned(),
        error,
        step,
        steps,
        last: last.map(line),
        memory_bytes: estimate.memory_bytes,
        available_bytes: estimate.available_bytes,
        trained_values: estimate.trained_values,
        created_ms,
        updated_ms,
    };
    let path = dir.join(JOB);
    replace(&path, |file| serde_json::to_writer_pretty(file, &kept).map_err(|e| storage(&path, e)))
}

fn job(kept: JobFile, dir: &Path) -> TuneJob {
    TuneJob {
        id: kept.id,
        request: TuneRequest {
            name: kept.name,
            base: kept.base,
            dataset: kept.dataset,
            settings: (&kept.settings).into(),
        },
        state: match kept.state.as_str() {
            "queued" => TuneState::Queued,
            "running" => TuneState::Running,
            "stopped" => TuneState::Stopped,
            "done" => TuneState::Done,
            _ => TuneState::Failed(kept.error.unwrap_or_default()),
        },
        step: kept.step,
        steps: kept.steps,
        last: kept.last.map(point),
        estimate: TuneEstimate {
            memory_bytes: kept.memory_bytes,
            available_bytes: kept.available_bytes,
            trained_values: kept.trained_values,
            steps: kept.steps,
        },
        outputs: outputs(dir),
        created_ms: kept.created_ms,
        updated_ms: kept.updated_ms,
    }
}

/// Names of the results and their sidecars, oldest first.
pub(super) fn outputs(dir: &Path) -> Vec<String> {
    let entries = fs_err::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<(std::time::SystemTime, String)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let ours = ["rwkv-", "merged-", "init_pissa"].iter().any(|start| name.starts_with(start));
            let made = entry.metadata().ok()?.modified().ok()?;
            (ours && !name.ends_with(".part")).then_some((made, name))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, name)| name).collect()
}

/// Appends one update.
pub(super) fn append(dir: &Path, now: &TunePoint) -> Result<()> {
    let path = dir.join(POINTS);
    let mut text = serde_json::to_string(&line(*now)).map_err(|e| storage(&path, e))?;
    text.push('\n');
    let file = fs_err::OpenOptions::new().create(true).append(true).open(&path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|e| storage(&path, e))
}

/// Drops updates after a step: they are done again.
pub(super) fn cut(dir: &Path, step: u64) -> Result<()> {
    let path = dir.join(POINTS);
    if !path.is_file() {
        return Ok(());
    }
    let kept = points(dir, 0, usize::MAX)?;
    replace(&path, |file| {
        for point in kept.iter().filter(|point| point.step <= step) {
            serde_json::to_writer(&mut *file, &line(*point)).map_err(|e| storage(&path, e))?;
            file.write_all(b"\n").map_err(|e| storage(&path, e))?;
        }
        Ok(())
    })
}

/// Updates after a step. A line that was cut short by the process's end is no update.
pub(super) fn points(dir: &Path, after: u64, limit: usize) -> Result<Vec<TunePoint>> {
    let path = dir.join(POINTS);
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let file = fs_err::File::open(&path).map_err(|e| storage(&path, e))?;
    let lines = BufReader::new(file).lines().map_while(|line| line.ok());
    let read = lines.filter_map(|line| serde_json::from_str::<PointLine>(&line).ok());
    Ok(read.filter(|line| line.step > after).take(limit).map(point).collect())
}

fn line(p: TunePoint) -> PointLine {
    let TunePoint { step, loss, lr, gradient_norm, tokens, tokens_per_s, memory_bytes, time_ms } = p;
    PointLine { step, loss, lr, gradient_norm, tokens, tokens_per_s, memory_bytes, time_ms }
}

fn point(p: PointLine) -> TunePoint {
    let PointLine { step, loss, lr, gradient_norm, tokens, tokens_per_s, memory_bytes, time_ms } = p;
    TunePoint { step, loss, lr, gradient_norm, tokens, tokens_per_s, memory_bytes, time_ms }
}
