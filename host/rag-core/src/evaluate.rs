//! How well a knowledge base finds what a set of questions expects: hit@k, MRR and nDCG, question by question.
//!
//! Each expected thing counts once, at the first hit that meets it. With binary gains, r the ranks of those first hits
//! and n the number of expected things: MRR is the mean of 1 / min(r), 0 when there is none; nDCG is
//! sum of 1 / log2(1 + r) over sum of 1 / log2(1 + i) for i = 1 … min(n, k).

use std::sync::Arc;
use std::time::Instant;

use crate::error::{Error, Result};
use crate::jobs::report;
use crate::limits;
use crate::ports::{Binding, Expected, Job, JobState, Outcome, Question, RunHit, RunSettings, Scores, Stage};
use crate::rag::Rag;
use crate::recall::{Recalled, SearchRequest, recall};

/// The `k` for which hits are told.
const HIT_AT: [u32; 6] = [1, 3, 5, 10, 20, 50];

/// Runs the job of one run to its scores.
pub(crate) async fn evaluate(rag: &Rag, job: &Job, run: &str) -> Result<JobState> {
    let run = rag.records.run(run).await?;
    let questions = rag.records.questions(&run.set).await?;
    let binding = bind(rag, &run.kb, &run.settings).await?;
    let mut outcomes = Vec::with_capacity(questions.len());
    for question in &questions {
        outcomes.push(one(rag, &binding, &run.settings, question).await?);
        report(rag, &job.id, Stage::Embed, outcomes.len() as u64, questions.len() as u64).await?;
    }
    let scores = scores(&outcomes, run.settings.k);
    rag.records.finish_run(&run.id, &scores, &outcomes).await?;
    Ok(JobState::Done { document: None, unchanged: false })
}

/// Refuses questions and settings that could never run.
pub fn check(questions: &[Question]) -> Result<()> {
    if questions.is_empty() || questions.len() > limits::QUESTIONS_MAX {
        return Err(Error::invalid(format!("a set has 1 to {} questions", limits::QUESTIONS_MAX)));
    }
    for (number, question) in (1..).zip(questions) {
        crate::prompt::check_question(&question.question)?;
        if question.expected.is_empty() || question.expected.len() > limits::EXPECTED_MAX {
            return Err(Error::invalid(format!(
                "question {number} needs 1 to {} expected documents, chunks or texts",
                limits::EXPECTED_MAX
            )));
        }
        if question.expected.iter().any(|expected| squeezed(text_of(expected)).is_empty()) {
            return Err(Error::invalid(format!("question {number} expects something blank")));
        }
    }
    Ok(())
}

/// The knowledge base with the run's retriever in place of its own.
pub(crate) async fn bind(rag: &Rag, kb: &crate::kb::KbName, settings: &RunSettings) -> Result<Arc<Binding>> {
    let mut kb = rag.catalog.kb(kb).await?;
    if let Some(retriever) = &settings.retriever {
        kb.settings.retriever = retriever.clone();
    }
    kb.settings.rerank = settings.rerank.unwrap_or(kb.settings.rerank);
    rag.bindings.bind(&kb).await
}

async fn one(rag: &Rag, binding: &Binding, settings: &RunSettings, asked: &Question) -> Result<Outcome> {
    let start = Instant::now();
    let request = SearchRequest {
        question: asked.question.clone(),
        k: Some(settings.k),
        rerank: settings.rerank,
        ..SearchRequest::default()
    };
    let found = recall(rag, binding, request).await?;
    let millis = u32::try_from(start.elapsed().as_millis()).unwrap_or(u32::MAX);
    let met = met(&found.hits, &asked.expected);
    let rank = met.iter().position(|&met| met).map(|at| at as u32 + 1);
    let ndcg = ndcg(&met, asked.expected.len(), settings.k);
    let hits = found.hits.into_iter().map(|hit| RunHit {
        relevant: asked.expected.iter().any(|expected| meets(&hit, expected)),
        chunk: hit.passage.chunk,
        document: hit.passage.document_name,
        score: hit.score,
    });
    Ok(Outcome { question: asked.question.clone(), rank, ndcg, millis, hits: hits.collect() })
}

/// For each hit, whether it meets something expected that none before it met.
fn met(hits: &[Recalled], expected: &[Expected]) -> Vec<bool> {
    let mut open: Vec<&Expected> = expected.iter().collect();
    let mut first = |hit: &Recalled| {
        let at = open.iter().position(|expected| meets(hit, expected));
        at.map(|at| open.remove(at)).is_some()
    };
    hits.iter().map(&mut first).collect()
}

fn meets(hit: &Recalled, expected: &Expected) -> bool {
    match expected {
        Expected::Document(name) => hit.passage.document_name == *name,
        Expected::Chunk(id) => hit.passage.chunk == *id,
        Expected::Text(text) => squeezed(&hit.passage.text).contains(&squeezed(text)),
    }
}

fn text_of(expected: &Expected) -> &str {
    match expected {
        Expected::Document(text) | Expected::Text(text) => text,
        Expected::Chunk(id) => &id.0,
    }
}

/// Without white space, which parsers and people place differently.
fn squeezed(text: &str) -> String {
    text.split_whitespace().collect()
}

fn ndcg(met: &[bool], expected: usize, k: u32) -> f64 {
    let gain = |rank: usize| 1.0 / ((rank + 1) as f64).log2();
    let found: f64 = (1..).zip(met).filter(|(_, met)| **met).map(|(rank, _)| gain(rank)).sum();
    let ideal: f64 = (1..=expected.min(k as usize)).map(gain).sum();
    if ideal > 0.0 { found / ideal } else { 0.0 }
}

/// Means over the outcomes.
fn scores(outcomes: &[Outcome], k: u32) -> Scores {
    let mean = |value: &dyn Fn(&Outcome) -> f64| {
        outcomes.iter().map(value).sum::<f64>() / outcomes.len().max(1) as f64
    };
    let hit = |at: u32| mean(&|outcome| f64::from(outcome.rank.is_some_and(|rank| rank <= at)));
    let mut cuts: Vec<u32> = HIT_AT.into_iter().filter(|&at| at < k).collect();
    cuts.push(k);
    Scores {
        questions: outcomes.len() as u64,
        hit_at: cuts.into_iter().map(|at| (at, hit(at))).collect(),
        mrr: mean(&|outcome| outcome.rank.map_or(0.0, |rank| 1.0 / f64::from(rank))),
        ndcg: mean(&|outcome| outcome.ndcg),
        millis: mean(&|outcome| f64::from(outcome.millis)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{ChunkId, DocumentId, Span};
    use crate::search::Passage;

    fn hit(chunk: &str, document: &str, text: &str) -> Recalled {
        let passage = Passage {
            chunk: ChunkId(chunk.into()),
            document: DocumentId("d".into()),
            document_name: document.into(),
            text: text.into(),
            span: Span { start: 0, end: text.len() as u64 },
            parent: None,
            heading: None,
            page: None,
            source: None,
        };
        Recalled { passage, rank: 0, score: 0.0, relevance: None, evidence: Vec::new() }
    }

    #[test]
    fn each_expected_thing_counts_once() {
        let hits = [hit("1", "a.md", "x"), hit("2", "a.md", "大 熊猫\n吃竹子"), hit("3", "b.md", "y")];
        let check = |expected: &[Expected], want: [bool; 3]| assert_eq!(met(&hits, expected), want);
        check(&[Expected::Document("a.md".into())], [true, false, false]);
        check(
            &[Expected::Text("熊猫吃 竹子".into()), Expected::Chunk(ChunkId("3".into()))],
            [false, true, true],
        );
        check(&[Expected::Document("a.md".into()), Expected::Document("b.md".into())], [true, false, true]);
        check(&[Expected::Document("c.md".into())], [false, false, false]);
    }

    #[test]
    fn scores_are_those_of_the_formulas() {
        let near = |got: f64, want: f64| assert!((got - want).abs() < 1e-12, "{got} {want}");
        near(ndcg(&[true, false], 1, 10), 1.0);
        near(ndcg(&[false, true], 1, 10), 1.0 / 3_f64.log2());
        near(ndcg(&[false, true, true], 2, 10), (1.0 / 3_f64.log2() + 0.5) / (1.0 + 1.0 / 3_f64.log2()));
        near(ndcg(&[false], 3, 10), 0.0);
        let outcome = |rank| Outcome { question: "?".into(), rank, ndcg: 0.5, millis: 10, hits: Vec::new() };
        let means = scores(&[outcome(Some(1)), outcome(Some(4)), outcome(None), outcome(Some(10))], 10);
        assert_eq!(means.hit_at, [(1, 0.25), (3, 0.25), (5, 0.5), (10, 0.75)]);
        near(means.mrr, (1.0 + 0.25 + 0.1) / 4.0);
        assert_eq!((means.ndcg, means.millis, means.questions), (0.5, 10.0, 4));
        assert_eq!(scores(&[outcome(Some(2))], 2).hit_at, [(1, 0.0), (2, 1.0)]);
    }

    #[test]
    fn a_set_that_could_never_run_is_refused() {
        let question = |text: &str, expected: Vec<Expected>| Question { question: text.into(), expected };
        let fine = || question("哪里？", vec![Expected::Document("a".into())]);
        assert!(check(&[fine()]).is_ok());
        assert!(check(&[]).is_err());
        assert!(check(&[fine(), question("?", vec![])]).is_err());
        assert!(check(&[question("?", vec![Expected::Text(" \n".into())])]).is_err());
        assert!(check(&[question("", vec![Expected::Document("a".into())])]).is_err());
        assert!(check(&vec![fine(); limits::QUESTIONS_MAX + 1]).is_err());
    }
}
