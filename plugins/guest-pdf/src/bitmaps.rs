//! Which character is a glyph of a bitmap font made by TeX? Such fonts (Type 3) number their glyphs and name no
//! character; the number is the place in one of the encodings that TeX's text fonts have.

use std::collections::HashMap;

use hayro_interpret::hayro_cmap::BfString;
use hayro_interpret::hayro_syntax::object::{Array, Dict, Name, Object, Stream};

/// So many of the 32 small letters of Russian in one font make it Cyrillic; no Latin script has as many accents.
const CYRILLIC_MIN: usize = 24;
/// Fonts of one document that are looked at; each has at most 256 glyphs.
const FONTS_MAX: usize = 1_024;

/// From 0x00 and from 0x7b of OT1, the fonts of seven bits.
const OT1_LOW: &str = "Γ Δ Θ Λ Ξ Π Σ Υ Φ Ψ Ω ff fi fl ffi ffl ı ȷ ` ´ ˇ ˘ ¯ ˚ ¸ ß æ œ ø Æ Œ Ø";
const OT1_HIGH: &str = "– — ˝ ˜ ¨";
/// From 0x00 of T1 and T2A, the fonts of eight bits.
const T1_LOW: &str = "` ´ ˆ ˜ ¨ ˝ ˚ ˇ ˘ ¯ ˙ ¸ ˛ ‚ ‹ › “ ” „ « » – — \u{200b} ₀ ı ȷ ff fi fl ffi ffl ␣";
/// From 0x7f of T1; from 0xc0 on it is Latin-1 but for four.
const T1_HIGH: &str = "- Ă Ą Ć Č Ď Ě Ę Ğ Ĺ Ľ Ł Ń Ň Ŋ Ő Ŕ Ř Ś Š Ş Ť Ţ Ű Ů Ÿ Ź Ž Ż Ĳ İ đ § \
    ă ą ć č ď ě ę ğ ĺ ľ ł ń ň ŋ ő ŕ ř ś š ş ť ţ ű ů ÿ ź ž ż ĳ ¡ ¿ £";
/// From 0x7f of T2A; from 0xc0 on it is the Russian alphabet.
const T2A_HIGH: &str = "- Ґ Ғ Ђ Ћ Һ Җ Ҙ Љ Ї Қ Ҡ Ҝ Ӕ Ң Ҥ Ѕ Ө Ҫ Ў Ү Ұ Ҳ Џ Ҹ Ҷ Є Ә Њ Ё № ¤ § \
    ґ ғ ђ ћ һ җ ҙ љ ї қ ҡ ҝ ӕ ң ҥ ѕ ө ҫ ў ү ұ ҳ џ ҹ ҷ є ә њ ё „ « »";

/// Characters of such glyphs, by the glyph's number and its width, which tells the fonts of a document apart.
#[derive(Debug, Default)]
pub(crate) struct Bitmaps {
    glyphs: HashMap<(u32, u32), Option<String>>,
    fonts: Vec<Font>,
}

/// What is known of a font before all of them were seen.
#[derive(Debug)]
struct Font {
    /// None where the glyphs are not numbered as TeX does it.
    encoding: Option<Encoding>,
    /// Code and width.
    glyphs: Vec<(u32, f32)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    /// Seven bits, with quotation marks and dashes where typewriters have others.
    Roman,
    Typewriter,
    Latin,
    Cyrillic,
    /// Formulas: their letters and digits stand at the usual places.
    Math,
}

impl Bitmaps {
    /// Takes a font in, if it is one without characters.
    pub(crate) fn add(&mut self, font: &Dict<'_>) {
        let is_type3 =
            font.get::<Name<'_>>(b"Subtype".as_slice()).is_some_and(|kind| kind.as_str() == "Type3");
        if !is_type3 || self.fonts.len() >= FONTS_MAX {
            return;
        }
        let Some(names) = names(font) else { return };
        let codes: Vec<u32> = names.iter().map(|(code, _)| *code).collect();
        // Some programs number the glyphs anew, one after the other as they come: such numbers say nothing.
        let is_anew = codes.iter().copied().eq(0..codes.len() as u32);
        let all = |is_number: fn(&str, u32) -> bool| names.iter().all(|(code, name)| is_number(name, *code));
        let is_dvips = all(is_number_of_dvips);
        // Ghostscript makes tables of characters of what dvips meant as numbers; all other tables know better.
        if !is_dvips && font.get::<Stream<'_>>(b"ToUnicode".as_slice()).is_some() {
            return;
        }
        let numbered = !is_anew && (is_dvips || all(is_number_of_pdftex));
        let widths = widths(font);
        let glyphs = codes.iter().filter_map(|code| Some((*code, *widths.get(code)?))).collect();
        self.fonts.push(Font { encoding: numbered.then(|| Encoding::of(&codes)), glyphs });
    }

    /// Once all fonts were taken in.
    pub(crate) fn settle(&mut self) {
        let fonts = std::mem::take(&mut self.fonts);
        let is_cyrillic = fonts.iter().any(|font| font.encoding == Some(Encoding::Cyrillic));
        for font in fonts {
            // A title shows too few letters to tell of what alphabet they are.
            let encoding = match font.encoding {
                Some(Encoding::Latin) if is_cyrillic => Some(Encoding::Cyrillic),
                encoding => encoding,
            };
            for (code, width) in font.glyphs {
                let text = encoding.and_then(|encoding| encoding.character(code));
                // Where two fonts differ, nothing is known.
                let known = self.glyphs.entry((code, key(width))).or_insert_with(|| text.clone());
                if *known != text {
                    *known = None;
                }
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.glyphs.values().all(Option::is_none)
    }

    pub(crate) fn character(&self, code: u32, width: f32) -> Option<BfString> {
        let text = self.glyphs.get(&(code, key(width)))?.as_ref()?;
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => Some(BfString::Char(c)),
            _ => Some(BfString::String(text.clone())),
        }
    }
}

impl Encoding {
    fn of(codes: &[u32]) -> Self {
        let has = |code: u32| codes.contains(&code);
        let count = |from: u32, to: u32| codes.iter().filter(|code| (from..=to).contains(code)).count();
        if count(0xe0, 0xff) >= CYRILLIC_MIN {
            Encoding::Cyrillic
        } else if count(0x80, 0xff) > 0 || (count(0x1b, 0x1f) > 0 && count(0x0b, 0x0f) == 0) {
            Encoding::Latin
        } else if count(0, 0x1f) > 0 && count(0x2c, 0x2e) == 0 {
            // Text has commas, hyphens and full stops.
            Encoding::Math
        } else if has(0x3c) || has(0x3e) || has(0x5f) {
            Encoding::Typewriter
        } else {
            Encoding::Roman
        }
    }

    fn character(self, code: u32) -> Option<String> {
        let from = |table: &str, start: u32| {
            table.split_whitespace().nth(usize::try_from(code.checked_sub(start)?).ok()?).map(str::to_owned)
        };
        let plain = || (0x20..0x7f).contains(&code).then(|| char::from_u32(code)).flatten().map(String::from);
        match (self, code) {
            (Encoding::Math, _) => plain().filter(|text| text.chars().all(char::is_alphanumeric)),
            (_, 0x27) => Some("’".to_owned()),
            (_, 0x60) => Some("‘".to_owned()),
            (Encoding::Roman, 0x22) => Some("”".to_owned()),
            (Encoding::Roman, 0x5c) => Some("“".to_owned()),
            (Encoding::Roman, 0x7b..) => from(OT1_HIGH, 0x7b),
            (Encoding::Roman, ..0x20) => from(OT1_LOW, 0),
            (Encoding::Typewriter, ..0x20) => from(OT1_LOW, 0).filter(|text| text.chars().count() == 1),
            (Encoding::Typewriter, 0x7f) => Some("¨".to_owned()),
            (Encoding::Latin | Encoding::Cyrillic, ..0x20) => from(T1_LOW, 0),
            (Encoding::Latin, 0xd7) => Some("Œ".to_owned()),
            (Encoding::Latin, 0xdf) => Some("SS".to_owned()),
            (Encoding::Latin, 0xf7) => Some("œ".to_owned()),
            (Encoding::Latin, 0xff) => Some("ß".to_owned()),
            (Encoding::Latin, 0xc0..) => char::from_u32(code).map(String::from),
            (Encoding::Latin, 0x7f..) => from(T1_HIGH, 0x7f),
            (Encoding::Cyrillic, 0xc0..) => char::from_u32(code - 0xc0 + 0x410).map(String::from),
            (Encoding::Cyrillic, 0x7f..) => from(T2A_HIGH, 0x7f),
            _ => plain(),
        }
    }
}

/// The glyphs that a font draws, by code and name; none where its own encoding names no glyph.
fn names(font: &Dict<'_>) -> Option<Vec<(u32, String)>> {
    let encoding = font.get::<Dict<'_>>(b"Encoding".as_slice())?;
    let differences = encoding.get::<Array<'_>>(b"Differences".as_slice())?;
    let drawn = font.get::<Dict<'_>>(b"CharProcs".as_slice())?;
    let (mut names, mut code) = (Vec::new(), 0);
    for object in differences.iter::<Object<'_>>() {
        match object {
            Object::Number(number) => {
                code = u32::try_from(number.as_i64()).ok().filter(|code| *code < 256)?
            }
            Object::Name(name) if code < 256 => {
                if drawn.contains_key(&*name) {
                    names.push((code, name.as_str().to_owned()));
                }
                code += 1;
            }
            _ => {}
        }
    }
    (!names.is_empty()).then_some(names)
}

/// `a65`.
fn is_number_of_pdftex(name: &str, code: u32) -> bool {
    name.strip_prefix('a').is_some_and(|digits| digits.parse() == Ok(code))
}

/// `BT`: 425 in the digits 0 to 9 and A to Z, which is 65, for it counts from 360.
fn is_number_of_dvips(name: &str, code: u32) -> bool {
    !name.bytes().any(|byte| byte.is_ascii_lowercase()) && u32::from_str_radix(name, 36) == Ok(code + 360)
}

/// Advances in thousandths of the type size.
fn widths(font: &Dict<'_>) -> HashMap<u32, f32> {
    let first = font.get::<u32>(b"FirstChar".as_slice()).unwrap_or_default();
    let scale = font.get::<[f64; 6]>(b"FontMatrix".as_slice()).map_or(0.001, |matrix| matrix[0]);
    let Some(widths) = font.get::<Array<'_>>(b"Widths".as_slice()) else { return HashMap::new() };
    let scaled = widths.iter::<f32>().map(|width| width * scale as f32 * 1000.0);
    (first..256).zip(scaled).collect()
}

fn key(width: f32) -> u32 {
    (width * 64.0).round().to_bits()
}

#[cfg(test)]
mod tests {
    use super::{Encoding, is_number_of_dvips, is_number_of_pdftex};

    #[test]
    fn places_are_those_of_the_encodings() {
        for (encoding, code, text) in [
            (Encoding::Roman, 0x0c, "fi"),
            (Encoding::Roman, 0x1f, "Ø"),
            (Encoding::Roman, 0x7c, "—"),
            (Encoding::Typewriter, 0x7c, "|"),
            (Encoding::Typewriter, 0x5c, "\\"),
            (Encoding::Latin, 0x0c, "˛"),
            (Encoding::Latin, 0x1c, "fi"),
            (Encoding::Latin, 0x8a, "Ł"),
            (Encoding::Latin, 0xb2, "š"),
            (Encoding::Latin, 0xbf, "£"),
            (Encoding::Latin, 0xe9, "é"),
            (Encoding::Latin, 0xff, "ß"),
            (Encoding::Cyrillic, 0x9c, "Ё"),
            (Encoding::Cyrillic, 0xbc, "ё"),
            (Encoding::Cyrillic, 0xbf, "»"),
            (Encoding::Cyrillic, 0xff, "я"),
            (Encoding::Math, u32::from('x'), "x"),
        ] {
            assert_eq!(encoding.character(code).as_deref(), Some(text), "{encoding:?} {code:x}");
        }
        assert_eq!(Encoding::Math.character(0x0c), None);
        assert_eq!(Encoding::Typewriter.character(0x0c), None);
    }

    #[test]
    fn only_numbers_of_the_place_count() {
        assert!(is_number_of_pdftex("a65", 65) && !is_number_of_pdftex("a65", 66));
        assert!(
            ["A0", "BT", "H3"]
                .into_iter()
                .zip([0, 65, 255])
                .all(|(name, code)| is_number_of_dvips(name, code))
        );
        assert!(!is_number_of_dvips("B", 65) && !is_number_of_dvips("bt", 65));
        assert!(
            !is_number_of_pdftex("g1", 1) && !is_number_of_pdftex("fi", 12) && !is_number_of_dvips("fi", 12)
        );
    }
}
