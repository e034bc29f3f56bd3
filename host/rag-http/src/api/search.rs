//! Search: passages that speak to a question, with each arm's opinion.

use std::collections::BTreeMap;

use axum::Json as Answer;
use axum::extract::State;
use rag_core::limits::SEARCH_K_MAX;
use rag_core::ports::Role;
use rag_core::recall::{Fate, Recalled, SearchRequest};
use rag_core::search::TraceStep;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::filter::FilterTree;
use super::kbs::in_range;
use crate::auth::Caller;
use crate::error::{ApiResult, ErrorBody};
use crate::extract::{InPath, Json};
use crate::state::AppState;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SearchBody {
    question: String,
    /// Passages wanted, 1 to 1000; the knowledge base's number of candidates when left out.
    k: Option<u32>,
    filter: Option<FilterTree>,
    /// Overrules the knowledge base's setting.
    rerank: Option<bool>,
    /// Id of a retriever in place of the knowledge base's.
    retriever: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SearchAnswer {
    /// Best first.
    hits: Vec<HitView>,
    trace: Trace,
}

/// A passage that was found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HitView {
    chunk: String,
    /// The document's name.
    document: String,
    document_id: String,
    heading: Option<String>,
    page: Option<u32>,
    /// Bytes [start, end) of the document's text.
    start: u64,
    end: u64,
    /// Of the last step that ordered the passages; comparable within one answer only.
    score: f32,
    /// From 1.
    rank: u32,
    text: String,
    /// What each arm thought: `dense`, `lexical`, `rerank`, …
    arms: BTreeMap<String, ArmView>,
    fate: FateName,
}

/// What an answer does with a passage.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FateName {
    /// The model reads it.
    Read,
    /// Its relevance is below the least.
    Irrelevant,
    /// The prompt takes no more passages.
    Surplus,
    /// The prompt's tokens are used up.
    NoRoom,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ArmView {
    rank: u32,
    score: f32,
}

/// How the passages were found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Trace {
    steps: Vec<StepView>,
    /// The question that was searched for, when not the one asked.
    rewritten: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StepView {
    name: String,
    detail: String,
    millis: u32,
}

/// Find passages.
#[utoipa::path(post, path = "/api/v1/kbs/{kb}/search", tag = "answers", operation_id = "search",
    params(("kb" = String, Path,)), request_body = SearchBody,
    responses((status = 200, body = SearchAnswer), (status = "default", body = ErrorBody)))]
pub(crate) async fn search(
    State(state): State<AppState>,
    caller: Caller,
    InPath(kb): InPath<String>,
    Json(body): Json<SearchBody>,
) -> ApiResult<Answer<SearchAnswer>> {
    let kb = caller.kb(Role::Reader, &kb)?;
    if let Some(k) = body.k {
        in_range("k", k, 1, SEARCH_K_MAX)?;
    }
    let request = SearchRequest {
        question: body.question,
        k: body.k,
        filter: body.filter.map(FilterTree::into_filter).transpose()?,
        rerank: body.rerank,
        retriever: body.retriever,
        fates: true,
        ..SearchRequest::default()
    };
    let found = state.rag.search(kb.as_str(), request).await?;
    Ok(Answer(SearchAnswer {
        hits: HitView::all(&found.hits, &found.fates),
        trace: Trace::of(found.steps, found.rewritten),
    }))
}

impl Trace {
    pub(crate) fn of(steps: Vec<TraceStep>, rewritten: Option<String>) -> Self {
        let steps = steps.into_iter();
        let steps = steps.map(|step| StepView { name: step.name, detail: step.detail, millis: step.millis });
        Trace { steps: steps.collect(), rewritten }
    }
}

impl HitView {
    /// Passages, each with its fate.
    pub(crate) fn all(hits: &[Recalled], fates: &[Fate]) -> Vec<Self> {
        hits.iter().zip(fates).map(|(hit, fate)| HitView::of(hit.clone(), *fate)).collect()
    }

    fn of(hit: Recalled, fate: Fate) -> Self {
        let arms = hit.evidence.into_iter();
        let arms = arms.map(|found| (found.arm, ArmView { rank: found.rank, score: found.score })).collect();
        HitView {
            chunk: hit.passage.chunk.0,
            document: hit.passage.document_name,
            document_id: hit.passage.document.0,
            heading: hit.passage.heading,
            page: hit.passage.page,
            start: hit.passage.span.start,
            end: hit.passage.span.end,
            score: hit.score,
            rank: hit.rank,
            text: hit.passage.text,
            arms,
            fate: match fate {
                Fate::Read => FateName::Read,
                Fate::Irrelevant => FateName::Irrelevant,
                Fate::Surplus => FateName::Surplus,
                Fate::NoRoom => FateName::NoRoom,
            },
        }
    }
}
