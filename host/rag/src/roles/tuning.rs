//! Which files RWKV-RAG's tuning commands may name: those below folders that the configuration names, and models of the
//! models folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rag_bus::Value;
use rag_bus::commands::tuning::{Tracked, TuningFiles, TuningService};
use rag_core::{Error, Result};
use rag_tune::Tuner;

use crate::assemble;
use crate::config::{Config, TrackerKind};

/// Bytes of a jsonl file: it is read into memory.
const JSONL_BYTES_MAX: u64 = 1 << 30;

/// The service in front of what trains.
pub(super) fn service(config: &Config, tuner: Arc<Tuner>) -> anyhow::Result<TuningService> {
    Ok(TuningService {
        name: config.bus.worker_name(),
        capacity: config.bus.worker_requests_max,
        tune: tuner,
        files: Arc::new(Files::new(config)?),
    })
}

struct Files {
    /// Of data sets and jobs; pairs are written below it only.
    dir: PathBuf,
    /// Further folders to read from.
    roots: Vec<PathBuf>,
    models: PathBuf,
    config: Value,
    /// What trainings are followed in, if they are.
    project: Option<String>,
    /// Whether that is told as they go.
    live: bool,
}

impl Files {
    fn new(config: &Config) -> anyhow::Result<Self> {
        let dir = assemble::tuning_dir(config)?;
        fs_err::create_dir_all(&dir)?;
        let dir = fs_err::canonicalize(dir)?;
        let roots = config.data.ingest_roots.iter().map(fs_err::canonicalize);
        let told = Value::map([
            ("output_path", dir.join("datasets").display().to_string().into()),
            ("project_dir", dir.join("jobs").display().to_string().into()),
            (
                "base_model_path",
                assemble::model_file(config, &config.models.language)?.display().to_string().into(),
            ),
            ("front_end", config.bus.tuning_front.as_str().into()),
            ("back_end", config.bus.tuning_back.as_str().into()),
        ]);
        Ok(Files {
            dir,
            roots: roots.collect::<std::io::Result<_>>()?,
            models: fs_err::canonicalize(config.models_dir())?,
            config: told,
            project: assemble::tracker_project(config).map(str::to_owned),
            live: config.tuning.tracker == TrackerKind::Wandb,
        })
    }

    /// An existing path below one of the folders, after links are resolved; relative ones are below the first.
    fn below(&self, path: &Path, folders: &[PathBuf]) -> Result<PathBuf> {
        let path = self.dir.join(path);
        let found = fs_err::canonicalize(&path).map_err(|_| outside(&path, folders))?;
        if folders.iter().any(|folder| found.starts_with(folder)) {
            Ok(found)
        } else {
            Err(outside(&path, folders))
        }
    }

    /// What may be read.
    fn readable(&self) -> Vec<PathBuf> {
        std::iter::once(&self.dir).chain(&self.roots).cloned().collect()
    }
}

/// One answer for what is not there and what is not allowed: nobody learns which files exist.
fn outside(path: &Path, folders: &[PathBuf]) -> Error {
    let listed: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    Error::Denied {
        message: format!(
            "{} is not below {} (settings bus.tuning_dir, data.ingest_roots)",
            path.display(),
            listed.join(" or ")
        ),
    }
}

fn failed(error: &std::io::Error) -> Error {
    Error::Storage { message: error.to_string() }
}

fn with(prefix: &Path, suffix: &str) -> PathBuf {
    let mut name = prefix.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    prefix.with_file_name(name)
}

impl TuningFiles for Files {
    fn tracked(&self) -> Tracked<'_> {
        Tracked { project: self.project.as_deref(), live: self.live }
    }

    fn read(&self, path: &str) -> Result<String> {
        let path = self.below(Path::new(path), &self.readable())?;
        let size = fs_err::metadata(&path).map_err(|error| failed(&error))?.len();
        if size > JSONL_BYTES_MAX {
            return Err(Error::invalid(format!("the file has {size} bytes, more than {JSONL_BYTES_MAX}")));
        }
        fs_err::read_to_string(&path).map_err(|error| failed(&error))
    }

    fn base(&self, name_or_path: &str) -> Result<String> {
        let file = |suffix: &str| self.models.join(format!("{name_or_path}{suffix}"));
        // Configurations tell paths as they were configured: relative ones are the process's.
        let paths = [PathBuf::from(name_or_path), file(""), file(".pth"), file(".safetensors")];
        let known = paths.into_iter().find_map(|path| {
            let found = fs_err::canonicalize(path).ok().filter(|path| path.is_file())?;
            found.strip_prefix(&self.models).map(|path| path.display().to_string()).ok()
        });
        known.ok_or_else(|| Error::Denied {
            message: format!(
                "the model '{}' is not registered for tuning: put its file into {} and name it by its file name",
                name_or_path.escape_debug(),
                self.models.display()
            ),
        })
    }

    fn dataset(&self, prefix: &str) -> Result<String> {
        self.below(&with(Path::new(prefix), ".idx"), &self.readable())?;
        let name = Path::new(prefix).file_name().unwrap_or_default().to_string_lossy().into_owned();
        if self.dir.join("datasets").join(format!("{name}.jsonl")).is_file() {
            return Ok(name);
        }
        Err(Error::invalid(format!(
            "the texts of the pair '{}' are not here: make it with MAKE_DATA, whose answer is what 'data_file' takes",
            name.escape_debug()
        )))
    }

    fn folder(&self, path: &str) -> Result<PathBuf> {
        self.below(Path::new(path), std::slice::from_ref(&self.dir))
    }

    fn place(&self, prefix: &Path, folder: &Path) -> Result<PathBuf> {
        let to = folder.join(prefix.file_name().unwrap_or_default());
        let from = prefix.parent().map(fs_err::canonicalize).transpose().map_err(|error| failed(&error))?;
        // A file copied onto itself would be emptied.
        if from.as_deref() != Some(folder) {
            for suffix in [".bin", ".idx"] {
                fs_err::copy(with(prefix, suffix), with(&to, suffix)).map_err(|error| failed(&error))?;
            }
        }
        Ok(to)
    }

    fn job_dir(&self, job: &str) -> String {
        self.dir.join("jobs").join(job).display().to_string()
    }

    fn config(&self) -> Value {
        self.config.clone()
    }
}

#[cfg(test)]
mod tests {
    use rag_bus::Request;
    use rag_bus::worker::Service as _;

    use super::*;

    fn service_in(dir: &Path) -> TuningService {
        let config = Config {
            models: crate::config::Models {
                dir: Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models"),
                ..Default::default()
            },
            data: crate::config::Data { dir: dir.to_owned(), ..Default::default() },
            ..Config::default()
        };
        service(&config, assemble::tuner(&config).unwrap()).unwrap()
    }

    const LINE: &str = r#"{"text": "User: 你好\n\nAssistant: hello"}"#;

    async fn refused(service: &TuningService, request: Request) -> String {
        service.legacy(request).await.unwrap_err().to_string()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn data_is_made_within_the_folder_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let service = service_in(dir.path());
        let tuning = dir.path().join("tuning");
        let lines = || Request::new("MAKE_DATA").with("jsonl_file", LINE.into()).with("is_str", true.into());
        let made = service.legacy(lines()).await.unwrap();
        let written = |made: &Value| {
            rag_tune::dataset::binidx::Binidx::open(Path::new(made.as_str().unwrap())).unwrap()
        };
        assert_eq!(written(&made).len(), 3, "three copies unless told otherwise");
        assert_eq!(service.legacy(lines()).await.unwrap(), made, "the same text is the same data set");
        fs_err::create_dir(tuning.join("pairs")).unwrap();
        let placed = service.legacy(lines().with("output_path", "pairs".into())).await.unwrap();
        assert!(Path::new(placed.as_str().unwrap()).parent().unwrap().ends_with("tuning/pairs"));
        assert_eq!(written(&placed).len(), 3);
        let again = service.legacy(lines().with("output_path", "datasets".into())).await.unwrap();
        assert_eq!(written(&again).len(), 3, "a pair is not emptied by being copied onto itself");
        fs_err::write(tuning.join("a.jsonl"), LINE).unwrap();
        let file = |path: &str| Request::new("MAKE_DATA").with("jsonl_file", path.into());
        let made = service.legacy(file("a.jsonl").with("n_epoch", Value::Int(1))).await.unwrap();
        assert_eq!(written(&made).len(), 1);
        for outside in ["/etc", "../..", "none"] {
            assert!(
                refused(&service, lines().with("output_path", outside.into())).await.contains("not below")
            );
        }
        assert!(refused(&service, file("/etc/passwd")).await.contains("not below"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_training_is_queued_from_a_pair_and_a_registered_model_only() {
        let dir = tempfile::tempdir().unwrap();
        let service = service_in(dir.path());
        let lines = Request::new("MAKE_DATA").with("jsonl_file", LINE.into()).with("is_str", true.into());
        let pair = service.legacy(lines).await.unwrap();
        let train = |pair: Value| {
            let request = Request::new("STATE_TUNING").with("data_file", pair).with("quant", "none".into());
            let request = request.with("precision", "fp32".into()).with("ctx_len", Value::Int(16));
            request.with("epoch_steps", Value::Int(1)).with("epoch_count", Value::Int(1))
        };
        let wrong = train(pair.clone()).with("load_model", "/etc/passwd".into());
        assert!(refused(&service, wrong).await.contains("not registered"));
        assert!(refused(&service, train("/etc/passwd".into())).await.contains("not below"));
        assert!(refused(&service, train(pair.clone()).with("wandb", "p".into())).await.contains("wandb"));
        let job = service.legacy(train(pair).with("load_model", "rwkv6-demo".into())).await.unwrap();
        assert_eq!((job.get("state"), job.get("steps")), (Some(&"queued".into()), Some(&Value::Int(1))));
        let id = job.get("job").cloned().unwrap();
        let job = service.legacy(Request::new("TUNING_JOB").with("job", id)).await.unwrap();
        assert!(matches!(job.get("state").and_then(Value::as_str), Some("queued" | "running" | "done")));
        assert!(refused(&service, Request::new("TUNING_JOB").with("job", "x".into())).await.contains("x"));
    }
}
