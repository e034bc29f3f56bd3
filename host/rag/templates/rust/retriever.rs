//! A retriever: the nearest chunks by vector, best first. Change `best_first`, or ask `search::lexical` too.

/// In order of their scores, no chunk twice, at most `k`.
pub fn best_first(mut hits: Vec<(String, f32)>, k: usize) -> Vec<(String, f32)> {
    hits.retain(|(_, score)| score.is_finite());
    hits.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let mut seen = std::collections::BTreeSet::new();
    hits.retain(|(chunk, _)| seen.insert(chunk.clone()));
    hits.truncate(k);
    hits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_come_first_and_once() {
        let hits = [("a", 0.1), ("b", 0.9), ("a", 0.5)].map(|(chunk, score)| (chunk.to_owned(), score));
        assert_eq!(best_first(hits.to_vec(), 9), [("b".to_owned(), 0.9), ("a".to_owned(), 0.5)]);
        assert_eq!(best_first(hits.to_vec(), 1).len(), 1);
    }
}

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.
    wit_bindgen::generate!({ path: "wit", world: "retriever-plugin", generate_all });

    use exports::ragkit::plugin::{info, retriever};
    use ragkit::host::{config, embed, search};
    use ragkit::types::types::{Error, ErrorCode};

    struct Plugin;
    export!(Plugin);

    fn invalid(message: String) -> Error {
        Error { code: ErrorCode::InvalidInput, message, retryable: false }
    }

    impl info::Guest for Plugin {
        fn describe() -> info::Info {
            info::Info {
                id: env!("CARGO_PKG_NAME").to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                description: env!("CARGO_PKG_DESCRIPTION").to_owned(),
            }
        }
    }

    impl retriever::Guest for Plugin {
        fn retrieve(request: retriever::Request) -> Result<retriever::Outcome, Error> {
            let settings = config::settings();
            if settings.trim() != "{}" {
                return Err(invalid(format!("this retriever has no settings; it was given {settings}")));
            }
            if request.question.trim().is_empty() {
                return Err(invalid("the question is empty".to_owned()));
            }
            let query = embed::embed(&[request.question], embed::Purpose::Query)?;
            let found = search::dense(&query, request.k, request.filter.as_ref())?;
            let hits = found.into_iter().map(|hit| (hit.chunk, hit.score)).collect();
            let ranked = |((chunk, score), rank)| retriever::Ranked {
                evidence: vec![retriever::Evidence { arm: "dense".to_owned(), rank, score }],
                chunk,
                score,
            };
            let hits: Vec<_> =
                super::best_first(hits, request.k as usize).into_iter().zip(1..).map(ranked).collect();
            let detail = format!("{} nearest of {} wanted", hits.len(), request.k);
            let step = retriever::Step { name: "dense".to_owned(), detail, millis: 0 };
            Ok(retriever::Outcome { hits, steps: vec![step], rewritten: None })
        }
    }
}
