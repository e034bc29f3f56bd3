//! Component `retrieve-mmr`: maximal marginal relevance, so that near copies do not crowd out the rest.

pub mod diversity;

use guest_retrieve::options::Options;
use guest_retrieve::{Error, Outcome, Request, Result, Search, Trace, arms, check_question};
use guest_settings::Settings;

use crate::diversity::{POOL_MAX, diverse};

/// Asks both arms, then reorders what they find.
pub fn retrieve<H: Search>(host: &H, request: &Request, settings: &str) -> Result<Outcome> {
    let settings = Settings::parse(settings, &["dense_weight", "depth", "follow_up", "relevance"])
        .map_err(Error::invalid)?;
    let options = Options::read(&settings).map_err(Error::invalid)?;
    let relevance = settings.number("relevance", 0.0..=1.0, 0.7).map_err(Error::invalid)? as f32;
    check_question(request)?;
    let mut trace = Trace::default();
    let (mut found, rewritten) = arms::candidates(host, request, &options, &mut trace)?;
    let pool: Vec<String> = found.iter().take(POOL_MAX).map(|hit| hit.chunk.clone()).collect();
    // Without vectors the order by relevance is the best there is; the trace says so.
    let vectors = trace.step("vectors", || host.vectors_of(&pool), |v| format!("of {} chunks", v.len()));
    if let Ok(vectors) = vectors
        && vectors.len() == pool.len()
    {
        let before = found.clone();
        let told = |moved: &usize| {
            format!("relevance {relevance:.2}: {moved} of the first {} came from further below", request.k)
        };
        let work = || {
            diverse(&mut found, &vectors, relevance);
            let was = |chunk: &String| before.iter().take(request.k as usize).any(|hit| hit.chunk == *chunk);
            Ok(found.iter().take(request.k as usize).filter(|hit| !was(&hit.chunk)).count())
        };
        trace.step("mmr", work, told)?;
    }
    Ok(arms::outcome(found, request, trace, rewritten))
}

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.
    guest_retrieve::component!(retrieve: super::retrieve);
}

#[cfg(test)]
mod tests {
    use guest_retrieve::testing::Memory;

    use super::*;

    fn found(host: &Memory, settings: &str, k: u32) -> Outcome {
        let request = Request { question: "塔 tower".to_owned(), history: Vec::new(), k };
        retrieve(host, &request, settings).unwrap()
    }

    fn ids(outcome: &Outcome) -> Vec<&str> {
        outcome.hits.iter().map(|hit| hit.chunk.as_str()).collect()
    }

    fn host() -> Memory {
        Memory::new(&[
            ("a", "塔 tower", [1.0, 0.0]),
            ("copy", "塔 tower", [0.999, 0.01]),
            ("other", "塔", [0.8, 0.6]),
            ("far", "nothing", [0.0, 1.0]),
        ])
    }

    #[test]
    fn a_near_copy_stands_behind_what_is_new() {
        assert_eq!(ids(&found(&host(), r#"{"relevance": 1}"#, 3)), ["a", "copy", "other"]);
        let diverse = found(&host(), r#"{"relevance": 0.4}"#, 2);
        assert_eq!(diverse.hits[0].chunk, "a");
        assert_ne!(diverse.hits[1].chunk, "copy");
        assert_eq!(diverse.steps.last().unwrap().name, "mmr");
        assert!(diverse.steps.last().unwrap().detail.contains("1 of the first 2"), "{:?}", diverse.steps);
    }

    #[test]
    fn without_vectors_the_order_is_by_relevance() {
        let host = Memory { vectors_away: true, ..host() };
        let found = found(&host, r#"{"relevance": 0.1}"#, 3);
        assert_eq!(ids(&found), ["a", "copy", "other"]);
        assert!(found.steps.last().unwrap().detail.contains("out of order"));
    }

    #[test]
    fn empty_questions_and_unknown_settings_are_refused() {
        let request = Request { question: " ".to_owned(), ..Request::default() };
        assert!(retrieve(&host(), &request, "{}").unwrap_err().message.contains("empty"));
        let error = retrieve(&host(), &request, r#"{"lambda": 1}"#).unwrap_err();
        assert!(error.message.contains("'lambda'"), "{}", error.message);
    }
}
