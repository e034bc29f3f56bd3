//! How are both arms of a knowledge base asked and joined?

use guest_settings::error::{Code, Error};

use crate::fusion::{Arm, Fused, fuse};
use crate::options::{Fusion, Normalise, Options};
use crate::{Evidence, Hits, Outcome, Ranked, Request, Result, Search, Trace, follow_up};

/// Hits that a search may ask for.
const DEPTH_MAX: u32 = 1_000;

/// Candidates that each arm finds for a request for `k` hits.
pub fn depth(options: &Options, k: u32) -> u32 {
    options.depth.max(k).min(DEPTH_MAX)
}

/// Searches by vector and by words and joins the two, at most `k`. The vector is that of `question` unless given.
pub fn both<H: Search>(
    host: &H,
    question: &str,
    vector: Option<&[f32]>,
    options: &Options,
    (depth, k): (u32, usize),
    trace: &mut Trace,
) -> Result<Vec<Fused>> {
    let found = |hits: &Hits| match hits.first() {
        Some((_, best)) => format!("{} of at most {depth} chunks, the best with {best:.3}", hits.len()),
        None => "no chunk".to_owned(),
    };
    let by_vector = || match vector {
        Some(vector) => host.dense(vector, depth),
        None => host.dense(&host.embed_question(question)?, depth),
    };
    let dense = trace.step("dense", by_vector, found);
    let lexical = trace.step("lexical", || host.lexical(question, depth), found);
    let (dense, lexical) = either(dense, lexical)?;
    let arms = [
        Arm::new("dense", dense, options.dense_weight, depth as usize, None),
        // BM25 gives nothing to a chunk without any of the words.
        Arm::new("lexical", lexical, 1.0 - options.dense_weight, depth as usize, Some(0.0)),
    ];
    trace.step("fuse", || Ok(fuse(&arms, options.fusion, k)), |hits| explain(&arms, options, hits.len()))
}

/// The question to search for instead, if this one leans on an earlier one.
pub fn rewrite(request: &Request, options: &Options, trace: &mut Trace) -> Option<String> {
    if !options.follow_up || request.history.is_empty() {
        return None;
    }
    let earlier: Vec<&str> = request.history.iter().map(|(question, _)| question.as_str()).collect();
    let rewritten = follow_up::rewrite(&request.question, &earlier)?;
    let done = |text: &String| format!("searched with the earlier question: {text}");
    trace.step("follow-up", || Ok(rewritten), done).ok()
}

/// Candidates of both arms for the question, or for the one that it leans on: many more than `request.k`, to be put in
/// another order. Also the question searched for, when it is not the one asked.
pub fn candidates<H: Search>(
    host: &H,
    request: &Request,
    options: &Options,
    trace: &mut Trace,
) -> Result<(Vec<Fused>, Option<String>)> {
    let rewritten = rewrite(request, options, trace);
    let searched = rewritten.as_deref().unwrap_or(&request.question);
    let depth = depth(options, request.k);
    let found = both(host, searched, None, options, (depth, depth as usize), trace)?;
    Ok((found, rewritten))
}

/// The first `request.k` of `found` with how they were found.
pub fn outcome(found: Vec<Fused>, request: &Request, trace: Trace, rewritten: Option<String>) -> Outcome {
    let hits = found.into_iter().take(request.k as usize).map(ranked).collect();
    Outcome { hits, steps: trace.into_steps(), rewritten }
}

/// A fused chunk as a hit.
fn ranked(fused: Fused) -> Ranked {
    let evidence = |place: crate::fusion::Place| Evidence {
        arm: place.arm.to_owned(),
        rank: place.rank,
        score: place.score,
    };
    Ranked {
        chunk: fused.chunk,
        score: fused.score,
        evidence: fused.places.into_iter().map(evidence).collect(),
    }
}

/// One arm that is not available for now is done without; the trace has said so.
fn either(dense: Result<Hits>, lexical: Result<Hits>) -> Result<(Hits, Hits)> {
    let spare = |error: Error, other: &Result<Hits>| {
        let away = matches!(error.code, Code::Unavailable | Code::Timeout);
        if away && other.is_ok() { Ok(Vec::new()) } else { Err(error) }
    };
    match (dense, lexical) {
        (Ok(dense), Ok(lexical)) => Ok((dense, lexical)),
        (Err(error), other) => Ok((spare(error, &other)?, other?)),
        (other, Err(error)) => Ok((other.clone()?, spare(error, &other)?)),
    }
}

fn explain(arms: &[Arm], options: &Options, hits: usize) -> String {
    let how = match options.fusion {
        Fusion::Score(Normalise::ZScore) => "z-scores".to_owned(),
        Fusion::Score(Normalise::MinMax) => "scores from 0 to 1".to_owned(),
        Fusion::Rank { constant } => format!("1 / ({constant} + rank)"),
    };
    let weights: Vec<String> = arms.iter().map(|arm| format!("{} {:.2}", arm.name, arm.weight)).collect();
    format!("{hits} chunks by the weighted sum of {how}: {}", weights.join(", "))
}
