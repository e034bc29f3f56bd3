//! Cuts text into the pieces of XLM-RoBERTa's unigram vocabulary: the most probable sequence, found by Viterbi.
//!
//! As SentencePiece does it: each character is mapped (width, compatibility forms, controls), spaces collapse, every
//! word begins with U+2581, and a run of unknown characters is one unknown piece. No piece crosses a word's start,
//! so words are cut one by one.

use std::collections::HashMap;

use super::trie::Trie;

/// Row of `<s>`, which begins every sequence.
pub(crate) const BEGIN: u32 = 0;
/// Row of `</s>`, which ends every sequence.
pub(crate) const END: u32 = 2;
/// Row of `<unk>`.
pub(crate) const UNKNOWN: u32 = 3;
/// Rows before the first ordinary piece.
pub(crate) const SPECIALS: usize = 4;

/// Marks the start of a word.
const WORD_START: char = '\u{2581}';
/// An unknown character costs this much more than the least probable piece (SentencePiece's `kUnkPenalty`).
const UNKNOWN_PENALTY: f32 = 10.0;

/// A vocabulary ready for use. Ids are rows of the (pruned) word table.
#[derive(Debug)]
pub(crate) struct Unigram {
    trie: Trie,
    scores: Vec<f32>,
    unknown_score: f32,
    normalise: Mapping,
}

/// What stands for a character, by pages of 256: every character of every text is looked up.
#[derive(Debug)]
struct Mapping {
    /// Where a page begins in `entries`; page 0 of it maps nothing.
    pages: Vec<u32>,
    /// One more than the place in `mapped`; 0 where a character stands for itself.
    entries: Vec<u32>,
    mapped: Vec<Box<[char]>>,
}

/// Characters of a page, and pages of all of Unicode.
const PAGE: usize = 256;
const PAGES: usize = (char::MAX as usize + 1) / PAGE;

impl Mapping {
    fn new(pairs: HashMap<char, Box<[char]>>) -> Self {
        let mut mapping = Mapping { pages: vec![0; PAGES], entries: vec![0; PAGE], mapped: Vec::new() };
        for (from, to) in pairs {
            let page = &mut mapping.pages[from as usize / PAGE];
            if *page == 0 {
                *page = mapping.entries.len() as u32;
                mapping.entries.resize(mapping.entries.len() + PAGE, 0);
            }
            mapping.mapped.push(to);
            mapping.entries[*page as usize + from as usize % PAGE] = mapping.mapped.len() as u32;
        }
        mapping
    }

    #[inline]
    fn get(&self, char: char) -> Option<&[char]> {
        let page = self.pages[char as usize / PAGE] as usize;
        let entry = self.entries[page + char as usize % PAGE] as usize;
        entry.checked_sub(1).map(|at| &*self.mapped[at])
    }
}

impl Unigram {
    /// `pieces` in row order, specials first; `normalise` maps a character to what stands for it.
    ///
    /// # Errors
    /// What is wrong with the vocabulary, in words.
    pub(crate) fn new(
        pieces: &[&str],
        scores: Vec<f32>,
        normalise: HashMap<char, Box<[char]>>,
    ) -> Result<Self, String> {
        if pieces.len() <= SPECIALS || pieces.len() != scores.len() {
            return Err(format!(
                "{} pieces and {} scores do not make a vocabulary",
                pieces.len(),
                scores.len()
            ));
        }
        let mut sorted: Vec<(&[u8], u32)> =
            pieces.iter().zip(0..).skip(SPECIALS).map(|(piece, row)| (piece.as_bytes(), row)).collect();
        sorted.sort_unstable();
        if scores.iter().any(|score| !score.is_finite()) {
            return Err("a piece's score is not a number".to_owned());
        }
        let lowest = scores[SPECIALS..].iter().copied().fold(f32::INFINITY, f32::min);
        let (trie, normalise) = (Trie::new(&sorted)?, Mapping::new(normalise));
        Ok(Unigram { trie, scores, unknown_score: lowest - UNKNOWN_PENALTY, normalise })
    }

    /// Pieces, specials included.
    pub(crate) fn rows(&self) -> usize {
        self.scores.len()
    }

    /// Ids of a text's pieces, without special tokens. Spaces around the text do not matter.
    pub(crate) fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 4);
        let mut lattice = Lattice::default();
        let mut word = String::new();
        let mut push = |char: char| {
            if char != ' ' {
                if word.is_empty() {
                    word.push(WORD_START);
                }
                word.push(char);
            } else if !word.is_empty() {
                self.cut(&word, &mut lattice, &mut ids);
                word.clear();
            }
        };
        for char in text.chars() {
            match self.normalise.get(char) {
                Some(mapped) => mapped.iter().copied().for_each(&mut push),
                None => push(char),
            }
        }
        push(' ');
        ids
    }

    /// Appends the pieces of one word.
    fn cut(&self, word: &str, lattice: &mut Lattice, ids: &mut Vec<u32>) {
        lattice.reset(word.len());
        for (start, char) in word.char_indices() {
            let score = lattice.best[start].score;
            let step = |score: f32, row: u32| Step { score, start: start as u32, row };
            self.trie.prefixes(&word.as_bytes()[start..], |bytes, row| {
                lattice.offer(start + bytes, step(score + self.scores[row as usize], row));
            });
            lattice.offer(start + char.len_utf8(), step(score + self.unknown_score, UNKNOWN));
        }
        let first = ids.len();
        let mut end = word.len();
        while end > 0 {
            let step = lattice.best[end];
            if step.row != UNKNOWN || ids.len() == first || ids.last() != Some(&UNKNOWN) {
                ids.push(step.row);
            }
            end = step.start as usize;
        }
        ids[first..].reverse();
    }
}

/// The best way to reach each byte of a word.
#[derive(Debug, Default)]
struct Lattice {
    best: Vec<Step>,
}

/// The last piece of a way.
#[derive(Debug, Clone, Copy)]
struct Step {
    score: f32,
    start: u32,
    row: u32,
}

impl Lattice {
    fn reset(&mut self, bytes: usize) {
        self.best.clear();
        self.best.resize(bytes + 1, Step { score: f32::NEG_INFINITY, start: 0, row: UNKNOWN });
        self.best[0].score = 0.0;
    }

    /// Of equal ways the first offered stays, the one with the longer last piece.
    fn offer(&mut self, end: usize, step: Step) {
        if step.score > self.best[end].score {
            self.best[end] = step;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer() -> Unigram {
        let pieces =
            ["<s>", "<pad>", "</s>", "<unk>", "▁", "a", "b", "ab", "▁知", "知识", "识", "▁ab", "。", "c"];
        let scores = vec![0., 0., 0., 0., -3., -4., -4., -5., -6., -5., -6., -4.5, -3., -9.];
        let normalise = HashMap::from([
            ('Ａ', Box::from(['a'])),
            ('\u{3000}', Box::from([' '])),
            ('\n', Box::from([' '])),
            ('\u{1}', Box::from([])),
            ('㏂', Box::from(['a', '.', 'b'])),
        ]);
        Unigram::new(&pieces, scores, normalise).unwrap()
    }

    fn check(text: &str, expected: &[u32]) {
        assert_eq!(tokenizer().encode(text), expected, "{text:?}");
    }

    #[test]
    fn takes_the_most_probable_cut() {
        check("ab", &[11]);
        check("知识。", &[4, 9, 12]);
        check("知", &[8]);
        check("aab", &[4, 5, 7]);
    }

    #[test]
    fn maps_characters_and_collapses_spaces() {
        check("  ab \n\u{3000} ab\u{1}  ", &[11, 11]);
        check("Ａb", &[11]);
        check("", &[]);
        check(" \n", &[]);
    }

    #[test]
    fn a_run_of_unknown_characters_is_one_unknown_piece() {
        check("한국a어", &[4, UNKNOWN, 5, UNKNOWN]);
        check("한 국", &[4, UNKNOWN, 4, UNKNOWN]);
        check("㏂", &[4, 5, UNKNOWN, 6]);
    }

    #[test]
    fn refuses_a_vocabulary_that_is_none() {
        let of =
            |pieces: &[&str], scores: Vec<f32>| Unigram::new(pieces, scores, HashMap::new()).unwrap_err();
        assert!(of(&["<s>", "<pad>", "</s>", "<unk>"], vec![0.; 4]).contains("vocabulary"));
        assert!(of(&["<s>", "<pad>", "</s>", "<unk>", "a"], vec![0.; 4]).contains("vocabulary"));
        assert!(
            of(&["<s>", "<pad>", "</s>", "<unk>", "a"], vec![0., 0., 0., 0., f32::NAN]).contains("number")
        );
        assert!(of(&["<s>", "<pad>", "</s>", "<unk>", "a", "a"], vec![0.; 6]).contains("twice"));
    }
}
