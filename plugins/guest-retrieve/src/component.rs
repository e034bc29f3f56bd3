//! The exports of a retriever's component, over its plain function.

use std::marker::PhantomData;

use self::bindings::exports::ragkit::plugin::{info, retriever};
use self::bindings::ragkit::host::{config, embed, generate, search};
use self::bindings::ragkit::types::types as wit;
use crate::{Generate, Hits, Outcome, Request, Result, Search};

/// As `wit-bindgen` makes them.
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "retriever-plugin",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "guest_retrieve::bindings",
    });
}

/// Who a retriever is and how it answers.
pub trait Exports: 'static {
    const ID: &'static str;
    const VERSION: &'static str;
    const DESCRIPTION: &'static str;

    fn retrieve(host: &Host, request: &Request, settings: &str) -> Result<Outcome>;
}

/// The component of a retriever.
#[derive(Debug)]
pub struct Component<R>(PhantomData<R>);

impl<R: Exports> info::Guest for Component<R> {
    fn describe() -> info::Info {
        info::Info {
            id: R::ID.to_owned(),
            version: R::VERSION.to_owned(),
            description: R::DESCRIPTION.to_owned(),
        }
    }
}

impl<R: Exports> retriever::Guest for Component<R> {
    fn retrieve(request: retriever::Request) -> Result<retriever::Outcome, wit::Error> {
        let host = Host { filter: request.filter };
        let history = request.history.into_iter().map(|turn| (turn.question, turn.answer)).collect();
        let request = Request { question: request.question, history, k: request.k };
        let outcome = R::retrieve(&host, &request, &config::settings()).map_err(to_host)?;
        let ranked = |hit: crate::Ranked| retriever::Ranked {
            chunk: hit.chunk,
            score: hit.score,
            evidence: hit
                .evidence
                .into_iter()
                .map(|crate::Evidence { arm, rank, score }| retriever::Evidence { arm, rank, score })
                .collect(),
        };
        let step =
            |crate::Step { name, detail, millis }: crate::Step| retriever::Step { name, detail, millis };
        Ok(retriever::Outcome {
            hits: outcome.hits.into_iter().map(ranked).collect(),
            steps: outcome.steps.into_iter().map(step).collect(),
            rewritten: outcome.rewritten,
        })
    }
}

/// What the host lends, within the filter of one request.
#[expect(missing_debug_implementations, reason = "holds a request's filter")]
pub struct Host {
    filter: Option<wit::Filter>,
}

fn embedded(text: &str, purpose: embed::Purpose) -> Result<Vec<f32>> {
    Ok(embed::embed(&[text.to_owned()], purpose).map_err(from_host)?.data)
}

fn hits(found: Vec<wit::Hit>) -> Hits {
    found.into_iter().map(|hit| (hit.chunk, hit.score)).collect()
}

impl Search for Host {
    fn embed_question(&self, question: &str) -> Result<Vec<f32>> {
        embedded(question, embed::Purpose::Query)
    }

    fn embed_passage(&self, text: &str) -> Result<Vec<f32>> {
        embedded(text, embed::Purpose::Passage)
    }

    fn dense(&self, query: &[f32], k: u32) -> Result<Hits> {
        let query = wit::Vectors { dim: query.len() as u32, data: query.to_vec() };
        search::dense(&query, k, self.filter.as_ref()).map(hits).map_err(from_host)
    }

    fn lexical(&self, query: &str, k: u32) -> Result<Hits> {
        search::lexical(query, k, self.filter.as_ref()).map(hits).map_err(from_host)
    }

    fn vectors_of(&self, chunks: &[String]) -> Result<Vec<Vec<f32>>> {
        let found = search::vectors_of(chunks).map_err(from_host)?;
        Ok(found.data.chunks_exact((found.dim as usize).max(1)).map(<[f32]>::to_vec).collect())
    }

    fn parents_of(&self, chunks: &[String]) -> Result<Vec<(String, Option<String>)>> {
        let passages = search::passages(chunks).map_err(from_host)?;
        Ok(passages.into_iter().map(|passage| (passage.chunk, passage.parent)).collect())
    }
}

impl Generate for Host {
    fn generate(&self, prompt: &str, tokens_max: u32, stop: &[&str]) -> Result<String> {
        let options = generate::Options {
            max_tokens: tokens_max,
            temperature: 0.0,
            top_p: 1.0,
            stop: stop.iter().map(|stop| (*stop).to_owned()).collect(),
        };
        generate::generate(prompt, &options).map(|written| written.text).map_err(from_host)
    }
}

guest_settings::host_errors!(wit);
