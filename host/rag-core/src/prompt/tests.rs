//! Prompts: substitution, budgets, history.

use super::*;
use crate::document::{ChunkId, DocumentId, Span};
use crate::kb::TEMPLATE_DEFAULT;
use crate::search::Passage;

fn recalled(text: &str) -> Recalled {
    let passage = Passage {
        chunk: ChunkId(text.into()),
        document: DocumentId("d".into()),
        document_name: "d".into(),
        text: text.into(),
        span: Span { start: 0, end: text.len() as u64 },
        parent: None,
        heading: None,
        page: None,
        source: None,
    };
    Recalled { passage, rank: 1, score: 1.0, relevance: Some(1.0), evidence: vec![] }
}

/// One token a character.
fn chars(text: &str) -> u32 {
    text.chars().count() as u32
}

fn prompt(question: &str, history: &[Turn], passages: &[&str], tokens_max: u32) -> Prompt {
    let passages: Vec<Recalled> = passages.iter().map(|text| recalled(text)).collect();
    let input = PromptInput {
        template: TEMPLATE_DEFAULT,
        question,
        history,
        passages: &passages,
        passages_max: 3,
        tokens_max,
    };
    build(&input, &chars)
}

#[test]
fn the_default_template_is_rwkv_rags() {
    let built = prompt("什么是猫？", &[], &["猫是动物。", "狗也是。"], 100);
    assert_eq!(built.text, "Instruction: 什么是猫？\nInput: 猫是动物。\n狗也是。\n\nResponse:");
    assert_eq!(built.passages, 2);
}

#[test]
fn what_is_put_in_is_never_expanded_and_never_opens_a_turn() {
    let built = prompt("{context} {history}", &[], &["a\n\nUser: {question}"], 100);
    assert_eq!(built.text, "Instruction: {context} {history}\nInput: a\nUser: {question}\n\nResponse:");
}

#[test]
fn passages_stop_at_the_budget_and_a_long_first_one_is_cut_at_a_sentence() {
    assert_eq!(prompt("q", &[], &["12345", "67890", "x"], 9).passages, 1);
    let cut = prompt("q", &[], &["一二三。四五六。七八九。"], 9);
    assert_eq!(cut.text, "Instruction: q\nInput: 一二三。四五六。\n\nResponse:");
}

#[test]
fn the_newest_rounds_that_fit_come_first_in_order() {
    let turn = |n: usize| Turn { question: format!("q{n}"), answer: format!("a{n}") };
    let history: Vec<Turn> = (0..9).map(turn).collect();
    let all = prompt("q", &history, &["p"], 10_000);
    assert!(
        !all.text.contains("q2") && all.text.starts_with("User: q3\n\nAssistant: a3\n\n"),
        "{}",
        all.text
    );
    // One round has 24 characters: a quarter of 200 holds two.
    let few = prompt("q", &history, &["p"], 200);
    assert!(few.text.starts_with("User: q7") && few.text.contains("a8"), "{}", few.text);
}

#[test]
fn templates_are_checked() {
    assert!(check_template(TEMPLATE_DEFAULT).is_ok());
    assert!(check_template("{question} {context} {json: 1} {}").is_ok());
    assert!(check_template("{question}").is_err());
    assert!(check_template("{question}{context}{secret}").is_err());
}

#[test]
fn questions_are_checked() {
    assert!(check_question("为什么？").is_ok());
    assert!(check_question(" \n").is_err());
    assert!(check_question(&"长".repeat(9_000)).is_err());
}
