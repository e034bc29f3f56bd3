//! A knowledge base's settings as the catalogue writes them: JSON, in which missing fields take their defaults.

use rag_core::kb::{AnswerSettings, EncoderChoice, KbParts, KbSettings, PluginChoice};
use rag_core::ports::{CrawlOrder, Variant};
use rag_core::{Error, Result};
use rusqlite::Row;
use serde::{Deserialize, Serialize};

use crate::fault::Step;

/// A knowledge base's settings as JSON, for files that carry them elsewhere.
pub fn settings_to_json(settings: &KbSettings) -> Result<String> {
    Ok(to_json(settings)?)
}

/// What `settings_to_json` wrote; `InvalidInput` for anything else.
pub fn settings_from_json(json: &str) -> Result<KbSettings> {
    let settings: SettingsJson = serde_json::from_str(json)
        .map_err(|error| Error::invalid(format!("these are no settings of a knowledge base: {error}")))?;
    Ok(settings.into())
}

pub(crate) fn to_json(settings: &KbSettings) -> Step<String> {
    let json = serde_json::to_string(&SettingsJson::from(settings));
    json.map_err(|error| Error::invalid(format!("the settings cannot be written: {error}")).into())
}

pub(crate) fn from_json(json: &str) -> Step<KbSettings> {
    let settings: SettingsJson = serde_json::from_str(json).map_err(|error| Error::Storage {
        message: format!("a knowledge base's settings are damaged: {error}"),
    })?;
    Ok(settings.into())
}

/// A generation's plugins, as settings that hold nothing else.
pub(crate) fn parts_to_json(parts: &KbParts) -> Step<String> {
    to_json(&KbSettings::default().with_parts(parts.clone()))
}

/// A plugin with its settings.
pub(crate) fn choice_to_json(choice: &PluginChoice) -> Step<String> {
    let json = serde_json::to_string(&ChoiceJson::from(choice));
    json.map_err(|error| Error::invalid(format!("the plugin's settings cannot be written: {error}")).into())
}

/// Such a plugin in a column of a result.
pub(crate) fn choice_in(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<PluginChoice>> {
    let json: Option<String> = row.get(column)?;
    let parse = |json: String| {
        serde_json::from_str::<ChoiceJson>(&json).map(PluginChoice::from).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error.into())
        })
    };
    json.map(parse).transpose()
}

/// Which pages of the web a job reads.
pub(crate) fn order_to_json(order: &CrawlOrder) -> Step<String> {
    let CrawlOrder { url, depth, pages_max, same_host } = order.clone();
    let json = serde_json::to_string(&OrderJson { url, depth, pages_max, same_host });
    json.map_err(|error| Error::invalid(format!("the crawl cannot be written: {error}")).into())
}

/// Such an order in a column of a result.
pub(crate) fn order_in(row: &Row<'_>, column: usize) -> rusqlite::Result<CrawlOrder> {
    let json: String = row.get(column)?;
    let order: OrderJson = serde_json::from_str(&json).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error.into())
    })?;
    let OrderJson { url, depth, pages_max, same_host } = order;
    Ok(CrawlOrder { url, depth, pages_max, same_host })
}

#[derive(Serialize, Deserialize)]
struct OrderJson {
    url: String,
    depth: u32,
    pages_max: u32,
    same_host: bool,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct ChoiceJson {
    id: String,
    #[serde(default = "no_settings")]
    settings: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct EncoderJson {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
}

fn no_settings() -> String {
    "{}".to_owned()
}

#[derive(Serialize, Deserialize)]
#[serde(default)]
struct AnswerJson {
    template: String,
    candidates: u32,
    passages: u32,
    context_tokens_max: u32,
    answer_tokens_max: u32,
    relevance_min: Option<f32>,
    temperature: f32,
    top_p: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    adapter: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(default)]
struct SettingsJson {
    chunker: ChoiceJson,
    store: ChoiceJson,
    retriever: ChoiceJson,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parsers: Vec<ChoiceJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoder: Option<EncoderJson>,
    rerank: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reranker: Option<String>,
    ocr_languages: Vec<String>,
    answer: AnswerJson,
}

impl Default for SettingsJson {
    fn default() -> Self {
        (&KbSettings::default()).into()
    }
}

impl Default for AnswerJson {
    fn default() -> Self {
        (&AnswerSettings::default()).into()
    }
}

impl From<&PluginChoice> for ChoiceJson {
    fn from(choice: &PluginChoice) -> Self {
        ChoiceJson { id: choice.id.clone(), settings: choice.settings.clone(), digest: choice.digest.clone() }
    }
}

impl From<ChoiceJson> for PluginChoice {
    fn from(choice: ChoiceJson) -> Self {
        PluginChoice { id: choice.id, settings: choice.settings, digest: choice.digest }
    }
}

impl From<&AnswerSettings> for AnswerJson {
    fn from(answer: &AnswerSettings) -> Self {
        AnswerJson {
            template: answer.template.clone(),
            candidates: answer.candidates,
            passages: answer.passages,
            context_tokens_max: answer.context_tokens_max,
            answer_tokens_max: answer.answer_tokens_max,
            relevance_min: answer.relevance_min,
            temperature: answer.temperature,
            top_p: answer.top_p,
            state: answer.variant.state.clone(),
            adapter: answer.variant.adapter.clone(),
        }
    }
}

impl From<AnswerJson> for AnswerSettings {
    fn from(answer: AnswerJson) -> Self {
        AnswerSettings {
            template: answer.template,
            candidates: answer.candidates,
            passages: answer.passages,
            context_tokens_max: answer.context_tokens_max,
            answer_tokens_max: answer.answer_tokens_max,
            relevance_min: answer.relevance_min,
            temperature: answer.temperature,
            top_p: answer.top_p,
            variant: Variant { state: answer.state, adapter: answer.adapter },
        }
    }
}

impl From<&KbSettings> for SettingsJson {
    fn from(settings: &KbSettings) -> Self {
        SettingsJson {
            chunker: (&settings.chunker).into(),
            store: (&settings.store).into(),
            retriever: (&settings.retriever).into(),
            parsers: settings.parsers.iter().map(ChoiceJson::from).collect(),
            encoder: settings
                .encoder
                .clone()
                .map(|EncoderChoice { name, identity }| EncoderJson { name, identity }),
            rerank: settings.rerank,
            reranker: settings.reranker.clone(),
            ocr_languages: settings.ocr_languages.clone(),
            answer: (&settings.answer).into(),
        }
    }
}

impl From<SettingsJson> for KbSettings {
    fn from(settings: SettingsJson) -> Self {
        KbSettings {
            chunker: settings.chunker.into(),
            store: settings.store.into(),
            retriever: settings.retriever.into(),
            parsers: settings.parsers.into_iter().map(PluginChoice::from).collect(),
            encoder: settings.encoder.map(|EncoderJson { name, identity }| EncoderChoice { name, identity }),
            rerank: settings.rerank,
            reranker: settings.reranker,
            ocr_languages: settings.ocr_languages,
            answer: settings.answer.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_and_missing_ones_take_their_defaults() {
        let mut settings = KbSettings {
            chunker: PluginChoice::any("chunk-fixed", r#"{"size":500}"#),
            parsers: vec![PluginChoice::any("parse-text", "{}")],
            rerank: false,
            encoder: Some(EncoderChoice { name: "bge-m3".into(), identity: Some("bge-m3@12".into()) }),
            reranker: Some("重排".into()),
            ocr_languages: vec!["jpn".into()],
            ..KbSettings::default()
        };
        settings.chunker.digest = Some("ab".into());
        settings.answer.template = "问：{question}\n{context}".into();
        settings.answer.relevance_min = Some(0.1);
        settings.answer.variant.state = Some("问答".into());
        assert_eq!(from_json(&to_json(&settings).unwrap()).unwrap(), settings);
        assert_eq!(from_json("{}").unwrap(), KbSettings::default());
        assert_eq!(from_json(r#"{"answer":{"passages":7}}"#).unwrap().answer.passages, 7);
        let damaged = rag_core::Error::from(from_json("{").unwrap_err());
        assert!(matches!(damaged, Error::Storage { .. }));
    }
}
