//! Component `retrieve-hyde`: a guessed answer lies nearer to the passages that hold the answer than the question does.

use guest_retrieve::options::Options;
use guest_retrieve::{
    Error, Generate, Outcome, Request, Result, Search, Trace, arms, check_question, is_chinese, usable,
};
use guest_settings::Settings;

/// Tokens of a guess.
const GUESS_TOKENS_MAX: u32 = 128;
/// Characters of a guess that are searched for.
const GUESS_CHARS_MAX: usize = 1_000;

/// Guesses an answer, then asks both arms with a vector between question and guess.
pub fn retrieve<H: Search + Generate>(host: &H, request: &Request, settings: &str) -> Result<Outcome> {
    let settings = Settings::parse(settings, &["dense_weight", "depth", "follow_up", "weight"])
        .map_err(Error::invalid)?;
    let options = Options::read(&settings).map_err(Error::invalid)?;
    let weight = settings.number("weight", 0.0..=1.0, 0.5).map_err(Error::invalid)? as f32;
    check_question(request)?;
    let mut trace = Trace::default();
    let rewritten = arms::rewrite(request, &options, &mut trace);
    let searched = rewritten.as_deref().unwrap_or(&request.question);
    let vector = aimed(host, searched, weight, &mut trace);
    let reach = (arms::depth(&options, request.k), request.k as usize);
    let fused = arms::both(host, searched, vector.as_deref(), &options, reach, &mut trace)?;
    Ok(arms::outcome(fused, request, trace, rewritten))
}

/// The vector between question and guess; none when there is no usable guess, and the question's own is searched for.
fn aimed<H: Search + Generate>(host: &H, question: &str, weight: f32, trace: &mut Trace) -> Option<Vec<f32>> {
    let written = || host.generate(&prompt(question), GUESS_TOKENS_MAX, &["\n\n"]);
    let told = |text: &String| format!("the model wrote: {text}");
    let text = trace.step("guess", written, told).ok()?;
    let cut: String = text.chars().take(GUESS_CHARS_MAX).collect();
    let guess = usable(&cut, GUESS_CHARS_MAX)?;
    let vectors = || Ok((host.embed_question(question)?, host.embed_passage(&guess)?));
    let aim = trace.step("aim", vectors, |_| format!("the question and {weight:.2} of the guess"));
    let (asked, guessed) = aim.ok()?;
    between(&asked, &guessed, weight)
}

/// Weighted sum of unit length; none where the two do not fit or cancel out.
fn between(asked: &[f32], guessed: &[f32], weight: f32) -> Option<Vec<f32>> {
    if asked.len() != guessed.len() {
        return None;
    }
    let sum: Vec<f32> = asked.iter().zip(guessed).map(|(a, g)| (1.0 - weight) * a + weight * g).collect();
    let length = sum.iter().map(|value| value * value).sum::<f32>().sqrt();
    (length.is_finite() && length > 1e-6).then(|| sum.iter().map(|value| value / length).collect())
}

fn prompt(question: &str) -> String {
    if is_chinese(question) {
        format!("User: 请用一两句话写出可能回答下面问题的一段资料。\n问题：{question}\n\nAssistant:")
    } else {
        format!(
            "User: Write one or two sentences of a document that may answer this question.\nQuestion: {question}\n\nAssistant:"
        )
    }
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

    fn host(answers: &[&str]) -> Memory {
        let mut host = Memory::new(&[("asked", "x", [1.0, 0.0]), ("answered", "y", [0.0, 1.0])]);
        host.vectors.insert("铁塔高三百三十米。".to_owned(), [0.0, 1.0]);
        host.answers = std::cell::RefCell::new(answers.iter().map(|a| (*a).to_owned()).collect());
        host
    }

    fn first(host: &Memory, settings: &str) -> (String, Vec<String>) {
        let request = Request { question: "塔有多高？".to_owned(), history: Vec::new(), k: 2 };
        let found = retrieve(host, &request, settings).unwrap();
        (found.hits[0].chunk.clone(), found.steps.into_iter().map(|step| step.name).collect())
    }

    #[test]
    fn passages_like_the_guess_come_first() {
        let (best, steps) = first(&host(&["铁塔高三百三十米。\n"]), r#"{"weight": 0.9}"#);
        assert_eq!(best, "answered");
        assert_eq!(steps, ["guess", "aim", "dense", "lexical", "fuse"]);
        assert_eq!(first(&host(&["铁塔高三百三十米。"]), r#"{"weight": 0}"#).0, "asked");
    }

    #[test]
    fn without_a_usable_guess_the_question_is_searched_for() {
        for answers in [&[][..], &[""], &["？？？！"], &["哈哈哈哈哈哈"]] {
            let (best, steps) = first(&host(answers), r#"{"weight": 1}"#);
            assert_eq!(best, "asked", "{answers:?}");
            assert_eq!(steps, ["guess", "dense", "lexical", "fuse"], "{answers:?}");
        }
    }

    #[test]
    fn the_prompt_speaks_the_language_of_the_question() {
        assert!(prompt("塔有多高？").contains("问题：塔有多高？"));
        assert!(prompt("How high?").contains("Question: How high?"));
    }

    #[test]
    fn vectors_that_do_not_fit_give_none() {
        assert_eq!(between(&[1.0, 0.0], &[0.0, 1.0], 0.5).unwrap()[0], 0.5f32.sqrt());
        assert_eq!(between(&[1.0], &[1.0, 0.0], 0.5), None);
        assert_eq!(between(&[1.0, 0.0], &[-1.0, 0.0], 0.5), None);
    }
}
