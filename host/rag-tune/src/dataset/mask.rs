//! Which tokens of a document count: with turns, only what stands after `Assistant:` or `Response:`.
//!
//! Turns are found in the document's bytes, never by token ids: a token may join a mark with what surrounds it. A
//! token counts when its first byte lies within an answer, up to the next turn's mark, so that the blank line which
//! ends an answer is learned; the end of the document counts when it ends an answer.

/// Marks whose text is learned.
const ANSWERS: [&[u8]; 2] = [b"Assistant:", b"Response:"];
/// Marks whose text is read only.
const QUESTIONS: [&[u8]; 5] = [b"User:", b"System:", b"Instruction:", b"Input:", b"Question:"];

/// What of the documents counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    All,
    Answers,
}

impl Mask {
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "all" => Some(Mask::All),
            "answers" => Some(Mask::Answers),
            _ => None,
        }
    }

    /// One flag a token. A document without an answer counts whole. `bytes` gives a token's text.
    pub fn of<'a>(self, tokens: &[u16], bytes: impl Fn(u16) -> &'a [u8]) -> Vec<bool> {
        if self == Mask::All {
            return vec![true; tokens.len()];
        }
        let mut text = Vec::new();
        let mut starts = Vec::with_capacity(tokens.len());
        for &token in tokens {
            starts.push(text.len());
            text.extend_from_slice(bytes(token));
        }
        let answers = answers(&text);
        if answers.is_empty() {
            return vec![true; tokens.len()];
        }
        let last = answers.last().is_some_and(|answer| answer.end == text.len());
        let counts = |(token, start): (&u16, &usize)| match *token {
            0 => last,
            _ => answers.iter().any(|answer| answer.contains(start)),
        };
        tokens.iter().zip(&starts).map(counts).collect()
    }
}

/// Byte ranges of the answers.
fn answers(text: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut open: Option<usize> = None;
    // Marks stand at the start of the text or of a line.
    let lines =
        std::iter::once(0).chain(text.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i + 1));
    for start in lines {
        let line = &text[start..];
        let mark = |marks: &[&[u8]]| marks.iter().find(|mark| line.starts_with(mark)).map(|mark| mark.len());
        let (answer, question) = (mark(&ANSWERS), mark(&QUESTIONS));
        if answer.is_none() && question.is_none() {
            continue;
        }
        if let Some(first) = open.take() {
            found.push(first..start);
        }
        open = answer.map(|len| start + len);
    }
    found.extend(open.map(|first| first..text.len()));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens of one byte each, id = byte + 1; what counts as a string, the rest as dots.
    fn counted(text: &str) -> String {
        let tokens: Vec<u16> = text.bytes().map(|b| u16::from(b) + 1).chain([0]).collect();
        let table: Vec<u8> = (0..=255).collect();
        let bytes = |token: u16| match token {
            0 => &table[..0],
            id => &table[usize::from(id) - 1..usize::from(id)],
        };
        let mask = Mask::Answers.of(&tokens, bytes);
        let shown = text.chars().chain(['$']).zip(mask);
        shown.map(|(c, counts)| if counts { c } else { '.' }).collect()
    }

    #[test]
    fn only_answers_count() {
        for (text, want) in [
            ("User: a\n\nAssistant: b", "................... b$"),
            (
                "User: a\n\nAssistant: b\n\nUser: c\n\nAssistant: d",
                "................... b\n\n................... d$",
            ),
            ("Instruction: x\nInput: y\n\nResponse: z", ".................................. z$"),
            ("User: a\n\nAssistant: b\n\nUser: c", "................... b\n\n........"),
            ("plain text", "plain text$"),
            // A mark within a line is no turn.
            ("User: Assistant: x\n\nAssistant: y", ".............................. y$"),
        ] {
            assert_eq!(counted(text), want, "{text:?}");
        }
    }

    #[test]
    fn a_token_over_an_edge_counts_by_its_first_byte() {
        let words: [&[u8]; 5] = [b"", b"User: a\n\nAssistant", b": ", b"b", b"\n\nUser:"];
        let mask = Mask::Answers.of(&[1, 2, 3, 4, 0], |token| words[usize::from(token)]);
        assert_eq!(mask, [false, false, true, true, false]);
        assert_eq!(Mask::All.of(&[1, 0], |_| b""), [true, true]);
    }
}
