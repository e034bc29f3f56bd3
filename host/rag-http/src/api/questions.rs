//! Question sets and evaluation runs: how well a knowledge base finds what it should.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use rag_core::document::ChunkId;
use rag_core::kb::PluginChoice;
use rag_core::ports::{Expected, Outcome, Question, QuestionSet, Role, Run, RunSettings, Scores};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::documents::attachment;
use super::kbs::PluginView;
use crate::auth::Caller;
use crate::error::{ApiError, ApiResult, ErrorBody};
use crate::extract::{InPath, Json};
use crate::state::AppState;

/// Hits looked at when a run does not say.
const K_DEFAULT: u32 = 10;

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QuestionSetView {
    id: String,
    kb: String,
    name: String,
    /// How many.
    questions: u64,
    /// Milliseconds since 1970 (UTC).
    created_ms: i64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QuestionSetList {
    sets: Vec<QuestionSetView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QuestionSetDetail {
    set: QuestionSetView,
    questions: Vec<QuestionView>,
}

/// A question with what should be found for it: at least one thing.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct QuestionView {
    question: String,
    /// Names of documents of which any passage counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    documents: Vec<String>,
    /// Ids of chunks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    chunks: Vec<String>,
    /// Texts that a passage must contain, white space aside: they survive cutting a document anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    texts: Vec<String>,
}

/// Questions as a list, or as JSONL with one question a line (the format of the export).
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewQuestionSet {
    /// 1 to 100 characters.
    name: String,
    #[serde(default)]
    questions: Vec<QuestionView>,
    jsonl: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRun {
    /// For people; named after the retriever when left out.
    label: Option<String>,
    /// Hits looked at, 1 to 100; 10 when left out.
    k: Option<u32>,
    /// Tried instead of the knowledge base's own.
    retriever: Option<PluginView>,
    /// Overrules the knowledge base's setting.
    rerank: Option<bool>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunView {
    id: String,
    set: String,
    label: String,
    k: u32,
    /// None for the knowledge base's own.
    retriever: Option<PluginView>,
    rerank: Option<bool>,
    /// Follow it for progress, cancel it to stop.
    job: Option<String>,
    /// None until the job is done.
    scores: Option<ScoresView>,
    /// Milliseconds since 1970 (UTC).
    created_ms: i64,
}

/// Means over the questions.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ScoresView {
    questions: u64,
    hit_at: Vec<HitAt>,
    mrr: f64,
    ndcg: f64,
    /// Milliseconds of one search.
    millis: f64,
}

/// Share of questions with something expected among the first `k`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HitAt {
    k: u32,
    share: f64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunList {
    /// Newest first.
    runs: Vec<RunView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunDetail {
    run: RunView,
    /// In the order of the questions; empty until the run is done.
    outcomes: Vec<OutcomeView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OutcomeView {
    question: String,
    /// Of the first relevant hit, from 1.
    rank: Option<u32>,
    ndcg: f64,
    millis: u32,
    /// Best first.
    hits: Vec<OutcomeHit>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OutcomeHit {
    chunk: String,
    /// The document's name.
    document: String,
    score: f32,
    relevant: bool,
}

/// List a knowledge base's question sets.
#[utoipa::path(get, path = "/api/v1/kbs/{kb}/question-sets", tag = "evaluation",
    operation_id = "list_question_sets", params(("kb" = String, Path,)),
    responses((status = 200, body = QuestionSetList), (status = "default", body = ErrorBody)))]
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    InPath(kb): InPath<String>,
) -> ApiResult<Answer<QuestionSetList>> {
    let kb = caller.kb(Role::Reader, &kb)?;
    let sets = state.rag.records.question_sets(&kb).await?;
    Ok(Answer(QuestionSetList { sets: sets.into_iter().map(QuestionSetView::from).collect() }))
}

/// Save a question set.
#[utoipa::path(post, path = "/api/v1/kbs/{kb}/question-sets", tag = "evaluation",
    operation_id = "create_question_set", params(("kb" = String, Path,)), request_body = NewQuestionSet,
    responses((status = 201, body = QuestionSetView), (status = "default", body = ErrorBody)))]
pub(crate) async fn create(
    State(state): State<AppState>,
    caller: Caller,
    InPath(kb): InPath<String>,
    Json(new): Json<NewQuestionSet>,
) -> ApiResult<(StatusCode, Answer<QuestionSetView>)> {
    let kb = caller.kb(Role::Editor, &kb)?;
    let (name, questions) = new.read()?;
    let set = state.rag.records.create_question_set(&kb, &name, &questions).await?;
    Ok((StatusCode::CREATED, Answer(set.into())))
}

/// A question set with its questions.
#[utoipa::path(get, path = "/api/v1/kbs/{kb}/question-sets/{set}", tag = "evaluation",
    operation_id = "get_question_set", params(("kb" = String, Path,), ("set" = String, Path,)),
    responses((status = 200, body = QuestionSetDetail), (status = "default", body = ErrorBody)))]
pub(crate) async fn get(
    State(state): State<AppState>,
    caller: Caller,
    InPath((kb, set)): InPath<(String, String)>,
) -> ApiResult<Answer<QuestionSetDetail>> {
    let set = within(&state, &caller, Role::Reader, &kb, &set).await?;
    let questions = state.rag.records.questions(&set.id).await?;
    let questions = questions.into_iter().map(QuestionView::from).collect();
    Ok(Answer(QuestionSetDetail { set: set.into(), questions }))
}

/// Replace a question set's name and questions; its runs stay.
#[utoipa::path(put, path = "/api/v1/kbs/{kb}/question-sets/{set}", tag = "evaluation",
    operation_id = "replace_question_set", params(("kb" = String, Path,), ("set" = String, Path,)),
    request_body = NewQuestionSet,
    responses((status = 200, body = QuestionSetView), (status = "default", body = ErrorBody)))]
pub(crate) async fn replace(
    State(state): State<AppState>,
    caller: Caller,
    InPath((kb, set)): InPath<(String, String)>,
    Json(new): Json<NewQuestionSet>,
) -> ApiResult<Answer<QuestionSetView>> {
    let set = within(&state, &caller, Role::Editor, &kb, &set).await?;
    let (name, questions) = new.read()?;
    Ok(Answer(state.rag.records.replace_question_set(&set.id, &name, &questions).await?.into()))
}

/// Delete a question set with its runs.
#[utoipa::path(delete, path = "/api/v1/kbs/{kb}/question-sets/{set}", tag = "evaluation",
    operation_id = "delete_question_set", params(("kb" = String, Path,), ("set" = String, Path,)),
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub(crate) async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    InPath((kb, set)): InPath<(String, String)>,
) -> ApiResult<StatusCode> {
    let set = within(&state, &caller, Role::Editor, &kb, &set).await?;
    state.rag.records.delete_question_set(&set.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Download the questions as JSONL, one a line.
#[utoipa::path(get, path = "/api/v1/kbs/{kb}/question-sets/{set}/export", tag = "evaluation",
    operation_id = "export_question_set", params(("kb" = String, Path,), ("set" = String, Path,)),
    responses((status = 200, body = String, content_type = "application/jsonl"),
        (status = "default", body = ErrorBody)))]
pub(crate) async fn export(
    State(state): State<AppState>,
    caller: Caller,
    InPath((kb, set)): InPath<(String, String)>,
) -> ApiResult<Response> {
    let set = within(&state, &caller, Role::Reader, &kb, &set).await?;
    let mut lines = String::new();
    for question in state.rag.records.questions(&set.id).await? {
        lines += &serde_json::to_string(&QuestionView::from(question)).unwrap_or_default();
        lines.push('\n');
    }
    let name = attachment(&format!("{}.jsonl", set.name.replace('/', "_")));
    let disposition = HeaderValue::from_str(&name).unwrap_or(HeaderValue::from_static("attachment"));
    let headers =
        [(CONTENT_TYPE, HeaderValue::from_static("application/jsonl")), (CONTENT_DISPOSITION, disposition)];
    Ok((headers, lines).into_response())
}

/// List a question set's runs.
#[utoipa::path(get, path = "/api/v1/kbs/{kb}/question-sets/{set}/runs", tag = "evaluation",
    operation_id = "list_runs", params(("kb" = String, Path,), ("set" = String, Path,)),
    responses((status = 200, body = RunList), (status = "default", body = ErrorBody)))]
pub(crate) async fn runs(
    State(state): State<AppState>,
    caller: Caller,
    InPath((kb, set)): InPath<(String, String)>,
) -> ApiResult<Answer<RunList>> {
    let set = within(&state, &caller, Role::Reader, &kb, &set).await?;
    let runs = state.rag.records.runs(&set.id).await?;
    Ok(Answer(RunList { runs: runs.into_iter().map(RunView::from).collect() }))
}

/// Try a question set in the background; two runs with different retrievers compare them.
#[utoipa::path(post, path = "/api/v1/kbs/{kb}/question-sets/{set}/runs", tag = "evaluation",
    operation_id = "start_run", params(("kb" = String, Path,), ("set" = String, Path,)), request_body = NewRun,
    responses((status = 202, body = RunView), (status = "default", body = ErrorBody)))]
pub(crate) async fn start(
    State(state): State<AppState>,
    caller: Caller,
    InPath((kb, set)): InPath<(String, String)>,
    Json(new): Json<NewRun>,
) -> ApiResult<(StatusCode, Answer<RunView>)> {
    let set = within(&state, &caller, Role::Editor, &kb, &set).await?;
    let retriever = new.retriever.map(PluginChoice::try_from).transpose()?;
    let label = match (new.label, &retriever) {
        (Some(label), _) => label,
        (None, Some(retriever)) => retriever.id.clone(),
        (None, None) => state.rag.catalog.kb(&set.kb).await?.settings.retriever.id,
    };
    let settings = RunSettings { label, k: new.k.unwrap_or(K_DEFAULT), retriever, rerank: new.rerank };
    let run = state.rag.start_run(&set.id, &settings).await?;
    Ok((StatusCode::ACCEPTED, Answer(run.into())))
}

/// A run with what it found for each question.
#[utoipa::path(get, path = "/api/v1/kbs/{kb}/question-sets/{set}/runs/{run}", tag = "evaluation",
    operation_id = "get_run",
    params(("kb" = String, Path,), ("set" = String, Path,), ("run" = String, Path,)),
    responses((status = 200, body = RunDetail), (status = "default", body = ErrorBody)))]
pub(crate) async fn run(
    State(state): State<AppState>,
    caller: Caller,
    InPath((kb, set, run)): InPath<(String, String, String)>,
) -> ApiResult<Answer<RunDetail>> {
    let run = run_within(&state, &caller, Role::Reader, (&kb, &set, &run)).await?;
    let outcomes = state.rag.records.outcomes(&run.id).await?;
    let outcomes = outcomes.into_iter().map(OutcomeView::from).collect();
    Ok(Answer(RunDetail { run: run.into(), outcomes }))
}

/// Delete a run; one that is still at work is cancelled.
#[utoipa::path(delete, path = "/api/v1/kbs/{kb}/question-sets/{set}/runs/{run}", tag = "evaluation",
    operation_id = "delete_run",
    params(("kb" = String, Path,), ("set" = String, Path,), ("run" = String, Path,)),
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub(crate) async fn delete_run(
    State(state): State<AppState>,
    caller: Caller,
    InPath((kb, set, run)): InPath<(String, String, String)>,
) -> ApiResult<StatusCode> {
    let run = run_within(&state, &caller, Role::Editor, (&kb, &set, &run)).await?;
    if let (Some(job), None) = (&run.job, &run.scores) {
        state.rag.cancel(job).await?;
    }
    state.rag.records.delete_run(&run.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A set of this very knowledge base.
async fn within(
    state: &AppState,
    caller: &Caller,
    role: Role,
    kb: &str,
    set: &str,
) -> ApiResult<QuestionSet> {
    let kb = caller.kb(role, kb)?;
    let found = state.rag.records.question_set(set).await?;
    if found.kb == kb { Ok(found) } else { Err(ApiError::not_found("question set", set)) }
}

/// A run of this very set.
async fn run_within(
    state: &AppState,
    caller: &Caller,
    role: Role,
    (kb, set, run): (&str, &str, &str),
) -> ApiResult<Run> {
    let set = within(state, caller, role, kb, set).await?;
    let found = state.rag.records.run(run).await?;
    if found.set == set.id { Ok(found) } else { Err(ApiError::not_found("run", run)) }
}

impl NewQuestionSet {
    fn read(self) -> ApiResult<(String, Vec<Question>)> {
        let mut questions = self.questions;
        for (number, line) in (1..).zip(self.jsonl.iter().flat_map(|lines| lines.lines())) {
            if line.trim().is_empty() {
                continue;
            }
            questions.push(serde_json::from_str(line).map_err(|error| {
                ApiError::invalid(format!("line {number} is not a question in JSON: {error}"))
            })?);
        }
        Ok((self.name, questions.into_iter().map(Question::from).collect()))
    }
}

impl From<QuestionView> for Question {
    fn from(view: QuestionView) -> Self {
        let documents = view.documents.into_iter().map(Expected::Document);
        let chunks = view.chunks.into_iter().map(|id| Expected::Chunk(ChunkId(id)));
        let texts = view.texts.into_iter().map(Expected::Text);
        Question { question: view.question, expected: documents.chain(chunks).chain(texts).collect() }
    }
}

impl From<Question> for QuestionView {
    fn from(question: Question) -> Self {
        let (mut documents, mut chunks, mut texts) = (Vec::new(), Vec::new(), Vec::new());
        for expected in question.expected {
            match expected {
                Expected::Document(name) => documents.push(name),
                Expected::Chunk(id) => chunks.push(id.0),
                Expected::Text(text) => texts.push(text),
            }
        }
        QuestionView { question: question.question, documents, chunks, texts }
    }
}

impl From<QuestionSet> for QuestionSetView {
    fn from(set: QuestionSet) -> Self {
        QuestionSetView {
            id: set.id,
            kb: set.kb.as_str().to_owned(),
            name: set.name,
            questions: set.questions,
            created_ms: set.created_ms,
        }
    }
}

impl From<Run> for RunView {
    fn from(run: Run) -> Self {
        RunView {
            id: run.id,
            set: run.set,
            label: run.settings.label,
            k: run.settings.k,
            retriever: run.settings.retriever.map(PluginView::from),
            rerank: run.settings.rerank,
            job: run.job.map(|job| job.0),
            scores: run.scores.map(ScoresView::from),
            created_ms: run.created_ms,
        }
    }
}

impl From<Scores> for ScoresView {
    fn from(scores: Scores) -> Self {
        ScoresView {
            questions: scores.questions,
            hit_at: scores.hit_at.into_iter().map(|(k, share)| HitAt { k, share }).collect(),
            mrr: scores.mrr,
            ndcg: scores.ndcg,
            millis: scores.millis,
        }
    }
}

impl From<Outcome> for OutcomeView {
    fn from(outcome: Outcome) -> Self {
        let hits = outcome.hits.into_iter().map(|hit| OutcomeHit {
            chunk: hit.chunk.0,
            document: hit.document,
            score: hit.score,
            relevant: hit.relevant,
        });
        OutcomeView {
            question: outcome.question,
            rank: outcome.rank,
            ndcg: outcome.ndcg,
            millis: outcome.millis,
            hits: hits.collect(),
        }
    }
}
