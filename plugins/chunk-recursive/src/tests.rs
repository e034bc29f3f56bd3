//! Cutting at the coarsest separator that is enough, and what holds for every text.

use guest_chunk::testing::uncovered;
use guest_chunk::{Block, Chunk, Kind, Models, Result, Section};
use proptest::prelude::*;

use crate::chunks;

/// One token a Han character, one for four letters, one for each other character.
struct Tokens;

impl Models for Tokens {
    fn token_limit(&self) -> u32 {
        510
    }
    fn count(&self, texts: &[&str]) -> Result<Vec<u32>> {
        Ok(texts.iter().map(|text| tokens(text) as u32).collect())
    }
}

fn tokens(text: &str) -> usize {
    let letters = text.chars().filter(char::is_ascii_alphanumeric).count();
    let others = text.chars().filter(|c| !c.is_ascii_alphanumeric() && !c.is_whitespace()).count();
    letters.div_ceil(4) + others
}

fn section<'a>(text: &'a str, blocks: &'a [Block]) -> Section<'a> {
    Section { text, blocks, title: Some("题"), outline: &[] }
}

fn check(text: &str, settings: &str, expected: &[&str]) {
    let found = chunks(&section(text, &[]), settings, &Tokens).unwrap();
    let found: Vec<&str> = found.iter().map(|chunk| &text[chunk.start..chunk.end]).collect();
    assert_eq!(found, expected);
}

const CHARS: &str = r#"{"unit": "characters", "size": 64}"#;

#[test]
fn what_fits_stays_whole() {
    check("第一段。\n\n第二段。", CHARS, &["第一段。\n\n第二段。"]);
    check("", CHARS, &[]);
    check(" \n\n　", CHARS, &[]);
}

#[test]
fn paragraphs_come_before_sentences() {
    let (one, two) = ("甲".repeat(39) + "。", "乙".repeat(29) + "。");
    check(&format!("{one}\n\n{two}\n\n短。"), CHARS, &[&one, &format!("{two}\n\n短。")]);
}

#[test]
fn a_long_paragraph_falls_into_lines_then_sentences_then_clauses() {
    let line = "x".repeat(60);
    check(&format!("{line}\n{line}"), CHARS, &[&line, &line]);
    let (first, second) = ("他说：“好。”".to_owned() + &"甲".repeat(30) + "！", "乙".repeat(40) + "？");
    check(&format!("{first}{second}"), CHARS, &[&first, &second]);
    let (a, b) = ("word ".repeat(9) + "end, e.g. 3.14.", "Next ".repeat(9) + "one.");
    check(&format!("{a} {b}"), CHARS, &[&a, &b]);
    let (clause, rest) = ("子".repeat(50) + "，", "丑".repeat(50));
    check(&format!("{clause}{rest}"), CHARS, &[&clause, &rest]);
}

#[test]
fn nothing_to_cut_at_falls_into_characters() {
    let found = chunks(&section(&"无".repeat(200), &[]), CHARS, &Tokens).unwrap();
    assert_eq!(found.len(), 4);
    assert!(found.iter().all(|chunk| chunk.end - chunk.start == 150));
}

#[test]
fn overlap_repeats_whole_pieces() {
    let sentence = |c: &str| c.repeat(19) + "。";
    let text: String = ["甲", "乙", "丙", "丁"].map(sentence).concat();
    let with = r#"{"unit": "characters", "size": 64, "overlap": 20}"#;
    check(&text, with, &[&["甲", "乙", "丙"].map(sentence).concat(), &["丙", "丁"].map(sentence).concat()]);
}

#[test]
fn headings_are_context_and_settings_are_checked() {
    let text = "安装\n\n".to_owned() + &"句子。".repeat(40);
    let blocks = [
        Block { start: 0, end: 6, kind: Kind::Heading(1) },
        Block { start: 8, end: text.len(), kind: Kind::Text },
    ];
    let found = chunks(&section(&text, &blocks), CHARS, &Tokens).unwrap();
    assert_eq!(found.last().unwrap().context.as_deref(), Some("题 › 安装"));
    let error = chunks(&section("x", &[]), r#"{"size": 600}"#, &Tokens).unwrap_err();
    assert!(error.message.contains("from 64 to 510"), "{}", error.message);
    assert!(chunks(&section("x", &[]), r#"{"separators": 1}"#, &Tokens).is_err());
}

fn part() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => "([a-zA-Z]{1,9}|[一-鿿]{1,12}|[。！？；，、…]|[.!?;,] |[ \t]|\r\n|\n|\n\n|🐧|👩\u{200d}👧|e\u{301}|“|”){0,90}",
        1 => "[a-z]{0,900}|[一-鿿]{0,400}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn every_split_keeps_the_contract(
        parts in prop::collection::vec(part(), 0..6), size in 64usize..200, share in 0usize..100, by_tokens in any::<bool>(),
    ) {
        let (mut text, mut blocks) = (String::new(), Vec::new());
        for part in &parts {
            let start = text.len();
            text.push_str(part);
            blocks.push(Block { start, end: text.len(), kind: if part.len() < 9 { Kind::Heading(1) } else { Kind::Text } });
            text.push('\n');
        }
        let unit = if by_tokens { "tokens" } else { "characters" };
        let settings = format!(r#"{{"unit": "{unit}", "size": {size}, "overlap": {}}}"#, share % (size / 2 + 1));
        let found: Vec<Chunk> = chunks(&section(&text, &blocks), &settings, &Tokens).unwrap();
        prop_assert!(found.is_sorted_by_key(|chunk| chunk.start));
        for chunk in &found {
            let piece = text.get(chunk.start..chunk.end).expect("in range, on characters");
            let length = if by_tokens { tokens(piece) } else { piece.chars().count() };
            prop_assert!(!piece.trim().is_empty() && length <= size, "{length} of {size}: {piece:?}");
        }
        prop_assert_eq!(uncovered(&text, &found), None, "{:?}", text);
    }
}
