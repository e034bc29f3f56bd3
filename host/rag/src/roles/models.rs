//! Which models RWKV-RAG's clients may name: those of the registry, and no other file.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use rag_bus::Value;
use rag_bus::commands::llm::{BeamRequest, ModelKind, Models, Variant};
use rag_core::ports::{self, Generate, GenerateRequest, ModelRegistry, Sampling, When};
use rag_core::{Error, Result};

use crate::assemble;
use crate::config::Config;
use crate::models::{Registry, profile};

/// The registry as the commands see it.
pub(super) struct EngineModels {
    config: Config,
    registry: Registry,
}

impl EngineModels {
    pub(super) fn new(config: &Config, registry: Registry) -> Self {
        EngineModels { config: config.clone(), registry }
    }

    fn encoder_path(&self) -> String {
        let path = self.registry.encoder().map(|known| known.path);
        path.unwrap_or_else(|| self.config.models_dir().join(&self.config.models.encoder))
            .display()
            .to_string()
    }
}

#[async_trait]
impl Models for EngineModels {
    async fn language(&self, variant: Variant<'_>) -> Result<Arc<dyn Generate>> {
        self.registry.under(variant.state, variant.adapter)
    }

    async fn select(&self, name_or_path: &str) -> Result<()> {
        let name = self.registry.resolve(ports::ModelKind::Language, name_or_path)?;
        if self.registry.current().name == name {
            return Ok(());
        }
        self.registry.choose(ports::ModelKind::Language, Some(&name), When::Now).await.map(drop)
    }

    fn check(&self, kind: ModelKind, name_or_path: &str) -> Result<()> {
        let shown = self.encoder_path();
        let file = Path::new(&shown);
        let given = Path::new(name_or_path);
        if file == given
            || file.file_name() == Some(given.as_os_str())
            || assemble::stem(file) == name_or_path
        {
            return Ok(());
        }
        let what = match kind {
            ModelKind::Embedding => "embedding model",
            ModelKind::Reranker => "reranker",
        };
        Err(Error::Denied {
            message: format!(
                "'{}' is not the {what} of this service, which is '{}'; `rwkv-rag model choose` another encoder and restart the service to change it",
                name_or_path.escape_debug(),
                assemble::stem(file)
            ),
        })
    }

    async fn beam(&self, request: BeamRequest) -> Result<String> {
        let current = self.registry.current();
        let beams = request.beams as usize;
        let request = GenerateRequest {
            prompt: request.prompt,
            sampling: Sampling::default(),
            tokens_max: request.tokens_max,
            stop: request.stop,
            tenant: request.tenant,
            bounds: None,
            variant: None,
        };
        current.model.beam(&profile(&current.variant), request, beams).await
    }

    fn config(&self) -> Value {
        let encoder = self.encoder_path();
        Value::map([
            ("base_model_path", self.registry.current().path.display().to_string().into()),
            ("embedding_path", encoder.as_str().into()),
            ("reranker_path", encoder.as_str().into()),
            ("base_models", Value::list(self.registry.language_models())),
            ("front_end", self.config.bus.llm_front.as_str().into()),
            ("back_end", self.config.bus.llm_back.as_str().into()),
        ])
    }
}
