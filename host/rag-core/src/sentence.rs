//! Where sentences end in Chinese and English text; used to cut quotes and passages where a reader would.

use std::ops::Range;

/// Characters of a line that may be a heading.
const HEADING_CHARS_MAX: usize = 60;

/// Byte ranges of the sentences of `text`, in order, without surrounding blanks. A blank line ends a sentence, so that
/// none crosses a block, and so does a line that begins an item, a row or a heading; other line breaks only wrap it.
pub fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|&(_, next)| next);
        if (c == '\n' && begins_anew(&text[at + 1..])) || ends_sentence(&text[start..at], c, next) {
            let mut end = at + c.len_utf8();
            while let Some(&(at, c)) = chars.peek().filter(|(_, c)| is_closing(*c) || is_end(*c)) {
                end = at + c.len_utf8();
                chars.next();
            }
            push_trimmed(text, start..end, &mut found);
            start = end;
        }
    }
    push_trimmed(text, start..text.len(), &mut found);
    found
}

/// The longest beginning of `text` that ends with a sentence and has at most `bytes_max` bytes; whole characters
/// when the first sentence alone is longer.
pub fn truncate(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let fitting =
        sentences(text).into_iter().map(|range| range.end).take_while(|&end| end <= bytes_max).last();
    let mut end = fitting.unwrap_or(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Whether the line at the start of `rest` is blank or begins something of its own.
fn begins_anew(rest: &str) -> bool {
    let line = rest.split('\n').next().unwrap_or_default().trim_start();
    let numbered = line.split_once(['.', ')', '、']).is_some_and(|(number, _)| {
        (1..=3).contains(&number.len()) && number.chars().all(|c| c.is_ascii_digit())
    });
    line.is_empty() || numbered || line.starts_with(['-', '*', '+', '#', '|', '>', '`', '•', '·'])
}

fn is_end(c: char) -> bool {
    matches!(c, '。' | '！' | '？' | '；' | '…' | '.' | '!' | '?')
}

/// Whether a block looks like a heading: one short line that ends no sentence, tells no value and is no item, row or
/// code.
pub(crate) fn is_heading(block: &str) -> bool {
    let block = block.trim();
    let plain = block.chars().next().is_some_and(|first| first.is_alphanumeric() || first == '#');
    let value = block.contains(|c: char| c.is_numeric() || matches!(c, ':' | '：' | '\n'));
    plain && !value && !is_whole(block) && block.chars().count() <= HEADING_CHARS_MAX
}

/// Whether it states something: headings, rows of tables and many items of lists do not end as sentences do, and a
/// question asks.
pub(crate) fn is_whole(sentence: &str) -> bool {
    let states = |c: char| is_end(c) && !matches!(c, '?' | '？');
    sentence.trim_end_matches(is_closing).ends_with(states) && !sentence.starts_with(['#', '|'])
}

fn is_closing(c: char) -> bool {
    matches!(c, '”' | '’' | '」' | '』' | '）' | '】' | '》' | '"' | '\'' | ')' | ']')
}

/// A full stop ends a sentence only before a blank, and not after an initial or a common abbreviation.
fn ends_sentence(before: &str, c: char, next: Option<char>) -> bool {
    if !is_end(c) {
        return false;
    }
    if !matches!(c, '.' | '!' | '?') {
        return true;
    }
    let breaks = next.is_none_or(|n| n.is_whitespace() || is_closing(n) || !n.is_ascii());
    let word = before.rsplit(|w: char| w.is_whitespace()).next().unwrap_or_default();
    let abbreviation = c == '.'
        && (matches!(
            word.to_ascii_lowercase().as_str(),
            "e.g" | "i.e" | "etc" | "mr" | "mrs" | "dr" | "vs" | "fig" | "no"
        ) || (word.len() == 1 && word.chars().all(|w| w.is_ascii_uppercase())));
    // The number of a list's item, not a sentence.
    let number = c == '.' && before.trim().chars().all(|b| b.is_ascii_digit());
    breaks && !abbreviation && !number
}

fn push_trimmed(text: &str, range: Range<usize>, found: &mut Vec<Range<usize>>) {
    let raw = &text[range.clone()];
    let lead = raw.len() - raw.trim_start().len();
    let trimmed = raw.trim();
    if !trimmed.is_empty() {
        found.push(range.start + lead..range.start + lead + trimmed.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_end_where_a_reader_would_end_them() {
        let check = |text: &str, want: &[&str]| {
            let got: Vec<&str> = sentences(text).into_iter().map(|range| &text[range]).collect();
            assert_eq!(got, want, "{text}");
        };
        check("今天天气很好。我们去公园散步！好吗？", &["今天天气很好。", "我们去公园散步！", "好吗？"]);
        check("他说：“走吧。”然后就走了。", &["他说：“走吧。”", "然后就走了。"]);
        check(
            "Version 1.2 is out. See e.g. the docs! Ok",
            &["Version 1.2 is out.", "See e.g. the docs!", "Ok"],
        );
        check("a line\nand its rest. Next", &["a line\nand its rest.", "Next"]);
        check("one block\n\nanother", &["one block", "another"]);
        check("items:\n- first\n- second\n1. third", &["items:", "- first", "- second", "1. third"]);
        check("用APT安装.然后重启", &["用APT安装.", "然后重启"]);
        check("  \n ", &[]);
    }

    #[test]
    fn headings_are_short_lines_that_tell_nothing() {
        for heading in ["用户与权限", "# Anchoring", "How it works", "Who wrote it?"] {
            assert!(is_heading(heading), "{heading}");
        }
        for other in [
            "它由志愿者维护。",
            "- item",
            "| a | b |",
            "`code`",
            "电话：12345",
            "Port 8780",
            "two\nlines",
            "",
        ] {
            assert!(!is_heading(other), "{other}");
        }
    }

    #[test]
    fn truncation_keeps_whole_sentences_or_characters() {
        assert_eq!(truncate("第一句。第二句。", 13), "第一句。");
        assert_eq!(truncate("没有句号的长文本", 7), "没有");
        assert_eq!(truncate("short", 10), "short");
    }
}
