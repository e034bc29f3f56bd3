//! Component `retrieve-parent`: what small chunks find, the larger chunks around them answer.

pub mod merge;

use guest_retrieve::options::Options;
use guest_retrieve::{Error, Outcome, Request, Result, Search, Trace, arms, check_question};
use guest_settings::Settings;

/// Asks both arms, then puts larger chunks in the place of the small ones that they hold.
pub fn retrieve<H: Search>(host: &H, request: &Request, settings: &str) -> Result<Outcome> {
    let settings = Settings::parse(settings, &["dense_weight", "depth", "follow_up", "children"])
        .map_err(Error::invalid)?;
    let options = Options::read(&settings).map_err(Error::invalid)?;
    let children = settings.integer("children", 1..=20, 1).map_err(Error::invalid)? as usize;
    check_question(request)?;
    let mut trace = Trace::default();
    let (mut found, rewritten) = arms::candidates(host, request, &options, &mut trace)?;
    let ids: Vec<String> = found.iter().map(|hit| hit.chunk.clone()).collect();
    let told = |parents: &Vec<(String, Option<String>)>| {
        let held = parents.iter().filter(|(_, parent)| parent.is_some()).count();
        format!("{held} of {} chunks lie within larger ones", ids.len())
    };
    // Where parents cannot be read, small chunks are better than none; the trace says so.
    if let Ok(parents) = trace.step("parents", || host.parents_of(&ids), told) {
        let before = found.len();
        let done = |kept: &usize| format!("{before} chunks became {kept}");
        let work = || {
            merge::merge(&mut found, parents, children);
            Ok(found.len())
        };
        trace.step("merge", work, done)?;
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

    /// Two small chunks of one larger chunk, one of another, one without.
    fn host() -> Memory {
        let mut host = Memory::new(&[
            ("whole", "塔 tower and much around it", [0.5, 0.5]),
            ("small1", "塔 tower", [1.0, 0.0]),
            ("small2", "塔", [0.9, 0.1]),
            ("lone", "塔", [0.8, 0.2]),
            ("other", "far", [0.0, 1.0]),
            ("small3", "塔", [0.7, 0.3]),
        ]);
        for (child, parent) in [("small1", "whole"), ("small2", "whole"), ("small3", "other")] {
            host.chunks.get_mut(child).unwrap().parent = Some(parent.to_owned());
        }
        host
    }

    fn found(host: &Memory, settings: &str, k: u32) -> Outcome {
        let request = Request { question: "塔 tower".to_owned(), history: Vec::new(), k };
        retrieve(host, &request, settings).unwrap()
    }

    fn ids(outcome: &Outcome) -> Vec<&str> {
        outcome.hits.iter().map(|hit| hit.chunk.as_str()).collect()
    }

    #[test]
    fn larger_chunks_stand_for_what_they_hold() {
        let found = found(&host(), "{}", 10);
        assert_eq!(ids(&found), ["whole", "lone", "other"]);
        let steps: Vec<&str> = found.steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(steps, ["dense", "lexical", "fuse", "parents", "merge"]);
        assert!(found.steps[4].detail.contains("6 chunks became 3"), "{}", found.steps[4].detail);
        let arms: Vec<&str> = found.hits[0].evidence.iter().map(|one| one.arm.as_str()).collect();
        assert_eq!(arms, ["dense", "lexical"]);
    }

    #[test]
    fn one_small_chunk_may_be_too_few() {
        let mut host = host();
        host.chunks.remove("other");
        let found = found(&host, r#"{"children": 2}"#, 10);
        let ids = ids(&found);
        assert_eq!(ids[0], "whole");
        assert!(ids.contains(&"small3") && !ids.contains(&"small1") && !ids.contains(&"small2"), "{ids:?}");
    }

    #[test]
    fn no_more_than_asked_and_wrong_settings_are_refused() {
        assert_eq!(ids(&found(&host(), "{}", 1)), ["whole"]);
        let request = Request { question: "?".to_owned(), ..Request::default() };
        let error = retrieve(&host(), &request, r#"{"children": 0}"#).unwrap_err();
        assert!(error.message.contains("'children'"), "{}", error.message);
    }
}
