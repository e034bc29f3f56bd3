//! Which models RWKV-RAG's clients may name: those that the configuration registers, and no other file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rag_bus::Value;
use rag_bus::commands::llm::{BeamRequest, ModelKind, Models};
use rag_core::ports::Generate;
use rag_core::{Error, Result};
use rag_engine::{LanguageModel, LanguageModelConfig};

use crate::assemble;
use crate::config::Config;

/// The registered models and the one in use.
pub(super) struct EngineModels {
    config: Config,
    registered: BTreeMap<String, PathBuf>,
    current: Mutex<Current>,
    /// One switch at a time.
    switching: tokio::sync::Mutex<()>,
}

struct Current {
    path: PathBuf,
    model: Arc<LanguageModel>,
}

impl EngineModels {
    pub(super) fn new(config: &Config, model: Arc<LanguageModel>) -> anyhow::Result<Self> {
        let path = config.models_dir().join(&config.models.language);
        let mut registered = BTreeMap::new();
        registered.insert(stem(&path), path.clone());
        for (name, file) in &config.bus.base_models {
            registered.insert(name.clone(), assemble::model_file(config, file)?);
        }
        Ok(EngineModels {
            config: config.clone(),
            registered,
            current: Mutex::new(Current { path, model }),
            switching: tokio::sync::Mutex::new(()),
        })
    }

    /// A name, a path or a file name, of something registered. Nothing is opened.
    fn resolve(&self, name_or_path: &str) -> Result<PathBuf> {
        let given = Path::new(name_or_path);
        let matches = |(name, path): &(&String, &PathBuf)| {
            name.as_str() == name_or_path
                || path.as_path() == given
                || path.file_name() == Some(given.as_os_str())
        };
        match self.registered.iter().find(matches) {
            Some((_, path)) => Ok(path.clone()),
            None => Err(not_registered(name_or_path)),
        }
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Models for EngineModels {
    async fn language(&self, state: Option<&str>) -> Result<Arc<dyn Generate>> {
        match state {
            None => Ok(self.current().model.clone()),
            Some(given) => Err(Error::Denied {
                message: format!(
                    "'{}' is not a registered state: this service answers from the model's own; a state tuned for all answers is merged into the model",
                    given.escape_debug()
                ),
            }),
        }
    }

    async fn select(&self, name_or_path: &str) -> Result<()> {
        let path = self.resolve(name_or_path)?;
        let _one_at_a_time = self.switching.lock().await;
        if self.current().path == path {
            return Ok(());
        }
        let wrong = |error: anyhow::Error| Error::Unavailable { message: format!("{error:#}") };
        let base = assemble::language_config(&self.config).map_err(wrong)?;
        let config = LanguageModelConfig { weights: path.clone(), name: stem(&path), ..base };
        // The old model stays in use until the new one is there, and when it fails.
        let loading = tokio::task::spawn_blocking(move || LanguageModel::load(config));
        let model = loading.await.map_err(|error| Error::internal(error.to_string()))??;
        *self.current() = Current { path, model };
        Ok(())
    }

    fn check(&self, kind: ModelKind, name_or_path: &str) -> Result<()> {
        let file = self.config.models_dir().join(&self.config.models.encoder);
        let given = Path::new(name_or_path);
        if file == given || file.file_name() == Some(given.as_os_str()) || stem(&file) == name_or_path {
            return Ok(());
        }
        let what = match kind {
            ModelKind::Embedding => "embedding model",
            ModelKind::Reranker => "reranker",
        };
        Err(Error::Denied {
            message: format!(
                "'{name_or_path}' is not the {what} of this service, which is '{}'; set models.encoder to change it",
                stem(&file)
            ),
        })
    }

    async fn beam(&self, _: BeamRequest) -> Result<String> {
        Err(Error::Unsupported {
            message: "this engine has no beam search; use SAMPLING_GENERATE with temperature 0".to_owned(),
        })
    }

    fn config(&self) -> Value {
        let shown = |path: &Path| Value::from(path.display().to_string());
        let encoder = self.config.models_dir().join(&self.config.models.encoder);
        let names = |names: Vec<&String>| Value::list(names.into_iter().map(String::as_str));
        Value::map([
            ("base_model_path", shown(&self.current().path)),
            ("embedding_path", shown(&encoder)),
            ("reranker_path", shown(&encoder)),
            ("base_models", names(self.registered.keys().collect())),
            ("front_end", self.config.bus.llm_front.as_str().into()),
            ("back_end", self.config.bus.llm_back.as_str().into()),
        ])
    }
}

fn not_registered(given: &str) -> Error {
    Error::Denied {
        message: format!(
            "'{}' is not registered, and only registered files are loaded: add it to [bus] as base_models = {{ NAME = \"FILE\" }} and name it by NAME",
            given.escape_debug()
        ),
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(|| "rwkv".to_owned(), |stem| stem.to_string_lossy().into_owned())
}
