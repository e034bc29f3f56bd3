//! The language model that answers, which another can take the place of: what one has begun, it finishes.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use rag_core::ports::{Generate, GenerateRequest, GenerationStream, Variant};
use rag_core::{Error, Result};
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

/// Name of the engine's profile for a variant.
pub(crate) fn profile(variant: &Variant) -> String {
    let part = |kind: &str, name: &Option<String>| name.as_ref().map(|name| format!("{kind}:{name}"));
    let parts: Vec<String> =
        [part("adapter", &variant.adapter), part("state", &variant.state)].into_iter().flatten().collect();
    if parts.is_empty() { DEFAULT_PROFILE.to_owned() } else { parts.join("+") }
}

impl Current {
    /// Whether answers can be written with a variant.
    pub(crate) fn has(&self, variant: &Variant) -> bool {
        self.model.has_profile(&profile(variant))
    }

    /// `Conflict` for a variant that is not there, in words for whoever named it.
    fn write(&self, variant: &Variant, request: GenerateRequest) -> Result<GenerationStream> {
        if self.has(variant) {
            return self.model.generate_as(&profile(variant), request);
        }
        let named: Vec<&str> =
            [&variant.state, &variant.adapter].into_iter().flatten().map(String::as_str).collect();
        Err(Error::Conflict {
            message: format!(
                "'{}' cannot write with '{}': a state or adapter must be online and made for this model, and both together must be chosen for every answer",
                self.name,
                named.join("' and '")
            ),
        })
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
        let variant = request.variant.clone().unwrap_or_else(|| current.variant.clone());
        current.write(&variant, request)
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
        self.current.write(&self.variant, request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_have_profiles_of_their_own() {
        let profile = |state: Option<&str>, adapter: Option<&str>| {
            super::profile(&Variant { state: state.map(str::to_owned), adapter: adapter.map(str::to_owned) })
        };
        assert_eq!(profile(None, None), DEFAULT_PROFILE);
        assert_eq!(profile(Some("qa"), None), "state:qa");
        assert_eq!(profile(None, Some("law")), "adapter:law");
        assert_eq!(profile(Some("qa"), Some("law")), "adapter:law+state:qa");
    }
}
