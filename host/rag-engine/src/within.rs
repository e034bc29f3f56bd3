//! Which tokens may come next when an answer has to be words of given texts?
//!
//! A small model reads where the answer stands better than it writes: held to contiguous parts of the passage it
//! neither invents nor repeats itself without end. Matching is on bytes, since an answer's first token may begin in
//! the middle of a token of the text.

use rag_core::ports::Bounds;

use crate::tokenizer::{END_OF_TEXT, Tokenizer};

/// Bytes of the longest token that is looked for.
const TOKEN_BYTES_MAX: usize = 128;

/// The texts and where in them the answer so far can stand.
#[derive(Debug)]
pub(crate) struct Within {
    texts: Vec<Text>,
    place: Place,
}

#[derive(Debug)]
struct Text {
    bytes: Vec<u8>,
    /// The answer must be all of it.
    whole: bool,
}

#[derive(Debug)]
enum Place {
    /// Nothing was written, or one blank: models are trained to put one before an answer.
    Before { blank: bool },
    /// Ends of the answer so far: text and offset.
    After(Vec<(usize, usize)>),
}

impl Within {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let text = |whole| move |text: String| Text { bytes: text.into_bytes(), whole };
        let parts = bounds.parts_of.into_iter().map(text(false));
        let texts = parts.chain(bounds.or_whole.into_iter().map(text(true))).collect();
        Within { texts, place: Place::Before { blank: false } }
    }

    /// The logits with −∞ for every token that would leave the texts.
    pub(crate) fn mask(&self, logits: &[f32], tokenizer: &Tokenizer) -> Vec<f32> {
        let mut masked = vec![f32::NEG_INFINITY; logits.len()];
        let mut allow = |id: u32| {
            if let (Some(to), Some(from)) = (masked.get_mut(id as usize), logits.get(id as usize)) {
                *to = *from;
            }
        };
        match &self.place {
            Place::Before { blank } => {
                for (text, at) in self.starts() {
                    let rest = self.rest(text, at);
                    tokenizer.prefixes(rest, &mut allow);
                    if !blank {
                        let rest = rest.get(..TOKEN_BYTES_MAX).unwrap_or(rest);
                        tokenizer.prefixes(&[b" ", rest].concat(), &mut allow);
                    }
                }
            }
            Place::After(ends) => {
                for &(text, at) in ends {
                    tokenizer.prefixes(self.rest(text, at), &mut allow);
                    if self.may_end(text, at) {
                        allow(END_OF_TEXT);
                    }
                }
            }
        }
        if masked.iter().all(|logit| *logit == f32::NEG_INFINITY)
            && let (Some(to), Some(from)) =
                (masked.get_mut(END_OF_TEXT as usize), logits.get(END_OF_TEXT as usize))
        {
            *to = *from;
        }
        masked
    }

    /// Notes a written token.
    pub(crate) fn accept(&mut self, token: &[u8]) {
        let ends = match &self.place {
            Place::Before { blank: false } if token == b" " => {
                self.place = Place::Before { blank: true };
                return;
            }
            Place::Before { blank } => {
                let bare = token.strip_prefix(b" ").filter(|_| !blank).unwrap_or(token);
                self.follow(self.starts(), bare)
            }
            Place::After(ends) => self.follow(ends.iter().copied(), token),
        };
        self.place = Place::After(ends);
    }

    fn follow(&self, from: impl Iterator<Item = (usize, usize)>, token: &[u8]) -> Vec<(usize, usize)> {
        let fits = |&(text, at): &(usize, usize)| self.rest(text, at).starts_with(token);
        from.filter(fits).map(|(text, at)| (text, at + token.len())).collect()
    }

    /// Where an answer may begin: at a word's first letter, not inside a character.
    fn starts(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.texts.iter().enumerate().flat_map(|(index, text)| {
            let last = if text.whole { 1 } else { text.bytes.len() };
            let begins = move |at: &usize| {
                text.bytes.get(*at).is_some_and(|byte| !byte.is_ascii_whitespace() && !is_inner(*byte))
                    && !joins_word(&text.bytes, *at)
            };
            (0..last).filter(begins).map(move |at| (index, at))
        })
    }

    fn rest(&self, text: usize, at: usize) -> &[u8] {
        self.texts.get(text).and_then(|text| text.bytes.get(at..)).unwrap_or_default()
    }

    fn may_end(&self, text: usize, at: usize) -> bool {
        let Some(text) = self.texts.get(text) else { return false };
        let cut = text.bytes.get(at).is_some_and(|byte| is_inner(*byte)) || joins_word(&text.bytes, at);
        if text.whole { at == text.bytes.len() } else { !cut && !after_article(&text.bytes, at) }
    }
}

/// A byte inside a character of UTF-8.
fn is_inner(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

/// Whether a word of ASCII letters and digits goes on across `at`.
fn joins_word(bytes: &[u8], at: usize) -> bool {
    let letter = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_alphanumeric);
    letter(at.checked_sub(1)) && letter(Some(at))
}

/// Whether the word before `at` is an English article, with which no answer ends (`A` may: "vitamin A").
fn after_article(bytes: &[u8], at: usize) -> bool {
    let before = bytes.get(..at).unwrap_or_default().trim_ascii_end();
    let word = before.rsplit(|byte| !byte.is_ascii_alphanumeric()).next().unwrap_or_default();
    matches!(word, b"the" | b"The" | b"a" | b"an" | b"An")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world;

    /// Every answer that the rules allow, by walking all allowed tokens; at most `limit`.
    fn answers(parts: &[&str], whole: &[&str], limit: usize) -> Vec<String> {
        let tokenizer = world();
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let mut found = Vec::new();
        let mut open = vec![Vec::<u32>::new()];
        while let Some(ids) = open.pop() {
            let mut within = Within::new(Bounds { parts_of: owned(parts), or_whole: owned(whole) });
            ids.iter().for_each(|&id| within.accept(tokenizer.token(id)));
            let masked = within.mask(&vec![0.0; tokenizer.len()], tokenizer);
            for (id, _) in (0..).zip(&masked).filter(|(_, logit)| **logit == 0.0) {
                if id == END_OF_TEXT {
                    found.push(String::from_utf8(tokenizer.decode(&ids)).unwrap().trim().to_owned());
                } else {
                    open.push([ids.as_slice(), &[id]].concat());
                }
            }
            assert!(found.len() < limit, "too many answers");
        }
        found.sort();
        found.dedup();
        found
    }

    #[test]
    fn answers_are_whole_words_of_the_texts() {
        assert_eq!(answers(&["red car"], &[], 1_000), ["car", "red", "red car"]);
        assert_eq!(answers(&["红车"], &[], 1_000), ["红", "红车", "车"]);
        assert_eq!(answers(&[], &["No answer."], 1_000), ["No answer."]);
        assert_eq!(answers(&["用 apt"], &["不知道"], 1_000), ["apt", "不知道", "用", "用 apt"]);
    }

    #[test]
    fn no_answer_ends_with_an_article() {
        assert_eq!(answers(&["The mast"], &[], 1_000), ["The mast", "mast"]);
        assert_eq!(answers(&["vitamin A"], &[], 1_000), ["A", "vitamin", "vitamin A"]);
        assert_eq!(answers(&["beta"], &[], 1_000), ["beta"]);
    }

    #[test]
    fn an_answer_ends_where_the_text_does() {
        let tokenizer = world();
        let mut within = Within::new(Bounds { parts_of: vec!["end".into()], or_whole: vec![] });
        within.accept(b" end");
        let masked = within.mask(&vec![1.0; tokenizer.len()], tokenizer);
        let allowed: Vec<_> = (0..masked.len()).filter(|&id| masked[id] > 0.0).collect();
        assert_eq!(allowed, [END_OF_TEXT as usize]);
    }
}
