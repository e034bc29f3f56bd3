//! Small chunks lie within larger ones, and both cover the text.

use guest_chunk::testing::{Characters, uncovered};
use guest_chunk::{Chunk, Section};
use proptest::prelude::*;

use crate::chunks;

fn cut(text: &str, settings: &str) -> Vec<Chunk> {
    let section = Section { text, blocks: &[], title: Some("手册"), outline: &[] };
    chunks(&section, settings, &Characters).unwrap()
}

#[test]
fn a_long_paragraph_is_found_by_its_sentences() {
    let sentence = |c: &str| c.repeat(59) + "。";
    let text = ["甲", "乙", "丙"].map(sentence).concat() + "\n\n短文。";
    let found = cut(&text, r#"{"unit": "characters", "size": 64, "parent_size": 190}"#);
    let pieces: Vec<_> = found.iter().map(|chunk| (&text[chunk.start..chunk.end], chunk.parent)).collect();
    let (a, b, c) = (sentence("甲"), sentence("乙"), sentence("丙"));
    let all = format!("{a}{b}{c}\n\n短文。");
    assert_eq!(
        pieces,
        [
            (all.as_str(), None),
            (a.as_str(), Some(0)),
            (b.as_str(), Some(0)),
            (c.as_str(), Some(0)),
            ("短文。", Some(0)),
        ]
    );
    assert!(found.iter().all(|chunk| chunk.context.as_deref() == Some("手册")));
}

#[test]
fn what_is_small_stands_alone() {
    assert_eq!(
        cut("短。\n\nshort.", "{}"),
        [Chunk { start: 0, end: "短。\n\nshort.".len(), parent: None, context: Some("手册".to_owned()) }]
    );
    assert_eq!(cut(" \n", "{}"), []);
}

#[test]
fn settings_are_checked_and_a_parent_is_no_smaller_than_its_children() {
    let section = Section { text: "x", blocks: &[], title: None, outline: &[] };
    for (settings, words) in [
        (r#"{"parent_size": 511}"#, "'parent_size' must be a whole number from 64 to 510"),
        (r#"{"overlap": 3}"#, "unknown setting 'overlap'"),
    ] {
        let error = chunks(&section, settings, &Characters).unwrap_err();
        assert!(error.message.contains(words), "{settings}: {}", error.message);
    }
    let text = "字".repeat(300);
    let sized =
        |size: u32, parent: u32| cut(&text, &format!(r#"{{"size": {size}, "parent_size": {parent}}}"#));
    assert_eq!(sized(200, 100), sized(200, 200));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn children_fill_their_parents(text in "([a-z]{1,9}|[一-鿿]{1,30}|[。，.!] ?|\n){0,300}", size in 64u32..100, more in 0u32..300) {
        let found = cut(&text, &format!(r#"{{"unit": "characters", "size": {size}, "parent_size": {}}}"#, size + more));
        prop_assert!(found.is_sorted_by_key(|chunk| chunk.start));
        for chunk in &found {
            let length = text[chunk.start..chunk.end].chars().count() as u32;
            let Some(parent) = chunk.parent else {
                prop_assert!(length <= size + more);
                continue;
            };
            let parent = &found[parent as usize];
            prop_assert!(parent.parent.is_none() && parent.start <= chunk.start && chunk.end <= parent.end);
            prop_assert!(length <= size && chunk.end - chunk.start < parent.end - parent.start);
        }
        prop_assert_eq!(uncovered(&text, &found), None);
        for (at, parent) in found.iter().enumerate().filter(|(_, chunk)| chunk.parent.is_none()) {
            let within = |chunk: &&Chunk| chunk.parent == Some(at as u32);
            let inside = |at: usize| at.saturating_sub(parent.start);
            let moved = |chunk: &Chunk| Chunk { start: inside(chunk.start), end: inside(chunk.end), ..Chunk::default() };
            let children: Vec<Chunk> = found.iter().filter(within).map(moved).collect();
            if !children.is_empty() {
                prop_assert_eq!(uncovered(&text[parent.start..parent.end], &children), None);
            }
        }
    }
}
