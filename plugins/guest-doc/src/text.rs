//! Characters: which ones the host takes, which are wide, how lines are joined.

use std::borrow::Cow;

/// `text` without control characters other than tab and newline, its line ends unified.
pub fn clean(text: &str) -> Cow<'_, str> {
    // Bytes first: other controls begin with 0xc2, and the mark of byte order with 0xef.
    let may_be =
        |byte: u8| byte < b' ' && byte != b'\n' && byte != b'\t' || matches!(byte, 0x7f | 0xc2 | 0xef);
    let is_dirty = |c: char| c.is_control() && c != '\n' && c != '\t' || c == '\u{feff}';
    if !text.bytes().any(may_be) || !text.contains(is_dirty) {
        return Cow::Borrowed(text);
    }
    let mut cleaned = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' if chars.peek() == Some(&'\n') => {}
            '\r' | '\u{b}' | '\u{c}' | '\u{85}' => cleaned.push('\n'),
            c if is_dirty(c) => {}
            c => cleaned.push(c),
        }
    }
    Cow::Owned(cleaned)
}

/// White space runs as one space each, none at the ends.
pub fn collapse(text: &str) -> String {
    let mut collapsed = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !collapsed.is_empty() {
            collapsed.push(' ');
        }
        collapsed.push_str(word);
    }
    collapsed
}

/// Written without spaces between: Han, kana, and their punctuation and full-width forms.
pub fn is_wide(c: char) -> bool {
    matches!(u32::from(c),
        0x2e80..=0x312f | 0x3190..=0x9fff | 0xf900..=0xfaff | 0xfe30..=0xfe4f | 0xff00..=0xffef | 0x20000..=0x3ffff)
}

/// Appends a line to a paragraph: nothing between wide characters, a hyphen at a line's end taken out before a
/// lower-case letter, else a space.
pub fn join_line(paragraph: &mut String, line: &str) {
    let line = line.trim();
    let (Some(last), Some(first)) = (paragraph.chars().next_back(), line.chars().next()) else {
        paragraph.push_str(line);
        return;
    };
    let before = paragraph.chars().rev().nth(1);
    if last == '\u{ad}' || (last == '-' && first.is_lowercase() && before.is_some_and(char::is_lowercase)) {
        paragraph.pop();
    } else if !(is_wide(last) && is_wide(first)) {
        paragraph.push(' ');
    }
    paragraph.push_str(line);
}

/// Cuts `text` into pieces of at most `bytes_max` bytes, at line ends where there are any, else at characters.
pub fn pieces(text: &str, bytes_max: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while rest.len() > bytes_max.max(4) {
        let mut end = bytes_max.max(4);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let head = rest.get(..end).unwrap_or(rest);
        let cut = head.rfind('\n').filter(|at| *at > end / 2).map_or(end, |at| at + 1);
        let (piece, tail) = rest.split_at(cut);
        pieces.push(piece);
        rest = tail;
    }
    if !rest.is_empty() {
        pieces.push(rest);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_go_and_line_ends_are_one() {
        assert_eq!(clean("a\r\nb\rc\u{0}\u{1b}d\te\u{feff}"), "a\nb\ncd\te");
        assert_eq!(clean("干净"), "干净");
    }

    #[test]
    fn lines_join_as_people_write() {
        let mut text = "知识".to_owned();
        join_line(&mut text, "库。");
        join_line(&mut text, "An exam-");
        join_line(&mut text, "ple of UTF-");
        join_line(&mut text, "8");
        assert_eq!(text, "知识库。 An example of UTF- 8");
    }

    #[test]
    fn pieces_cover_the_text() {
        let text = "一二三\n四五六\n".repeat(50);
        let cut = pieces(&text, 64);
        assert_eq!(cut.concat(), text);
        assert!(cut.iter().all(|piece| piece.len() <= 64 && piece.ends_with('\n')));
        assert_eq!(pieces("", 10), Vec::<&str>::new());
        assert_eq!(pieces("字字字", 4).concat(), "字字字");
    }
}
