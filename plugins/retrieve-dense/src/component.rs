//! The exports of the component, over the plain functions beside it.

#![expect(unsafe_code, reason = "generated bindings call imports and lay out exports")]

wit_bindgen::generate!({ path: "../../wit", world: "retriever-plugin", generate_all });

use std::time::Instant;

use exports::ragkit::plugin::info;
use exports::ragkit::plugin::retriever::{Evidence, Guest, Outcome, Ranked, Request, Step};
use ragkit::host::{config, embed, search};
use ragkit::types::types::{Error, ErrorCode};

use crate::ranking;

struct RetrieveDense;
export!(RetrieveDense);

impl info::Guest for RetrieveDense {
    fn describe() -> info::Info {
        info::Info {
            id: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: env!("CARGO_PKG_DESCRIPTION").to_owned(),
        }
    }
}

impl Guest for RetrieveDense {
    fn retrieve(request: Request) -> Result<Outcome, Error> {
        let k = ranking::parse_k(&config::settings()).map_err(invalid)?.min(request.k);
        if request.question.trim().is_empty() {
            return Err(invalid("the question is empty".to_owned()));
        }
        let start = Instant::now();
        let query = embed::embed(&[request.question], embed::Purpose::Query)?;
        let mut steps = vec![step("embed", format!("the question, {} dimensions", query.dim), start)];

        let start = Instant::now();
        let found = search::dense(&query, k, request.filter.as_ref())?;
        let hits =
            ranking::best_first(found.into_iter().map(|hit| (hit.chunk, hit.score)).collect(), k as usize);
        let best = hits.first().map(|(_, score)| format!(", the best with {score:.3}")).unwrap_or_default();
        steps.push(step("dense", format!("{} nearest of {k} wanted{best}", hits.len()), start));

        let ranked = |(rank, (chunk, score))| Ranked {
            chunk,
            score,
            evidence: vec![Evidence { arm: "dense".to_owned(), rank, score }],
        };
        Ok(Outcome { hits: (1..).zip(hits).map(ranked).collect(), steps, rewritten: None })
    }
}

fn step(name: &str, detail: String, start: Instant) -> Step {
    let millis = u32::try_from(start.elapsed().as_millis()).unwrap_or(u32::MAX);
    Step { name: name.to_owned(), detail, millis }
}

fn invalid(message: String) -> Error {
    Error { code: ErrorCode::InvalidInput, message, retryable: false }
}
