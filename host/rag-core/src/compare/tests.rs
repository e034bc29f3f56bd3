//! What a comparison says of passages that were lost, gained, moved, cut anew, or that stayed.

use super::*;
use crate::document::{ChunkId, DocumentId, Span};
use crate::search::Passage;

/// A passage at a place of a document; its text names the place.
fn hit(document: &str, (start, end): (u64, u64), rank: u32) -> Recalled {
    let passage = Passage {
        chunk: ChunkId(format!("{document}-{start}-{end}-{rank}")),
        document: DocumentId(format!("id of {document}")),
        document_name: document.to_owned(),
        text: format!("{document} {start} to {end}"),
        span: Span { start, end },
        parent: None,
        heading: None,
        page: None,
        source: None,
    };
    Recalled { passage, rank, score: 1.0 / rank as f32, relevance: None, evidence: Vec::new() }
}

fn hits(places: &[(&str, (u64, u64))]) -> Vec<Recalled> {
    (1..).zip(places).map(|(rank, (document, span))| hit(document, *span, rank)).collect()
}

/// How many passages of the old answer are in the new one, and whether the best is another.
#[track_caller]
fn check(old: &[(&str, (u64, u64))], new: &[(&str, (u64, u64))], kept: u32, changed: bool) {
    let compared = compared("问？".to_owned(), &hits(old), &hits(new), None);
    assert_eq!((compared.kept, best_differs(&compared)), (kept, changed), "{old:?} {new:?}");
    let texts = |shown: &[SwapHit]| shown.iter().map(|hit| hit.text.clone()).collect::<Vec<_>>();
    let places = |all: &[(&str, (u64, u64))]| {
        all.iter().map(|(document, (start, end))| format!("{document} {start} to {end}")).collect::<Vec<_>>()
    };
    assert_eq!(texts(&compared.before), places(old), "in the order in which they were found");
    assert_eq!(texts(&compared.after), places(new));
    assert_eq!((compared.question.as_str(), compared.error), ("问？", None));
}

const A: (&str, (u64, u64)) = ("a.md", (0, 100));
const B: (&str, (u64, u64)) = ("a.md", (100, 200));
const C: (&str, (u64, u64)) = ("c.md", (0, 100));

#[test]
fn what_stays_is_kept_and_what_goes_or_comes_is_not() {
    check(&[], &[], 0, false);
    check(&[A, B, C], &[A, B, C], 3, false);
    // Lost: the last, the best, all.
    check(&[A, B, C], &[A, B], 2, false);
    check(&[A, B], &[B], 1, true);
    check(&[A, B], &[], 0, true);
    // Gained: behind what was there, before it, where nothing was.
    check(&[A], &[A, B], 1, false);
    check(&[A], &[C, A], 1, true);
    check(&[], &[A], 0, true);
    // In another order: all are kept, and the best is another one.
    check(&[A, B, C], &[C, A, B], 3, true);
    check(&[A, B, C], &[A, C, B], 3, false);
}

#[test]
fn a_place_that_is_cut_anew_is_the_same_place() {
    // A larger chunk over both, and a smaller one in each.
    check(&[A, B], &[("a.md", (50, 150))], 2, true);
    check(&[("a.md", (0, 200))], &[A, B], 1, true);
    check(&[A], &[("a.md", (20, 30)), ("a.md", (40, 50))], 1, true);
    // Beside it is elsewhere, and so is the same range of another document.
    check(&[A], &[B], 0, true);
    check(&[A], &[C], 0, true);
}

#[test]
fn a_document_and_its_ids_may_change_while_its_text_stays() {
    let old = hits(&[A]);
    let mut new = hits(&[A]);
    new[0].passage.chunk = ChunkId("cut by another".to_owned());
    new[0].passage.document = DocumentId("of another index".to_owned());
    new[0].score = 7.5;
    let compared = compared(String::new(), &old, &new, None);
    assert_eq!((compared.kept, best_differs(&compared)), (1, false));
    assert_eq!((compared.before[0].score, compared.after[0].score), (1.0, 7.5));
    assert_eq!(compared.after[0].document, "a.md");
}

#[test]
fn a_plugin_that_fails_answers_nothing_and_the_reason_is_told() {
    let compared = compared(String::new(), &hits(&[A, B]), &[], Some("it trapped".to_owned()));
    assert_eq!((compared.kept, compared.before.len(), compared.after.len()), (0, 2, 0));
    assert_eq!(compared.error.as_deref(), Some("it trapped"));
    assert!(best_differs(&compared));
}

#[test]
fn a_long_passage_is_shown_by_its_beginning() {
    let mut long = hits(&[A]);
    long[0].passage.text = "灯".repeat(limits::SHADOW_CHARS + 1);
    assert_eq!(shown(&long[0]).text.chars().count(), limits::SHADOW_CHARS);
}

#[test]
fn only_what_a_plugin_or_its_settings_did_counts_against_it() {
    let plugin = |fault| Error::Plugin { plugin: "p".to_owned(), fault, message: String::new() };
    assert!(blames_plugin(&plugin(PluginFault::Trap)));
    assert!(blames_plugin(&Error::invalid("a setting")));
    assert!(!blames_plugin(&plugin(PluginFault::Guest(crate::ErrorCode::Unavailable))));
    assert!(!blames_plugin(&Error::Busy { what: "the queue", limit: 1 }));
}
