//! How a known model becomes one that answers.

use std::collections::BTreeMap;

use rag_core::ports::{ModelKind, Variant};
use rag_core::{Error, Result};
use rag_engine::profile::{AdapterConfig, ProfileConfig, ReadOutConfig};
use rag_engine::rwkv::AdapterScale;
use rag_engine::{LanguageModel, LanguageModelConfig};

use super::files;
use super::shelf::Known;
use super::switch::{Current, profile};
use crate::assemble;
use crate::config::Config;

/// What is to answer.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) language: Known,
    pub(super) variant: Variant,
}

/// Loads a language model with its online adapters and states; blocks for as long as reading it takes.
pub(super) fn load(config: &Config, all: &BTreeMap<String, Known>, target: &Target) -> Result<Current> {
    let Target { language, variant } = target;
    files::verify(language)?;
    let settings = &language.settings;
    let wrong = |error: anyhow::Error| Error::Unavailable { message: format!("{error:#}") };
    let mut profiles = adapters(all, language)?;
    if let (Some(state), Some(adapter)) = (&variant.state, &variant.adapter) {
        let of = profiles.iter().find(|profile| profile.name == format!("adapter:{adapter}")).cloned();
        let of = of.ok_or_else(|| not_for(adapter, &language.name))?;
        let state = online(all, ModelKind::State, state)?;
        profiles.push(ProfileConfig { name: profile(variant), state: Some(state.path.clone()), ..of });
    }
    let base = assemble::language_base(config).map_err(wrong)?;
    let quantize = settings.quantize.as_deref().unwrap_or_default();
    let loading = LanguageModelConfig {
        weights: language.path.clone(),
        name: language.name.clone(),
        quantize: assemble::formats(quantize, config.models.quantize_head).map_err(wrong)?,
        demonstration: settings.demonstration,
        profiles,
        ..base
    };
    let model = LanguageModel::load(loading)?;
    for state in all.values().filter(|known| known.kind == ModelKind::State && known.online) {
        let named = variant.state.as_ref() == Some(&state.name);
        let added = add_state(&model, language, state);
        match added {
            Err(error) if named => return Err(error),
            // It is for a model of other sizes; requests that name it are told so.
            Err(error) => tracing::debug!(state = state.name, %error, "a state does not fit the model"),
            Ok(()) => {}
        }
    }
    if !model.has_profile(&profile(variant)) {
        let adapter = variant.adapter.as_deref().unwrap_or_default();
        return Err(not_for(adapter, &language.name));
    }
    Ok(Current { name: language.name.clone(), path: language.path.clone(), model, variant: variant.clone() })
}

/// Makes a state's profile in a model that runs.
pub(super) fn add_state(model: &LanguageModel, language: &Known, state: &Known) -> Result<()> {
    if state.settings.base.as_ref().is_some_and(|base| *base != language.name) {
        return Err(not_for(&state.name, &language.name));
    }
    files::verify(state)?;
    let variant = Variant { state: Some(state.name.clone()), adapter: None };
    model.add_state(&profile(&variant), &state.path)
}

/// Profiles of the adapters that were made for a language model.
fn adapters(all: &BTreeMap<String, Known>, language: &Known) -> Result<Vec<ProfileConfig>> {
    let of_it = |known: &&Known| {
        known.kind == ModelKind::Adapter
            && known.online
            && known.settings.base.as_ref() == Some(&language.name)
    };
    all.values()
        .filter(of_it)
        .map(|adapter| {
            files::verify(adapter)?;
            let scale = match adapter.settings.adapter_alpha {
                None => AdapterScale::One,
                Some(alpha) => AdapterScale::Alpha(alpha as f32),
            };
            let pissa_start = adapter.settings.adapter_start.as_ref().map(Into::into);
            let variant = Variant { state: None, adapter: Some(adapter.name.clone()) };
            Ok(ProfileConfig {
                name: profile(&variant),
                state: None,
                adapter: Some(AdapterConfig { path: adapter.path.clone(), pissa_start, scale }),
                read_out: ReadOutConfig::Language,
            })
        })
        .collect()
}

pub(super) fn online<'a>(all: &'a BTreeMap<String, Known>, kind: ModelKind, name: &str) -> Result<&'a Known> {
    let found = all.get(name).filter(|known| known.kind == kind);
    let found = found.ok_or_else(|| Error::NotFound { what: kind.name(), name: name.to_owned() })?;
    if found.online {
        return Ok(found);
    }
    Err(Error::Conflict {
        message: format!("{} '{name}' is offline: `rwkv-rag model online {name}` allows it", kind.name()),
    })
}

pub(super) fn not_for(name: &str, language: &str) -> Error {
    Error::Conflict { message: format!("'{name}' is not for the language model '{language}'") }
}
