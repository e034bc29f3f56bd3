//! Whole files through `Lines` and `Traced`: every encoding, every line end, damage, and lines without end.

use proptest::prelude::*;

use crate::{ENCODINGS, Encoding, LINE_BYTES_MAX, Line, Lines, Source, TextError, Traced};

/// A file in memory that hands out at most `window` bytes at once.
struct Memory {
    bytes: Vec<u8>,
    window: usize,
}

impl Source for Memory {
    type Error = &'static str;
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
    fn read_at(&self, offset: u64, len: u32) -> Result<Vec<u8>, Self::Error> {
        let start = (offset as usize).min(self.bytes.len());
        let end = (start + (len as usize).min(self.window)).min(self.bytes.len());
        Ok(self.bytes[start..end].to_vec())
    }
}

type Failure = TextError<&'static str>;

fn read_as(
    bytes: &[u8],
    window: usize,
    encoding: Option<Encoding>,
) -> Result<(Vec<Line>, Encoding), Failure> {
    let mut lines = Lines::open(Memory { bytes: bytes.to_vec(), window }, encoding)?;
    let mut all = Vec::new();
    while let Some(line) = lines.next()? {
        all.push(line);
    }
    Ok((all, lines.encoding()))
}

fn read(bytes: &[u8]) -> Result<(Vec<Line>, Encoding), Failure> {
    read_as(bytes, 1 << 20, None)
}

/// Checks lines, encoding, and that each line's bytes decode to its text.
fn check(bytes: &[u8], encoding: Encoding, expected: &[&str]) {
    for window in [1 << 20, 7] {
        let (lines, found) = read_as(bytes, window, None).unwrap();
        let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!((texts.as_slice(), found), (expected, encoding));
        for line in lines {
            let mut traced = Traced::default();
            let text = line.text.clone();
            traced.push(line);
            if let Some(piece) = traced.piece(0..text.len()) {
                let source = piece.source.unwrap();
                let raw = &bytes[source.start as usize..source.end as usize];
                assert_eq!(encoding.decode(raw), Some(piece.text));
            }
        }
    }
}

fn utf16(text: &str, little: bool) -> Vec<u8> {
    text.encode_utf16()
        .flat_map(|unit| if little { unit.to_le_bytes() } else { unit.to_be_bytes() })
        .collect()
}

fn encoded(encoding: Encoding, text: &str) -> Vec<u8> {
    match encoding {
        Encoding::Utf16Le => utf16(text, true),
        Encoding::Utf16Be => utf16(text, false),
        _ => {
            encoding_rs::Encoding::for_label(encoding.name().as_bytes()).unwrap().encode(text).0.into_owned()
        }
    }
}

const TEXT: &str = "第一行文字，足够长。\r\n\r\n第二行 with English\n三\r末行没有换行";
const LINES: &[&str] = &["第一行文字，足够长。", "", "第二行 with English", "三", "末行没有换行"];

#[test]
fn every_encoding_gives_the_same_lines() {
    for encoding in [Encoding::Utf8, Encoding::Utf16Le, Encoding::Utf16Be, Encoding::Gb18030] {
        check(&encoded(encoding, TEXT), encoding, LINES);
    }
    let traditional = "第一行文字，夠長。\n第二行，繁體中文";
    check(&encoded(Encoding::Big5, traditional), Encoding::Big5, &["第一行文字，夠長。", "第二行，繁體中文"]);
    check(b"plain\nascii\n", Encoding::Utf8, &["plain", "ascii"]);
}

#[test]
fn byte_order_marks_are_skipped() {
    for (mark, encoding) in [
        (&b"\xef\xbb\xbf"[..], Encoding::Utf8),
        (b"\xff\xfe", Encoding::Utf16Le),
        (b"\xfe\xff", Encoding::Utf16Be),
        (b"\x84\x31\x95\x33", Encoding::Gb18030),
    ] {
        check(&[mark, &encoded(encoding, TEXT)].concat(), encoding, LINES);
    }
}

#[test]
fn the_encoding_is_judged_where_ascii_ends() {
    let mut bytes = "ascii line\n".repeat(40_000).into_bytes();
    bytes.extend(encoded(Encoding::Gb18030, "最后一行是中文，用旧编码写成。"));
    let (lines, encoding) = read(&bytes).unwrap();
    assert_eq!((lines.len(), encoding), (40_001, Encoding::Gb18030));
    assert_eq!(lines[40_000].text, "最后一行是中文，用旧编码写成。");
    assert_eq!(lines[40_000].number, 40_001);
}

#[test]
fn damage_is_named_with_its_place() {
    let damaged = |bytes: &[u8]| match read(bytes) {
        Err(TextError::Damaged(message)) => message,
        other => panic!("{other:?}"),
    };
    let mut bytes = "开头没有问题。\n后面坏了一个字节，其余都好。".as_bytes().to_vec();
    let at = "开头没有问题。\n后面".len();
    bytes[at] = 0xff;
    assert!(damaged(&bytes).contains(&format!("byte {at} is not valid utf-8")), "{}", damaged(&bytes));
    let cut = "文件在一个字的中间断了";
    let message = damaged(&cut.as_bytes()[..cut.len() - 1]);
    assert!(message.contains(&format!("byte {} is not valid utf-8", cut.len() - 3)), "{message}");
    let mut gb = encoded(Encoding::Gb18030, "国标编码的文件里有一个坏字节，位置要说清楚。");
    gb[8] = 0xff;
    assert!(damaged(&gb).contains("byte 8 is not valid gb18030"), "{}", damaged(&gb));
    assert!(damaged(&[0xff; 50]).contains("from byte 0 on"));
    assert!(damaged(b"").contains("empty"));
    assert!(
        matches!(read(b"text\n\xe4\xb8\xad\0"), Err(TextError::NotText(message)) if message.contains("byte 8"))
    );
    assert!(matches!(read(b"PK\x03\x04..."), Err(TextError::NotText(_))));
}

#[test]
fn a_named_encoding_is_not_guessed() {
    let bytes = encoded(Encoding::EucKr, "한국어");
    let (lines, encoding) = read_as(&bytes, 9, Some(Encoding::EucKr)).unwrap();
    assert_eq!((lines[0].text.as_str(), encoding), ("한국어", Encoding::EucKr));
    assert!(read_as(&bytes, 9, Some(Encoding::Utf8)).is_err());
}

#[test]
fn a_failing_source_is_handed_on() {
    struct Broken;
    impl Source for Broken {
        type Error = &'static str;
        fn size(&self) -> u64 {
            10
        }
        fn read_at(&self, _: u64, _: u32) -> Result<Vec<u8>, Self::Error> {
            Err("gone")
        }
    }
    assert_eq!(Lines::open(Broken, None).err(), Some(TextError::Source("gone")));
}

#[test]
fn a_line_without_end_comes_in_pieces_at_pauses() {
    for encoding in [Encoding::Utf8, Encoding::Gb18030, Encoding::Utf16Be] {
        let text = "这是一句不长的话，但是没有换行。".repeat(9_000);
        let bytes = encoded(encoding, &text);
        let (lines, _) = read(&bytes).unwrap();
        assert!(lines.len() > 4);
        assert_eq!(lines.iter().map(|line| line.text.as_str()).collect::<String>(), text);
        for (at, line) in lines.iter().enumerate() {
            let last = at + 1 == lines.len();
            assert!(line.text.ends_with('。') && line.number == 1);
            assert_eq!((line.begins, line.ends), (at == 0, last));
            assert!(encoded(encoding, &line.text).len() <= LINE_BYTES_MAX);
        }
    }
    let (lines, _) = read("没有标点".repeat(30_000).as_bytes()).unwrap();
    assert!(lines.len() > 10);
}

#[test]
fn pieces_know_row_and_bytes_across_lines() {
    let text = "一行\r\n　二行 \n\n三行\u{7}响";
    for encoding in [Encoding::Utf8, Encoding::Gb18030, Encoding::Utf16Le] {
        let bytes = encoded(encoding, text);
        let mut traced = Traced::default();
        for line in read_as(&bytes, 64, Some(encoding)).unwrap().0 {
            traced.push(line);
        }
        assert_eq!(traced.text(), "一行\n　二行 \n\n三行\u{7}响");
        let at = traced.text().find("　二").unwrap();
        let piece = traced.piece(at..at + 9 + 1).unwrap();
        assert_eq!((piece.text.as_str(), piece.row), ("二行", 2));
        let source = piece.source.unwrap();
        assert_eq!(encoding.decode(&bytes[source.start as usize..source.end as usize]).unwrap(), "二行");
        let both = traced.piece(0..at + 9).unwrap();
        let source = both.source.unwrap();
        assert_eq!(
            encoding.decode(&bytes[source.start as usize..source.end as usize]).unwrap(),
            "一行\r\n　二行"
        );
        let bell = traced.piece(traced.text().find('三').unwrap()..traced.text().len()).unwrap();
        assert_eq!((bell.text.as_str(), bell.source, bell.row), ("三行响", None, 4));
        assert_eq!(traced.piece(0..0), None);
    }
}

proptest! {
    #[test]
    fn text_survives_every_encoding_and_window(
        text in "([一-龥]|[a-zA-Z0-9 ,.]|。|，|\n|\r\n){0,200}", window in 1usize..40, which in 0usize..4,
    ) {
        prop_assume!(!text.is_empty());
        let encoding = ENCODINGS[which].1;
        let bytes = encoded(encoding, &text);
        let (lines, _) = read_as(&bytes, window, Some(encoding)).unwrap();
        let mut traced = Traced::default();
        for line in lines {
            traced.push(line);
        }
        let unified = text.replace("\r\n", "\n");
        // A last line end ends the last line; it does not begin another. Blank lines at the start leave no trace.
        let unified = unified.strip_suffix('\n').unwrap_or(&unified).trim_start_matches('\n');
        prop_assert_eq!(traced.text(), unified);
    }

    #[test]
    fn any_bytes_give_lines_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400), window in 1usize..50) {
        if let Ok((lines, encoding)) = read_as(&bytes, window, None) {
            let mut last = 0;
            for line in lines {
                prop_assert!(line.start >= last && line.start <= bytes.len() as u64, "{encoding:?}");
                last = line.start;
            }
        }
    }
}
