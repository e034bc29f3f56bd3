//! The byte vectors are those of RWKV's own `make_data.py` on the same documents.

use proptest::prelude::*;

use super::*;

/// Ids of the World tokenizer for the two texts of the vector.
fn tokenize(text: &str) -> Vec<u32> {
    match text {
        "Hello world" => vec![33_155, 40_213],
        "我们" => vec![12_605],
        "zero" => vec![5, 0, 6],
        "huge" => vec![65_536],
        other => other.bytes().map(|byte| u32::from(byte) + 1).collect(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn make(source: &str, settings: &Settings) -> (tempfile::TempDir, Result<Summary, DatasetError>) {
    let dir = tempfile::tempdir().unwrap();
    let made = make_data(source.as_bytes(), &tokenize, settings, &dir.path().join("data.v1"));
    (dir, made)
}

const TWO: &str = "{\"text\": \"Hello world\"}\n\n  \n{\"text\": \"我们\", \"id\": 7}\n";

#[test]
fn the_pair_is_written_bit_for_bit() {
    let written = |documents: &[&[u16]]| {
        let (mut bin, mut idx) = (Vec::new(), Vec::new());
        binidx::write_bin(&mut bin, documents.iter().copied()).unwrap();
        binidx::write_idx(&mut idx, &documents.iter().map(|d| d.len()).collect::<Vec<_>>()).unwrap();
        (hex(&bin), hex(&idx))
    };
    let (bin, idx) = written(&[&[33_155, 40_213, 0], &[12_605, 0]]);
    assert_eq!(bin, "8381159d00003d310000");
    assert_eq!(
        idx,
        "4d4d494449445800000100000000000000080200000000000000030000000000000003000000020000000000000000000000\
         0600000000000000000000000000000001000000000000000200000000000000"
    );
}

#[test]
fn every_copy_holds_every_document_once() {
    let source: String = (0..50).map(|n| format!("{{\"text\": \"document {n}\"}}\n")).collect();
    let (dir, made) = make(&source, &Settings { copies: 4, ..Settings::default() });
    let summary = made.unwrap();
    let pair = Binidx::open(&dir.path().join("data.v1")).unwrap();
    assert_eq!((summary.documents, pair.len(), summary.tokens), (50, 200, pair.tokens()));
    let mut orders = Vec::new();
    for copy in 0..4 {
        let order: Vec<_> = (0..50).map(|n| pair.document(copy * 50 + n).unwrap()).collect();
        let mut sorted = order.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), 50);
        assert!(order.iter().all(|document| document.last() == Some(&0)));
        orders.push(order);
    }
    orders.dedup();
    assert_eq!(orders.len(), 4, "each copy has an order of its own");
}

#[test]
fn a_seed_repeats_the_files_and_another_one_does_not() {
    let source: String = (0..20).map(|n| format!("{{\"text\": \"{n}\"}}\n")).collect();
    let bin = |seed| {
        let (_dir, made) = make(&source, &Settings { seed, ..Settings::default() });
        fs_err::read(made.unwrap().bin).unwrap()
    };
    assert_eq!(bin(5), bin(5));
    assert_ne!(bin(5), bin(6));
}

#[test]
fn the_magic_prime_is_the_published_one() {
    let check = |tokens, context, expected| assert_eq!(magic_prime(tokens, context), expected);
    check(1_498_226_207, 4_096, Some(365_759));
    check(1_498_226_207, 512, Some(2_926_181));
    check(100_000, 512, Some(191));
    check(3 * 512 - 1, 512, None);
    check(3 * 512, 512, Some(2));
    check(10, 0, None);
}

#[test]
fn all_bad_lines_are_named_and_nothing_is_written() {
    let source = "\u{feff}{\"text\": \"good\"}\n\
        not json\n\
        [1]\n\
        {\"texts\": 1}\n\
        {\"text\": 1}\n\
        {\"text\": \" \"}\n\
        {\"text\": \"zero\"}\n\
        {\"text\": \"huge\"}\n";
    let (dir, made) = make(source, &Settings::default());
    let Err(DatasetError::Lines { listed, total: 7 }) = made else { panic!("{made:?}") };
    let shown: Vec<String> = listed.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "line 2: not JSON: expected ident at line 1 column 2",
            "line 3: not a JSON object",
            "line 4: no \"text\"",
            "line 5: \"text\" is not a string",
            "line 6: \"text\" is empty",
            "line 7: token 0 is outside 1 to 65535",
            "line 8: token 65536 is outside 1 to 65535",
        ]
    );
    assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn many_bad_lines_are_counted_and_the_first_thousand_listed() {
    let (_dir, made) = make(&"x\n".repeat(1_500), &Settings::default());
    let error = made.unwrap_err();
    let told = error.to_string();
    assert!(
        told.starts_with("1500 bad lines: line 1: not JSON") && told.ends_with("; and 500 more"),
        "{told}"
    );
    assert!(
        matches!(error, DatasetError::Lines { listed, total: 1_500 } if listed.len() == LISTED_ERRORS_MAX)
    );
}

#[test]
fn bytes_that_are_no_text_are_bad_lines() {
    let long = vec![b'x'; LINE_BYTES_MAX + 5];
    let source = [&b"{\"text\": \"\xff\"}\n"[..], &long, b"\n{\"text\": \"after\"}"].concat();
    let made = make_data(source.as_slice(), &tokenize, &Settings::default(), Path::new("unused"));
    let Err(DatasetError::Lines { listed, .. }) = made else { panic!("{made:?}") };
    let faults: Vec<_> = listed.into_iter().map(|error| (error.line, error.fault)).collect();
    assert_eq!(faults, [(1, LineFault::NotUtf8), (2, LineFault::TooLong)]);
}

#[test]
fn nothing_and_impossible_settings_are_refused() {
    let refused = |source: &str, settings: Settings| {
        rag_core::Error::from(make(source, &settings).1.unwrap_err()).to_string()
    };
    assert_eq!(refused(" \n\n", Settings::default()), "the data set has no text");
    assert_eq!(refused(TWO, Settings { copies: 0, ..Settings::default() }), "copies must be at least 1");
    let no_context = Settings { context_tokens: 0, ..Settings::default() };
    assert_eq!(refused(TWO, no_context), "context_tokens must be at least 1");
}

#[test]
fn a_folder_that_cannot_be_written_is_the_operators_error() {
    let dir = tempfile::tempdir().unwrap();
    let prefix = dir.path().join("missing/data");
    let error = make_data(TWO.as_bytes(), &tokenize, &Settings::default(), &prefix).unwrap_err();
    assert!(matches!(rag_core::Error::from(error), rag_core::Error::Storage { .. }));
}

#[test]
fn a_damaged_pair_is_refused() {
    let (dir, made) = make(TWO, &Settings { copies: 1, ..Settings::default() });
    let summary = made.unwrap();
    let prefix = dir.path().join("data.v1");
    let good = fs_err::read(&summary.idx).unwrap();
    let check = |change: &dyn Fn(&mut Vec<u8>), expected: &str| {
        let mut bytes = good.clone();
        change(&mut bytes);
        fs_err::write(&summary.idx, bytes).unwrap();
        let error = Binidx::open(&prefix).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(&|idx| idx.truncate(10), "shorter than its header");
    check(&|idx| idx[0] = b'X', "not a binidx index");
    check(&|idx| idx[17] = 4, "type 4");
    check(&|idx| idx.truncate(81), "do not hold 2 documents");
    check(&|idx| idx[18..26].fill(0xff), "do not hold");
    check(&|idx| idx[34] += 1, "does not follow");
    check(&|idx| idx[38] += 1, "bytes of tokens");
    check(&|idx| idx[58] = 9, "more than one sequence");
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(documents in proptest::collection::vec("[a-z你好]{1,30}", 1..30), seed: u64) {
        let source: String = documents.iter().map(|text| format!("{{\"text\": \"{text}\"}}\r\n")).collect();
        let (dir, made) = make(&source, &Settings { copies: 1, seed, ..Settings::default() });
        prop_assert_eq!(made.unwrap().documents, documents.len());
        let pair = Binidx::open(&dir.path().join("data.v1")).unwrap();
        let mut found: Vec<_> = (0..pair.len()).map(|n| pair.document(n).unwrap()).collect();
        let mut expected: Vec<Vec<u16>> = documents
            .iter()
            .map(|text| tokenize(text).into_iter().chain([0]).map(|id| u16::try_from(id).unwrap()).collect())
            .collect();
        found.sort();
        expected.sort();
        prop_assert_eq!(found, expected);
    }
}
