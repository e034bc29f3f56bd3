//! What each check lets pass, and the words in which it refuses the rest.

use rag_core::document::{BlockKind, ChunkId, Location, Span};
use rag_core::search::{CompareOp, RankedChunk, Value};

use super::*;

fn chunk(start: u64, end: u64) -> ChunkSpan {
    ChunkSpan { span: Span { start, end }, parent: None, context: None }
}

fn child(start: u64, end: u64, parent: u32) -> ChunkSpan {
    ChunkSpan { parent: Some(parent), ..chunk(start, end) }
}

/// `expected` is a part of the message; empty when the chunks are good.
#[track_caller]
fn check_chunks(text: &str, spans: &[ChunkSpan], expected: &str) {
    match chunks(text, spans) {
        Ok(()) => assert_eq!(expected, "", "{spans:?} passed"),
        Err(message) => {
            assert!(!expected.is_empty() && message.contains(expected), "{message:?} for {expected:?}");
        }
    }
}

#[test]
fn chunks_cover_the_text_on_character_boundaries() {
    let text = "知识库。 Second.\n\nThird"; // 知识库。 is 12 bytes
    check_chunks(text, &[chunk(0, 12), chunk(13, 20), chunk(22, 27)], "");
    check_chunks(text, &[chunk(0, 27)], "");
    check_chunks(text, &[chunk(0, 20), chunk(13, 27)], "");
    check_chunks("", &[], "");
    check_chunks(" \n\u{3000}", &[], "");
    check_chunks(text, &[], "no chunk covers the text at 0..27");
    check_chunks(text, &[chunk(0, 12), chunk(22, 27)], "no chunk covers the text at 12..22");
    check_chunks(text, &[chunk(0, 20)], "no chunk covers");
    check_chunks(text, &[chunk(0, 2), chunk(2, 27)], "cuts a character");
    check_chunks(text, &[chunk(0, 28)], "0..28 of 27 bytes");
    check_chunks(text, &[chunk(u64::MAX - 1, u64::MAX)], "of 27 bytes");
    check_chunks(text, &[chunk(12, 12)], "spans 12..12");
    check_chunks(text, &[chunk(13, 12)], "spans 13..12");
    check_chunks(text, &[chunk(0, 20), chunk(20, 22), chunk(22, 27)], "chunk 1 is blank");
    check_chunks(text, &[chunk(13, 27), chunk(0, 12)], "no chunk covers the text at 0..13");
    check_chunks(text, &[chunk(0, 27), chunk(13, 20), chunk(12, 20)], "starts before chunk 1");
}

#[test]
fn parents_hold_their_children() {
    let text = "one two three";
    check_chunks(text, &[chunk(0, 13), child(0, 3, 0), child(4, 7, 0), child(8, 13, 0)], "");
    check_chunks(text, &[chunk(0, 13), child(0, 3, 9)], "parent 9 of 2 chunks");
    check_chunks(text, &[child(0, 13, 0)], "not within its parent 0, or not smaller");
    check_chunks(text, &[child(0, 13, 1), child(0, 13, 0)], "not smaller");
    check_chunks(text, &[chunk(0, 7), child(4, 13, 0)], "not within its parent");
}

#[test]
fn floods_of_chunks_are_refused() {
    check_chunks("abc", &vec![chunk(0, 3); SECTION_CHUNKS_MAX + 1], "more than 20000");
    check_chunks("abc", &vec![chunk(0, 3); 17], "16 times as long");
    let long = ChunkSpan { context: Some("x".repeat(5_000)), ..chunk(0, 3) };
    check_chunks("abc", &[long], "context of more than");
}

fn block(text: &str) -> Block {
    Block { kind: BlockKind::Paragraph, level: 0, text: text.to_owned(), location: Location::default() }
}

#[test]
fn blocks_are_clean_bounded_and_point_into_the_file() {
    assert_eq!(blocks(&[block("制表\t符\n")], 10, 1_000), Ok(11 + 64));
    assert!(blocks(&[block("bell\u{7}")], 10, 1_000).unwrap_err().contains("U+0007"));
    assert!(blocks(&[block(&"x".repeat(2_000))], 10, 1_000).unwrap_err().contains("batch"));
    for (start, end, good) in [(0, 10, true), (3, 3, true), (4, 3, false), (0, 11, false)] {
        let location = Location { source: Some(Span { start, end }), ..Location::default() };
        assert_eq!(blocks(&[Block { location, ..block("x") }], 10, 1_000).is_ok(), good, "{start}..{end}");
    }
}

#[test]
fn summaries_and_media_types_are_bounded() {
    let good = ParsedSummary {
        title: Some("标题".into()),
        language: Some("zh".into()),
        attributes: vec![("author".into(), "x".into())],
    };
    assert_eq!(summary(&good), Ok(()));
    assert!(summary(&ParsedSummary { title: Some("x".repeat(5_000)), ..good.clone() }).is_err());
    assert!(summary(&ParsedSummary { attributes: vec![("".into(), "".into())], ..good.clone() }).is_err());
    assert!(summary(&ParsedSummary { attributes: vec![("k".into(), "v".into()); 65], ..good }).is_err());
    for (types, good) in [
        (vec!["text/plain", "application/vnd.ms-excel"], true),
        (vec![], false),
        (vec!["text"], false),
        (vec!["Text/Plain"], false),
        (vec!["text/ plain"], false),
    ] {
        let types: Vec<String> = types.into_iter().map(str::to_owned).collect();
        assert_eq!(media_types(&types).is_ok(), good, "{types:?}");
    }
}

#[test]
fn vectors_are_whole_and_finite() {
    for (dim, data, good) in [
        (2, vec![1.0, 2.0, 3.0, 4.0], true),
        (2, vec![], true),
        (2, vec![1.0], false),
        (0, vec![], false),
        (1, vec![f32::NAN], false),
        (1, vec![f32::INFINITY], false),
    ] {
        assert_eq!(vectors(&Vectors { dim, data: data.clone() }).is_ok(), good, "{dim} {data:?}");
    }
}

fn hit(id: &str, score: f32) -> Hit {
    Hit { chunk: ChunkId(id.to_owned()), score }
}

#[test]
fn hits_are_ranked_distinct_and_no_more_than_asked() {
    for (list, k, expected) in [
        (vec![hit("a", 0.9), hit("b", 0.9), hit("c", -1.0)], 3, ""),
        (vec![], 3, ""),
        (vec![hit("a", 0.9), hit("b", 0.8)], 1, "more than the 1"),
        (vec![hit("a", 0.1), hit("b", 0.8)], 3, "not best first"),
        (vec![hit("a", f32::NAN)], 3, "not best first"),
        (vec![hit("a", 0.9), hit("a", 0.8)], 3, "chunk a twice"),
        (vec![hit("", 0.9)], 3, "not a name"),
        (vec![hit(&"x".repeat(300), 0.9)], 3, "not a name"),
    ] {
        let outcome = hits(&list, k).err().unwrap_or_default();
        assert!(
            outcome.contains(expected) && (outcome.is_empty() == expected.is_empty()),
            "{list:?}: {outcome}"
        );
    }
}

#[test]
fn retrievals_respect_k_and_are_finite() {
    let ranked = |id: &str, score| RankedChunk { chunk: ChunkId(id.into()), score, evidence: Vec::new() };
    let of = |hits| Retrieval { hits, ..Retrieval::default() };
    assert_eq!(retrieval(&of(vec![ranked("a", 0.1), ranked("b", 0.5)]), 2), Ok(()));
    assert!(retrieval(&of(vec![ranked("a", 0.1), ranked("b", 0.5)]), 1).is_err());
    assert!(retrieval(&of(vec![ranked("a", 0.1), ranked("a", 0.5)]), 2).is_err());
    assert!(retrieval(&of(vec![ranked("a", f32::NEG_INFINITY)]), 2).is_err());
    let rewritten = Some("问".repeat(QUESTION_CHARS_MAX + 1));
    assert!(retrieval(&Retrieval { rewritten, ..Retrieval::default() }, 2).is_err());
}

#[test]
fn filters_are_trees_with_bounds() {
    let leaf = || FilterNode::Compare { field: "page".into(), op: CompareOp::Le, value: Value::Integer(3) };
    let check = |nodes: Vec<FilterNode>, expected: &str| {
        let message = filter(&Filter { nodes }).err().unwrap_or_default();
        assert!(message.contains(expected) && message.is_empty() == expected.is_empty(), "{message}");
    };
    check(vec![leaf(), leaf(), FilterNode::AllOf(vec![0, 1])], "");
    check(vec![FilterNode::AllOf(vec![])], "");
    check(vec![], "1 to 256 nodes");
    check(vec![FilterNode::AllOf(vec![0])], "not before it and free");
    check(vec![leaf(), FilterNode::AnyOf(vec![0, 0])], "not before it and free");
    check(vec![leaf(), FilterNode::NoneOf(vec![7])], "not before it and free");
    let chain = |depth: u32| {
        let mut nodes = vec![leaf()];
        nodes.extend((0..depth).map(|below| FilterNode::AllOf(vec![below])));
        nodes
    };
    check(chain(15), "");
    check(chain(16), "deeper than 16");
    check(vec![FilterNode::Exists { field: String::new() }], "not a name");
}
