//! Which passages of a knowledge base speak to a question: retrieve → load → rerank.

use std::collections::HashMap;
use std::time::Instant;

use crate::error::Result;
use crate::limits;
use crate::ports::{Binding, Purpose};
use crate::rag::Rag;
use crate::search::{Evidence, Filter, Passage, RankedChunk, RetrieveRequest, TraceStep, Turn};

/// What is searched for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SearchRequest {
    pub question: String,
    /// Earlier rounds, oldest first: a strategy may need them to understand the question.
    pub history: Vec<Turn>,
    /// Passages wanted; none takes the knowledge base's number of candidates.
    pub k: Option<u32>,
    pub filter: Option<Filter>,
    /// None follows the knowledge base.
    pub rerank: Option<bool>,
    /// Id of a retriever in place of the knowledge base's, with its default settings.
    pub retriever: Option<String>,
    /// Whether to tell what an answer would do with each passage.
    pub fates: bool,
}

/// What an answer does with a passage that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The model reads it.
    Read,
    /// Its relevance is below the least.
    Irrelevant,
    /// The prompt takes no more passages.
    Surplus,
    /// The prompt's tokens are used up.
    NoRoom,
}

/// A passage with its place in the result.
#[derive(Debug, Clone, PartialEq)]
pub struct Recalled {
    pub passage: Passage,
    /// From 1.
    pub rank: u32,
    /// Of the last step that ordered the passages; comparable within one result only.
    pub score: f32,
    /// In the unit of `AnswerSettings::relevance_min`; none when only words matched.
    pub relevance: Option<f32>,
    pub evidence: Vec<Evidence>,
}

/// What was found, best first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recall {
    pub hits: Vec<Recalled>,
    pub steps: Vec<TraceStep>,
    /// The question that was searched for, when not the one asked.
    pub rewritten: Option<String>,
    /// Whether `score` and `relevance` are the reranker's.
    pub reranked: bool,
    /// One a hit, where asked for.
    pub fates: Vec<Fate>,
}

/// Runs the binding's strategy. Never finds a chunk whose document is not committed.
pub async fn recall(rag: &Rag, binding: &Binding, request: SearchRequest) -> Result<Recall> {
    let settings = &binding.kb.settings;
    let wanted = request.k.unwrap_or(settings.answer.candidates).clamp(1, limits::SEARCH_K_MAX);
    let rerank = request.rerank.unwrap_or(settings.rerank);
    // A reranker can only lift what it sees.
    let k = if rerank { wanted.max(settings.answer.candidates) } else { wanted };
    let question = request.question.clone();

    // Asks for nothing: where the index's encoder is missing, what words alone find would pass for all there is.
    binding.embedder.embed(Vec::new(), Purpose::Query).await?;
    let start = Instant::now();
    let retrieval = binding
        .retriever
        .retrieve(RetrieveRequest {
            question: request.question,
            history: request.history,
            k,
            filter: request.filter,
        })
        .await?;
    let mut steps = retrieval.steps;
    steps.push(step(
        "retrieve",
        format!("{} candidates by {}", retrieval.hits.len(), binding.retriever.info().id),
        start,
    ));

    let start = Instant::now();
    let mut hits = load(rag, binding, retrieval.hits).await?;
    steps.push(step("load", format!("{} passages", hits.len()), start));

    let mut reranked = false;
    if let (true, Some(reranker), false) = (rerank, &binding.reranker, hits.is_empty()) {
        let start = Instant::now();
        let searched = retrieval.rewritten.as_deref().unwrap_or(&question);
        let texts: Vec<String> = hits.iter().map(|hit| hit.passage.text.clone()).collect();
        let scores = reranker.rerank(searched, &texts).await?;
        reorder(&mut hits, &scores);
        steps.push(step("rerank", format!("{} passages by {}", hits.len(), reranker.identity()), start));
        reranked = true;
    }
    hits.truncate(wanted as usize);
    for (rank, hit) in (1..).zip(&mut hits) {
        hit.rank = rank;
    }
    Ok(Recall { hits, steps, rewritten: retrieval.rewritten, reranked, fates: Vec::new() })
}

/// Fetches the passages, in rank order; chunks that are gone by now are left out.
async fn load(rag: &Rag, binding: &Binding, ranked: Vec<RankedChunk>) -> Result<Vec<Recalled>> {
    let ids: Vec<_> = ranked.iter().map(|hit| hit.chunk.clone()).collect();
    let passages = rag.catalog.passages(&binding.kb.name, &ids).await?;
    let mut by_id: HashMap<_, _> =
        passages.into_iter().map(|passage| (passage.chunk.clone(), passage)).collect();
    let recalled = ranked.into_iter().filter_map(|hit| {
        let passage = by_id.remove(&hit.chunk)?;
        let relevance = hit.evidence.iter().find(|evidence| evidence.arm == "dense").map(|dense| dense.score);
        Some(Recalled { passage, rank: 0, score: hit.score, relevance, evidence: hit.evidence })
    });
    Ok(recalled.collect())
}

/// Sorts by the reranker's scores, ties in the earlier order, and keeps both opinions as evidence.
fn reorder(hits: &mut [Recalled], scores: &[f32]) {
    for (hit, &score) in hits.iter_mut().zip(scores) {
        hit.score = score;
        hit.relevance = Some(score);
    }
    hits.sort_by(|a, b| b.score.total_cmp(&a.score));
    for (rank, hit) in (1..).zip(hits.iter_mut()) {
        hit.evidence.push(Evidence { arm: "rerank".to_owned(), rank, score: hit.score });
    }
}

fn step(name: &str, detail: String, start: Instant) -> TraceStep {
    let millis = u32::try_from(start.elapsed().as_millis()).unwrap_or(u32::MAX);
    TraceStep { name: name.to_owned(), detail, millis }
}
