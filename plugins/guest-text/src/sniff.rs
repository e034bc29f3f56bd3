//! Is this text, and in which encoding?

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};

use crate::encoding::Encoding;

/// What the first bytes of a file tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Head {
    /// A byte order mark of this many bytes.
    Marked(Encoding, usize),
    /// UTF-16 without a mark.
    Utf16(Encoding),
    /// Bytes of an encoding that contains ASCII; which one, later bytes tell.
    AsciiBased,
    /// What it is instead of text.
    Binary(String),
}

/// First bytes of formats that are no text.
const MAGIC: &[(&[u8], &str)] = &[
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive or an Office document"),
    (b"PK\x05\x06", "a ZIP archive"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90", "a program"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"\xd0\xcf\x11\xe0", "an old Office document"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\0asm", "a WebAssembly module"),
    (b"\xca\xfe\xba\xbe", "a program"),
    (b"ID3", "a sound file"),
    (b"OggS", "a sound file"),
    (b"fLaC", "a sound file"),
];

/// Bytes of other encodings must be this many before they outweigh Chinese, which is what is expected.
const OTHER_BYTES_MIN: usize = 40;

/// Looks at the first bytes of a file.
pub(crate) fn head(bytes: &[u8]) -> Head {
    match bytes {
        [0xef, 0xbb, 0xbf, ..] => return Head::Marked(Encoding::Utf8, 3),
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => {
            return Head::Binary("text in UTF-32, which is not read; save it as UTF-8".to_owned());
        }
        [0xff, 0xfe, ..] => return Head::Marked(Encoding::Utf16Le, 2),
        [0xfe, 0xff, ..] => return Head::Marked(Encoding::Utf16Be, 2),
        [0x84, 0x31, 0x95, 0x33, ..] => return Head::Marked(Encoding::Gb18030, 4),
        _ => {}
    }
    if let Some((_, what)) = MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        // Text in UTF-16 may begin with these bytes too: 謟 is 1f 8b.
        return utf16(bytes).map_or_else(|| Head::Binary((*what).to_owned()), Head::Utf16);
    }
    let controls = bytes.iter().filter(|byte| is_control(**byte)).count();
    if controls == 0 && is_utf8(bytes) {
        return Head::AsciiBased;
    }
    let few_controls = controls <= (bytes.len() / 100).max(2);
    // English letters in pairs look like Chinese in UTF-16: there must be bytes that English does not have.
    if !(few_controls && bytes.is_ascii() && !bytes.contains(&0))
        && let Some(encoding) = utf16(bytes)
    {
        return Head::Utf16(encoding);
    }
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        return Head::Binary(format!("binary data (a zero at byte {at})"));
    }
    if !few_controls {
        return Head::Binary(format!("binary data ({controls} control characters in {} bytes)", bytes.len()));
    }
    Head::AsciiBased
}

/// The encoding of `sample`, which begins with a byte beyond ASCII. None when none fits.
pub(crate) fn encoding(sample: &[u8]) -> Option<Encoding> {
    let (mut valid, mut invalid) = (0, 0);
    for chunk in sample.utf8_chunks() {
        valid += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        invalid += usize::from(!chunk.invalid().is_empty());
    }
    // UTF-8 with some damage is still UTF-8; the damage is reported where it stands.
    if invalid == 0 || valid >= 2 * invalid {
        return Some(Encoding::Utf8);
    }
    let beyond_ascii = sample.iter().filter(|byte| !byte.is_ascii()).count();
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(sample, true);
    let guess = Encoding::of_table(detector.guess(None, Utf8Detection::Deny));
    let asian = matches!(guess, Some(Encoding::ShiftJis | Encoding::EucJp | Encoding::EucKr));
    if asian && beyond_ascii >= OTHER_BYTES_MIN {
        return guess.filter(|encoding| fits(*encoding, sample));
    }
    let (gb, big5) = (plausible(sample, Encoding::Gb18030), plausible(sample, Encoding::Big5));
    if gb.max(big5) >= 0.75 {
        return Some(if gb >= big5 { Encoding::Gb18030 } else { Encoding::Big5 });
    }
    let western = guess == Some(Encoding::Windows1252) && beyond_ascii * 4 < sample.len();
    guess.filter(|encoding| {
        (asian || western || plausible(sample, *encoding) >= 0.5) && fits(*encoding, sample)
    })
}

/// Share of the characters beyond ASCII that are punctuation or among the frequent half of the character set.
fn plausible(sample: &[u8], encoding: Encoding) -> f32 {
    let (mut good, mut all) = (0, 0);
    let mut at = 0;
    while let Some([first, rest @ ..]) = sample.get(at..) {
        if first.is_ascii() {
            at += 1;
            continue;
        }
        let Some(second) = rest.first() else { break };
        all += 1;
        let frequent = match encoding {
            Encoding::Gb18030 => matches!((first, second), (0xa1..=0xa3 | 0xb0..=0xd7, 0xa1..=0xfe)),
            Encoding::Big5 => matches!((first, second), (0xa1..=0xc6, 0x40..=0x7e | 0xa1..=0xfe)),
            _ => false,
        };
        good += usize::from(frequent);
        at += match (first, second) {
            (_, 0..0x30 | 0x7f) => 1,
            // A damaged character most likely had two bytes.
            (0x80 | 0xff, 0x80..) => 2,
            _ => encoding.width(sample.get(at..).unwrap_or_default()),
        };
    }
    good as f32 / all.max(1) as f32
}

/// Whether the sample decodes without a fault, apart from a character that its end cuts.
fn fits(encoding: Encoding, sample: &[u8]) -> bool {
    (0..4).any(|cut| {
        let whole = sample.len().checked_sub(cut).and_then(|len| sample.get(..len));
        whole.is_some_and(|bytes| encoding.decode(bytes).is_some_and(|text| !text.contains(is_c1)))
    })
}

fn is_c1(c: char) -> bool {
    ('\u{80}'..'\u{a0}').contains(&c)
}

/// UTF-16 without a mark: nearly every unit is a common character in one byte order and not in the other.
fn utf16(bytes: &[u8]) -> Option<Encoding> {
    let share = |encoding: Encoding| {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|unit| encoding.unit_at(unit)).collect();
        let common = units.iter().filter(|unit| is_common(**unit)).count();
        common as f32 / units.len().max(1) as f32
    };
    let (little, big) = (share(Encoding::Utf16Le), share(Encoding::Utf16Be));
    if little.max(big) < 0.9 || (little - big).abs() < 0.2 {
        return None;
    }
    Some(if little > big { Encoding::Utf16Le } else { Encoding::Utf16Be })
}

/// Common in Chinese, Japanese and European text, and not what two bytes of GB18030 or ASCII look like.
fn is_common(unit: u16) -> bool {
    matches!(unit, 9 | 10 | 13 | 0x20..=0x7e | 0xa0..=0x24f | 0x2010..=0x203b | 0x3000..=0x30ff | 0x4e00..=0x9fff
        | 0xff01..=0xff65)
}

fn is_utf8(bytes: &[u8]) -> bool {
    match std::str::from_utf8(bytes) {
        Ok(_) => true,
        // The end of the window cuts a character.
        Err(error) => error.error_len().is_none() && bytes.len() > 64,
    }
}

/// Control characters that text does not have.
fn is_control(byte: u8) -> bool {
    byte == 0x7f || (byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0b | 0x0c | 0x1b))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes with the one table that encodes: from text to bytes of a legacy encoding.
    fn bytes(encoding: &'static encoding_rs::Encoding, text: &str) -> Vec<u8> {
        let (bytes, _, lost) = encoding.encode(text);
        assert!(!lost, "{text}");
        bytes.into_owned()
    }

    fn utf16(text: &str, little: bool) -> Vec<u8> {
        text.encode_utf16()
            .flat_map(|unit| if little { unit.to_le_bytes() } else { unit.to_be_bytes() })
            .collect()
    }

    const SIMPLIFIED: &str = "知识库问答系统把文档变成知识库，并从中回答问题，附上引文。";
    const TRADITIONAL: &str = "知識庫問答系統把文件變成知識庫，並從中回答問題，附上引文。";

    #[test]
    fn chinese_encodings_are_told_apart_from_a_few_characters_on() {
        let chars = |text: &str, n: usize| text.chars().take(n).collect::<String>();
        for n in [4, 6, 10, 20, 29] {
            let gb = bytes(encoding_rs::GB18030, &chars(SIMPLIFIED, n));
            assert_eq!(encoding(&gb), Some(Encoding::Gb18030), "{n}");
            let big5 = bytes(encoding_rs::BIG5, &chars(TRADITIONAL, n));
            assert_eq!(encoding(&big5), Some(Encoding::Big5), "{n}");
            assert_eq!(encoding(chars(SIMPLIFIED, n).as_bytes()), Some(Encoding::Utf8), "{n}");
        }
    }

    #[test]
    fn utf16_needs_no_mark() {
        for text in
            [SIMPLIFIED, "你好世界。\n", "Plain English text.\nSecond line.", "混排 mixed 文本\r\n第二行"]
        {
            assert_eq!(head(&utf16(text, true)), Head::Utf16(Encoding::Utf16Le), "{text}");
            assert_eq!(head(&utf16(text, false)), Head::Utf16(Encoding::Utf16Be), "{text}");
        }
        for begins_like_gzip in ["謟言蜚語，不足為信。", "謟"] {
            assert_eq!(head(&utf16(begins_like_gzip, true)), Head::Utf16(Encoding::Utf16Le));
        }
        for text in [SIMPLIFIED, TRADITIONAL, "Plain English"] {
            assert_eq!(head(text.as_bytes()), Head::AsciiBased);
        }
        assert_eq!(head(&bytes(encoding_rs::GB18030, SIMPLIFIED)), Head::AsciiBased);
        assert_eq!(head(&bytes(encoding_rs::BIG5, TRADITIONAL)), Head::AsciiBased);
    }

    #[test]
    fn byte_order_marks_decide() {
        assert_eq!(head(b"\xef\xbb\xbfa"), Head::Marked(Encoding::Utf8, 3));
        assert_eq!(head(b"\xff\xfea\0"), Head::Marked(Encoding::Utf16Le, 2));
        assert_eq!(head(b"\xfe\xff\0a"), Head::Marked(Encoding::Utf16Be, 2));
        assert_eq!(head(b"\x84\x31\x95\x33a"), Head::Marked(Encoding::Gb18030, 4));
        assert!(matches!(head(b"\xff\xfe\0\0a\0\0\0"), Head::Binary(what) if what.contains("UTF-32")));
    }

    #[test]
    fn what_is_not_text_is_named() {
        for (bytes, words) in [
            (&b"%PDF-1.7\n"[..], "PDF"),
            (b"PK\x03\x04\x14\0", "ZIP"),
            (b"\x7fELF\x02\x01", "program"),
            (b"\x89PNG\r\n\x1a\n", "PNG"),
            (b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x4b\x2c", "gzip"),
            (b"BZh91AY&SY\x4e\xec\xe8\x36", "bzip2"),
            (b"OggS\0\x02\0\0", "sound"),
            (b"text with a \0 in it, somewhere", "zero at byte 12"),
            (b"\x01\x02\x03\x04\x05 junk \x06\x07", "control characters"),
        ] {
            assert!(matches!(head(bytes), Head::Binary(what) if what.contains(words)), "{words}");
        }
        assert_eq!(head(b"one stray \x1a"), Head::AsciiBased);
    }

    #[test]
    fn other_encodings_fit_or_nothing_does() {
        let japanese = "これは日本語の文章です。文字コードを正しく判定できるでしょうか。";
        assert_eq!(encoding(&bytes(encoding_rs::SHIFT_JIS, japanese)), Some(Encoding::ShiftJis));
        assert_eq!(encoding(&bytes(encoding_rs::EUC_JP, japanese)), Some(Encoding::EucJp));
        let korean = "이것은 한국어 문장입니다. 문자 인코딩을 올바르게 판별할 수 있을까요?";
        assert_eq!(encoding(&bytes(encoding_rs::EUC_KR, korean)), Some(Encoding::EucKr));
        assert_eq!(encoding(b"\x93quoted\x94 and it\x92s caf\xe9"), Some(Encoding::Windows1252));
        assert_eq!(encoding(&[0xff; 40]), None);
    }

    #[test]
    fn damaged_utf8_stays_utf8() {
        let mut bytes = SIMPLIFIED.as_bytes().to_vec();
        bytes[10] = b'?';
        assert_eq!(encoding(&bytes), Some(Encoding::Utf8));
        assert_eq!(encoding(&SIMPLIFIED.as_bytes()[..11]), Some(Encoding::Utf8));
    }
}
