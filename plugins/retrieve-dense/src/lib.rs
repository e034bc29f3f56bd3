//! Component `retrieve-dense`: RWKV-RAG's way, the nearest chunks and the best of them first.

pub mod ranking;

use guest_retrieve::{
    Error, Evidence, Hits, Outcome, Ranked, Request, Result, Search, Trace, check_question,
};

/// Asks for the chunks whose vectors are nearest to the question's.
pub fn retrieve<H: Search>(host: &H, request: &Request, settings: &str) -> Result<Outcome> {
    let k = ranking::parse_k(settings).map_err(Error::invalid)?.min(request.k);
    check_question(request)?;
    let mut trace = Trace::default();
    let dimensions = |query: &Vec<f32>| format!("the question, {} dimensions", query.len());
    let query = trace.step("embed", || host.embed_question(&request.question), dimensions)?;
    let found = |hits: &Hits| {
        let best = hits.first().map(|(_, score)| format!(", the best with {score:.3}")).unwrap_or_default();
        format!("{} nearest of {k} wanted{best}", hits.len())
    };
    let nearest = || Ok(ranking::best_first(host.dense(&query, k)?, k as usize));
    let hits = trace.step("dense", nearest, found)?;
    let ranked = |(rank, (chunk, score))| Ranked {
        chunk,
        score,
        evidence: vec![Evidence { arm: "dense".to_owned(), rank, score }],
    };
    Ok(Outcome { hits: (1..).zip(hits).map(ranked).collect(), steps: trace.into_steps(), rewritten: None })
}

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.
    guest_retrieve::component!(retrieve: super::retrieve);
}
