//! What is embedded before a chunk? The document's title and the headings above it.

use crate::{Kind, Section};

const SEPARATOR: &str = " › ";

/// The headings above a place, kept while walking through a section.
#[derive(Debug)]
pub struct Path<'s> {
    section: &'s Section<'s>,
    /// Level and text, outermost first.
    open: Vec<(u8, String)>,
    /// Blocks seen.
    at: usize,
}

impl<'s> Path<'s> {
    pub fn new(section: &'s Section<'s>) -> Self {
        let open = section.outline.iter().map(|heading| (heading.level, one_line(&heading.text))).collect();
        Path { section, open, at: 0 }
    }

    /// Title and headings above the chunk that begins at byte `start`, the innermost `chars_max` characters of them;
    /// none when there are none. Starts come in order.
    pub fn above(&mut self, start: usize, chars_max: usize) -> Option<String> {
        self.around(start, &[], chars_max)
    }

    /// The same with `inner` below the headings, outermost first.
    pub fn around(&mut self, start: usize, inner: &[&str], chars_max: usize) -> Option<String> {
        while let Some(block) = self.section.blocks.get(self.at).filter(|block| block.start < start) {
            if let Kind::Heading(level) = block.kind {
                self.open.retain(|(open, _)| *open < level);
                self.open.push((
                    level,
                    one_line(self.section.text.get(block.start..block.end).unwrap_or_default()),
                ));
            }
            self.at += 1;
        }
        // A chunk that begins with a heading stands beside the last one of that level, not below it.
        let below = match self.section.blocks.get(self.at) {
            Some(block) if block.start == start => match block.kind {
                Kind::Heading(level) => level,
                _ => u8::MAX,
            },
            _ => u8::MAX,
        };
        let headings = self.open.iter().filter(|(level, _)| *level < below).map(|(_, text)| text.clone());
        let mut parts: Vec<String> = Vec::new();
        let inner = inner.iter().map(|part| one_line(part));
        for part in self.section.title.map(one_line).into_iter().chain(headings).chain(inner) {
            if !part.is_empty() && parts.last() != Some(&part) {
                parts.push(part);
            }
        }
        let path = innermost(&parts, chars_max);
        (!path.is_empty()).then_some(path)
    }
}

/// The last parts that fit into `chars_max`, joined; the innermost is cut when it alone is longer.
fn innermost(parts: &[String], chars_max: usize) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut chars = 0;
    for part in parts.iter().rev() {
        chars += part.chars().count() + if kept.is_empty() { 0 } else { SEPARATOR.chars().count() };
        if chars > chars_max && !kept.is_empty() {
            break;
        }
        kept.push(part);
    }
    kept.reverse();
    kept.join(SEPARATOR).chars().take(chars_max).collect()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Block, Heading};

    #[test]
    fn headings_above_a_chunk_are_its_context() {
        let text = "# 安装\n正文\n## Disks\nmore\n# 使用\n末";
        let block = |piece: &str, kind| {
            let start = text.find(piece).unwrap();
            Block { start, end: start + piece.len(), kind }
        };
        let blocks = [
            block("安装", Kind::Heading(1)),
            block("Disks", Kind::Heading(2)),
            block("使用", Kind::Heading(1)),
        ];
        let outline = [Heading { level: 1, text: "前 章".to_owned() }];
        let section = Section { text, blocks: &blocks, title: Some("手册"), outline: &outline };
        let mut path = Path::new(&section);
        let mut above = |piece: &str| path.above(text.find(piece).unwrap(), 60).unwrap_or_default();
        assert_eq!(above("安装"), "手册");
        assert_eq!(above("正文"), "手册 › 安装");
        assert_eq!(above("more"), "手册 › 安装 › Disks");
        assert_eq!(above("使用"), "手册");
        assert_eq!(above("末"), "手册 › 使用");
        assert_eq!(Path::new(&section).above(text.find("more").unwrap(), 7).as_deref(), Some("Disks"));
        assert_eq!(Path::new(&section).above(0, 0), None);
    }
}
