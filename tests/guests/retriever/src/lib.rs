//! A retriever that does what its settings name: `{"do": "loop"}`.

wit_bindgen::generate!({ path: "../../../wit", world: "retriever-plugin", generate_all });

use std::hint::black_box;

use exports::ragkit::plugin::info;
use exports::ragkit::plugin::retriever::{self, Evidence, Outcome, Ranked, Request, Step};
use ragkit::host::{config, embed, generate, kv, rerank, search};
use ragkit::types::types::{Error, ErrorCode};

struct Hostile;
export!(Hostile);

impl info::Guest for Hostile {
    fn describe() -> info::Info {
        info::Info {
            id: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: env!("CARGO_PKG_DESCRIPTION").to_owned(),
        }
    }
}

impl retriever::Guest for Hostile {
    fn retrieve(request: Request) -> Result<Outcome, Error> {
        let settings = config::settings();
        match settings.split('"').nth(3).unwrap_or("good") {
            "good" => good(&request),
            "loop" => loop {
                black_box(());
            },
            // Well until somebody asks the wrong thing.
            "trap-on-pirates" if request.question.contains("pirate") => core::arch::wasm32::unreachable(),
            "trap-on-pirates" => good(&request),
            "more-than-k" => Ok(outcome((0..=request.k).map(|n| ranked(&n.to_string(), 0.5)).collect())),
            "nan" => Ok(outcome(vec![ranked("a", f32::NAN)])),
            "twice" => Ok(outcome(vec![ranked("a", 0.5), ranked("a", 0.5)])),
            "long-trace" => {
                let step = Step { name: "x".to_owned(), detail: "x".repeat(100_000), millis: 0 };
                Ok(Outcome { steps: vec![step], ..outcome(Vec::new()) })
            }
            "long-rewrite" => Ok(Outcome { rewritten: Some("x".repeat(100_000)), ..outcome(Vec::new()) }),
            "write-a-novel" => {
                for _ in 0..1_000_000 {
                    write(64)?;
                }
                Ok(outcome(Vec::new()))
            }
            "write" => {
                let text = write(8)?;
                Ok(Outcome { rewritten: Some(text), ..outcome(Vec::new()) })
            }
            "rerank" => {
                rerank::rerank(&request.question, &["x".to_owned()])?;
                Ok(outcome(Vec::new()))
            }
            "wait-for-search" => {
                search::lexical("hang", 1, None)?;
                Ok(outcome(Vec::new()))
            }
            "keep-memory" => {
                let kept: &'static mut [u8] = vec![1; 48 << 20].leak();
                Err(error(&format!("kept {} bytes", black_box(kept).len())))
            }
            "keys" => Err(error(&format!("{:?}", kv::keys("", None, 1_000)?))),
            unknown => Err(error(&format!("no behaviour '{unknown}'"))),
        }
    }
}

/// Dense search with the passages of what it finds.
fn good(request: &Request) -> Result<Outcome, Error> {
    let query = embed::embed(&[request.question.clone()], embed::Purpose::Query)?;
    let hits = search::dense(&query, request.k, request.filter.as_ref())?;
    let ids: Vec<String> = hits.iter().map(|hit| hit.chunk.clone()).collect();
    let passages = search::passages(&ids)?;
    let step = Step { name: "dense".to_owned(), detail: format!("{} passages", passages.len()), millis: 1 };
    let hits = hits.iter().map(|hit| ranked(&hit.chunk, hit.score)).collect();
    Ok(Outcome { hits, steps: vec![step], rewritten: None })
}

fn write(max_tokens: u32) -> Result<String, Error> {
    let options = generate::Options { max_tokens, temperature: 1.0, top_p: 0.5, stop: Vec::new() };
    Ok(generate::generate("prompt", &options)?.text)
}

fn outcome(hits: Vec<Ranked>) -> Outcome {
    Outcome { hits, steps: Vec::new(), rewritten: None }
}

fn ranked(id: &str, score: f32) -> Ranked {
    let evidence = vec![Evidence { arm: "dense".to_owned(), rank: 1, score }];
    Ranked { chunk: id.to_owned(), score, evidence }
}

fn error(message: &str) -> Error {
    Error { code: ErrorCode::Internal, message: message.to_owned(), retryable: false }
}
