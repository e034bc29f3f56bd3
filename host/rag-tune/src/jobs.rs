//! Tuning jobs: queued, one at a time, stopped, resumed, and still there after the process was killed.
//!
//! A job is a folder: `job.json` says what it is and how it stands, `points.jsonl` holds its curves, beside them lie
//! its checkpoints and results. What was running when the process ended is queued again at the next start and goes on
//! from its last checkpoint.

mod curves;
mod data;
mod kept;
mod run;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rag_core::ports::{
    Tune, TuneDataset, TuneEstimate, TuneJob, TuneMethod, TunePair, TunePoint, TunePreview, TuneRequest,
    TuneSettings, TuneState,
};
use rag_core::{Error, Result};
use rag_engine::checkpoint;
use rag_engine::rwkv::Config;
use rag_engine::tokenizer::Tokenizer;

use crate::device::Place;
use crate::files::storage;
use crate::tracker::Tracker;
use crate::training::now_ms;
use crate::{estimate, merge, settings, training};

/// Jobs that are kept, finished ones included.
const JOBS_MAX: usize = 1_000;
/// A name of a job for people, in bytes.
const NAME_BYTES_MAX: usize = 200;
/// Points of one answer.
const POINTS_MAX: u32 = 10_000;

/// Where things are and how much may happen.
#[derive(Debug, Clone)]
pub struct TunerConfig {
    /// Data sets and jobs.
    pub dir: PathBuf,
    /// Base models.
    pub models: PathBuf,
    /// The model that answers: the base when a request names none.
    pub base: PathBuf,
    pub vocabulary: PathBuf,
    /// What trains. A GPU is shared with what answers: a training gets what is free when it starts, or is refused.
    pub place: Place,
    /// Jobs that wait at most.
    pub queue_max: usize,
    /// Project of the folders that wandb's client can upload; none writes none.
    pub wandb: Option<String>,
    /// Who follows trainings elsewhere.
    pub tracker: Option<Arc<dyn Tracker>>,
}

/// Trains in this process. Dropping it ends its thread: a running job writes a checkpoint first and goes on at the
/// next start.
#[derive(Debug)]
pub struct Tuner {
    shared: Arc<Shared>,
    worker: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    config: TunerConfig,
    tokenizer: Tokenizer,
    jobs: Mutex<BTreeMap<String, Entry>>,
    /// A job was queued, or the end has come.
    wake: Condvar,
    ending: AtomicBool,
}

#[derive(Debug)]
struct Entry {
    job: TuneJob,
    stop: Arc<AtomicBool>,
}

impl Tuner {
    /// Reads what is there and starts the thread that trains.
    pub fn open(config: TunerConfig) -> Result<Arc<Self>> {
        for folder in ["datasets", "jobs"] {
            let folder = config.dir.join(folder);
            fs_err::create_dir_all(&folder).map_err(|e| storage(&folder, e))?;
        }
        let tokenizer = Tokenizer::load(&config.vocabulary)?;
        let mut jobs = BTreeMap::new();
        for mut job in kept::all(&config.dir.join("jobs"))? {
            if job.state == TuneState::Running {
                job.state = TuneState::Queued;
            }
            jobs.insert(job.id.clone(), Entry { job, stop: Arc::default() });
        }
        let shared = Arc::new(Shared {
            config,
            tokenizer,
            jobs: Mutex::new(jobs),
            wake: Condvar::new(),
            ending: AtomicBool::new(false),
        });
        let working = shared.clone();
        let worker = std::thread::Builder::new()
            .name("tuning".to_owned())
            .spawn(move || working.work())
            .map_err(|e| Error::Unavailable { message: format!("cannot start a thread: {e}") })?;
        Ok(Arc::new(Self { shared, worker: Some(worker) }))
    }
}

impl Drop for Tuner {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        let jobs = self.shared.jobs();
        jobs.values().for_each(|entry| entry.stop.store(true, Ordering::SeqCst));
        drop(jobs);
        self.shared.wake.notify_all();
        if let Some(worker) = self.worker.take() {
            // It catches what a training throws.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn jobs(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn job_dir(&self, id: &str) -> PathBuf {
        self.config.dir.join("jobs").join(id)
    }

    /// A base model's file: one of the models folder, or the one that answers.
    fn base(&self, name: Option<&str>) -> Result<PathBuf> {
        let Some(name) = name else { return Ok(self.config.base.clone()) };
        let unknown = || Error::NotFound { what: "model file", name: name.to_owned() };
        let folder =
            fs_err::canonicalize(&self.config.models).map_err(|e| storage(&self.config.models, e))?;
        let path = fs_err::canonicalize(folder.join(name)).map_err(|_| unknown())?;
        if path.starts_with(&folder) && path.is_file() { Ok(path) } else { Err(unknown()) }
    }

    fn sizes(&self, base: Option<&str>) -> Result<Config> {
        Config::read(&*checkpoint::open(&self.base(base)?)?)
    }

    fn estimate(&self, request: &TuneRequest, documents: u64) -> Result<TuneEstimate> {
        let checked = settings::check(&request.settings)?;
        let config = self.sizes(request.base.as_deref())?;
        let place = self.config.place;
        let steps = training::epoch_steps(&request.settings, documents) * u64::from(request.settings.epochs);
        Ok(TuneEstimate {
            memory_bytes: estimate::memory_bytes(&request.settings, checked.precision, &config, place),
            available_bytes: place.available_bytes()?,
            trained_values: estimate::trained_values(&request.settings, &config),
            steps,
        })
    }

    /// Changes a job and keeps the change; what cannot be kept is not changed.
    fn change(&self, id: &str, change: impl FnOnce(&mut Entry) -> Result<()>) -> Result<TuneJob> {
        let mut jobs = self.jobs();
        let entry = jobs.get_mut(id).ok_or_else(|| unknown_job(id))?;
        let before = entry.job.clone();
        change(entry)?;
        entry.job.updated_ms = now_ms();
        if let Err(error) = kept::write(&self.job_dir(id), &entry.job) {
            entry.job = before;
            return Err(error);
        }
        Ok(entry.job.clone())
    }
}

fn unknown_job(id: &str) -> Error {
    Error::NotFound { what: "tuning job", name: id.to_owned() }
}

impl Tune for Tuner {
    fn defaults(&self, base: Option<&str>, method: Option<TuneMethod>) -> Result<TuneSettings> {
        let config = self.shared.sizes(base)?;
        let place = self.shared.config.place;
        // State tuning is the least that changes how a model answers, and the quickest.
        let method = method.unwrap_or(TuneMethod::State);
        Ok(estimate::fitting(method, &config, place, place.available_bytes()?))
    }

    fn estimate(&self, request: &TuneRequest) -> Result<TuneEstimate> {
        let dataset = data::info(&self.shared.config.dir, &request.dataset)?;
        self.shared.estimate(request, dataset.documents)
    }

    fn datasets(&self) -> Result<Vec<TuneDataset>> {
        data::all(&self.shared.config.dir)
    }

    fn add_dataset(&self, name: &str, jsonl: &str) -> Result<TuneDataset> {
        self.refuse_while_needed(name, "replaced")?;
        data::add(&self.shared.config.dir, name, jsonl, &self.shared.tokenizer)
    }

    fn preview(&self, name: &str, limit: u32) -> Result<(TuneDataset, Vec<TunePreview>)> {
        let info = data::info(&self.shared.config.dir, name)?;
        Ok((info, data::preview(&self.shared.config.dir, name, limit, &self.shared.tokenizer)?))
    }

    fn convert(&self, name: &str, copies: u32, context_tokens: u32, seed: u64) -> Result<TunePair> {
        data::convert(&self.shared.config.dir, name, (copies, context_tokens, seed), &self.shared.tokenizer)
    }

    fn delete_dataset(&self, name: &str) -> Result<()> {
        self.refuse_while_needed(name, "deleted")?;
        data::delete(&self.shared.config.dir, name)
    }

    fn start(&self, request: &TuneRequest) -> Result<TuneJob> {
        let shared = &self.shared;
        if request.name.trim().is_empty() || request.name.len() > NAME_BYTES_MAX {
            return Err(Error::invalid(format!("a job's name has 1 to {NAME_BYTES_MAX} bytes")));
        }
        let dataset = data::info(&shared.config.dir, &request.dataset)?;
        let estimate = shared.estimate(request, dataset.documents)?;
        estimate::require(estimate.memory_bytes, estimate.available_bytes)?;
        let mut jobs = shared.jobs();
        let waiting = jobs.values().filter(|entry| entry.job.state == TuneState::Queued).count();
        if waiting >= shared.config.queue_max {
            return Err(Error::Busy { what: "tuning", limit: shared.config.queue_max });
        }
        if jobs.len() >= JOBS_MAX {
            return Err(Error::Conflict {
                message: format!("{JOBS_MAX} tuning jobs are kept; delete old ones"),
            });
        }
        let now = now_ms();
        // The number keeps ids apart that start in the same millisecond, and in order.
        let id = (0..).map(|n| format!("tune-{now:013}-{n}")).find(|id| !jobs.contains_key(id));
        let job = TuneJob {
            id: id.unwrap_or_default(),
            request: request.clone(),
            state: TuneState::Queued,
            step: 0,
            steps: estimate.steps,
            last: None,
            estimate,
            outputs: Vec::new(),
            created_ms: now,
            updated_ms: now,
        };
        let dir = shared.job_dir(&job.id);
        fs_err::create_dir_all(&dir).map_err(|e| storage(&dir, e))?;
        kept::write(&dir, &job)?;
        jobs.insert(job.id.clone(), Entry { job: job.clone(), stop: Arc::default() });
        drop(jobs);
        shared.wake.notify_all();
        Ok(job)
    }

    fn jobs(&self) -> Result<Vec<TuneJob>> {
        Ok(self.shared.jobs().values().rev().map(|entry| entry.job.clone()).collect())
    }

    fn job(&self, id: &str) -> Result<TuneJob> {
        self.shared.jobs().get(id).map(|entry| entry.job.clone()).ok_or_else(|| unknown_job(id))
    }

    fn stop(&self, id: &str) -> Result<TuneJob> {
        self.shared.change(id, |entry| {
            match entry.job.state {
                TuneState::Queued => entry.job.state = TuneState::Stopped,
                // The thread that trains says when it has stopped.
                TuneState::Running => entry.stop.store(true, Ordering::SeqCst),
                TuneState::Stopped | TuneState::Done | TuneState::Failed(_) => {
                    return Err(Error::Conflict { message: "this job does not run".to_owned() });
                }
            }
            Ok(())
        })
    }

    fn resume(&self, id: &str) -> Result<TuneJob> {
        let job = self.shared.change(id, |entry| match entry.job.state {
            TuneState::Stopped | TuneState::Failed(_) => {
                entry.job.state = TuneState::Queued;
                entry.stop.store(false, Ordering::SeqCst);
                Ok(())
            }
            TuneState::Queued | TuneState::Running | TuneState::Done => {
                Err(Error::Conflict { message: "only a stopped or failed job can go on".to_owned() })
            }
        })?;
        self.shared.wake.notify_all();
        Ok(job)
    }

    fn delete(&self, id: &str) -> Result<()> {
        let mut jobs = self.shared.jobs();
        let entry = jobs.get(id).ok_or_else(|| unknown_job(id))?;
        if entry.job.state == TuneState::Running {
            return Err(Error::Conflict { message: "this job runs; stop it first".to_owned() });
        }
        let dir = self.shared.job_dir(id);
        fs_err::remove_dir_all(&dir).map_err(|e| storage(&dir, e))?;
        jobs.remove(id);
        Ok(())
    }

    fn points(&self, id: &str, after: u64, limit: u32) -> Result<Vec<TunePoint>> {
        self.job(id)?;
        kept::points(&self.shared.job_dir(id), after, limit.min(POINTS_MAX) as usize)
    }

    fn output(&self, id: &str, name: &str) -> Result<PathBuf> {
        let job = self.job(id)?;
        // Only names that the job itself made: never a path.
        if !job.outputs.iter().any(|output| output == name) {
            return Err(Error::NotFound { what: "result of this job", name: name.to_owned() });
        }
        Ok(self.shared.job_dir(id).join(name))
    }

    fn merge(&self, id: &str) -> Result<String> {
        let job = self.job(id)?;
        let newest =
            job.outputs.iter().rev().find(|name| name.starts_with("rwkv-") && !name.ends_with(".json"));
        let Some(result) = newest else {
            return Err(Error::Conflict { message: "this job has no result yet".to_owned() });
        };
        let dir = self.shared.job_dir(id);
        let merged = format!("merged-{result}");
        let base = self.shared.base(job.request.base.as_deref())?;
        merge::merge(&base, &dir.join(result), &dir.join(&merged))?;
        self.shared.change(id, |entry| {
            entry.job.outputs = kept::outputs(&dir);
            Ok(())
        })?;
        Ok(merged)
    }
}

impl Tuner {
    /// A data set that a job needs stays as it is.
    fn refuse_while_needed(&self, dataset: &str, what: &str) -> Result<()> {
        let jobs = self.shared.jobs();
        let needs = |job: &TuneJob| {
            job.request.dataset == dataset && matches!(job.state, TuneState::Queued | TuneState::Running)
        };
        match jobs.values().find(|entry| needs(&entry.job)) {
            Some(entry) => Err(Error::Conflict {
                message: format!(
                    "the job '{}' needs this data set; it cannot be {what} now",
                    entry.job.request.name
                ),
            }),
            None => Ok(()),
        }
    }
}

/// A name that is one part of a path.
fn check_name(name: &str) -> Result<()> {
    let fine = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let whole = !name.is_empty() && name.len() <= 100 && !name.starts_with('.') && name.chars().all(fine);
    if whole {
        return Ok(());
    }
    Err(Error::invalid(
        "a data set's name has 1 to 100 bytes: letters, digits, '-', '_' and '.', which may not come first",
    ))
}

/// The file of a data set.
fn dataset_path(dir: &Path, name: &str) -> PathBuf {
    dir.join("datasets").join(format!("{name}.jsonl"))
}

#[cfg(test)]
mod tests;
