//! The exports of the component: embed, ask both arms, join.

#![expect(unsafe_code, reason = "generated bindings call imports and lay out exports")]

wit_bindgen::generate!({ path: "../../wit", world: "retriever-plugin", generate_all });

use std::time::Instant;

use exports::ragkit::plugin::info;
use exports::ragkit::plugin::retriever::{Evidence, Guest, Outcome, Ranked, Request, Step};
use ragkit::host::{config, embed, log, search};
use ragkit::types::types::{Error, ErrorCode, Filter, Hit};

use crate::follow_up;
use crate::fusion::{Arm, Fused, fuse};
use crate::options::{Fusion, Normalise, Options};

struct RetrieveHybrid;
export!(RetrieveHybrid);

impl info::Guest for RetrieveHybrid {
    fn describe() -> info::Info {
        info::Info {
            id: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: env!("CARGO_PKG_DESCRIPTION").to_owned(),
        }
    }
}

impl Guest for RetrieveHybrid {
    fn retrieve(request: Request) -> Result<Outcome, Error> {
        let options = Options::parse(&config::settings()).map_err(invalid)?;
        if request.question.trim().is_empty() {
            return Err(invalid("the question is empty".to_owned()));
        }
        let mut steps = Vec::new();
        let rewritten = rewrite(&request, &options, &mut steps);
        let searched = rewritten.as_deref().unwrap_or(&request.question);
        let k = request.k as usize;
        let depth = options.depth.max(request.k).min(1_000);
        let filter = request.filter.as_ref();

        let dense = timed(&mut steps, "dense", depth, || dense(searched, depth, filter));
        let lexical = timed(&mut steps, "lexical", depth, || search::lexical(searched, depth, filter));
        let (dense, lexical) = either(dense, lexical)?;
        let arms = [
            Arm::new("dense", dense, options.dense_weight, depth as usize, None),
            // BM25 gives nothing to a chunk without any of the words.
            Arm::new("lexical", lexical, 1.0 - options.dense_weight, depth as usize, Some(0.0)),
        ];
        let start = Instant::now();
        let fused = fuse(&arms, options.fusion, k);
        steps.push(step("fuse", explain(&arms, &options, fused.len()), start));
        Ok(Outcome { hits: fused.into_iter().map(ranked).collect(), steps, rewritten })
    }
}

/// The question to search for instead, if this one leans on an earlier one.
fn rewrite(request: &Request, options: &Options, steps: &mut Vec<Step>) -> Option<String> {
    if !options.follow_up || request.history.is_empty() {
        return None;
    }
    let start = Instant::now();
    let earlier: Vec<&str> = request.history.iter().map(|turn| turn.question.as_str()).collect();
    let rewritten = follow_up::rewrite(&request.question, &earlier)?;
    steps.push(step("follow-up", format!("searched with the earlier question: {rewritten}"), start));
    Some(rewritten)
}

fn dense(question: &str, depth: u32, filter: Option<&Filter>) -> Result<Vec<Hit>, Error> {
    let query = embed::embed(&[question.to_owned()], embed::Purpose::Query)?;
    search::dense(&query, depth, filter)
}

/// Asks one arm and says in the trace what came of it.
fn timed(
    steps: &mut Vec<Step>,
    name: &'static str,
    depth: u32,
    ask: impl FnOnce() -> Result<Vec<Hit>, Error>,
) -> Result<Vec<(String, f32)>, Error> {
    let start = Instant::now();
    let found = ask();
    let detail = match &found {
        Ok(hits) => match hits.first() {
            Some(best) => {
                format!("{} of at most {depth} chunks, the best with {:.3}", hits.len(), best.score)
            }
            None => "no chunk".to_owned(),
        },
        Err(error) => format!("failed: {}", error.message),
    };
    steps.push(step(name, detail, start));
    found.map(|hits| hits.into_iter().map(|hit| (hit.chunk, hit.score)).collect())
}

type Hits = Vec<(String, f32)>;

/// One arm that is not available for now is done without; the trace says so.
fn either(dense: Result<Hits, Error>, lexical: Result<Hits, Error>) -> Result<(Hits, Hits), Error> {
    let spare = |error: Error, other: &Result<Hits, Error>| {
        let away = matches!(error.code, ErrorCode::Unavailable | ErrorCode::Timeout);
        if !away || other.is_err() {
            return Err(error);
        }
        log::log(log::Level::Warn, &format!("searched with one arm only: {}", error.message));
        Ok(Vec::new())
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

fn step(name: &str, detail: String, start: Instant) -> Step {
    let millis = u32::try_from(start.elapsed().as_millis()).unwrap_or(u32::MAX);
    Step { name: name.to_owned(), detail, millis }
}

fn invalid(message: String) -> Error {
    Error { code: ErrorCode::InvalidInput, message, retryable: false }
}
