//! How is a long file read without holding all of it? In segments that end before a heading.

use std::collections::VecDeque;

use guest_text::{Encoding, Line, Lines, Source, TextError, Traced};

/// Bytes after which a segment ends before the next heading, before the next block, and at the next line.
const SEGMENT_BYTES: [usize; 3] = [256 << 10, 512 << 10, 896 << 10];

/// The segments of a file, from first to last.
#[derive(Debug)]
pub(crate) struct Segments<S> {
    lines: Lines<S>,
    /// Lines read already.
    pending: VecDeque<Line>,
}

impl<S: Source> Segments<S> {
    pub(crate) fn new(lines: Lines<S>, pending: Vec<Line>) -> Self {
        Segments { lines, pending: pending.into() }
    }

    pub(crate) fn encoding(&self) -> Encoding {
        self.lines.encoding()
    }

    /// The next segment; none at the end of the file.
    pub(crate) fn next(&mut self) -> Result<Option<Traced>, TextError<S::Error>> {
        let mut segment = Traced::default();
        let mut open = Open::default();
        let mut after_blank = true;
        while let Some(line) = self.line()? {
            if may_end(segment.text().len(), &line, after_blank, &open) {
                self.pending.push_front(line);
                break;
            }
            after_blank = line.is_blank();
            if line.begins {
                open.follow(&line.text);
            }
            segment.push(line);
        }
        Ok((!segment.is_empty()).then_some(segment))
    }

    fn line(&mut self) -> Result<Option<Line>, TextError<S::Error>> {
        match self.pending.pop_front() {
            Some(line) => Ok(Some(line)),
            None => self.lines.next(),
        }
    }
}

/// Whether a segment of `bytes` may end before `line`.
fn may_end(bytes: usize, line: &Line, after_blank: bool, open: &Open) -> bool {
    let [heading, block, any] = SEGMENT_BYTES;
    let at_block = after_blank && line.begins && open.is_none() && !line.text.starts_with([' ', '\t']);
    bytes >= any
        || (bytes >= block && at_block && !line.is_blank())
        || (bytes >= heading && at_block && line.text.starts_with('#'))
}

/// What is open at the end of a line: a code fence or a comment.
#[derive(Debug, Default)]
struct Open {
    fence: Option<(char, usize)>,
    comment: bool,
}

impl Open {
    fn is_none(&self) -> bool {
        self.fence.is_none() && !self.comment
    }

    fn follow(&mut self, line: &str) {
        let body = line.trim_start();
        let sign = body.chars().next().filter(|c| matches!(c, '`' | '~'));
        let run = sign.map_or(0, |sign| body.chars().take_while(|c| *c == sign).count());
        match (self.fence, sign) {
            (Some((open, length)), Some(sign)) => {
                let rest = body.get(run..).unwrap_or_default();
                if open == sign && run >= length && rest.trim().is_empty() {
                    self.fence = None;
                }
            }
            (None, Some(sign)) if run >= 3 && !self.comment => self.fence = Some((sign, run)),
            _ => {}
        }
        if self.fence.is_none() {
            let opened = line.rfind("<!--");
            let closed = line.rfind("-->");
            self.comment = match (opened, closed) {
                (Some(opened), Some(closed)) => opened > closed,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => self.comment,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_and_comments_are_followed() {
        let mut open = Open::default();
        for (line, is_open) in [
            ("text", false),
            ("```rust", true),
            ("~~~", true),
            ("``", true),
            ("``` not the end", true),
            ("````", false),
            ("~~~~", true),
            ("~~~", true),
            ("~~~~  ", false),
            ("a <!-- b --> c", false),
            ("<!-- begins", true),
            ("``` within", true),
            ("ends -->", false),
        ] {
            open.follow(line);
            assert_eq!(!open.is_none(), is_open, "{line}");
        }
    }
}
