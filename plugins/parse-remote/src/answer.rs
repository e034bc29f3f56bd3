//! What a service may answer: HTML with or without pages, Markdown, or text; anything else is refused.

use guest_doc::{Block, DocError, Kind, Result, Summary};

/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 48 << 20;
/// What Tika puts around a page.
const PAGE: &str = "<div class=\"page\"";

/// The blocks of an answer, and what it says of the document.
pub(crate) fn read(media_type: &str, body: &[u8]) -> Result<(Vec<Block>, Summary)> {
    if body.len() > ANSWER_BYTES_MAX {
        return Err(DocError::too_large(format!("the parser service answers with {} bytes", body.len())));
    }
    let (kind, parameters) = media_type.split_once(';').unwrap_or((media_type, ""));
    let charset = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("charset="));
    let text = guest_html::decode(body, charset.map(|name| name.trim_matches('"'))).0;
    if text.contains('\0') {
        return Err(DocError::invalid("the parser service answers with binary data"));
    }
    match kind.trim().to_ascii_lowercase().as_str() {
        "text/html" => html(&text),
        "application/xhtml+xml" | "application/xml" | "text/xml" => html(&guest_html::from_xhtml(&text)),
        "text/markdown" => Ok((paragraphs(&text, true), Summary::default())),
        "text/plain" => Ok((paragraphs(&text, false), Summary::default())),
        other => Err(DocError::invalid(format!(
            "the parser service answers with '{}', and neither HTML, Markdown nor text",
            other.escape_debug()
        ))),
    }
}

/// Pages are counted where the service marks them.
fn html(text: &str) -> Result<(Vec<Block>, Summary)> {
    // Tika writes XHTML, in which an empty element such as <title/> would swallow the rest of a page.
    let xhtml = text.contains("http://www.w3.org/1999/xhtml");
    let text = if xhtml { guest_html::from_xhtml(text) } else { text.to_owned() };
    let mut parts = text.split(PAGE);
    let first = guest_html::page(parts.next().unwrap_or_default(), true)?;
    let mut blocks = first.blocks;
    for (number, part) in (1_u32..).zip(parts) {
        let page = guest_html::page(&format!("{PAGE}{part}"), true)?;
        blocks.extend(page.blocks.into_iter().map(|block| block.on_page(number)));
    }
    Ok((blocks, first.summary))
}

/// Paragraphs between blank lines; in Markdown, lines that begin with `#` are headings.
fn paragraphs(text: &str, markdown: bool) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for line in text.lines().map(str::trim_end) {
        if line.trim().is_empty() {
            open = false;
            continue;
        }
        if let Some((level, title)) = markdown.then(|| heading(line)).flatten() {
            blocks.push(Block::new(Kind::Heading(level), title));
            open = false;
            continue;
        }
        match blocks.last_mut() {
            Some(block) if open => {
                block.text.push('\n');
                block.text.push_str(line);
            }
            _ => blocks.push(Block::new(Kind::Paragraph, line)),
        }
        open = true;
    }
    blocks
}

fn heading(line: &str) -> Option<(u8, &str)> {
    let rest = line.trim_start_matches('#');
    let level = u8::try_from(line.len() - rest.len()).ok().filter(|level| (1..=6).contains(level))?;
    let title = rest.strip_prefix(' ')?.trim();
    (!title.is_empty()).then_some((level, title))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(media_type: &str, body: &[u8]) -> Vec<(Kind, Option<u32>, String)> {
        let blocks = read(media_type, body).unwrap().0.into_iter();
        blocks.map(|block| (block.kind, block.page, block.text)).collect()
    }

    fn paragraph(page: Option<u32>, text: &str) -> (Kind, Option<u32>, String) {
        (Kind::Paragraph, page, text.to_owned())
    }

    #[test]
    fn pages_headings_and_encodings_are_read() {
        let tika = "<html xmlns=\"http://www.w3.org/1999/xhtml\"><head><title/></head><body>\
            <div class=\"page\"><p/>\n<p>第一页。</p></div>\n<div class=\"page\"><p>Second page.</p></div></body></html>";
        let expected = [paragraph(Some(1), "第一页。"), paragraph(Some(2), "Second page.")];
        assert_eq!(texts("text/html", tika.as_bytes()), expected);
        let markdown = "# 总则\n\n甲方\n付款。\n\n#hashtag stays\n";
        let expected = [
            (Kind::Heading(1), None, "总则".to_owned()),
            paragraph(None, "甲方\n付款。"),
            paragraph(None, "#hashtag stays"),
        ];
        assert_eq!(texts("text/markdown; charset=utf-8", markdown.as_bytes()), expected);
        assert_eq!(texts("text/plain", b"# a\n\nb\n"), [paragraph(None, "# a"), paragraph(None, "b")]);
        let gbk = [0xd6, 0xd0, 0xce, 0xc4];
        assert_eq!(texts("text/plain; charset=GBK", &gbk), [paragraph(None, "中文")]);
    }

    #[test]
    fn what_is_no_text_is_refused() {
        for (media_type, body) in [
            ("image/png", &b"\x89PNG"[..]),
            ("text/plain", b"a\0b"),
            ("", b"text"),
            ("application/json", b"{}"),
        ] {
            assert!(matches!(read(media_type, body), Err(DocError::Invalid(_))), "{media_type}");
        }
    }
}
