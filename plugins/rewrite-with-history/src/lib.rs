//! Component `rewrite-with-history`: the model makes a follow-up question stand alone, then both arms are asked for it.

use guest_retrieve::options::Options;
use guest_retrieve::standing_alone::by_model;
use guest_retrieve::{Error, Generate, Outcome, Request, Result, Search, Trace, arms, check_question};
use guest_settings::Settings;

/// Rewrites the question where a conversation came before it, then asks both arms and joins what they find.
pub fn retrieve<H: Search + Generate>(host: &H, request: &Request, settings: &str) -> Result<Outcome> {
    let keys = &["fusion", "normalise", "dense_weight", "depth", "rank_constant", "rounds"];
    let settings = Settings::parse(settings, keys).map_err(Error::invalid)?;
    let options = Options::read(&settings).map_err(Error::invalid)?;
    let rounds = settings.integer("rounds", 1..=8, 3).map_err(Error::invalid)? as usize;
    check_question(request)?;
    let mut trace = Trace::default();
    let asked = if request.history.is_empty() { None } else { by_model(host, request, rounds, &mut trace) };
    let rewritten = asked.filter(|asked| asked != request.question.trim());
    let searched = rewritten.as_deref().unwrap_or(&request.question);
    let reach = (arms::depth(&options, request.k), request.k as usize);
    let fused = arms::both(host, searched, None, &options, reach, &mut trace)?;
    Ok(arms::outcome(fused, request, trace, rewritten))
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

    const QUESTION: &str = "它 多高？";
    const ALONE: &str = "埃菲尔铁塔 多高？";

    /// What was found, searched for and told, after one round about the tower.
    fn found(answers: &[&str], rounds: &[(&str, &str)]) -> (Outcome, Memory) {
        let mut host = Memory::new(&[("tower", "埃菲尔铁塔", [0.0, 1.0]), ("other", "无关", [1.0, 0.0])]);
        host.vectors.insert(ALONE.to_owned(), [0.0, 1.0]);
        host.answers = std::cell::RefCell::new(answers.iter().map(|a| (*a).to_owned()).collect());
        let history = rounds.iter().map(|(q, a)| ((*q).to_owned(), (*a).to_owned())).collect();
        let request = Request { question: QUESTION.to_owned(), history, k: 2 };
        (retrieve(&host, &request, "{}").unwrap(), host)
    }

    const ROUNDS: [(&str, &str); 1] = [("埃菲尔铁塔在哪里？", "在巴黎。")];

    #[test]
    fn a_follow_up_is_searched_for_as_the_model_asks_it() {
        let (outcome, host) = found(&["1. “埃菲尔铁塔 多高？”\nAnd more."], &ROUNDS);
        assert_eq!(outcome.rewritten.as_deref(), Some(ALONE));
        assert_eq!(*host.searched.borrow(), [ALONE]);
        assert_eq!(outcome.hits[0].chunk, "tower");
        let steps: Vec<&str> = outcome.steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(steps, ["rewrite", "dense", "lexical", "fuse"]);
        assert_eq!(outcome.steps[0].detail, format!("the model asks: {ALONE}"));
        assert!(host.prompts.borrow()[0].contains("问：埃菲尔铁塔在哪里？\n答：在巴黎。"));
    }

    #[test]
    fn without_a_usable_rewrite_the_plain_question_is_searched_for_and_the_trace_says_so() {
        for (answers, told) in [
            (&[][..], "failed: the language model is out of order"),
            (&[""][..], "the model wrote nothing usable"),
            (&["？！\n……"][..], "the model wrote nothing usable"),
            (&[QUESTION][..], "the model asks: 它 多高？"),
        ] {
            let (outcome, host) = found(answers, &ROUNDS);
            assert_eq!(outcome.rewritten, None, "{answers:?}");
            assert_eq!(*host.searched.borrow(), [QUESTION], "{answers:?}");
            assert_eq!(outcome.hits[0].chunk, "other", "{answers:?}");
            assert_eq!(outcome.steps[0].detail, told, "{answers:?}");
        }
    }

    #[test]
    fn without_a_conversation_the_model_is_not_asked() {
        let (outcome, host) = found(&["never"], &[]);
        assert_eq!((outcome.rewritten, outcome.steps.len()), (None, 3));
        assert!(host.prompts.borrow().is_empty());
    }
}
