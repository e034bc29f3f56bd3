//! Where is a piece that is longer than a chunk cut? At lines, else commas, else spaces, else characters.

use std::ops::Range;

/// Halves `range` until every piece `fits`, which is asked about many pieces at once. Pieces are in order, not blank,
/// without white space at either end.
pub fn cut<E>(
    text: &str,
    range: Range<usize>,
    mut fits: impl FnMut(&[Range<usize>]) -> Result<Vec<bool>, E>,
) -> Result<Vec<Range<usize>>, E> {
    let mut done = Vec::new();
    let mut open = vec![range];
    while !open.is_empty() {
        let halves: Vec<Range<usize>> = open.iter().flat_map(|range| halve(text, range)).collect();
        let fitting = fits(&halves)?;
        open.clear();
        for (half, fits) in halves.into_iter().zip(fitting) {
            if fits || !has_choice(text, &half) {
                done.push(half);
            } else {
                open.push(half);
            }
        }
    }
    done.sort_by_key(|range| range.start);
    Ok(done)
}

/// Two parts of about equal length (one when the other is blank), cut at the best place near the middle.
fn halve(text: &str, range: &Range<usize>) -> Vec<Range<usize>> {
    let length = range.len();
    let middle = range.start + length / 2;
    let near = range.start + length / 4..=range.end - length / 4;
    let mut best: Option<(u8, usize, usize)> = None;
    for place in places(text, range) {
        let rank = if near.contains(&place.at) { place.rank } else { 0 };
        let distance = place.at.abs_diff(middle);
        if best.is_none_or(|(top, far, _)| rank > top || (rank == top && distance < far)) {
            best = Some((rank, distance, place.at));
        }
    }
    let Some((_, _, at)) = best else { return vec![range.clone()] };
    [range.start..at, at..range.end].into_iter().filter_map(|half| trimmed(text, half)).collect()
}

struct Place {
    at: usize,
    /// 4 after a line, 3 after a comma, 2 after a space, 1 between characters.
    rank: u8,
}

/// Places strictly inside `range` where it may be cut.
fn places(text: &str, range: &Range<usize>) -> impl Iterator<Item = Place> {
    let start = range.start;
    let body = text.get(range.clone()).unwrap_or_default();
    let mut last: Option<char> = None;
    body.char_indices().filter_map(move |(at, c)| {
        let before = last.replace(c)?;
        if joins(before, c) {
            return None;
        }
        let rank = match before {
            '\n' => 4,
            '，' | '、' | '；' | '：' | '。' | '．' | '！' | '？' | '|' => 3,
            ',' | ';' | ':' if c.is_whitespace() => 3,
            _ if before.is_whitespace() => 2,
            _ => 1,
        };
        Some(Place { at: start + at, rank })
    })
}

/// Whether the two characters are seen as one: marks on a letter, joined emoji, a line break in two bytes.
fn joins(before: char, c: char) -> bool {
    matches!(c,
        '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{fe20}'..='\u{fe2f}' | '\u{1f3fb}'..='\u{1f3ff}' | '\u{e0100}'..='\u{e01ef}'
        | '\u{200d}')
        || before == '\u{200d}'
        || (before == '\r' && c == '\n')
}

fn has_choice(text: &str, range: &Range<usize>) -> bool {
    places(text, range).next().is_some()
}

/// Without white space at either end; none when nothing is left.
pub fn trimmed(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let raw = text.get(range.clone())?;
    let body = raw.trim_start();
    let start = range.end - body.len();
    let body = body.trim_end();
    (!body.is_empty()).then_some(start..start + body.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, chars_max: usize, expected: &[&str]) {
        let fits = |ranges: &[Range<usize>]| -> Result<Vec<bool>, ()> {
            Ok(ranges.iter().map(|range| text[range.clone()].chars().count() <= chars_max).collect())
        };
        let pieces = cut(text, 0..text.len(), fits).unwrap();
        let found: Vec<&str> = pieces.into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn cuts_fall_where_a_reader_would_pause() {
        check("一二三四，五六七八", 6, &["一二三四，", "五六七八"]);
        check("one two three four", 10, &["one two", "three four"]);
        check("line one\nline two", 12, &["line one", "line two"]);
        check("abcdefgh", 4, &["abcd", "efgh"]);
        check("e\u{301}e\u{301}", 2, &["e\u{301}", "e\u{301}"]);
        check("👩\u{200d}👩\u{200d}👧", 2, &["👩\u{200d}👩\u{200d}👧"]);
    }

    #[test]
    fn blanks_between_pieces_are_dropped() {
        check(&format!("ab{}cd", " ".repeat(40)), 4, &["ab", "cd"]);
    }
}
