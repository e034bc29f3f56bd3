//! Which characters do bytes stand for, and how many bytes does each take?

use encoding_rs as rs;

/// A character encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Utf8,
    Utf16Le,
    Utf16Be,
    Gb18030,
    Big5,
    ShiftJis,
    EucJp,
    EucKr,
    Windows1252,
}

/// Every encoding under the name that settings and attributes use.
pub const ENCODINGS: &[(&str, Encoding)] = &[
    ("utf-8", Encoding::Utf8),
    ("utf-16le", Encoding::Utf16Le),
    ("utf-16be", Encoding::Utf16Be),
    ("gb18030", Encoding::Gb18030),
    ("big5", Encoding::Big5),
    ("shift_jis", Encoding::ShiftJis),
    ("euc-jp", Encoding::EucJp),
    ("euc-kr", Encoding::EucKr),
    ("windows-1252", Encoding::Windows1252),
];

impl Encoding {
    /// Its name, e.g. `gb18030`.
    pub fn name(self) -> &'static str {
        ENCODINGS.iter().find(|(_, encoding)| *encoding == self).map_or("", |(name, _)| name)
    }

    /// The text that `bytes` stand for; none when any of them is malformed.
    pub fn decode(self, bytes: &[u8]) -> Option<String> {
        if self == Encoding::Utf8 {
            return std::str::from_utf8(bytes).ok().map(str::to_owned);
        }
        let text = self.table().decode_without_bom_handling_and_without_replacement(bytes)?;
        Some(text.into_owned())
    }

    /// Bytes of the first character of `bytes`, at least 1 and at most all of them. What it says of malformed bytes
    /// does not matter: `decode` refuses them.
    pub(crate) fn width(self, bytes: &[u8]) -> usize {
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
        let width = match self {
            Encoding::Windows1252 => 1,
            Encoding::Utf8 => match byte(0) {
                0..0xc0 => 1,
                0xc0..0xe0 => 2,
                0xe0..0xf0 => 3,
                0xf0.. => 4,
            },
            Encoding::Utf16Le if (0xd8..0xdc).contains(&byte(1)) => 4,
            Encoding::Utf16Be if (0xd8..0xdc).contains(&byte(0)) => 4,
            Encoding::Utf16Le | Encoding::Utf16Be => 2,
            Encoding::Gb18030 => match (byte(0), byte(1)) {
                (0..=0x80 | 0xff, _) => 1,
                (_, 0x30..=0x39) => 4,
                _ => 2,
            },
            Encoding::Big5 | Encoding::EucKr => {
                if byte(0) > 0x80 {
                    2
                } else {
                    1
                }
            }
            Encoding::ShiftJis => match byte(0) {
                0..=0x80 | 0xa0..=0xdf | 0xfd.. => 1,
                _ => 2,
            },
            Encoding::EucJp => match byte(0) {
                0..0x80 => 1,
                0x8f => 3,
                _ => 2,
            },
        };
        width.clamp(1, bytes.len().max(1))
    }

    /// Characters that the first character's bytes decode to: Big5 has four codes for a letter with its mark.
    pub(crate) fn decoded_chars(self, bytes: &[u8]) -> usize {
        let pair = matches!(bytes, [0x88, 0x62 | 0x64 | 0xa3 | 0xa5, ..]);
        if self == Encoding::Big5 && pair { 2 } else { 1 }
    }

    /// Where the first malformed character of `bytes` begins; their end when there is none.
    pub(crate) fn first_malformed(self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let width = self.width(rest);
            if rest.get(..width).is_none_or(|char| self.decode(char).is_none()) {
                break;
            }
            at += width;
        }
        at
    }

    /// Bytes of a code unit: line ends are looked for at multiples of it.
    pub(crate) fn unit(self) -> usize {
        if matches!(self, Encoding::Utf16Le | Encoding::Utf16Be) { 2 } else { 1 }
    }

    /// The code unit at the start of `bytes`.
    pub(crate) fn unit_at(self, bytes: &[u8]) -> u16 {
        match (self, bytes) {
            (Encoding::Utf16Le, [low, high, ..]) => u16::from_le_bytes([*low, *high]),
            (Encoding::Utf16Be, [high, low, ..]) => u16::from_be_bytes([*high, *low]),
            (_, [byte, ..]) => u16::from(*byte),
            (_, []) => 0,
        }
    }

    fn table(self) -> &'static rs::Encoding {
        match self {
            Encoding::Utf8 => rs::UTF_8,
            Encoding::Utf16Le => rs::UTF_16LE,
            Encoding::Utf16Be => rs::UTF_16BE,
            Encoding::Gb18030 => rs::GB18030,
            Encoding::Big5 => rs::BIG5,
            Encoding::ShiftJis => rs::SHIFT_JIS,
            Encoding::EucJp => rs::EUC_JP,
            Encoding::EucKr => rs::EUC_KR,
            Encoding::Windows1252 => rs::WINDOWS_1252,
        }
    }

    pub(crate) fn of_table(table: &'static rs::Encoding) -> Option<Self> {
        let known = ENCODINGS.iter().map(|(_, encoding)| *encoding);
        if table == rs::GBK {
            Some(Encoding::Gb18030)
        } else {
            known.into_iter().find(|e| e.table() == table)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(encoding: Encoding, bytes: &[u8], text: &str) {
        assert_eq!(encoding.decode(bytes).as_deref(), Some(text));
        let (mut at, mut chars) = (0, 0);
        while at < bytes.len() {
            chars += encoding.decoded_chars(&bytes[at..]);
            at += encoding.width(&bytes[at..]);
        }
        assert_eq!((at, chars), (bytes.len(), text.chars().count()), "{encoding:?}");
    }

    #[test]
    fn widths_agree_with_the_decoder() {
        check(Encoding::Utf8, "aé中🐧".as_bytes(), "aé中🐧");
        check(Encoding::Utf16Le, &[0x61, 0, 0x2d, 0x4e, 0x3d, 0xd8, 0x27, 0xdc], "a中🐧");
        check(Encoding::Utf16Be, &[0, 0x61, 0x4e, 0x2d, 0xd8, 0x3d, 0xdc, 0x27], "a中🐧");
        check(Encoding::Gb18030, b"a\xd6\xd0\x94\x39\xbb\x35\x80", "a中🍵€");
        check(Encoding::Big5, b"a\xa4\xa4\x88\x62\x88\xa5", "a中Ê̄ê̌");
        check(Encoding::ShiftJis, b"a\x93\xfa\xb1", "a日ｱ");
        check(Encoding::EucJp, b"a\xc6\xfc\x8e\xb1\x8f\xb0\xa1", "a日ｱ丂");
        check(Encoding::EucKr, b"a\xc7\xd1", "a한");
        check(Encoding::Windows1252, b"it\x92s", "it’s");
    }

    #[test]
    fn the_first_malformed_character_is_found() {
        assert_eq!(Encoding::Utf8.first_malformed(b"ab\xff"), 2);
        assert_eq!(Encoding::Utf8.first_malformed("中".as_bytes().split_last().unwrap().1), 0);
        assert_eq!(Encoding::Gb18030.first_malformed(b"\xd6\xd0\xd6"), 2);
        assert_eq!(Encoding::Utf16Le.first_malformed(&[0x61, 0, 0, 0xd8, 0x61, 0]), 2);
        assert_eq!(Encoding::Big5.first_malformed(b"\xa4\xa4"), 2);
    }

    #[test]
    fn names_are_distinct() {
        for (name, encoding) in ENCODINGS {
            assert_eq!(encoding.name(), *name);
        }
        assert_eq!(Encoding::of_table(rs::GBK), Some(Encoding::Gb18030));
        assert_eq!(Encoding::of_table(rs::KOI8_R), None);
    }
}
