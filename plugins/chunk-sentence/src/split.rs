//! How does a section become chunks?

use crate::atoms::Ruler;
use crate::context::Path;
use crate::document::{Chunk, Count, Document};
use crate::options::Options;
use crate::pack::pack;

/// Cuts `document`; `count` tells the tokens of texts and is not called when lengths are in characters.
pub fn split<E>(document: Document<'_>, options: Options, count: Count<'_, E>) -> Result<Vec<Chunk>, E> {
    let mut ruler = Ruler::new(document, options, count);
    let atoms = ruler.atoms()?;
    let lengths = ruler.lengths(&atoms)?;
    let mut path = Path::new(document);
    let runs = pack(&atoms, &lengths, &options, document.outline);
    let chunk = |run: std::ops::Range<usize>| {
        let start = atoms.get(run.start)?.range.start;
        let end = atoms.get(run.end.checked_sub(1)?)?.range.end;
        Some(Chunk { start, end, parent: None, context: path.context(&atoms, run, &options) })
    };
    Ok(runs.into_iter().filter_map(chunk).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Block, Heading, Kind};
    use crate::options::Unit;

    /// Blocks joined by blank lines, as the host joins them.
    fn section(parts: &[(Kind, &str)]) -> (String, Vec<Block>) {
        let (mut text, mut blocks) = (String::new(), Vec::new());
        for (kind, part) in parts {
            let start = text.len();
            text.push_str(part);
            blocks.push(Block { start, end: text.len(), kind: *kind });
            text.push_str("\n\n");
        }
        (text, blocks)
    }

    fn options(size: usize, overlap: usize) -> Options {
        Options { size, unit: Unit::Characters, overlap, context: true, context_chars_max: 60 }
    }

    fn chunks(parts: &[(Kind, &str)], options: Options) -> Vec<(String, Option<String>)> {
        let (text, blocks) = section(parts);
        let document = Document { text: &text, blocks: &blocks, title: Some("手册"), outline: &[] };
        let mut count = |_: &[&str]| -> Result<Vec<u32>, ()> { panic!("characters need no tokens") };
        let chunks = split(document, options, &mut count).unwrap();
        chunks.into_iter().map(|chunk| (text[chunk.start..chunk.end].to_owned(), chunk.context)).collect()
    }

    fn check(parts: &[(Kind, &str)], options: Options, expected: &[(&str, &str)]) {
        let found = chunks(parts, options);
        let found: Vec<(&str, &str)> =
            found.iter().map(|(text, context)| (text.as_str(), context.as_deref().unwrap_or(""))).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn headings_stay_with_what_follows_and_are_context_for_the_rest() {
        let parts = [
            (Kind::Heading(1), "安装"),
            (Kind::Heading(2), "准备"),
            (Kind::Text, "先备份数据。再下载镜像。"),
            (Kind::Heading(2), "步骤"),
            (Kind::Text, "插入光盘，然后重启机器等待。选择语言和键盘布局即可。最后按下回车键结束。"),
        ];
        check(
            &parts,
            options(32, 0),
            &[
                ("安装\n\n准备\n\n先备份数据。再下载镜像。", "手册"),
                ("步骤\n\n插入光盘，然后重启机器等待。", "手册 › 安装"),
                ("选择语言和键盘布局即可。最后按下回车键结束。", "手册 › 安装 › 步骤"),
            ],
        );
    }

    #[test]
    fn a_long_sentence_after_a_heading_is_cut_so_that_the_heading_is_not_alone() {
        let parts = [(Kind::Heading(1), "标题很短"), (Kind::Text, &"一二三四五六七八九，".repeat(6))];
        let found = chunks(&parts, options(64, 0));
        assert!(found[0].0.starts_with("标题很短\n\n一二三"), "{found:?}");
        assert!(found.iter().all(|(text, _)| text.chars().count() <= 64));
    }

    #[test]
    fn a_table_too_long_is_cut_between_rows_with_its_header_as_context() {
        let table =
            "| 名 | 值 |\n|----|----|\n| 甲 | 一二三四五六七八 |\n| 乙 | 一二三四五六七八 |\n| 丙 | 九 |";
        let found = chunks(&[(Kind::Table, table)], options(44, 0));
        assert_eq!(found[0].0, "| 名 | 值 |\n|----|----|\n| 甲 | 一二三四五六七八 |");
        assert_eq!(found[1].0, "| 乙 | 一二三四五六七八 |\n| 丙 | 九 |");
        assert_eq!(found[1].1.as_deref(), Some("手册\n| 名 | 值 |\n|----|----|"));
        assert_eq!(chunks(&[(Kind::Table, table)], options(200, 0)).len(), 1);
    }

    #[test]
    fn code_is_cut_between_lines() {
        let code = "let a = 1;\nlet b = 2;\nlet c = 3;\nlet d = 4;";
        check(
            &[(Kind::Code, code)],
            options(24, 0),
            &[("let a = 1;\nlet b = 2;", "手册"), ("let c = 3;\nlet d = 4;", "手册")],
        );
    }

    #[test]
    fn overlap_repeats_whole_sentences() {
        let parts = [(Kind::Text, "甲乙丙丁。戊己庚辛。壬癸子丑。寅卯辰巳。")];
        check(
            &parts,
            options(12, 5),
            &[
                ("甲乙丙丁。戊己庚辛。", "手册"),
                ("戊己庚辛。壬癸子丑。", "手册"),
                ("壬癸子丑。寅卯辰巳。", "手册"),
            ],
        );
        check(&parts, options(12, 4), &[("甲乙丙丁。戊己庚辛。", "手册"), ("壬癸子丑。寅卯辰巳。", "手册")]);
    }

    #[test]
    fn a_section_continues_below_its_outline() {
        let (text, blocks) =
            section(&[(Kind::Text, "续上文。"), (Kind::Heading(2), "下一节"), (Kind::Text, "新内容。")]);
        let outline =
            [Heading { level: 1, text: "第一章".into() }, Heading { level: 2, text: "第一节".into() }];
        let document = Document { text: &text, blocks: &blocks, title: None, outline: &outline };
        let mut count = |_: &[&str]| -> Result<Vec<u32>, ()> { Ok(Vec::new()) };
        let chunks = split(document, options(200, 0), &mut count).unwrap();
        let contexts: Vec<_> = chunks.iter().map(|chunk| chunk.context.as_deref()).collect();
        assert_eq!(contexts, [Some("第一章 › 第一节"), Some("第一章")]);
    }

    #[test]
    fn a_failing_count_is_handed_on() {
        let (text, blocks) = section(&[(Kind::Text, "句子。")]);
        let document = Document { text: &text, blocks: &blocks, title: None, outline: &[] };
        let tokens = Options { unit: Unit::Tokens, ..options(64, 0) };
        let mut count = |_: &[&str]| -> Result<Vec<u32>, &'static str> { Err("gone") };
        assert_eq!(split(document, tokens, &mut count), Err("gone"));
    }

    #[test]
    fn nothing_gives_nothing() {
        for text in ["", " \n\n\t "] {
            let document = Document { text, blocks: &[], title: None, outline: &[] };
            let mut count = |_: &[&str]| -> Result<Vec<u32>, ()> { Ok(Vec::new()) };
            assert_eq!(split(document, options(64, 0), &mut count), Ok(Vec::new()));
        }
    }
}
