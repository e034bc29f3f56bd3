//! Cutting at changes of subject, and what holds for every text.

use guest_chunk::testing::uncovered;
use guest_chunk::{Block, Embed, Kind, Models, Result, Section};
use proptest::prelude::*;

use crate::chunks;
use crate::units::UNITS_MAX;

/// One token a character; a text is about the animals that it names.
struct Animals;

impl Models for Animals {
    fn token_limit(&self) -> u32 {
        510
    }
    fn count(&self, texts: &[&str]) -> Result<Vec<u32>> {
        Ok(texts.iter().map(|text| text.chars().count() as u32).collect())
    }
}

impl Embed for Animals {
    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        assert!(texts.len() <= UNITS_MAX);
        let about = |text: &str| ["猫", "dog", "鱼"].map(|animal| text.matches(animal).count() as f32 + 0.1);
        Ok(texts.iter().map(|text| about(text).to_vec()).collect())
    }
}

fn cut<'t>(text: &'t str, blocks: &[Block], settings: &str) -> Vec<&'t str> {
    let section = Section { text, blocks, title: None, outline: &[] };
    let found = chunks(&section, settings, &Animals).unwrap();
    found.iter().map(|chunk| &text[chunk.start..chunk.end]).collect()
}

#[test]
fn sentences_on_one_subject_stay_together() {
    let (cats, dogs, fish) = ("猫在睡。".repeat(6), "A dog barks. ".repeat(6), "鱼在游。".repeat(6));
    let text = format!("{cats}{dogs}{fish}");
    assert_eq!(cut(&text, &[], "{}"), [cats.as_str(), dogs.trim_end(), fish.as_str()]);
    assert_eq!(cut(&cats, &[], "{}"), [cats.as_str()]);
    assert_eq!(cut("", &[], "{}"), [""; 0]);
}

#[test]
fn a_part_that_is_too_long_falls_apart_between_sentences() {
    let text = "猫在睡。".repeat(40);
    let found = cut(&text, &[], r#"{"unit": "characters", "size": 64}"#);
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|piece| piece.ends_with('。') && piece.chars().count() <= 64));
}

#[test]
fn a_heading_stays_with_what_follows_it() {
    let text = "猫\n\n睡觉\n\n猫在睡。\n\n更多\n\n猫在吃。";
    let block = |piece: &str, kind| {
        let start = text.find(piece).unwrap();
        Block { start, end: start + piece.len(), kind }
    };
    let blocks = [
        block("猫\n", Kind::Heading(1)),
        block("睡觉", Kind::Heading(2)),
        block("猫在睡。", Kind::Text),
        block("更多", Kind::Heading(2)),
        block("猫在吃。", Kind::Text),
    ];
    assert_eq!(cut(text, &blocks, "{}"), ["猫\n\n睡觉\n\n猫在睡。", "更多\n\n猫在吃。"]);
}

#[test]
fn settings_are_checked() {
    let section = Section { text: "x", blocks: &[], title: None, outline: &[] };
    let error = chunks(&section, r#"{"percentile": 100}"#, &Animals).unwrap_err();
    assert!(error.message.contains("from 50 to 99"), "{}", error.message);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_split_keeps_the_contract(text in "([a-z ]{1,9}|猫|dog|鱼|[。，.!] ?|\n|\r\n){0,400}", percentile in 50u32..=99) {
        let section = Section { text: &text, blocks: &[], title: None, outline: &[] };
        let found = chunks(&section, &format!(r#"{{"unit": "characters", "percentile": {percentile}, "size": 64}}"#), &Animals).unwrap();
        prop_assert!(found.is_sorted_by_key(|chunk| chunk.start));
        for chunk in &found {
            let piece = &text[chunk.start..chunk.end];
            prop_assert!(!piece.trim().is_empty() && piece.chars().count() <= 64);
        }
        prop_assert_eq!(uncovered(&text, &found), None, "{:?}", text);
    }
}

#[test]
fn a_long_section_is_compared_in_runs() {
    let text = "猫在睡。".repeat(3 * UNITS_MAX + 1);
    let found = cut(&text, &[], "{}");
    assert_eq!(found.concat(), text);
}
