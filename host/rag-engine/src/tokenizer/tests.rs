//! The tokenizer against upstream's ids, and round trips of any text.

use proptest::prelude::*;

use super::*;
use crate::testing::world;

/// Upstream's ids of each text.
const VECTORS: &[(&str, &[u32])] = &[
    ("", &[]),
    ("Hello world", &[33155, 40213]),
    ("User: hi\n\nAssistant:", &[24281, 59, 4571, 261, 5585, 41693, 59]),
    ("Instruction: a\n\nInput: b\n\nResponse:", &[62994, 59, 332, 261, 33192, 59, 333, 261, 53671, 59]),
    ("我们发现", &[12605, 10402, 10997, 14446]),
    ("User: 你好\n\nAssistant:", &[24281, 59, 33, 10464, 11685, 261, 5585, 41693, 59]),
    ("😀", &[3319, 153, 129]),
    ("\nElon Musk has", &[11, 994, 2098, 29435, 21800]),
    (
        "Today is a beautiful day. 今天是美好的一天。",
        &[
            33520, 4600, 332, 59219, 21509, 47, 33, 10381, 11639, 13091, 15597, 11685, 14734, 10250, 11639,
            10080,
        ],
    ),
    ("The Eiffel tower is in the city of", &[6699, 304, 25740, 109, 39990, 4600, 4596, 22590, 30449, 4706]),
    ("\n\n", &[261]),
    ("\n\n\n", &[3328]),
];

#[test]
fn texts_encode_as_upstream_encodes_them() {
    for (text, ids) in VECTORS {
        assert_eq!(world().encode(text), *ids, "{text:?}");
        assert_eq!(world().count(text), ids.len(), "{text:?}");
        assert_eq!(world().decode(ids), text.as_bytes(), "{text:?}");
    }
}

#[test]
fn the_vocabulary_is_whole() {
    let world = world();
    assert_eq!(world.len(), 65530);
    assert_eq!(world.token(END_OF_TEXT), b"");
    assert_eq!(world.token(65530), b"");
    assert_eq!(world.token(u32::MAX), b"");
    for byte in 0..=u8::MAX {
        assert_eq!(world.token(u32::from(byte) + 1), [byte]);
    }
    assert_eq!(world.token(65529), [b' '; 128]);
    let not_utf8 = (1..65530).filter(|&id| std::str::from_utf8(world.token(id)).is_err()).count();
    assert_eq!(not_utf8, 486);
}

#[test]
fn windows_line_ends_make_no_difference() {
    let text = crate::testing::vocabulary_text();
    let crlf = Tokenizer::parse(&text.replace('\n', "\r\n")).unwrap();
    for (text, ids) in VECTORS {
        assert_eq!(crlf.encode(text), *ids, "{text:?}");
    }
    assert_eq!(crlf.token(11), b"\n");
}

#[test]
fn a_damaged_vocabulary_is_refused_with_its_line() {
    let all_bytes: String = (0..256).map(|b| format!("{} b'\\x{b:02x}' 1\n", b + 1)).collect();
    Tokenizer::parse(&all_bytes).unwrap();
    for (line, complaint) in [
        ("300 'ab' 3", "line 257: the token has 2 bytes"),
        ("0 'ab' 2", "line 257: the id 0 is out of range"),
        ("x 'ab' 2", "'x' is not an id"),
        ("300 'ab 2", "not a quoted literal"),
        ("300 'a\\q' 2", "unknown escape"),
        ("300 b'\\u0041' 1", "unknown escape"),
        ("300 '\\x4' 1", "too few"),
        ("300 'a' 1", "have the same bytes"),
        ("5 'ab' 2", "two tokens have the id 5"),
        ("300", "no space"),
    ] {
        let error = Tokenizer::parse(&format!("{all_bytes}{line}\n")).unwrap_err();
        assert!(error.contains(complaint), "{line}: {error}");
    }
    let error = Tokenizer::parse("1 'a' 1\n").unwrap_err();
    assert!(error.contains("no token for the single byte 0x00"), "{error}");
}

/// Longest match by trying every length.
fn encode_slowly(world: &Tokenizer, text: &str) -> Vec<u32> {
    let tokens: std::collections::HashMap<&[u8], u32> =
        (1..world.len() as u32).map(|id| (world.token(id), id)).collect();
    let mut rest = text.as_bytes();
    let mut ids = Vec::new();
    while !rest.is_empty() {
        let (len, id) =
            (1..=rest.len().min(128)).rev().find_map(|len| Some((len, *tokens.get(&rest[..len])?))).unwrap();
        ids.push(id);
        rest = &rest[len..];
    }
    ids
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_text_comes_back_and_matches_the_plain_search(text in "[\\PC\n\t \u{4e00}-\u{9fff}]{0,60}") {
        let ids = world().encode(&text);
        prop_assert_eq!(world().decode(&ids), text.as_bytes());
        prop_assert_eq!(ids, encode_slowly(world(), &text));
    }
}
