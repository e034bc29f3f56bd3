//! Which texts break careless chunkers?

use rag_core::document::{BlockKind, BlockSpan, Heading, Section, Span};

use crate::random::Random;

/// A section of blocks with a blank line between them: kind, level, text.
pub fn section(parts: &[(BlockKind, u8, &str)]) -> Section {
    let (mut text, mut blocks) = (String::new(), Vec::new());
    for (kind, level, part) in parts {
        let start = text.len() as u64;
        text.push_str(part);
        let span = Span { start, end: text.len() as u64 };
        blocks.push(BlockSpan { span, kind: *kind, level: *level, page: None });
        text.push_str("\n\n");
    }
    Section { text, blocks, title: Some("题目 Title".to_owned()), language: None, outline: vec![] }
}

/// A section of one paragraph.
pub fn paragraph(text: &str) -> Section {
    section(&[(BlockKind::Paragraph, 0, text)])
}

/// Nothing, white space, one character, marks that combine, right to left, no line ends, tables, code.
pub fn hard() -> Vec<Section> {
    let bare = |text: &str| Section { text: text.to_owned(), blocks: vec![], ..paragraph("") };
    let mut sections = vec![
        bare(""),
        bare(" \n\t\r\n　\u{a0} "),
        bare("x"),
        bare("字"),
        bare("no blocks at all. 没有块。"),
        paragraph("👩\u{200d}👩\u{200d}👧\u{200d}👦🏽 e\u{301}\u{323}\u{301} \u{1f1e8}\u{1f1f3}"),
        paragraph("مرحبا بالعالم. שלום עולם! ‏نص"),
        paragraph("line one\r\nline two\r\n\r\nline four\r"),
        paragraph(&"无标点的长文本".repeat(900)),
        paragraph(&"nospaces".repeat(3_000)),
        paragraph(&"一二三。".repeat(2_000)),
        paragraph(&"A short line.\n".repeat(5_000)),
        paragraph("\u{feff}mark and \u{200b}zero width\u{200b}"),
        paragraph("\u{feff}\n\nan order mark alone on its line"),
        section(&[
            (BlockKind::Heading, 1, "Only"),
            (BlockKind::Heading, 1, "headings"),
            (BlockKind::Heading, 2, "三"),
        ]),
        section(&[(BlockKind::Heading, 1, &"很长的标题".repeat(300)), (BlockKind::Paragraph, 0, "文。")]),
        section(&[(BlockKind::Table, 0, &format!("| a | b |\n|---|---|\n{}", "| 甲 | 乙 |\n".repeat(900)))]),
        section(&[(BlockKind::Table, 0, &format!("| {} |\n|---|\n| x |", "宽".repeat(2_000)))]),
        section(&[(BlockKind::Code, 0, &"fn main() { println!(\"。\"); }\n".repeat(400))]),
    ];
    let mut continued = paragraph("续前文。");
    continued.outline = vec![Heading { level: 1, text: "第一章".to_owned() }];
    sections.push(continued);
    sections
}

/// Blocks of random words in Chinese and English, some under headings, in some sections without their spans.
pub fn random(random: &mut Random) -> Section {
    const WORDS: &[&str] = &[
        "检索",
        "知识库",
        "的",
        "。",
        "，",
        "？",
        "……",
        "”",
        "Debian",
        " package ",
        "e.g. ",
        "3.14",
        ". ",
        "! ",
        "\n",
        "\r\n",
        "\t",
        "🐧",
        "https://a.b/c?d ",
        "（注）",
        "　",
        "No. 5 ",
        "A",
        "\u{301}",
        "；",
    ];
    let kinds =
        [BlockKind::Paragraph, BlockKind::Paragraph, BlockKind::ListItem, BlockKind::Quote, BlockKind::Code];
    let mut parts: Vec<(BlockKind, u8, String)> = Vec::new();
    for _ in 0..random.below(12) {
        let words = random.below(120);
        let text: String = (0..words).map(|_| random.pick(WORDS)).collect();
        if random.below(4) == 0 {
            let level = 1 + random.below(4) as u8;
            parts.push((BlockKind::Heading, level, format!("{}标题", text.get(..6).unwrap_or(""))));
        }
        parts.push((kinds[random.below(kinds.len())], 0, text));
    }
    let parts: Vec<_> = parts.iter().map(|(kind, level, text)| (*kind, *level, text.as_str())).collect();
    let mut section = section(&parts);
    if random.below(3) == 0 {
        section.blocks.retain(|block| block.span.start % 3 != 0);
    }
    section
}
