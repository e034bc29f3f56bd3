//! Where do the items of a source file begin? At lines without indentation after a blank line, whatever the language.

use std::rc::Rc;

use guest_doc::{Block, DocError, Document, File, FileLines, Kind, Ocr, Result, Summary, lines};
use guest_settings::Settings;
use guest_text::{Line, Traced};

use crate::languages;

/// Bytes after which an item is cut at its next blank line, and at its next line.
const CUT_AT_BLANK: usize = 16 << 10;
const CUT_AT_LINE: usize = 32 << 10;

/// Opens a source file; `Unsupported` when it is no text.
pub fn open(file: Rc<dyn File>, _: Rc<dyn Ocr>, settings: &str) -> Result<Box<dyn Document>> {
    Settings::parse(settings, &[]).map_err(DocError::Invalid)?;
    let language = languages::by_name(&file.name());
    Ok(Box::new(Code { lines: lines(file)?, held: None, language }))
}

struct Code {
    lines: FileLines,
    /// The first line of the next item.
    held: Option<Line>,
    language: Option<&'static str>,
}

impl Document for Code {
    fn more(&mut self, blocks: &mut Vec<Block>) -> Result<bool> {
        let mut item = Traced::default();
        let mut row = 0;
        let mut apart = false;
        let mut at_end = true;
        while let Some(line) = self.next()? {
            let blank = line.is_blank();
            if item.is_empty() {
                if blank {
                    continue;
                }
                row = line.number;
            } else {
                let size = item.text().len();
                let begins = apart && !line.text.starts_with(char::is_whitespace);
                if !blank && (begins || apart && size > CUT_AT_BLANK || line.begins && size > CUT_AT_LINE) {
                    self.held = Some(line);
                    at_end = false;
                    break;
                }
            }
            apart = blank;
            // A line too long for memory comes in pieces.
            let in_pieces = !line.ends;
            item.push(line);
            if in_pieces && item.text().len() > CUT_AT_LINE {
                at_end = false;
                break;
            }
        }
        let text = item.text().trim_end();
        if !text.is_empty() {
            let source = item.source(0).zip(item.source(text.len())).map(|(start, end)| start..end);
            blocks.push(Block { source, ..Block::new(Kind::Code, text).at_row(row) });
        }
        Ok(!at_end)
    }

    fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        summary.add("code_language", self.language.unwrap_or_default());
        summary.add("encoding", self.lines.encoding().name());
        summary
    }
}

impl Code {
    fn next(&mut self) -> Result<Option<Line>> {
        let line = match self.held.take() {
            Some(line) => Some(line),
            None => self.lines.next()?,
        };
        if let Some(first) = line.as_ref().filter(|line| line.number == 1 && self.language.is_none()) {
            self.language = languages::by_first_line(&first.text);
        }
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use guest_doc::{Memory, NoOcr, Session};

    use super::*;

    fn read(name: &str, bytes: &[u8]) -> Result<(Vec<Block>, Summary)> {
        let file = Memory::file(name, "text/x-source", bytes);
        let mut session = Session::new(open(file, Rc::new(NoOcr), "")?);
        let mut blocks = Vec::new();
        while let Some(batch) = session.next(1 << 10)? {
            blocks.extend(batch);
        }
        Ok((blocks, session.summary()))
    }

    const PYTHON: &str = "#!/usr/bin/env python3\nimport os\n\n\ndef 备份(路径):\n    # 先检查\n\n    return 路径\n\nclass A:\n\tx = 1\r\n\ty = 2\n";

    #[test]
    fn items_keep_their_lines_and_places() {
        let (blocks, summary) = read("备份", PYTHON.as_bytes()).unwrap();
        let found: Vec<_> = blocks.iter().map(|block| (block.kind, block.text.as_str(), block.row)).collect();
        assert_eq!(
            found,
            [
                (Kind::Code, "#!/usr/bin/env python3\nimport os", Some(1)),
                (Kind::Code, "def 备份(路径):\n    # 先检查\n\n    return 路径", Some(5)),
                (Kind::Code, "class A:\n\tx = 1\n\ty = 2", Some(10)),
            ]
        );
        for block in &blocks {
            let source = block.source.clone().unwrap();
            let raw = &PYTHON[source.start as usize..source.end as usize];
            assert_eq!(raw.replace("\r\n", "\n"), block.text);
        }
        assert!(summary.attributes.contains(&("code_language".to_owned(), "python".to_owned())));
    }

    #[test]
    fn gbk_comments_are_read_and_binaries_refused() {
        let bytes =
            [&b"// "[..], b"\xd6\xaa\xca\xb6\xbf\xe2\xb5\xc4\xb4\xfa\xc2\xeb", b"\nint a;\n"].concat();
        let (blocks, summary) = read("a.c", &bytes).unwrap();
        assert_eq!(blocks[0].text, "// 知识库的代码\nint a;");
        assert_eq!(summary.attributes[0].1, "c");
        assert!(matches!(read("a.c", b"\x7fELF\x02\x00\x00"), Err(DocError::Unsupported(_))));
        assert!(matches!(read("a.c", b" \n\n"), Err(DocError::Invalid(_))));
    }

    #[test]
    fn long_items_and_long_lines_are_cut_and_lose_nothing() {
        let long = format!("fn a() {{\n{}}}\n", "    let 变量 = \"值\";\n".repeat(5_000));
        let (blocks, _) = read("a.rs", long.as_bytes()).unwrap();
        assert!(blocks.len() > 2 && blocks.iter().all(|block| block.text.len() < 34_000));
        let joined: Vec<&str> = blocks.iter().map(|block| block.text.as_str()).collect();
        assert_eq!(joined.join("\n"), long.trim_end());
        let line = "var a=1;".repeat(20_000);
        let (blocks, _) = read("a.js", line.as_bytes()).unwrap();
        assert!(blocks.len() > 2);
        let joined: String = blocks.iter().flat_map(|block| block.text.split_whitespace()).collect();
        assert!(joined == line.replace(' ', ""), "a long line lost something");
    }
}
