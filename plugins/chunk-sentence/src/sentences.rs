//! Where do sentences end in Chinese and English prose?

use std::ops::Range;

/// Abbreviations after which a sentence never ends.
const OPEN: &[&str] = &[
    "mr", "mrs", "ms", "dr", "prof", "st", "gen", "col", "sgt", "capt", "lt", "rev", "hon", "messrs", "vs",
    "cf", "al", "fig", "figs", "vol", "pp", "ch", "sec", "eq", "eqs", "approx", "dept", "ref", "refs",
    "resp", "incl", "viz",
];
/// Abbreviations after which one ends only before a capital letter.
const EITHER: &[&str] = &["etc", "inc", "ltd", "co", "corp", "jr", "sr", "est", "ed", "eds", "bros"];

/// Byte ranges of the sentences, in order, without white space at either end. Line breaks do not end a sentence:
/// prose is often wrapped.
pub(crate) fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while let Some(c) = char_at(text, at) {
        let mut after = at + c.len_utf8();
        if is_end(c) {
            let mark = at;
            // A run of marks ("?!", "……") and the brackets that close after it belong to the sentence.
            while let Some(next) = char_at(text, after).filter(|next| is_end(*next) || is_closing(*next)) {
                after += next.len_utf8();
            }
            if ends(text, mark..after, c) {
                push_trimmed(text, start..after, &mut found);
                start = after;
            }
        }
        at = after;
    }
    push_trimmed(text, start..text.len(), &mut found);
    found
}

/// Whether the marks at `run`, beginning with `mark`, end a sentence.
fn ends(text: &str, run: Range<usize>, mark: char) -> bool {
    if matches!(mark, '。' | '！' | '？' | '；' | '｡' | '．') {
        return true;
    }
    let rest = text.get(run.end..).unwrap_or_default();
    let Some(next) = rest.chars().next() else { return true };
    let before = text.get(..run.start).unwrap_or_default();
    let digit_before = before.ends_with(|c: char| c.is_ascii_digit());
    if mark == '…' {
        return !rest.trim_start().starts_with(char::is_lowercase);
    }
    // Inside a number, an address, a file name or a word.
    if !(next.is_whitespace() || is_han(next)) || (is_han(next) && digit_before) {
        return false;
    }
    let Some(word_next) = rest.trim_start().chars().next() else { return true };
    if mark == ';' {
        return true;
    }
    // "Wait... what?" and "approx. five" go on.
    if word_next.is_lowercase() {
        return false;
    }
    mark != '.' || run.len() > 1 || !is_abbreviation(before, word_next)
}

/// Whether the full stop after `before` belongs to an abbreviation, an initial or the number of a list item.
fn is_abbreviation(before: &str, next: char) -> bool {
    let word_start = before
        .rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '.'))
        .map_or(0, |at| at + before.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8));
    let word = before.get(word_start..).unwrap_or_default();
    let lower = word.to_ascii_lowercase();
    let line_start = before.get(..word_start).unwrap_or_default().trim_end_matches([' ', '\t']);
    if !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()) {
        return line_start.is_empty() || line_start.ends_with('\n');
    }
    if word.len() == 1 && word.bytes().all(|b| b.is_ascii_uppercase()) {
        return true;
    }
    let goes_on = !next.is_uppercase();
    OPEN.contains(&lower.as_str())
        || (lower == "no" && next.is_ascii_digit())
        || (lower == "p" && next.is_ascii_digit())
        || matches!(lower.as_str(), "e.g" | "i.e" | "ph.d")
        || (goes_on && (EITHER.contains(&lower.as_str()) || lower.contains('.')))
}

fn char_at(text: &str, at: usize) -> Option<char> {
    text.get(at..)?.chars().next()
}

fn is_end(c: char) -> bool {
    matches!(c, '。' | '！' | '？' | '；' | '｡' | '．' | '…' | '.' | '!' | '?' | ';')
}

fn is_closing(c: char) -> bool {
    matches!(
        c,
        '”' | '’' | '」' | '』' | '）' | '】' | '》' | '〉' | '〕' | '"' | '\'' | ')' | ']' | '}' | '»'
    )
}

/// Han characters and the punctuation of Chinese: what may follow an English mark without a space.
fn is_han(c: char) -> bool {
    matches!(c, '\u{2e80}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{ff00}'..='\u{ffef}' | '\u{20000}'..='\u{3ffff}')
}

fn push_trimmed(text: &str, range: Range<usize>, found: &mut Vec<Range<usize>>) {
    let raw = text.get(range.clone()).unwrap_or_default();
    let body = raw.trim_start();
    let start = range.end - body.len();
    let body = body.trim_end();
    if !body.is_empty() {
        found.push(start..start + body.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let found: Vec<&str> = sentences(text).into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn chinese_marks_end_sentences() {
        check("今天天气很好。我们去公园！好吗？", &["今天天气很好。", "我们去公园！", "好吗？"]);
        check("他说：“走吧。”然后就走了。", &["他说：“走吧。”", "然后就走了。"]);
        check("第一；第二；第三。", &["第一；", "第二；", "第三。"]);
        check("等等……还没完呢？！真的（吗？）。", &["等等……", "还没完呢？！", "真的（吗？）。"]);
        check("没有句号的一行", &["没有句号的一行"]);
        check("圆周率是3.14左右。版本 2.0.1 发布了。", &["圆周率是3.14左右。", "版本 2.0.1 发布了。"]);
        check("使用apt.然后重启", &["使用apt.", "然后重启"]);
        check("1.介绍 2.安装", &["1.介绍 2.安装"]);
    }

    #[test]
    fn english_marks_end_sentences_before_a_space() {
        check("It works. Does it? Yes! Good; fine.", &["It works.", "Does it?", "Yes!", "Good;", "fine."]);
        check("He said \"go.\" Then he left.", &["He said \"go.\"", "Then he left."]);
        check("Wait... what? Ok... Next one.", &["Wait... what?", "Ok...", "Next one."]);
        check("wrapped\nlines stay together. Next", &["wrapped\nlines stay together.", "Next"]);
        check("", &[]);
        check("  \n ", &[]);
    }

    #[test]
    fn abbreviations_numbers_and_addresses_do_not() {
        check("Dr. Smith met Mr. J. Doe. They spoke.", &["Dr. Smith met Mr. J. Doe.", "They spoke."]);
        check(
            "Use e.g. Debian, i.e. Linux, at 10 a.m. on No. 5 of vol. 2. End.",
            &["Use e.g. Debian, i.e. Linux, at 10 a.m. on No. 5 of vol. 2.", "End."],
        );
        check(
            "Apples, pears, etc. are fruit. Nuts etc. They keep.",
            &["Apples, pears, etc. are fruit.", "Nuts etc.", "They keep."],
        );
        check(
            "See https://example.org/a.b?c=d.e for v1.2.3 of file.txt. Done.",
            &["See https://example.org/a.b?c=d.e for v1.2.3 of file.txt.", "Done."],
        );
        check("It costs 3.50 now. I said no. Then 4.", &["It costs 3.50 now.", "I said no.", "Then 4."]);
        check("1. Install it. Then run.\n2. Stop.", &["1. Install it.", "Then run.", "2. Stop."]);
    }
}
