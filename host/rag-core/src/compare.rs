//! What a new generation finds for the questions that people asked lately, beside what the live one finds.

use std::time::{Duration, Instant};

use crate::error::{Error, PluginFault, Result};
use crate::kb::Kb;
use crate::limits;
use crate::ports::{Binding, SwapHit, SwapQuestion, SwapReport};
use crate::rag::Rag;
use crate::recall::{Recalled, SearchRequest, recall};

/// Time after which no further question is asked.
const TIME_MAX: Duration = Duration::from_secs(10);

/// Asks both generations and counts their indexes.
pub(crate) async fn compare(rag: &Rag, live: &Kb, next: &Kb) -> Result<SwapReport> {
    let (before, after) = (rag.bindings.bind(live).await?, rag.bindings.bind(next).await?);
    let (_, chunks_before, edits) = rag.records.index_counts(&live.name, &live.collection).await?;
    let (_, chunks_after, _) = rag.records.index_counts(&next.name, &next.collection).await?;
    let mut report = SwapReport {
        chunks_before,
        chunks_after,
        edits_lost: if live.collection == next.collection { 0 } else { edits },
        ..SwapReport::default()
    };
    let start = Instant::now();
    for question in rag.records.recent_questions(&live.name, limits::SHADOW_QUESTIONS).await? {
        if start.elapsed() > TIME_MAX {
            break;
        }
        // What the live generation cannot answer tells nothing about the new one.
        let Ok((old, millis_before)) = ask(rag, &before, &question).await else { continue };
        let compared = match ask(rag, &after, &question).await {
            Ok((new, millis_after)) => {
                report.millis_after += millis_after;
                compared(question, &old, &new, None)
            }
            Err(error) if blames_plugin(&error) => compared(question, &old, &[], Some(error.to_string())),
            Err(_) => continue,
        };
        report.millis_before += millis_before;
        report.changed += u32::from(best_differs(&compared));
        report.questions.push(compared);
    }
    let asked = report.questions.len().max(1) as f64;
    report.millis_before /= asked;
    report.millis_after /= asked;
    Ok(report)
}

async fn ask(rag: &Rag, binding: &Binding, question: &str) -> Result<(Vec<Recalled>, f64)> {
    let start = Instant::now();
    let request = SearchRequest {
        question: question.to_owned(),
        k: Some(limits::SHADOW_HITS),
        ..SearchRequest::default()
    };
    let found = recall(rag, binding, request).await?;
    Ok((found.hits, start.elapsed().as_secs_f64() * 1e3))
}

/// A full queue says nothing about a plugin.
fn blames_plugin(error: &Error) -> bool {
    matches!(error, Error::Plugin { fault, .. } if !matches!(fault, PluginFault::Guest(_)))
        || matches!(error, Error::InvalidInput { .. })
}

fn compared(question: String, old: &[Recalled], new: &[Recalled], error: Option<String>) -> SwapQuestion {
    let found = |hit: &&Recalled| new.iter().any(|other| same_place(hit, other));
    let kept = u32::try_from(old.iter().filter(found).count()).unwrap_or(u32::MAX);
    let shown = |hits: &[Recalled]| hits.iter().map(shown).collect();
    SwapQuestion { question, before: shown(old), after: shown(new), kept, error }
}

/// Chunks of two indexes have different ids; what they say stands in one place.
fn same_place(one: &Recalled, other: &Recalled) -> bool {
    let (one, other) = (&one.passage, &other.passage);
    one.document_name == other.document_name
        && one.span.start < other.span.end
        && other.span.start < one.span.end
}

fn best_differs(question: &SwapQuestion) -> bool {
    match (question.before.first(), question.after.first()) {
        (Some(before), Some(after)) => before.document != after.document || before.text != after.text,
        (None, None) => false,
        _ => true,
    }
}

fn shown(hit: &Recalled) -> SwapHit {
    SwapHit {
        document: hit.passage.document_name.clone(),
        text: hit.passage.text.chars().take(limits::SHADOW_CHARS).collect(),
        score: hit.score,
    }
}

#[cfg(test)]
mod tests;
