//! Whole Markdown files: what their blocks are, and that each is where it says.

use guest_text::{Encoding, Source, TextError};
use proptest::prelude::*;

use crate::document::{Block, Document, Kind, Summary, parse_encoding};

struct Memory(Vec<u8>);

impl Source for Memory {
    type Error = ();
    fn size(&self) -> u64 {
        self.0.len() as u64
    }
    fn read_at(&self, offset: u64, len: u32) -> Result<Vec<u8>, ()> {
        let rest = &self.0[offset as usize..];
        Ok(rest[..rest.len().min(len as usize)].to_vec())
    }
}

fn read(bytes: &[u8], batch: usize) -> Result<(Vec<Block>, Summary), TextError<()>> {
    let mut document = Document::open(Memory(bytes.to_vec()), None)?;
    let mut blocks = Vec::new();
    while let Some(batch) = document.next(batch)? {
        blocks.extend(batch);
    }
    Ok((blocks, document.summary()))
}

fn check(markdown: &str, expected: &[(Kind, &str)]) {
    let (blocks, _) = read(markdown.as_bytes(), 1 << 20).unwrap();
    let found: Vec<(Kind, &str)> = blocks.iter().map(|block| (block.kind, block.text.as_str())).collect();
    assert_eq!(found, expected);
    assert_verbatim(markdown, &blocks);
}

fn assert_verbatim(markdown: &str, blocks: &[Block]) {
    for block in blocks {
        if let Some(source) = &block.source {
            let raw = &markdown[source.start as usize..source.end as usize];
            assert_eq!(raw.replace("\r\n", "\n").replace('\r', "\n"), block.text);
            let row = markdown[..source.start as usize].matches('\n').count() + 1;
            assert_eq!(block.row as usize, row, "{}", block.text);
        }
    }
}

#[test]
fn headings_paragraphs_and_lists() {
    let markdown = "# 安装 *指南* #\n\n第一段，有 **粗体**\n第二行。\n\nSetext 标题\n===\n\n- 甲\n- 乙 `code`\n  续行\n  1. 嵌套\n\n     嵌套第二段\n- [ ] 丙\n\n***\n\n末段";
    check(
        markdown,
        &[
            (Kind::Heading(1), "安装 *指南*"),
            (Kind::Paragraph, "第一段，有 **粗体**\n第二行。"),
            (Kind::Heading(1), "Setext 标题"),
            (Kind::ListItem, "- 甲"),
            (Kind::ListItem, "- 乙 `code`\n  续行"),
            (Kind::ListItem, "1. 嵌套"),
            (Kind::Paragraph, "嵌套第二段"),
            (Kind::ListItem, "- [ ] 丙"),
            (Kind::Paragraph, "末段"),
        ],
    );
}

#[test]
fn tables_code_quotes_and_footnotes_are_kept_whole() {
    let markdown = "| 名 | 值 |\n|---|---|\n| 甲 | 1 |\n\n```rust\nfn main() {}\n\n// end\n```\n\n    indented\n\n> 引文第一行\n> 第二行\n>\n> - 项\n\n文字[^1]。\n\n[^1]: 脚注内容\n\n[ref]: http://example.org\n";
    check(
        markdown,
        &[
            (Kind::Table, "| 名 | 值 |\n|---|---|\n| 甲 | 1 |"),
            (Kind::Code, "```rust\nfn main() {}\n\n// end\n```"),
            (Kind::Code, "indented"),
            (Kind::Quote, "> 引文第一行\n> 第二行\n>\n> - 项"),
            (Kind::Paragraph, "文字[^1]。"),
            (Kind::Footnote, "[^1]: 脚注内容"),
        ],
    );
}

#[test]
fn comments_and_bare_tags_are_dropped() {
    let markdown = "<!-- a\n\ncomment -->\n\n前<!-- 中 -->后\n\n<br/>\n\n<div align=\"center\">文字</div>\n\n<script>\nlet a = 1;\n</script>\n\n# 标题<!-- x -->\n";
    check(
        markdown,
        &[
            (Kind::Paragraph, "前后"),
            (Kind::Paragraph, "<div align=\"center\">文字</div>"),
            (Kind::Heading(1), "标题"),
        ],
    );
}

#[test]
fn the_title_comes_from_the_front_matter_else_from_a_heading() {
    let (blocks, summary) =
        read("---\ntitle: 手册\nlang: zh\n---\n# 别的\n\n文字".as_bytes(), 1 << 20).unwrap();
    assert_eq!(blocks.len(), 2);
    assert_eq!((summary.title.as_deref(), summary.language.as_deref()), (Some("手册"), Some("zh")));
    assert_eq!(summary.attributes.last().unwrap(), &("encoding".to_owned(), "utf-8".to_owned()));
    let (_, summary) = read("## 先\n\n# The `Rust` *Book*\n\n# Other".as_bytes(), 1 << 20).unwrap();
    assert_eq!(summary.title.as_deref(), Some("The Rust Book"));
    check(
        "---\n\nA rule, not: front matter at all.\n\n---\n",
        &[(Kind::Paragraph, "A rule, not: front matter at all.")],
    );
}

#[test]
fn other_encodings_and_line_ends_have_exact_sources() {
    let text = "# 标题\r\n\r\n- 第一项\r\n- 第二项，换行\r\n  续行\r\n\r\n| 甲 | 乙 |\r\n|---|---|\r\n| 一 | 二 |\r\n";
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (bytes, encoding) in [(text.as_bytes().to_vec(), Encoding::Utf8), (utf16, Encoding::Utf16Le)] {
        let (blocks, summary) = read(&bytes, 1).unwrap();
        assert_eq!(blocks.len(), 4);
        assert_eq!(summary.attributes[0].1, encoding.name());
        for block in blocks {
            let source = block.source.unwrap();
            let raw = encoding.decode(&bytes[source.start as usize..source.end as usize]).unwrap();
            assert_eq!(raw.replace("\r\n", "\n"), block.text);
        }
    }
}

#[test]
fn a_long_file_is_read_in_segments_without_a_seam() {
    let section = "# 第一节\n\n一段文字，说明一些事情。\n\n```\n# not a heading\n\n```\n\n- 列表\n\n";
    let markdown = section.repeat(12_000);
    let (blocks, _) = read(markdown.as_bytes(), 64 << 10).unwrap();
    assert_eq!(blocks.len(), 4 * 12_000);
    assert!(blocks.chunks(4).all(|four| four[2].kind == Kind::Code && four[0].kind == Kind::Heading(1)));
    assert_verbatim(&markdown[..], &blocks[..40]);
    let last = blocks.last().unwrap();
    assert_eq!((last.text.as_str(), last.row as usize), ("- 列表", 12_000 * 11 - 1));
    let one_paragraph = "一行文字没有空行\n".repeat(200_000);
    assert!(read(one_paragraph.as_bytes(), 1 << 20).unwrap().0.len() >= 2);
}

#[test]
fn a_very_long_table_repeats_its_header() {
    let rows = "| 甲 | 一二三四五六七八九十 |\n".repeat(12_000);
    let (blocks, _) = read(format!("| 名 | 值 |\n|---|---|\n{rows}").as_bytes(), 1 << 20).unwrap();
    assert!(blocks.len() > 2);
    for block in &blocks {
        assert!(block.kind == Kind::Table && block.text.starts_with("| 名 | 值 |\n|---|---|\n| 甲 |"));
        assert!(block.text.len() < 140 << 10);
    }
    let found: usize = blocks.iter().map(|block| block.text.matches("甲").count()).sum();
    assert_eq!(found, 12_000);
}

#[test]
fn what_holds_no_text_is_an_error() {
    for (markdown, words) in
        [("", "empty"), (" \n\n", "no text"), ("<!-- only -->\n", "no text"), ("---\na: b\n---\n", "no text")]
    {
        let Err(TextError::Damaged(message)) = read(markdown.as_bytes(), 1 << 20) else {
            panic!("{markdown:?}")
        };
        assert!(message.contains(words), "{message}");
    }
    assert!(matches!(read(b"%PDF-1.4", 1), Err(TextError::NotText(_))));
    assert!(parse_encoding(r#"{"encoding": "x"}"#).unwrap_err().contains("'encoding'"));
}

#[test]
fn deep_nesting_ends() {
    let (blocks, _) = read(format!("{} 深", ">".repeat(5_000)).as_bytes(), 1 << 20).unwrap();
    assert_eq!(blocks.len(), 1);
    let nested: String = (0..300).map(|depth| format!("{}- 项{depth}\n", "  ".repeat(depth))).collect();
    assert!(!read(nested.as_bytes(), 1 << 20).unwrap().0.is_empty());
}

proptest! {
    #[test]
    fn every_word_is_in_a_block_and_every_block_is_verbatim(
        parts in prop::collection::vec((0usize..7, "[a-z]{3,8}|[一-龥]{2,6}", "[a-z一-龥 *`]{0,20}"), 1..20),
    ) {
        let mut markdown = String::new();
        for (number, (shape, word, rest)) in parts.iter().enumerate() {
            let word = format!("{word}{number}x");
            markdown.push_str(&match shape {
                0 => format!("## {word} {rest}\n\n"),
                1 => format!("{word} {rest}\nmore{number}x\n\n"),
                2 => format!("- {word}\n- item{number}x\n\n"),
                3 => format!("> {word} {rest}\n\n"),
                4 => format!("```\n{word}\n```\n\n"),
                5 => format!("| {word} |\n|---|\n| cell{number}x |\n\n"),
                _ => format!("1. {word}\n\n   {word}second\r\n\r\n"),
            });
        }
        let (blocks, _) = read(markdown.as_bytes(), 100).unwrap();
        assert_verbatim(&markdown, &blocks);
        let all: String = blocks.iter().map(|block| block.text.as_str()).collect::<Vec<_>>().join("\n");
        for (number, (_, word, _)) in parts.iter().enumerate() {
            let word = format!("{word}{number}x");
            prop_assert!(all.contains(&word), "{word} of {markdown:?} in {all:?}");
        }
    }

    #[test]
    fn any_text_gives_blocks_or_an_error(text in "([#>*`|~\\[\\]()<!\\-+=:_ \t\r\n0-9a-z一-龥]|<!--|-->|```|\\[\\^a\\]){0,200}") {
        if let Ok((blocks, _)) = read(text.as_bytes(), 50) {
            for block in blocks {
                prop_assert!(!block.text.trim().is_empty());
                prop_assert!(!block.text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
                if let Some(source) = block.source {
                    let raw = &text[source.start as usize..source.end as usize];
                    prop_assert_eq!(raw.replace("\r\n", "\n").replace('\r', "\n"), block.text);
                }
            }
        }
    }
}
