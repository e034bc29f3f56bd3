//! The comparison of two generations as the catalogue writes it: JSON.

use rag_core::Error;
use rag_core::ports::{SwapHit, SwapQuestion, SwapReport};
use serde::{Deserialize, Serialize};

use crate::fault::Step;

#[derive(Serialize, Deserialize)]
struct ReportJson {
    questions: Vec<QuestionJson>,
    changed: u32,
    millis_before: f64,
    millis_after: f64,
    chunks_before: u64,
    chunks_after: u64,
    edits_lost: u64,
}

#[derive(Serialize, Deserialize)]
struct QuestionJson {
    question: String,
    before: Vec<HitJson>,
    after: Vec<HitJson>,
    kept: u32,
    error: Option<String>,
}

/// Document, text, score.
type HitJson = (String, String, f32);

pub(super) fn to_json(report: &SwapReport) -> Step<String> {
    let hits = |hits: &[SwapHit]| -> Vec<HitJson> {
        hits.iter().map(|hit| (hit.document.clone(), hit.text.clone(), hit.score)).collect()
    };
    let question = |question: &SwapQuestion| QuestionJson {
        question: question.question.clone(),
        before: hits(&question.before),
        after: hits(&question.after),
        kept: question.kept,
        error: question.error.clone(),
    };
    let json = ReportJson {
        questions: report.questions.iter().map(question).collect(),
        changed: report.changed,
        millis_before: report.millis_before,
        millis_after: report.millis_after,
        chunks_before: report.chunks_before,
        chunks_after: report.chunks_after,
        edits_lost: report.edits_lost,
    };
    serde_json::to_string(&json)
        .map_err(|error| Error::internal(format!("the comparison cannot be written: {error}")).into())
}

pub(super) fn from_json(json: &str) -> Step<SwapReport> {
    let report: ReportJson = serde_json::from_str(json)
        .map_err(|error| Error::Storage { message: format!("a comparison is damaged: {error}") })?;
    let hits = |hits: Vec<HitJson>| -> Vec<SwapHit> {
        hits.into_iter().map(|(document, text, score)| SwapHit { document, text, score }).collect()
    };
    let question = |question: QuestionJson| SwapQuestion {
        before: hits(question.before),
        after: hits(question.after),
        question: question.question,
        kept: question.kept,
        error: question.error,
    };
    Ok(SwapReport {
        questions: report.questions.into_iter().map(question).collect(),
        changed: report.changed,
        millis_before: report.millis_before,
        millis_after: report.millis_after,
        chunks_before: report.chunks_before,
        chunks_after: report.chunks_after,
        edits_lost: report.edits_lost,
    })
}
