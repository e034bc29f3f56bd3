//! Cuts text into the pieces of XLM-RoBERTa's unigram vocabulary: the most probable sequence, found by Viterbi.
//!
//! As SentencePiece does it: each character is mapped (width, compatibility forms, controls), spaces collapse, every
//! word begins with U+2581, and a run of unknown characters is one unknown piece. No piece crosses a word's start,
//! so words are cut one by one.

use std::collections::HashMap;

use super::trie::{Class, Piece, Trie};

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
    rows: usize,
    unknown_score: f32,
    numbers: Numbers,
    word_start: Class,
}

/// Characters as numbers, by pages of 256: every character of every text is looked up. What stands for a character by
/// the vocabulary's mapping is looked up with it.
#[derive(Debug)]
struct Numbers {
    /// Where a page begins in `entries`; page 0 there knows nothing.
    pages: Vec<u32>,
    /// A number, or `MAPPED` and the place in `mapped`.
    entries: Vec<u32>,
    mapped: Vec<Box<[Class]>>,
}

/// Characters of a page, and pages of all of Unicode.
const PAGE: usize = 256;
const PAGES: usize = (char::MAX as usize + 1) / PAGE;
/// The number of a space; no piece holds one.
const SPACE: Class = MAPPED - 1;
/// Set in the entry of a character that others stand for.
const MAPPED: u32 = 1 << 31;

impl Numbers {
    /// Numbers from 1 for the characters of `pieces`.
    fn new(pieces: &[&str]) -> Self {
        let mut numbers = Numbers { pages: vec![0; PAGES], entries: vec![0; PAGE], mapped: Vec::new() };
        *numbers.entry(' ') = SPACE;
        let mut next = 1;
        for char in pieces.iter().flat_map(|piece| piece.chars()) {
            let entry = numbers.entry(char);
            if *entry == 0 {
                *entry = next;
                next += 1;
            }
        }
        numbers
    }

    /// From now on the characters of `normalise` stand for others.
    fn map(&mut self, normalise: HashMap<char, Box<[char]>>) {
        let spelled = normalise
            .into_iter()
            .map(|(from, to)| (from, to.iter().map(|char| self.get(*char)).collect()))
            .collect::<Vec<(char, Box<[Class]>)>>();
        for (from, to) in spelled {
            *self.entry(from) = MAPPED | self.mapped.len() as u32;
            self.mapped.push(to);
        }
    }

    fn entry(&mut self, char: char) -> &mut u32 {
        let page = &mut self.pages[char as usize / PAGE];
        if *page == 0 {
            *page = self.entries.len() as u32;
            self.entries.resize(self.entries.len() + PAGE, 0);
        }
        &mut self.entries[*page as usize + char as usize % PAGE]
    }

    #[inline]
    fn get(&self, char: char) -> u32 {
        let page = self.pages[char as usize / PAGE] as usize;
        self.entries[page + char as usize % PAGE]
    }
}

impl Unigram {
    /// `pieces` in row order, specials first; `normalise` maps a character to what stands for it.
    ///
    /// # Errors
    /// What is wrong with the vocabulary, in words.
    pub(crate) fn new(
        pieces: &[&str],
        scores: &[f32],
        normalise: HashMap<char, Box<[char]>>,
    ) -> Result<Self, String> {
        if pieces.len() <= SPECIALS || pieces.len() != scores.len() {
            return Err(format!(
                "{} pieces and {} scores do not make a vocabulary",
                pieces.len(),
                scores.len()
            ));
        }
        if scores.iter().any(|score| !score.is_finite()) {
            return Err("a piece's score is not a number".to_owned());
        }
        let lowest = scores[SPECIALS..].iter().copied().fold(f32::INFINITY, f32::min);
        let mut numbers = Numbers::new(&pieces[SPECIALS..]);
        let spelled: Vec<(Vec<Class>, Piece)> = (0..)
            .zip(pieces.iter().zip(scores))
            .skip(SPECIALS)
            .map(|(row, (piece, &score))| {
                (piece.chars().map(|char| numbers.get(char)).collect(), Piece { row, score })
            })
            .collect();
        let largest = spelled.iter().flat_map(|(spelling, _)| spelling).copied().max().unwrap_or_default();
        if largest == SPACE {
            return Err("a piece holds a space".to_owned());
        }
        let word_start = numbers.get(WORD_START);
        numbers.map(normalise);
        Ok(Unigram {
            trie: Trie::new(largest as usize + 1, &spelled)?,
            rows: scores.len(),
            unknown_score: lowest - UNKNOWN_PENALTY,
            numbers,
            word_start,
        })
    }

    /// Pieces, specials included.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Ids of a text's pieces, without special tokens. Spaces around the text do not matter.
    pub(crate) fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 4);
        let mut lattice = Lattice::default();
        let mut word: Vec<Class> = Vec::new();
        let mut push = |class: Class| {
            if class != SPACE {
                if word.is_empty() {
                    word.push(self.word_start);
                }
                word.push(class);
            } else if !word.is_empty() {
                self.cut(&word, &mut lattice, &mut ids);
                word.clear();
            }
        };
        for char in text.chars() {
            let class = self.numbers.get(char);
            if class < MAPPED {
                push(class);
            } else {
                self.numbers.mapped[(class - MAPPED) as usize].iter().copied().for_each(&mut push);
            }
        }
        push(SPACE);
        ids
    }

    /// Appends the pieces of one word.
    fn cut(&self, word: &[Class], lattice: &mut Lattice, ids: &mut Vec<u32>) {
        lattice.reset(word.len());
        for start in 0..word.len() {
            let score = lattice.best[start].score;
            let step = |score: f32, row: u32| Step { score, start: start as u32, row };
            self.trie.prefixes(&word[start..], |length, piece| {
                lattice.offer(start + length, step(score + piece.score, piece.row));
            });
            lattice.offer(start + 1, step(score + self.unknown_score, UNKNOWN));
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

/// The best way to reach the end of each character of a word.
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
    fn reset(&mut self, chars: usize) {
        self.best.clear();
        self.best.resize(chars + 1, Step { score: f32::NEG_INFINITY, start: 0, row: UNKNOWN });
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
        Unigram::new(&pieces, &scores, normalise).unwrap()
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
        let of = |pieces: &[&str], scores: &[f32]| Unigram::new(pieces, scores, HashMap::new()).unwrap_err();
        assert!(of(&["<s>", "<pad>", "</s>", "<unk>"], &[0.; 4]).contains("vocabulary"));
        assert!(of(&["<s>", "<pad>", "</s>", "<unk>", "a"], &[0.; 4]).contains("vocabulary"));
        assert!(of(&["<s>", "<pad>", "</s>", "<unk>", "a"], &[0., 0., 0., 0., f32::NAN]).contains("number"));
        assert!(of(&["<s>", "<pad>", "</s>", "<unk>", "a", "a"], &[0.; 6]).contains("the same"));
        assert!(of(&["<s>", "<pad>", "</s>", "<unk>", "a b"], &[0.; 5]).contains("space"));
    }
}
