//! Which characters do the bytes of a page stand for? A mark, valid UTF-8, what the page declares, then what they look
//! like, in this order: declarations often lie, valid UTF-8 never does.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8};

/// Where a declaration is looked for, and what is looked at otherwise.
const HEAD_BYTES: usize = 4 << 10;
const SAMPLE_BYTES: usize = 256 << 10;
/// One malformed character in so many is a page of another encoding than declared.
const MALFORMED_ONE_IN: usize = 50;

/// The text of a page and the name of its encoding. `declared` is what came with it, e.g. from a mail's header.
pub fn decode(bytes: &[u8], declared: Option<&str>) -> (String, &'static str) {
    if let Some((encoding, width)) = Encoding::for_bom(bytes) {
        let text = encoding.decode_without_bom_handling(bytes.get(width..).unwrap_or_default()).0;
        return (text.into_owned(), encoding.name());
    }
    let wide = declared.and_then(|label| Encoding::for_label(label.as_bytes()));
    if let Ok(text) = std::str::from_utf8(bytes)
        && (!text.is_ascii() || wide.is_none_or(|encoding| encoding.is_ascii_compatible()))
        // Mail in ISO-2022 is ASCII with escapes.
        && !text.contains('\u{1b}')
    {
        return (text.to_owned(), UTF_8.name());
    }
    let head = String::from_utf8_lossy(bytes.get(..HEAD_BYTES).unwrap_or(bytes)).to_ascii_lowercase();
    let meta = head.split_once("charset=").map(|(_, rest)| {
        let label = rest.trim_start_matches(['"', '\'', ' ']);
        label.split(['"', '\'', ' ', ';', '>', '/']).next().unwrap_or_default().to_owned()
    });
    for label in declared.map(str::to_owned).into_iter().chain(meta) {
        if let Some(encoding) =
            Encoding::for_label(label.trim().as_bytes()).filter(|encoding| *encoding != UTF_8)
        {
            let text = encoding.decode_without_bom_handling(bytes).0;
            let malformed = text.chars().filter(|c| *c == '\u{fffd}').count();
            if malformed * MALFORMED_ONE_IN <= text.chars().count() {
                return (text.into_owned(), encoding.name());
            }
        }
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    detector.feed(bytes.get(..SAMPLE_BYTES).unwrap_or(bytes), true);
    let encoding = detector.guess(None, Utf8Detection::Allow);
    (encoding.decode_without_bom_handling(bytes).0.into_owned(), encoding.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_lie_and_bytes_do_not() {
        let text = "<meta charset=\"CHARSET\"><p>知识库问答系统把文档变成知识库，并从中回答问题。</p>";
        for (charset, encoding, expected) in [
            ("utf-8", encoding_rs::UTF_8, "UTF-8"),
            ("gb2312", encoding_rs::UTF_8, "UTF-8"),
            ("gb2312", encoding_rs::GBK, "GBK"),
            ("utf-8", encoding_rs::GBK, "GBK"),
            ("x-unknown", encoding_rs::GBK, "GBK"),
        ] {
            let page = text.replace("CHARSET", charset);
            let (bytes, _, _) = encoding.encode(&page);
            assert_eq!(decode(&bytes, None), (page.clone(), expected), "{charset} {}", encoding.name());
        }
    }
}
