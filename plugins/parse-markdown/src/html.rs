//! What of a piece of HTML within Markdown is text?

use std::ops::Range;

/// Byte ranges of the comments in `text`; an unclosed one reaches to the end.
pub(crate) fn comments(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = text.get(at..).and_then(|rest| rest.find("<!--")).map(|start| at + start) {
        let end = text
            .get(start + 4..)
            .and_then(|rest| rest.find("-->"))
            .map_or(text.len(), |end| start + 4 + end + 3);
        found.push(start..end);
        at = end;
    }
    found
}

/// Whether a reader would see any letter or digit of it.
pub(crate) fn has_text(html: &str) -> bool {
    let lower = html.trim_start().get(..7).unwrap_or_default().to_ascii_lowercase();
    if lower.starts_with("<script") || lower.starts_with("<style") {
        return false;
    }
    let mut within = false;
    html.chars().any(|c| {
        match c {
            '<' => within = true,
            '>' => within = false,
            _ => return !within && c.is_alphanumeric(),
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_found() {
        assert_eq!(comments("a <!-- b --> c <!-- d"), [2..12, 15..21]);
        assert_eq!(comments("<!---->x y <!----> z"), [0..7, 11..18]);
        assert_eq!(comments("none"), []);
    }

    #[test]
    fn text_is_what_a_reader_sees() {
        assert!(has_text("<div>文字</div>"));
        assert!(!has_text("<br/>\n<a id=\"x\"></a>"));
        assert!(!has_text("<img alt=\"words\" src=\"a.png\">"));
        assert!(!has_text("<SCRIPT>let a = 1;</SCRIPT>"));
    }
}
