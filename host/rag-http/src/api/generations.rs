//! The plugins of a knowledge base: what is bound, swapped, taken back; and components put into the host.

use axum::Json as Answer;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use rag_core::generations::SwapRequest;
use rag_core::kb::PluginChoice;
use rag_core::limits::GENERATIONS_SHOWN;
use rag_core::ports::{Generation, GenerationState, PluginInfo, Role, SwapHit, SwapQuestion, SwapReport};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::kbs::{PluginView, given};
use super::plugins::InstalledPlugin;
use crate::auth::Caller;
use crate::error::{ApiError, ApiResult, ErrorBody};
use crate::extract::{InPath, Json};
use crate::state::AppState;

/// Size of a component; the host may refuse smaller ones.
pub(crate) const COMPONENT_BYTES_MAX: usize = 128 << 20;
/// Characters of a reason.
const REASON_CHARS_MAX: usize = 500;

/// The plugins that a knowledge base binds, with what else could be bound.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BoundPlugins {
    /// The live generation.
    generation: u64,
    /// The one before it, where there is a way back.
    previous: Option<u64>,
    /// One for each part, fixed parsers last.
    slots: Vec<SlotView>,
    /// Encoder of the registry; none: the one for all.
    encoder: Option<String>,
    /// The embedding model whose vectors it holds, by name and hash; none while it is empty.
    embedder: Option<String>,
    /// The generation that is being made or waits to be published.
    staged: Option<GenerationView>,
    /// While the live generation is on probation: until when, in milliseconds since 1970 (UTC).
    probation_until_ms: Option<i64>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SlotView {
    /// `chunker`, `vector-store`, `retriever` or `parser`.
    kind: &'static str,
    plugin: PluginView,
    /// Of the component that is bound; none when it is gone and another version stands in for it.
    version: Option<String>,
    /// Other components of this kind that the host offers.
    others: Vec<OfferedView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OfferedView {
    id: String,
    version: String,
    digest: String,
    description: String,
}

/// What to bind instead; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SwapBody {
    /// The generation that must be live, as it was when this was decided; any when left out.
    expected: Option<u64>,
    chunker: Option<PluginView>,
    store: Option<PluginView>,
    retriever: Option<PluginView>,
    /// Parsers whose version is to be fixed.
    #[serde(default)]
    parsers: Vec<PluginView>,
    /// Ids of parsers whose version is no longer fixed.
    #[serde(default)]
    release: Vec<String>,
    /// An online encoder of the registry; null takes the one for all. Every document is embedded anew.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    encoder: Option<Option<String>>,
    /// Whether it is published as soon as it is ready. Left out, it waits with its comparison.
    #[serde(default)]
    publish: bool,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RollBack {
    /// The generation that must be live; any when left out.
    expected: Option<u64>,
    /// For the history.
    reason: Option<String>,
}

/// One generation. Times are milliseconds since 1970 (UTC).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GenerationView {
    number: u64,
    /// The one that was live when this was staged.
    parent: Option<u64>,
    /// `building`, `ready`, `live`, `retired`, `rolled_back`, `failed` or `abandoned`.
    state: &'static str,
    chunker: PluginView,
    store: PluginView,
    retriever: PluginView,
    parsers: Vec<PluginView>,
    /// Encoder of the registry; none: the one for all.
    encoder: Option<String>,
    /// What the vectors of its index are, by name and hash; none while it is empty or after it went.
    embedder: Option<String>,
    /// Name of its index.
    index: String,
    /// Whether it is published as soon as it is ready.
    publish: bool,
    /// Fills its index: see `jobs`.
    job: Option<String>,
    report: Option<ReportView>,
    /// Why it failed, was given up or taken back; of one that takes another back, which.
    reason: Option<String>,
    created_ms: i64,
    published_ms: Option<i64>,
    /// Until then a failing plugin takes it back.
    probation_until_ms: Option<i64>,
    ended_ms: Option<i64>,
}

/// How a generation compares with the one that is live.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReportView {
    questions: Vec<ComparedView>,
    /// Questions whose best passage is another one.
    changed: u32,
    /// Milliseconds of one retrieval on average.
    millis_before: f64,
    millis_after: f64,
    chunks_before: u64,
    chunks_after: u64,
    /// Edited or disabled chunks, which the new index cuts anew.
    edits_lost: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ComparedView {
    question: String,
    /// Best first.
    before: Vec<ComparedHit>,
    after: Vec<ComparedHit>,
    /// How many of the passages before are among those after.
    kept: u32,
    /// Why the new generation has none.
    error: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ComparedHit {
    document: String,
    /// The beginning of its text.
    text: String,
    score: f32,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GenerationList {
    /// Newest first.
    generations: Vec<GenerationView>,
}

/// Put a component into the host: it is checked, tried and offered to every knowledge base, at every later start too.
#[utoipa::path(post, path = "/api/v1/plugins", tag = "plugins", operation_id = "install_plugin",
    request_body(content = Vec<u8>, content_type = "application/wasm"),
    responses((status = 201, body = InstalledPlugin), (status = "default", body = ErrorBody)))]
pub(crate) async fn install(
    State(state): State<AppState>,
    caller: Caller,
    component: Bytes,
) -> ApiResult<(StatusCode, Answer<InstalledPlugin>)> {
    caller.need_unscoped_admin()?;
    let (kind, info) = state.rag.bindings.install(component.to_vec()).await?;
    Ok((StatusCode::CREATED, Answer(InstalledPlugin::of(&state, kind, info))))
}

/// Take a component out of the host. Refused while a knowledge base binds it, or would on its way back.
#[utoipa::path(delete, path = "/api/v1/plugins/{digest}", tag = "plugins", operation_id = "remove_plugin",
    params(("digest" = String, Path,)),
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub(crate) async fn remove(
    State(state): State<AppState>,
    caller: Caller,
    InPath(digest): InPath<String>,
) -> ApiResult<StatusCode> {
    caller.need_unscoped_admin()?;
    state.rag.remove_plugin(&digest).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a knowledge base binds, and what it could bind instead.
#[utoipa::path(get, path = "/api/v1/kbs/{kb}/plugins", tag = "plugins", operation_id = "bound_plugins",
    params(("kb" = String, Path,)),
    responses((status = 200, body = BoundPlugins), (status = "default", body = ErrorBody)))]
pub(crate) async fn bound(
    State(state): State<AppState>,
    caller: Caller,
    InPath(kb): InPath<String>,
) -> ApiResult<Answer<BoundPlugins>> {
    let name = caller.kb(Role::Reader, &kb)?;
    let kb = state.rag.kb(name.as_str()).await?;
    let mut generations = state.rag.records.generations(&name, GENERATIONS_SHOWN).await?;
    let live = generations.iter().find(|one| one.number == kb.generation);
    let (previous, probation) = live.map_or((None, None), |live| (live.parent, live.probation_until_ms));
    let is_staged =
        |one: &Generation| matches!(one.state, GenerationState::Building | GenerationState::Ready);
    let staged = generations.iter().position(is_staged).map(|at| generations.swap_remove(at));
    let installed = state.rag.bindings.installed();
    let settings = kb.settings;
    let mut slots = vec![
        slot(&installed, "chunker", settings.chunker),
        slot(&installed, "vector-store", settings.store),
        slot(&installed, "retriever", settings.retriever),
    ];
    slots.extend(settings.parsers.into_iter().map(|parser| slot(&installed, "parser", parser)));
    let now = crate::audit::now_ms();
    Ok(Answer(BoundPlugins {
        generation: kb.generation,
        previous,
        slots,
        encoder: settings.encoder.map(|encoder| encoder.name),
        embedder: kb.embedder.map(|held| held.identity),
        staged: staged.map(GenerationView::from),
        probation_until_ms: probation.filter(|until| *until > now),
    }))
}

/// Bind other plugins or another encoder. Answers with the new generation: live or ready, or being built while the present one answers.
#[utoipa::path(post, path = "/api/v1/kbs/{kb}/plugins/swap", tag = "plugins", operation_id = "swap_plugins",
    params(("kb" = String, Path,)), request_body = SwapBody,
    responses((status = 202, body = GenerationView), (status = "default", body = ErrorBody)))]
pub(crate) async fn swap(
    State(state): State<AppState>,
    caller: Caller,
    InPath(kb): InPath<String>,
    Json(body): Json<SwapBody>,
) -> ApiResult<(StatusCode, Answer<GenerationView>)> {
    let kb = caller.kb(Role::Admin, &kb)?;
    let choice = |view: Option<PluginView>| view.map(PluginChoice::try_from).transpose();
    let request = SwapRequest {
        expected: body.expected,
        chunker: choice(body.chunker)?,
        store: choice(body.store)?,
        retriever: choice(body.retriever)?,
        parsers: body.parsers.into_iter().map(PluginChoice::try_from).collect::<ApiResult<_>>()?,
        release: body.release,
        encoder: body.encoder,
        publish: body.publish,
    };
    let staged = state.rag.swap(kb.as_str(), request).await?;
    Ok((StatusCode::ACCEPTED, Answer(staged.into())))
}

/// Go back to the plugins and the index before, at once. Documents that came or changed since are ingested again.
#[utoipa::path(post, path = "/api/v1/kbs/{kb}/plugins/rollback", tag = "plugins", operation_id = "roll_back_plugins",
    params(("kb" = String, Path,)), request_body = RollBack,
    responses((status = 200, body = GenerationView), (status = "default", body = ErrorBody)))]
pub(crate) async fn roll_back(
    State(state): State<AppState>,
    caller: Caller,
    InPath(kb): InPath<String>,
    Json(body): Json<RollBack>,
) -> ApiResult<Answer<GenerationView>> {
    let kb = caller.kb(Role::Admin, &kb)?;
    let reason = body.reason.unwrap_or_else(|| format!("taken back by {}", caller.principal.name));
    if reason.chars().count() > REASON_CHARS_MAX || reason.chars().any(char::is_control) {
        return Err(ApiError::invalid(format!(
            "a reason has at most {REASON_CHARS_MAX} characters, in one line"
        )));
    }
    Ok(Answer(state.rag.roll_back(kb.as_str(), body.expected, &reason).await?.into()))
}

/// The history of a knowledge base's plugins.
#[utoipa::path(get, path = "/api/v1/kbs/{kb}/plugins/generations", tag = "plugins",
    operation_id = "list_generations", params(("kb" = String, Path,)),
    responses((status = 200, body = GenerationList), (status = "default", body = ErrorBody)))]
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    InPath(kb): InPath<String>,
) -> ApiResult<Answer<GenerationList>> {
    let kb = caller.kb(Role::Reader, &kb)?;
    let generations = state.rag.records.generations(&kb, GENERATIONS_SHOWN).await?;
    Ok(Answer(GenerationList {
        generations: generations.into_iter().map(|one| shown(&caller, &kb, one)).collect(),
    }))
}

/// One generation, with how it compares with the one that was live.
#[utoipa::path(get, path = "/api/v1/kbs/{kb}/plugins/generations/{generation}", tag = "plugins",
    operation_id = "get_generation", params(("kb" = String, Path,), ("generation" = u64, Path,)),
    responses((status = 200, body = GenerationView), (status = "default", body = ErrorBody)))]
pub(crate) async fn get(
    State(state): State<AppState>,
    caller: Caller,
    InPath((kb, generation)): InPath<(String, String)>,
) -> ApiResult<Answer<GenerationView>> {
    let kb = caller.kb(Role::Reader, &kb)?;
    let found = state.rag.records.generation(&kb, number(&generation)?).await?;
    Ok(Answer(shown(&caller, &kb, found)))
}

/// Let a ready generation answer.
#[utoipa::path(post, path = "/api/v1/kbs/{kb}/plugins/generations/{generation}/publish", tag = "plugins",
    operation_id = "publish_generation", params(("kb" = String, Path,), ("generation" = u64, Path,)),
    responses((status = 200, body = GenerationView), (status = "default", body = ErrorBody)))]
pub(crate) async fn publish(
    State(state): State<AppState>,
    caller: Caller,
    InPath((kb, generation)): InPath<(String, String)>,
) -> ApiResult<Answer<GenerationView>> {
    let kb = caller.kb(Role::Admin, &kb)?;
    Ok(Answer(state.rag.publish(kb.as_str(), number(&generation)?).await?.into()))
}

/// Give up a generation that does not answer yet, with its index.
#[utoipa::path(delete, path = "/api/v1/kbs/{kb}/plugins/generations/{generation}", tag = "plugins",
    operation_id = "abandon_generation", params(("kb" = String, Path,), ("generation" = u64, Path,)),
    responses((status = 200, body = GenerationView), (status = "default", body = ErrorBody)))]
pub(crate) async fn abandon(
    State(state): State<AppState>,
    caller: Caller,
    InPath((kb, generation)): InPath<(String, String)>,
) -> ApiResult<Answer<GenerationView>> {
    let kb = caller.kb(Role::Admin, &kb)?;
    let reason = format!("given up by {}", caller.principal.name);
    Ok(Answer(state.rag.abandon(kb.as_str(), number(&generation)?, &reason).await?.into()))
}

fn number(text: &str) -> ApiResult<u64> {
    text.parse().map_err(|_| {
        ApiError::from(rag_core::Error::NotFound {
            what: "generation",
            name: text.chars().take(40).collect(),
        })
    })
}

/// What others asked is for those who run the knowledge base.
fn shown(caller: &Caller, kb: &rag_core::kb::KbName, generation: Generation) -> GenerationView {
    let mut view = GenerationView::from(generation);
    if let (Some(report), Err(_)) = (&mut view.report, caller.kb(Role::Editor, kb.as_str())) {
        report.questions.clear();
    }
    view
}

fn slot(installed: &[(&'static str, PluginInfo)], kind: &'static str, choice: PluginChoice) -> SlotView {
    let of_kind = || installed.iter().filter(|(other, _)| *other == kind).map(|(_, info)| info);
    let bound = match &choice.digest {
        Some(digest) => of_kind().find(|info| info.digest == *digest),
        None => of_kind().find(|info| info.id == choice.id),
    };
    let others = of_kind().filter(|info| bound.is_none_or(|bound| bound.digest != info.digest));
    SlotView {
        kind,
        version: bound.map(|info| info.version.clone()),
        others: others
            .map(|info| OfferedView {
                id: info.id.clone(),
                version: info.version.clone(),
                digest: info.digest.clone(),
                description: info.description.clone(),
            })
            .collect(),
        plugin: choice.into(),
    }
}

impl From<Generation> for GenerationView {
    fn from(generation: Generation) -> Self {
        let parts = generation.parts;
        GenerationView {
            number: generation.number,
            parent: generation.parent,
            state: match generation.state {
                GenerationState::Building => "building",
                GenerationState::Ready => "ready",
                GenerationState::Live => "live",
                GenerationState::Retired => "retired",
                GenerationState::RolledBack => "rolled_back",
                GenerationState::Failed => "failed",
                GenerationState::Abandoned => "abandoned",
            },
            chunker: parts.chunker.into(),
            store: parts.store.into(),
            retriever: parts.retriever.into(),
            parsers: parts.parsers.into_iter().map(PluginView::from).collect(),
            encoder: parts.encoder.map(|encoder| encoder.name),
            embedder: generation.embedder.map(|held| held.identity),
            index: generation.collection,
            publish: generation.publish,
            job: generation.job.map(|job| job.0),
            report: generation.report.map(ReportView::from),
            reason: generation.reason,
            created_ms: generation.created_ms,
            published_ms: generation.published_ms,
            probation_until_ms: generation.probation_until_ms,
            ended_ms: generation.ended_ms,
        }
    }
}

impl From<SwapReport> for ReportView {
    fn from(report: SwapReport) -> Self {
        ReportView {
            questions: report.questions.into_iter().map(ComparedView::from).collect(),
            changed: report.changed,
            millis_before: report.millis_before,
            millis_after: report.millis_after,
            chunks_before: report.chunks_before,
            chunks_after: report.chunks_after,
            edits_lost: report.edits_lost,
        }
    }
}

impl From<SwapQuestion> for ComparedView {
    fn from(question: SwapQuestion) -> Self {
        let hits = |hits: Vec<SwapHit>| {
            let hit = |hit: SwapHit| ComparedHit { document: hit.document, text: hit.text, score: hit.score };
            hits.into_iter().map(hit).collect()
        };
        ComparedView {
            question: question.question,
            before: hits(question.before),
            after: hits(question.after),
            kept: question.kept,
            error: question.error,
        }
    }
}
