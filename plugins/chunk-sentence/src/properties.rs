//! What holds for every text: spans are sorted, on characters, not blank, cover, and no longer than asked.

use proptest::prelude::*;

use crate::document::{Block, Document, Heading, Kind};
use crate::options::{Options, Unit};
use crate::split::split;

fn part() -> impl Strategy<Value = (Kind, String)> {
    let prose = "([a-zA-Z]{1,9}|[一-鿿]{1,12}|[。！？；，、…]|[.!?;,] |[ \t]|\r\n|\n|🐧|👩\u{200d}👧|e\u{301}|https://a.b/c|3\\.14|“|”|（|）|\u{feff}){0,60}";
    prop_oneof![
        6 => prose.prop_map(|text| (Kind::Text, text)),
        2 => ((1u8..5), "[a-z一-鿿 ]{0,30}").prop_map(|(level, text)| (Kind::Heading(level), text)),
        1 => "(\\| [a-z一-鿿]{1,9} \\|\n){1,9}".prop_map(|rows| {
            (Kind::Table, rows.replacen('\n', "\n|---|\n", 1))
        }),
        1 => "([a-z ={}();]{0,30}\n){0,9}".prop_map(|text| (Kind::Code, text)),
        1 => "[a-z]{0,900}|[一-鿿]{0,400}".prop_map(|text| (Kind::Text, text)),
    ]
}

/// A stand-in for the model's tokens: one a Han character, one for four letters, one for each other character.
fn count(texts: &[&str]) -> Result<Vec<u32>, ()> {
    Ok(texts
        .iter()
        .map(|text| {
            let letters = text.chars().filter(char::is_ascii_alphanumeric).count();
            let others = text.chars().filter(|c| !c.is_ascii_alphanumeric() && !c.is_whitespace()).count();
            (letters.div_ceil(4) + others) as u32
        })
        .collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn every_split_keeps_the_contract(
        parts in prop::collection::vec(part(), 0..14),
        size in 8usize..200,
        share in 0usize..100,
        tokens in any::<bool>(),
        gaps in any::<bool>(),
    ) {
        let (mut text, mut blocks) = (String::new(), Vec::new());
        for (number, (kind, part)) in parts.iter().enumerate() {
            let start = text.len();
            text.push_str(part);
            // Sometimes a block is missing: its text must be covered all the same.
            if !(gaps && number % 3 == 1) {
                blocks.push(Block { start, end: text.len(), kind: *kind });
            }
            text.push_str("\n\n");
        }
        let outline = [Heading { level: 1, text: "Top 顶".to_owned() }];
        let document = Document { text: &text, blocks: &blocks, title: Some("题"), outline: &outline };
        let options = Options {
            size,
            unit: if tokens { Unit::Tokens } else { Unit::Characters },
            overlap: share % (size / 2 + 1),
            context: true,
            context_chars_max: 40,
        };
        let chunks = split(document, options, &mut count).unwrap();
        prop_assert_eq!(&chunks, &split(document, options, &mut count).unwrap(), "deterministic");

        let mut covered = vec![false; text.len()];
        let mut last = 0;
        for chunk in &chunks {
            prop_assert!(chunk.start >= last, "sorted");
            last = chunk.start;
            let piece = text.get(chunk.start..chunk.end).expect("in bounds, on characters");
            prop_assert!(!piece.trim().is_empty(), "not blank");
            let length = if tokens { count(&[piece]).unwrap()[0] as usize } else { piece.chars().count() };
            prop_assert!(length <= size, "{length} of {size}: {piece:?}");
            prop_assert!(chunk.context.as_ref().is_none_or(|context| context.chars().count() <= 81));
            covered[chunk.start..chunk.end].fill(true);
        }
        for (at, c) in text.char_indices() {
            prop_assert!(covered[at] || c.is_whitespace(), "byte {at} of {text:?}");
        }
        // No chunk holds two headings of which the later is of the same or a higher level.
        for chunk in &chunks {
            let inside = blocks.iter().filter(|b| b.start >= chunk.start && b.end <= chunk.end && b.start < b.end);
            let levels: Vec<u8> = inside
                .filter(|b| !text[b.start..b.end].trim().is_empty())
                .filter_map(|b| match b.kind { Kind::Heading(level) => Some(level), _ => None })
                .collect();
            prop_assert!(levels.windows(2).all(|pair| pair[0] < pair[1]), "{levels:?}");
        }
    }
}
