//! Items stay whole, pieces know what encloses them, and what holds for every text.

use guest_chunk::testing::{Characters, uncovered};
use guest_chunk::{Chunk, Section};
use proptest::prelude::*;

use crate::chunks;

fn cut(text: &str, size: usize) -> Vec<(&str, Option<String>)> {
    let section = Section { text, blocks: &[], title: None, outline: &[] };
    let found =
        chunks(&section, &format!(r#"{{"unit": "characters", "size": {size}}}"#), &Characters).unwrap();
    found.into_iter().map(|chunk| (&text[chunk.start..chunk.end], chunk.context)).collect()
}

const RUST: &str = "use std::fmt;

/// 一只鸟。
#[derive(Debug)]
struct Bird {
    name: String,
}

impl Bird {
    fn fly(&self) -> u32 {
        let height = 3;
        height * 2
    }

    fn sing(&self) -> String {
        if self.name.is_empty() {
            return String::new();
        } else {
            format!(\"{} sings\", self.name)
        }
    }
}
";

#[test]
fn an_item_stays_whole_with_what_belongs_to_it() {
    let found = cut(RUST, 100);
    assert_eq!(
        found[0].0,
        "use std::fmt;\n\n/// 一只鸟。\n#[derive(Debug)]\nstruct Bird {\n    name: String,\n}"
    );
    assert_eq!(found[0].1, None);
    assert!(
        found[1].0.starts_with("impl Bird {\n    fn fly") && found[1].0.ends_with("\n    }"),
        "{:?}",
        found[1]
    );
}

#[test]
fn a_part_knows_what_encloses_it_and_keeps_its_indentation() {
    let found = cut(RUST, 100);
    let sing = found.iter().find(|(piece, _)| piece.starts_with("    fn sing")).unwrap();
    assert_eq!(sing.1.as_deref(), Some("impl Bird"));
    let inner = found.iter().find(|(piece, _)| piece.contains("sings")).unwrap();
    assert!(inner.1.as_deref().unwrap_or("impl Bird").starts_with("impl Bird"), "{inner:?}");
    let python = format!(
        "class 鸟:\n    def fly(self):\n        {}\n\n    def 唱(self, loud):\n        {}\n",
        "a = 1; ".repeat(9),
        "b = 2; ".repeat(9)
    );
    let found = cut(&python, 70);
    let last = found.last().unwrap();
    assert_eq!(last.1.as_deref(), Some("class 鸟 › def 唱(self, loud)"), "{found:?}");
}

#[test]
fn functions_without_blank_lines_between_them_are_told_apart() {
    let text = "def a():\n    return 'one thing and more of it'\ndef b():\n    return 'another thing'\n";
    let found = cut(text, 64);
    assert_eq!(found[0].0, "def a():\n    return 'one thing and more of it'");
    assert_eq!(found[1].0, "def b():\n    return 'another thing'");
}

#[test]
fn what_has_no_lines_is_still_cut() {
    let text = "x+".repeat(100);
    let found = cut(&text, 64);
    assert_eq!(found.len(), 4);
    assert_eq!(cut(" \n\t\n", 64), []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_split_keeps_the_contract(
        text in "([a-z]{1,20}|[一-鿿]{1,9}|\n|\n    |\n        |\n\t|\n\n| \\{|\n\\}|\r\n|else|[(){};:] ?){0,300}",
        size in 64usize..200, overlap in 0usize..32,
    ) {
        let section = Section { text: &text, blocks: &[], title: Some("题"), outline: &[] };
        let settings = format!(r#"{{"unit": "characters", "size": {size}, "overlap": {overlap}}}"#);
        let found: Vec<Chunk> = chunks(&section, &settings, &Characters).unwrap();
        prop_assert!(found.is_sorted_by_key(|chunk| chunk.start));
        for chunk in &found {
            let piece = text.get(chunk.start..chunk.end).expect("in range, on characters");
            prop_assert!(!piece.trim().is_empty() && piece.chars().count() <= size, "{piece:?}");
            prop_assert!(chunk.context.as_deref().is_some_and(|context| context.starts_with('题')));
        }
        prop_assert_eq!(uncovered(&text, &found), None, "{:?}", text);
    }
}
