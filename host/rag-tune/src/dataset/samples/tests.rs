//! What is drawn, in which order, and what counts.

use std::collections::BTreeSet;

use super::*;

/// A vocabulary of single bytes, id = byte + 1.
fn bytes_only() -> Tokenizer {
    let line = |byte: u32| format!("{} b'\\x{byte:02x}' 1\n", byte + 1);
    Tokenizer::parse(&(0..256).map(line).collect::<String>()).unwrap()
}

fn corpus(texts: &[&str]) -> Corpus {
    let lines: String =
        texts.iter().map(|text| serde_json::json!({ "text": text }).to_string() + "\n").collect();
    Corpus::parse(&lines, &bytes_only()).unwrap()
}

fn draw(
    corpus: &Corpus,
    sampling: Sampling,
    mask: Mask,
    context_tokens: usize,
    first: u64,
    count: usize,
) -> Batch {
    let tokenizer = bytes_only();
    let sampler = Sampler { corpus, tokenizer: &tokenizer, mask, sampling, context_tokens, seed: 7 };
    sampler.batches(first, count, 1, |_| true).unwrap().0.remove(0)
}

fn text(batch: &Batch, sequence: usize) -> String {
    let len = batch.tokens.len() / batch.sequences;
    let ids = &batch.tokens[sequence * len..(sequence + 1) * len];
    ids.iter().map(|&id| if id == 0 { '_' } else { char::from(id as u8 - 1) }).collect()
}

#[test]
fn documents_are_padded_and_padding_never_counts() {
    let corpus = corpus(&["abcdef", "xy"]);
    assert_eq!((corpus.len(), corpus.tokens(), corpus.longest(), corpus.largest()), (2, 10, 7, 122));
    let batch = draw(&corpus, Sampling::Pad, Mask::All, 100, 0, 2);
    let short = usize::from(text(&batch, 0).starts_with('a'));
    assert_eq!(text(&batch, 1 - short), "abcdef");
    assert_eq!(text(&batch, short), "xy____");
    let labels = &batch.labels[short * 6..short * 6 + 6];
    // The end of the document is learned, what follows it is not.
    assert_eq!(labels, [Some(122), Some(0), None, None, None, None]);
}

#[test]
fn an_epoch_reads_every_document_once_in_another_order() {
    let texts: Vec<String> = (0..30).map(|n| format!("document {n:02}")).collect();
    let corpus = corpus(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    let epoch = |first: u64| -> Vec<String> {
        let batch = draw(&corpus, Sampling::Pad, Mask::All, 100, first, 30);
        (0..30).map(|sequence| text(&batch, sequence)).collect()
    };
    let (one, two) = (epoch(0), epoch(30));
    let all: BTreeSet<String> = texts.into_iter().collect();
    assert_eq!(one.iter().cloned().collect::<BTreeSet<_>>(), all);
    assert_eq!(two.iter().cloned().collect::<BTreeSet<_>>(), all);
    assert_ne!(one, two);
    // A sample's number alone decides it.
    assert_eq!(text(&draw(&corpus, Sampling::Only, Mask::All, 100, 17, 1), 0), one[17]);
    assert_eq!(text(&draw(&corpus, Sampling::Pad, Mask::All, 4, 17, 1), 0), one[17][..4]);
}

#[test]
fn any_piece_may_cross_documents() {
    let corpus = corpus(&["aaaa", "bbbb", "cccc"]);
    let pieces: BTreeSet<String> =
        (0..200).map(|n| text(&draw(&corpus, Sampling::Get, Mask::All, 6, n, 1), 0)).collect();
    // 15 tokens hold nine pieces of seven.
    assert_eq!(pieces.len(), 9, "{pieces:?}");
    assert!(pieces.contains("aaaa_b") && pieces.contains("bb_ccc"));
}

#[test]
fn only_answers_and_what_the_model_can_write_count() {
    let corpus = corpus(&["User: q\n\nAssistant: ab"]);
    let batch = draw(&corpus, Sampling::Pad, Mask::Answers, 100, 0, 1);
    let labels: Vec<u32> = batch.labels.iter().copied().flatten().collect();
    assert_eq!(labels, [33, 98, 99, 0]);
    let tokenizer = bytes_only();
    let sampler = Sampler {
        corpus: &corpus,
        tokenizer: &tokenizer,
        mask: Mask::Answers,
        sampling: Sampling::Pad,
        context_tokens: 100,
        seed: 0,
    };
    let (batches, read) = sampler.batches(0, 1, 2, |id| id != 98).unwrap();
    assert_eq!((batches.len(), read), (2, 2 * 22));
    assert!(batches[0].labels.iter().flatten().all(|&id| id != 98));
}

#[test]
fn a_binidx_pair_is_the_same_corpus() {
    let dir = tempfile::tempdir().unwrap();
    let prefix = dir.path().join("data");
    let tokenizer = bytes_only();
    let settings = crate::dataset::Settings { copies: 1, context_tokens: 4, seed: 1 };
    let lines = "{\"text\": \"one\"}\n{\"text\": \"twenty\"}\n";
    crate::dataset::make_data(lines.as_bytes(), &|text| tokenizer.encode(text), &settings, &prefix).unwrap();
    let pair = Corpus::open(&prefix, &tokenizer).unwrap();
    assert_eq!((pair.len(), pair.tokens()), (2, 11));
    fs_err::write(dir.path().join("data.jsonl"), lines).unwrap();
    let lines = Corpus::open(&dir.path().join("data.jsonl"), &tokenizer).unwrap();
    assert_eq!(lines.tokens(), pair.tokens());
    assert!(Corpus::parse("{}\n", &tokenizer).is_err());
}
