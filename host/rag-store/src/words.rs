//! How text becomes searchable words: lower-case words, and for Han and kana every character and every pair.
//!
//! Dictionary-free, so that nothing is missed: a search for 检索 finds every text that holds these two characters in
//! a row. Traditional and Simplified characters are the same word, as are full-width and half-width ones.

pub(crate) mod search;
#[cfg(test)]
mod search_tests;
pub(crate) mod table;

use std::collections::HashMap;
use std::sync::LazyLock;

/// Characters of a word; what follows belongs to no word. Bounds what a hostile text can put into the index.
const WORD_CHARS_MAX: usize = 64;

/// Raise when `for_index` would give other words for some text: the full-text tables are then filled anew.
pub(crate) const SEGMENTATION: &str = "1";

/// The words of a text to index, separated by spaces. Only letters and digits come out.
pub(crate) fn for_index(text: &str) -> String {
    let mut words = String::with_capacity(text.len() * 2);
    let mut push = |word: &[char]| {
        if !words.is_empty() {
            words.push(' ');
        }
        words.extend(word);
    };
    runs(text, |run| match run {
        Run::Word(word) => push(word),
        Run::Han(run) => {
            for at in 0..run.len() {
                push(&run[at..=at]);
                if let Some(pair) = run.get(at..at + 2) {
                    push(pair);
                }
            }
        }
    });
    words
}

/// The words to search for, each once, in the order of their first appearance: of a Han run its pairs, of a single
/// Han character itself.
pub(crate) fn for_query(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut push = |word: &[char]| {
        let word: String = word.iter().collect();
        if !words.contains(&word) {
            words.push(word);
        }
    };
    runs(text, |run| match run {
        Run::Word(word) => push(word),
        Run::Han([single]) => push(&[*single]),
        Run::Han(run) => run.windows(2).for_each(&mut push),
    });
    words
}

enum Run<'a> {
    Word(&'a [char]),
    Han(&'a [char]),
}

/// Cuts a text into runs of one kind, folded.
fn runs(text: &str, mut found: impl FnMut(Run<'_>)) {
    let mut run: Vec<char> = Vec::new();
    let mut run_is_han = false;
    let mut end = |run: &mut Vec<char>, is_han: bool| {
        if !run.is_empty() {
            found(if is_han { Run::Han(run) } else { Run::Word(&run[..run.len().min(WORD_CHARS_MAX)]) });
            run.clear();
        }
    };
    for original in text.chars() {
        for char in fold(original) {
            if is_accent(char) {
                continue;
            }
            if !char.is_alphanumeric() {
                end(&mut run, run_is_han);
                continue;
            }
            let is_han = is_unspaced(char);
            if is_han != run_is_han {
                end(&mut run, run_is_han);
                run_is_han = is_han;
            }
            run.push(char);
        }
    }
    end(&mut run, run_is_han);
}

/// Scripts written without spaces between words: Han and kana.
fn is_unspaced(char: char) -> bool {
    matches!(char,
        '\u{3005}'..='\u{3007}' | '\u{3040}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}'
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}')
}

/// Accents that stand as characters of their own; those that are part of a letter go in the full-text table.
fn is_accent(char: char) -> bool {
    matches!(char, '\u{300}'..='\u{36f}')
}

/// Half-width, lower-case, Simplified.
fn fold(char: char) -> impl Iterator<Item = char> {
    let narrow = match char {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(char as u32 - 0xfee0).unwrap_or(char),
        _ => char,
    };
    SIMPLIFIED.get(&narrow).copied().unwrap_or(narrow).to_lowercase()
}

/// See the head of the file for its source.
static SIMPLIFIED: LazyLock<HashMap<char, char>> = LazyLock::new(|| {
    let lines = include_str!("words/han_fold.txt").lines().filter(|line| !line.starts_with('#'));
    let mut pairs = HashMap::new();
    for line in lines {
        let mut chars = line.chars();
        while let (Some(traditional), Some(simplified)) = (chars.next(), chars.next()) {
            pairs.insert(traditional, simplified);
        }
    }
    pairs
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_words() {
        let check = |text: &str, words: &str| assert_eq!(for_index(text), words, "{text}");
        check("Hello, World! v2", "hello world v2");
        check("检索", "检 检索 索");
        check("用RWKV-6检索", "用 rwkv 6 检 检索 索");
        check("ＡＢＣ１２３", "abc123");
        check("資料庫", "资 资料 料 料库 库");
        check("İstanbul ΑΘΗΝΑ re\u{301}sume\u{301}", "istanbul αθηνα resume");
        check("カタカナ", "カ カタ タ タカ カ カナ ナ");
        check("한국어 검색", "한국어 검색");
        check("\0\u{feff} \"'*^():-", "");
        check("", "");
        assert_eq!(for_index(&"a".repeat(100)), "a".repeat(64));
    }

    #[test]
    fn questions_become_each_word_once() {
        let check = |text: &str, words: &[&str]| assert_eq!(for_query(text), words, "{text}");
        check("检索增强检索", &["检索", "索增", "增强", "强检"]);
        check("法", &["法"]);
        check("法 and 律, And", &["法", "and", "律"]);
        check("資料", &["资料"]);
        check("？！", &[]);
    }

    #[test]
    fn folding_twice_changes_nothing_and_reaches_common_characters() {
        assert!(SIMPLIFIED.len() > 2_500, "{}", SIMPLIFIED.len());
        assert!(SIMPLIFIED.values().all(|simplified| !SIMPLIFIED.contains_key(simplified)));
        for (traditional, simplified) in "漢汉語语學学國国後后髮发發发體体檢检資资庫库裏里裡里著着"
            .chars()
            .zip("汉汉语语学学国国后后发发发发体体检检资资库库里里里里着着".chars())
        {
            assert_eq!(fold(traditional).collect::<String>(), simplified.to_string(), "{traditional}");
        }
    }
}
