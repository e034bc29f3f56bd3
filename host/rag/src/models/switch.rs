//! The language model that answers, which another can take the place of: what one has begun, it finishes.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use rag_core::Result;
use rag_core::ports::{Generate, GenerateRequest, GenerationStream};
use rag_engine::LanguageModel;
use rag_engine::profile::DEFAULT_PROFILE;

/// Hands requests to the model in use. A model that was replaced ends by itself once its last answer is written.
pub(crate) struct Switch {
    current: RwLock<Current>,
}

/// What answers now.
#[derive(Debug, Clone)]
pub(crate) struct Current {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) model: Arc<LanguageModel>,
    pub(crate) variant: Variant,
}

/// What plain answers start from and are written under: names of models.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Variant {
    pub(crate) state: Option<String>,
    pub(crate) adapter: Option<String>,
}

impl Variant {
    /// Name of the engine's profile.
    pub(crate) fn profile(&self) -> String {
        let part = |kind: &str, name: &Option<String>| name.as_ref().map(|name| format!("{kind}:{name}"));
        let parts: Vec<String> =
            [part("adapter", &self.adapter), part("state", &self.state)].into_iter().flatten().collect();
        if parts.is_empty() { DEFAULT_PROFILE.to_owned() } else { parts.join("+") }
    }
}

impl Switch {
    pub(crate) fn new(current: Current) -> Arc<Self> {
        Arc::new(Switch { current: RwLock::new(current) })
    }

    pub(crate) fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, current: Current) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
    }
}

#[async_trait]
impl Generate for Switch {
    fn identity(&self) -> String {
        self.current().name
    }

    fn demonstration(&self) -> bool {
        self.current().model.demonstration()
    }

    fn count_tokens(&self, text: &str) -> u32 {
        self.current().model.count_tokens(text)
    }

    async fn generate(&self, request: GenerateRequest) -> Result<GenerationStream> {
        let current = self.current();
        current.model.generate_as(&current.variant.profile(), request)
    }
}

/// The model in use under another variant than the chosen one.
pub(crate) struct Under {
    pub(crate) current: Current,
    pub(crate) variant: Variant,
}

#[async_trait]
impl Generate for Under {
    fn identity(&self) -> String {
        self.current.name.clone()
    }

    fn demonstration(&self) -> bool {
        self.current.model.demonstration()
    }

    fn count_tokens(&self, text: &str) -> u32 {
        self.current.model.count_tokens(text)
    }

    async fn generate(&self, request: GenerateRequest) -> Result<GenerationStream> {
        self.current.model.generate_as(&self.variant.profile(), request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_have_profiles_of_their_own() {
        let profile = |state: Option<&str>, adapter: Option<&str>| {
            Variant { state: state.map(str::to_owned), adapter: adapter.map(str::to_owned) }.profile()
        };
        assert_eq!(profile(None, None), DEFAULT_PROFILE);
        assert_eq!(profile(Some("qa"), None), "state:qa");
        assert_eq!(profile(None, Some("law")), "adapter:law");
        assert_eq!(profile(Some("qa"), Some("law")), "adapter:law+state:qa");
    }
}
