//! The tuning service: training data and training, as RWKV-RAG's clients ask for them.
//!
//! RWKV-RAG keeps a client waiting until the training has ended, longer than the client's own patience; here the answer
//! is the queued job, and `TUNING_JOB` tells how it stands.

mod settings;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use rag_core::ports::{Tune, TuneJob, TuneMethod, TuneRequest, TuneState};
use rag_core::{Error, Result};

use super::{flag, optional_text, text, unsupported, whole};
use crate::envelope::Hello;
use crate::value::Value;
use crate::wire::Request;
use crate::worker::{Service, Sink};

/// Copies of the data at most; RWKV-RAG's page offers 10.
const COPIES_MAX: u32 = 100;
const CONTEXT_MAX: u32 = 1 << 20;

/// A key that comes over the wire would be this machine's from then on: the operator sets it instead.
const NO_LOGIN: &str = "失败：wandb 密钥由管理员设置（tuning.tracker_key_file） / failed: the operator sets wandb's key (tuning.tracker_key_file)";
const NO_PROJECT: &str = "失败：wandb 项目由管理员设置（tuning.tracker_project） / failed: the operator sets wandb's project (tuning.tracker_project)";
/// Instead of a user's name, while trainings are told to wandb.
const KEY_IS_SET: &str = "已登录 / logged in by tuning.tracker_key_file";

/// How trainings are followed in wandb.
#[derive(Debug, Clone, Copy)]
pub struct Tracked<'a> {
    /// The project; none writes nothing for wandb.
    pub project: Option<&'a str>,
    /// Whether wandb is told as a training goes.
    pub live: bool,
}

/// Which files of this machine a request may name; no other is ever opened.
pub trait TuningFiles: Send + Sync {
    /// Lines of a jsonl file, by its path. `Denied` outside the permitted folders, and for what is not there.
    fn read(&self, path: &str) -> Result<String>;

    /// A base model as `Tune` knows it, by its name, file name or path. `Denied` for what is not registered.
    fn base(&self, name_or_path: &str) -> Result<String>;

    /// The data set that a binidx pair was made of, by the pair's path without its suffixes.
    fn dataset(&self, prefix: &str) -> Result<String>;

    /// A folder for pairs, by its path. `Denied` outside the service's own.
    fn folder(&self, path: &str) -> Result<PathBuf>;

    /// Copies a pair into such a folder; returns its new path without suffixes.
    fn place(&self, prefix: &Path, folder: &Path) -> Result<PathBuf>;

    /// Folder of what a job makes.
    fn job_dir(&self, job: &str) -> String;

    /// For `TUNING_CONFIG`; nothing secret.
    fn config(&self) -> Value;

    fn tracked(&self) -> Tracked<'_>;
}

/// Answers from what trains in this process.
#[expect(missing_debug_implementations, reason = "its parts are other crates")]
pub struct TuningService {
    pub name: String,
    /// Requests taken at once.
    pub capacity: u32,
    pub tune: Arc<dyn Tune>,
    pub files: Arc<dyn TuningFiles>,
}

#[async_trait]
impl Service for TuningService {
    fn hello(&self) -> Hello {
        Hello { service: "tuning".to_owned(), capacity: self.capacity, name: self.name.clone() }
    }

    async fn legacy(&self, request: Request) -> Result<Value> {
        let (tune, files) = (self.tune.clone(), self.files.clone());
        // Calls of the port block while they read and write.
        let work = tokio::task::spawn_blocking(move || answer(tune.as_ref(), files.as_ref(), &request));
        work.await.map_err(|_| Error::internal("the tuning service failed on this request"))?
    }

    async fn call(&self, operation: &str, _: &Value, _: &mut Sink) -> Result<Value> {
        Err(Error::Unsupported { message: format!("the tuning service has no operation '{operation}'") })
    }
}

fn answer(tune: &dyn Tune, files: &dyn TuningFiles, request: &Request) -> Result<Value> {
    match request.cmd.as_str() {
        "TUNING_CONFIG" => Ok(files.config()),
        "MAKE_DATA" => make_data(tune, files, request),
        "STATE_TUNING" => train(tune, files, TuneMethod::State, request),
        "LORA" => train(tune, files, TuneMethod::Lora, request),
        "PISSA" => train(tune, files, TuneMethod::Pissa, request),
        "TUNING_JOB" => Ok(shown(files, &tune.job(text(request, "job")?)?)),
        "TUNING_STOP" => Ok(shown(files, &tune.stop(text(request, "job")?)?)),
        "WANDB" => Ok(if files.tracked().live { KEY_IS_SET } else { "" }.into()),
        "WANDB_LIST_PROJECT" => {
            Ok(Value::Array(files.tracked().project.map(Value::from).into_iter().collect()))
        }
        // RWKV-RAG tells success and failure alike as a text.
        "WANDB_LOGIN" => text(request, "api_key").map(|_| NO_LOGIN.into()),
        "WANDB_ADD_PROJECT" => text(request, "project_name").map(|_| NO_PROJECT.into()),
        _ => Err(unsupported()),
    }
}

/// Keeps the texts as a data set and writes it as a binidx pair; answers the pair's path without its suffixes.
fn make_data(tune: &dyn Tune, files: &dyn TuningFiles, request: &Request) -> Result<Value> {
    let copies = whole(request, "n_epoch", 3, 1..=COPIES_MAX)?;
    let context_tokens = whole(request, "context_len", 1024, 1..=CONTEXT_MAX)?;
    let folder = optional_text(request, "output_path")?.map(|path| files.folder(path)).transpose()?;
    let (name, lines) = match request.field("jsonl_file").and_then(Value::as_str) {
        // Not `text`: lines may be longer than one text of the other commands. The same text has the same name, so
        // that a repeated request makes nothing new.
        Some(lines) if flag(request, "is_str")? => (super::index::md5(lines), lines.to_owned()),
        _ => {
            let path = text(request, "jsonl_file")?;
            (dataset_name(path), files.read(path)?)
        }
    };
    tune.add_dataset(&name, &lines)?;
    let pair = tune.convert(&name, copies, context_tokens, 0)?;
    let prefix = match folder {
        Some(folder) => files.place(&pair.prefix, &folder)?,
        None => pair.prefix,
    };
    Ok(prefix.display().to_string().into())
}

/// A data set's name after its file.
fn dataset_name(path: &str) -> String {
    let stem = Path::new(path).file_stem().unwrap_or_default().to_string_lossy();
    let fine = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let name: String = stem.chars().map(fine).collect();
    name.trim_start_matches('.').to_owned()
}

fn train(tune: &dyn Tune, files: &dyn TuningFiles, method: TuneMethod, request: &Request) -> Result<Value> {
    let base = optional_text(request, "load_model")?.map(|model| files.base(model)).transpose()?;
    let dataset = files.dataset(text(request, "data_file")?)?;
    let defaults = tune.defaults(base.as_deref(), Some(method))?;
    let settings = settings::of(method, request, defaults, files.tracked().project)?;
    // RWKV-RAG's clients name a folder for the results. Nothing is written where a request says: its last part names
    // the job for people.
    let folder = optional_text(request, "proj_dir")?.map(dataset_name).filter(|name| !name.is_empty());
    let name = folder.unwrap_or_else(|| dataset.clone());
    let job = tune.start(&TuneRequest { name, base, dataset, settings })?;
    Ok(shown(files, &job))
}

fn shown(files: &dyn TuningFiles, job: &TuneJob) -> Value {
    let (state, error) = match &job.state {
        TuneState::Queued => ("queued", Value::Nil),
        TuneState::Running => ("running", Value::Nil),
        TuneState::Stopped => ("stopped", Value::Nil),
        TuneState::Done => ("done", Value::Nil),
        TuneState::Failed(message) => ("failed", message.as_str().into()),
    };
    Value::map([
        ("job", job.id.as_str().into()),
        ("state", state.into()),
        ("error", error),
        ("step", job.step.into()),
        ("steps", job.steps.into()),
        ("loss", job.last.map_or(Value::Nil, |point| Value::Float(point.loss))),
        ("lr", job.last.map_or(Value::Nil, |point| Value::Float(point.lr))),
        ("proj_dir", files.job_dir(&job.id).into()),
        ("files", Value::list(job.outputs.iter().cloned())),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_set_is_named_after_its_file() {
        for (path, name) in
            [("/a/b/问 答.jsonl", "问-答"), ("x.jsonl", "x"), ("/", ""), (".hidden", "hidden")]
        {
            assert_eq!(dataset_name(path), name, "{path}");
        }
    }
}
