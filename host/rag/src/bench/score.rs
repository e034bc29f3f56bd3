//! How near is an answer to the reference answers: exact match, F1, copied share, refusals.

use std::collections::HashMap;

use rag_core::script::is_chinese;

use super::Figure;

/// One answered question.
pub(super) struct Answered {
    pub(super) answer: String,
    /// The model or the relevance floor said that nothing was found.
    pub(super) refused: bool,
    /// Empty: the passage does not hold the answer, and a refusal is right.
    pub(super) references: Vec<String>,
    /// What the model was given.
    pub(super) passage: String,
}

/// Exact match, F1 and copied share over the answerable questions; precision, recall and F1 of refusals over all.
/// As SQuAD scores them (Rajpurkar et al., 2016), with Chinese compared by characters as CMRC 2018 does.
pub(super) fn figures(answered: &[Answered]) -> Vec<Figure> {
    let answerable: Vec<_> = answered.iter().filter(|one| !one.references.is_empty()).collect();
    let mean = |score: &dyn Fn(&Answered) -> f64| {
        answerable.iter().map(|one| score(one)).sum::<f64>() / answerable.len().max(1) as f64
    };
    let best = |one: &Answered, score: fn(&str, &str) -> f64| {
        one.references.iter().map(|reference| score(&one.answer, reference)).fold(0.0, f64::max)
    };
    let copied = |one: &Answered| {
        let said = letters(&one.answer);
        f64::from(u8::from(!said.is_empty() && letters(&one.passage).contains(&said)))
    };
    let count = |test: &dyn Fn(&Answered) -> bool| answered.iter().filter(|one| test(one)).count();
    let said = count(&|one| one.refused);
    let wanted = count(&|one| one.references.is_empty());
    let right = count(&|one| one.refused && one.references.is_empty());
    let share = |of: usize| if of == 0 { 0.0 } else { right as f64 / of as f64 };
    let mut figures = vec![
        Figure::new("questions", answered.len() as f64, "questions"),
        Figure::new("exact match", mean(&|one| best(one, exact)), "share"),
        Figure::new("F1", mean(&|one| best(one, f1)), "share"),
        Figure::new("copied", mean(&copied), "share"),
        Figure::new("refused though answerable", (said - right) as f64, "questions"),
    ];
    if wanted > 0 {
        figures.extend([
            Figure::new("unanswerable", wanted as f64, "questions"),
            Figure::new("refusal precision", share(said), "share"),
            Figure::new("refusal recall", share(wanted), "share"),
            Figure::new("refusal F1", 2.0 * right as f64 / (said + wanted) as f64, "share"),
        ]);
    }
    figures
}

fn exact(answer: &str, reference: &str) -> f64 {
    f64::from(u8::from(letters(answer) == letters(reference)))
}

/// Harmonic mean of precision and recall over shared characters (Chinese) or words, each counted as often as it stands.
fn f1(answer: &str, reference: &str) -> f64 {
    let (said, wanted) = (units(answer, reference), units(reference, reference));
    let mut left: HashMap<&str, usize> = HashMap::new();
    wanted.iter().for_each(|unit| *left.entry(unit).or_default() += 1);
    let shared = said
        .iter()
        .filter(|unit| {
            let count = left.get_mut(unit.as_str()).filter(|count| **count > 0);
            count.map(|count| *count -= 1).is_some()
        })
        .count();
    2.0 * shared as f64 / (said.len() + wanted.len()).max(1) as f64
}

/// Characters where the reference is Chinese, words elsewhere.
fn units(text: &str, reference: &str) -> Vec<String> {
    if is_chinese(reference) {
        return letters(text).chars().map(String::from).collect();
    }
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

fn letters(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_f1(answer: &str, reference: &str, want: f64) {
        assert!(
            (f1(answer, reference) - want).abs() < 1e-9,
            "{answer} | {reference}: {}",
            f1(answer, reference)
        );
    }

    #[test]
    fn f1_counts_characters_in_chinese_and_words_elsewhere() {
        check_f1("武田信玄", "武田信玄", 1.0);
        check_f1("武田", "武田信玄", 2.0 / 3.0);
        check_f1("the red car", "red car", 0.8);
        check_f1("red red", "red car", 0.5);
        check_f1("nothing", "red car", 0.0);
        check_f1("", "red car", 0.0);
        assert_eq!(exact("《武田信玄》。", "武田信玄"), 1.0);
    }

    #[test]
    fn refusals_are_right_only_where_nothing_answers() {
        let one = |answer: &str, refused, references: &[&str]| Answered {
            answer: answer.into(),
            refused,
            references: references.iter().map(|text| (*text).to_owned()).collect(),
            passage: "The car is red.".into(),
        };
        let answered = [
            one("red", false, &["red"]),
            one("", true, &["red"]),
            one("", true, &[]),
            one("blue", false, &[]),
        ];
        let figures = figures(&answered);
        let value = |name: &str| figures.iter().find(|figure| figure.name == name).unwrap().value;
        for (name, want) in [
            ("questions", 4.0),
            ("exact match", 0.5),
            ("F1", 0.5),
            ("copied", 0.5),
            ("unanswerable", 2.0),
            ("refusal precision", 0.5),
            ("refusal recall", 0.5),
            ("refusal F1", 0.5),
        ] {
            assert_eq!(value(name), want, "{name}");
        }
    }
}
