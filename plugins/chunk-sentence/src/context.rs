//! What is embedded before a chunk: the document's title and the headings above it.

use std::ops::Range;

use crate::atoms::{Atom, AtomKind};
use crate::document::{Document, Heading};
use crate::options::Options;

const SEPARATOR: &str = " › ";

/// The headings above each atom, kept while walking through the atoms in order.
#[derive(Debug)]
pub(crate) struct Path<'d> {
    document: Document<'d>,
    open: Vec<Heading>,
    /// Atoms seen.
    at: usize,
}

impl<'d> Path<'d> {
    pub(crate) fn new(document: Document<'d>) -> Self {
        Path { document, open: document.outline.to_vec(), at: 0 }
    }

    /// The context of the chunk made of the atoms in `run`; runs come in order of their start.
    pub(crate) fn context(&mut self, atoms: &[Atom], run: Range<usize>, options: &Options) -> Option<String> {
        if !options.context {
            return None;
        }
        for atom in atoms.get(self.at..run.start).unwrap_or_default() {
            if let AtomKind::Heading(level) = atom.kind {
                self.open.retain(|heading| heading.level < level);
                let text = self.document.text.get(atom.range.clone()).unwrap_or_default();
                self.open.push(Heading { level, text: one_line(text) });
            }
        }
        self.at = self.at.max(run.start);
        let first = atoms.get(run.start)?;
        let below = match first.kind {
            AtomKind::Heading(level) => level,
            _ => u8::MAX,
        };
        let mut parts: Vec<String> = Vec::new();
        let title = self.document.title.map(one_line);
        let headings = self.open.iter().filter(|heading| heading.level < below).map(|h| one_line(&h.text));
        for part in title.into_iter().chain(headings).filter(|part| !part.is_empty()) {
            if parts.last() != Some(&part) {
                parts.push(part);
            }
        }
        // A chunk that begins with the heading that is also the title says it already.
        let opening = one_line(self.document.text.get(first.range.clone()).unwrap_or_default());
        if below < u8::MAX && parts.last() == Some(&opening) {
            parts.pop();
        }
        let path = innermost(&parts, options.context_chars_max);
        let header = match &first.kind {
            AtomKind::Row { header } => self.document.text.get(header.clone()).unwrap_or_default(),
            _ => "",
        };
        let header: String = header.chars().take(options.context_chars_max).collect();
        let lines = [path, header].into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>();
        (!lines.is_empty()).then(|| lines.join("\n"))
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
