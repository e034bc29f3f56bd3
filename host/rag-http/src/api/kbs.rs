//! Knowledge bases: list, create, read, change, delete.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use rag_core::kb::{AnswerSettings, EncoderChoice, Kb, KbSettings, PluginChoice};
use rag_core::ports::{ModelKind, Role, Variant};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::auth::Caller;
use crate::error::{ApiError, ApiResult, ErrorBody};
use crate::extract::{InPath, Json};
use crate::state::AppState;

/// A knowledge base.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KbView {
    /// 3 to 33 ASCII letters, digits and underscores.
    name: String,
    settings: SettingsView,
    /// Of its plugins: counts up with every swap.
    generation: u64,
    /// The embedding model whose vectors it holds, by name and hash; none while it is empty.
    embedder: Option<String>,
    /// Values of each vector; none while it is empty, or where nobody wrote it down.
    dim: Option<usize>,
    documents: u64,
    chunks: u64,
    /// Milliseconds since 1970 (UTC).
    created_ms: i64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SettingsView {
    chunker: PluginView,
    store: PluginView,
    retriever: PluginView,
    /// Encoder of the registry that it is embedded with; none: the one for all.
    encoder: Option<String>,
    rerank: bool,
    /// Model of the registry that reranks; none: the one for all.
    reranker: Option<String>,
    /// Languages of text in pictures, as tesseract names them.
    ocr_languages: Vec<String>,
    answer: AnswerView,
}

/// A plugin with its settings, as a JSON object.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PluginView {
    id: String,
    #[serde(default = "empty_object")]
    #[schema(value_type = Object)]
    settings: Value,
    /// SHA-256 of the one version meant; left out, the version that is bound stays, and another plugin is taken in its
    /// newest version.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AnswerView {
    template: String,
    candidates: u32,
    passages: u32,
    context_tokens_max: u32,
    answer_tokens_max: u32,
    relevance_min: Option<f32>,
    temperature: f32,
    top_p: f32,
    /// Tuned state that answers here begin from; none: what was chosen for every answer.
    state: Option<String>,
    /// Likewise the adapter that they are written under.
    adapter: Option<String>,
}

/// Settings to change; what is left out stays (or takes its default in a new knowledge base).
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SettingsChange {
    chunker: Option<PluginView>,
    store: Option<PluginView>,
    retriever: Option<PluginView>,
    /// An online encoder; null takes the one for all. Another one embeds every document anew, in the background.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    encoder: Option<Option<String>>,
    /// Whether candidates are reranked before they reach the prompt.
    rerank: Option<bool>,
    /// An online reranker, or an online encoder that reranks with its token vectors; null takes the one for all. Counts
    /// from the next question on.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    reranker: Option<Option<String>>,
    /// Languages of text in pictures and scanned pages, as tesseract names them: `chi_sim`, `chi_tra`, `eng`, `jpn`, …
    ocr_languages: Option<Vec<String>>,
    answer: Option<AnswerChange>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnswerChange {
    /// Prompt with `{question}`, `{context}` and `{history}`, substituted once.
    template: Option<String>,
    /// Candidates that the retriever returns, 1 to 1000.
    candidates: Option<u32>,
    /// Passages in the prompt at most, 1 to 100.
    passages: Option<u32>,
    /// Tokens of passages in the prompt at most.
    context_tokens_max: Option<u32>,
    /// Tokens of the answer at most.
    answer_tokens_max: Option<u32>,
    /// A best passage less relevant than this is no match; null goes back to the host's calibrated value.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<f32>)]
    relevance_min: Option<Option<f32>>,
    /// 0 to 5; 0 is greedy.
    temperature: Option<f32>,
    /// 0 to 1.
    top_p: Option<f32>,
    /// An online tuned state; null takes none of its own.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    state: Option<Option<String>>,
    /// Likewise an online adapter.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    adapter: Option<Option<String>>,
}

/// Tells null from left out.
pub(crate) fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewKb {
    /// 3 to 33 ASCII letters, digits and underscores, none at either end.
    name: String,
    settings: Option<SettingsChange>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KbList {
    kbs: Vec<KbView>,
}

/// List the knowledge bases that the key reaches.
#[utoipa::path(get, path = "/api/v1/kbs", tag = "knowledge bases", operation_id = "list_kbs",
    responses((status = 200, body = KbList), (status = "default", body = ErrorBody)))]
pub(crate) async fn list(State(state): State<AppState>, caller: Caller) -> ApiResult<Answer<KbList>> {
    let kbs = state.rag.catalog.kbs().await?;
    let reached = kbs.into_iter().filter(|kb| caller.reaches(&kb.name));
    Ok(Answer(KbList { kbs: reached.map(KbView::from).collect() }))
}

/// Create a knowledge base.
#[utoipa::path(post, path = "/api/v1/kbs", tag = "knowledge bases", operation_id = "create_kb",
    request_body = NewKb,
    responses((status = 201, body = KbView), (status = "default", body = ErrorBody)))]
pub(crate) async fn create(
    State(state): State<AppState>,
    caller: Caller,
    Json(new): Json<NewKb>,
) -> ApiResult<(StatusCode, Answer<KbView>)> {
    let name = caller.kb(Role::Admin, &new.name)?;
    let settings = new.settings.map(|change| change.apply(KbSettings::default())).transpose()?;
    if let Some(settings) = &settings {
        check_variant(&state, &Variant::default(), &settings.answer.variant).await?;
    }
    let kb = state.rag.create_kb(name.as_str(), settings).await?;
    Ok((StatusCode::CREATED, Answer(kb.into())))
}

/// One knowledge base with its settings.
#[utoipa::path(get, path = "/api/v1/kbs/{kb}", tag = "knowledge bases", operation_id = "get_kb",
    params(("kb" = String, Path,)),
    responses((status = 200, body = KbView), (status = "default", body = ErrorBody)))]
pub(crate) async fn get(
    State(state): State<AppState>,
    caller: Caller,
    InPath(kb): InPath<String>,
) -> ApiResult<Answer<KbView>> {
    let kb = caller.kb(Role::Reader, &kb)?;
    Ok(Answer(state.rag.kb(kb.as_str()).await?.into()))
}

/// Change a knowledge base's settings. Another retriever answers at once; for another chunker, vector store or encoder
/// a job fills a second index, and the present one answers until that is complete (see the plugins of a knowledge
/// base).
#[utoipa::path(patch, path = "/api/v1/kbs/{kb}", tag = "knowledge bases", operation_id = "update_kb",
    params(("kb" = String, Path,)), request_body = SettingsChange,
    responses((status = 200, body = KbView), (status = "default", body = ErrorBody)))]
pub(crate) async fn update(
    State(state): State<AppState>,
    caller: Caller,
    InPath(kb): InPath<String>,
    Json(change): Json<SettingsChange>,
) -> ApiResult<Answer<KbView>> {
    let kb = caller.kb(Role::Admin, &kb)?;
    let current = state.rag.kb(kb.as_str()).await?;
    let before = current.settings.answer.variant.clone();
    let settings = change.apply(current.settings)?;
    check_variant(&state, &before, &settings.answer.variant).await?;
    Ok(Answer(state.rag.update_kb(kb.as_str(), settings).await?.into()))
}

/// Refuses a name that answers could not be written with. Where models run elsewhere nobody here knows them.
async fn check_variant(state: &AppState, before: &Variant, wanted: &Variant) -> ApiResult<()> {
    if wanted == before {
        return Ok(());
    }
    let known = state.rag.models.models().await?.entries;
    for (kind, name) in [(ModelKind::State, &wanted.state), (ModelKind::Adapter, &wanted.adapter)] {
        let Some(name) = name else { continue };
        let online = known.iter().any(|entry| entry.kind == kind && entry.online && entry.name == *name);
        if !online && !known.is_empty() {
            return Err(ApiError::invalid(format!("there is no online {} '{name}'", kind.name())));
        }
    }
    Ok(())
}

/// Delete a knowledge base with everything in it.
#[utoipa::path(delete, path = "/api/v1/kbs/{kb}", tag = "knowledge bases", operation_id = "delete_kb",
    params(("kb" = String, Path,)),
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub(crate) async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    InPath(kb): InPath<String>,
) -> ApiResult<StatusCode> {
    let kb = caller.kb(Role::Admin, &kb)?;
    state.rag.delete_kb(kb.as_str()).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl SettingsChange {
    fn apply(self, mut settings: KbSettings) -> ApiResult<KbSettings> {
        for (change, current) in [
            (self.chunker, &mut settings.chunker),
            (self.store, &mut settings.store),
            (self.retriever, &mut settings.retriever),
        ] {
            if let Some(plugin) = change {
                *current = plugin.try_into()?;
            }
        }
        if let Some(encoder) = self.encoder {
            // The same name stays the very model that it was.
            let held = settings.encoder.take().filter(|held| encoder.as_ref() == Some(&held.name));
            settings.encoder = held.or_else(|| encoder.map(EncoderChoice::named));
        }
        settings.rerank = self.rerank.unwrap_or(settings.rerank);
        settings.reranker = self.reranker.unwrap_or(settings.reranker);
        if let Some(languages) = self.ocr_languages {
            let word = |name: &String| {
                (2..=32).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            };
            if !(1..=8).contains(&languages.len()) || !languages.iter().all(word) {
                return Err(ApiError::invalid(
                    "ocr_languages: 1 to 8 names as tesseract has them, such as chi_sim or eng",
                ));
            }
            settings.ocr_languages = languages;
        }
        if let Some(answer) = self.answer {
            settings.answer = answer.apply(settings.answer)?;
        }
        Ok(settings)
    }
}

impl AnswerChange {
    fn apply(self, current: AnswerSettings) -> ApiResult<AnswerSettings> {
        let settings = AnswerSettings {
            template: self.template.unwrap_or(current.template),
            candidates: self.candidates.unwrap_or(current.candidates),
            passages: self.passages.unwrap_or(current.passages),
            context_tokens_max: self.context_tokens_max.unwrap_or(current.context_tokens_max),
            answer_tokens_max: self.answer_tokens_max.unwrap_or(current.answer_tokens_max),
            relevance_min: self.relevance_min.unwrap_or(current.relevance_min),
            temperature: self.temperature.unwrap_or(current.temperature),
            top_p: self.top_p.unwrap_or(current.top_p),
            variant: Variant {
                state: self.state.unwrap_or(current.variant.state),
                adapter: self.adapter.unwrap_or(current.variant.adapter),
            },
        };
        in_range("answer.candidates", settings.candidates, 1, rag_core::limits::SEARCH_K_MAX)?;
        in_range("answer.passages", settings.passages, 1, 100)?;
        in_range("answer.context_tokens_max", settings.context_tokens_max, 16, 1_000_000)?;
        in_range("answer.answer_tokens_max", settings.answer_tokens_max, 1, ANSWER_TOKENS_MAX)?;
        in_range("answer.temperature", settings.temperature, 0.0, 5.0)?;
        in_range("answer.top_p", settings.top_p, 0.0, 1.0)?;
        Ok(settings)
    }
}

/// Tokens that any caller may ask a model to write.
pub(crate) const ANSWER_TOKENS_MAX: u32 = 16_384;

/// Refuses a number outside [min, max] (and NaN).
pub(crate) fn in_range<T: Copy + PartialOrd + std::fmt::Display>(
    name: &str,
    value: T,
    min: T,
    max: T,
) -> ApiResult<()> {
    if value >= min && value <= max {
        return Ok(());
    }
    Err(ApiError::invalid(format!("{name} is {value}; it must be from {min} to {max}")))
}

fn empty_object() -> Value {
    Value::Object(serde_json::Map::new())
}

impl TryFrom<PluginView> for PluginChoice {
    type Error = ApiError;

    fn try_from(plugin: PluginView) -> ApiResult<Self> {
        if !plugin.settings.is_object() {
            return Err(ApiError::invalid(format!(
                "the settings of plugin '{}' are not a JSON object",
                plugin.id
            )));
        }
        Ok(PluginChoice { id: plugin.id, settings: plugin.settings.to_string(), digest: plugin.digest })
    }
}

impl From<PluginChoice> for PluginView {
    fn from(plugin: PluginChoice) -> Self {
        PluginView {
            id: plugin.id,
            settings: serde_json::from_str(&plugin.settings).unwrap_or_else(|_| empty_object()),
            digest: plugin.digest,
        }
    }
}

impl From<Kb> for KbView {
    fn from(kb: Kb) -> Self {
        let answer = kb.settings.answer;
        KbView {
            name: kb.name.as_str().to_owned(),
            settings: SettingsView {
                chunker: kb.settings.chunker.into(),
                store: kb.settings.store.into(),
                retriever: kb.settings.retriever.into(),
                encoder: kb.settings.encoder.map(|encoder| encoder.name),
                rerank: kb.settings.rerank,
                reranker: kb.settings.reranker,
                ocr_languages: kb.settings.ocr_languages,
                answer: AnswerView {
                    template: answer.template,
                    candidates: answer.candidates,
                    passages: answer.passages,
                    context_tokens_max: answer.context_tokens_max,
                    answer_tokens_max: answer.answer_tokens_max,
                    relevance_min: answer.relevance_min,
                    temperature: answer.temperature,
                    top_p: answer.top_p,
                    state: answer.variant.state,
                    adapter: answer.variant.adapter,
                },
            },
            generation: kb.generation,
            dim: kb.embedder.as_ref().map(|held| held.dim).filter(|dim| *dim > 0),
            embedder: kb.embedder.map(|held| held.identity),
            documents: kb.documents,
            chunks: kb.chunks,
            created_ms: kb.created_ms,
        }
    }
}
