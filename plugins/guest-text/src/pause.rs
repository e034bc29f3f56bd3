//! Where would a reader pause? Used to cut a line that is too long for one piece.

/// A byte offset in the second half of `text` (its end when there is no better place): after a sentence, else after a
/// comma, else after a space.
pub(crate) fn pause(text: &str) -> usize {
    let mut best = (0, text.len());
    let mut last = None;
    // Whether the characters before are a Chinese sentence end and what closes after it.
    let mut ended = false;
    for (at, c) in text.char_indices() {
        let before = last.replace(c);
        ended = matches!(before, Some('。' | '！' | '？' | '；' | '…'))
            || (ended && before.is_some_and(is_closing));
        let rank = match before {
            _ if ended && !is_closing(c) => 3,
            Some('.' | '!' | '?') if c.is_whitespace() => 3,
            Some('，' | '、' | '：') => 2,
            Some(',' | ';' | ':') if c.is_whitespace() => 2,
            Some(before) if before.is_whitespace() => 1,
            _ => 0,
        };
        if rank > 0 && rank >= best.0 && at > text.len() / 2 {
            best = (rank, at);
        }
    }
    best.1
}

fn is_closing(c: char) -> bool {
    matches!(c, '”' | '’' | '」' | '』' | '）' | '】' | '》' | '。' | '！' | '？' | '…')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, head: &str) {
        assert_eq!(&text[..pause(text)], head);
    }

    #[test]
    fn sentences_before_commas_before_spaces() {
        check("一二三四五。六七，八九", "一二三四五。");
        check("他说：“好的。”然后走了", "他说：“好的。”");
        check("one two, three. four five, six", "one two, three. four five,");
        check("a long sentence here. and more, x", "a long sentence here.");
        check("一二三四五六，七八", "一二三四五六，");
        check("abcdef ghi jkl", "abcdef ghi ");
        check("abcdefghijkl", "abcdefghijkl");
        check("", "");
    }
}
