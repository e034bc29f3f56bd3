//! What do the bytes of RTF say? Groups, control words with their numbers, and bytes of text.

/// One sign of RTF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token<'b> {
    Open,
    Close,
    /// `\par`, `\u12345`: a name and perhaps a number.
    Word(&'b str, Option<i32>),
    /// `\'b0`, or a byte as it stands.
    Byte(u8),
    /// `\*`: the group may be skipped by who does not know it.
    Optional,
}

/// Reads signs from first to last.
#[derive(Debug)]
pub(crate) struct Tokens<B> {
    bytes: B,
    at: usize,
}

impl<B: AsRef<[u8]>> Tokens<B> {
    pub(crate) fn new(bytes: B) -> Self {
        Tokens { bytes, at: 0 }
    }

    /// The next sign; none at the end.
    pub(crate) fn next(&mut self) -> Option<Token<'_>> {
        let bytes = self.bytes.as_ref();
        let rest = loop {
            let rest = bytes.get(self.at..)?;
            // Line ends of the file are none of the text.
            match rest {
                [b'\r' | b'\n' | 0, ..] => self.at += 1,
                [] => return None,
                rest => break rest,
            }
        };
        let (token, length) = match rest {
            [b'{', ..] => (Token::Open, 1),
            [b'}', ..] => (Token::Close, 1),
            [b'\\', tail @ ..] => {
                let (token, length) = control(tail);
                (token, length + 1)
            }
            [byte, ..] => (Token::Byte(*byte), 1),
            [] => return None,
        };
        self.at += length;
        // `\bin` is followed by so many bytes that mean nothing.
        if let Token::Word("bin", Some(count)) = token {
            self.at = self.at.saturating_add(usize::try_from(count).unwrap_or(0));
        }
        Some(token)
    }
}

/// What stands behind a backslash, and its length.
fn control(tail: &[u8]) -> (Token<'_>, usize) {
    let letters = tail.iter().take(32).take_while(|byte| byte.is_ascii_alphabetic()).count();
    if letters == 0 {
        return match tail {
            [b'\'', high, low, ..] => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap_or(0) as u8;
                (Token::Byte(digit(high) << 4 | digit(low)), 3)
            }
            [b'*', ..] => (Token::Optional, 1),
            [b'~', ..] => (Token::Byte(b' '), 1),
            [b'_', ..] => (Token::Byte(b'-'), 1),
            [b'\r' | b'\n', ..] => (Token::Word("par", None), 1),
            [byte @ (b'\\' | b'{' | b'}'), ..] => (Token::Byte(*byte), 1),
            // Optional hyphens and what indexes are made of.
            [_, ..] => (Token::Word("", None), 1),
            [] => (Token::Word("", None), 0),
        };
    }
    let name = tail.get(..letters).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default();
    let rest = tail.get(letters..).unwrap_or_default();
    let sign = usize::from(rest.first() == Some(&b'-'));
    let digits = rest.iter().skip(sign).take(10).take_while(|byte| byte.is_ascii_digit()).count();
    let number = rest.get(..sign + digits).filter(|_| digits > 0);
    let number = number.and_then(|number| std::str::from_utf8(number).ok()?.parse::<i32>().ok());
    let mut length = letters + if digits > 0 { sign + digits } else { 0 };
    length += usize::from(tail.get(length) == Some(&b' '));
    (Token::Word(name, number), length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_are_told_apart() {
        let mut tokens = Tokens::new(&b"{\\rtf1\\u-4 ?\\'d6 a\r\nb\\bin3 {}{\\*\\x}\\~\\\\"[..]);
        let mut found = Vec::new();
        while let Some(token) = tokens.next() {
            found.push(format!("{token:?}"));
        }
        let expected = [
            "Open",
            "Word(\"rtf\", Some(1))",
            "Word(\"u\", Some(-4))",
            "Byte(63)",
            "Byte(214)",
            "Byte(32)",
            "Byte(97)",
            "Byte(98)",
            "Word(\"bin\", Some(3))",
            "Optional",
            "Word(\"x\", None)",
            "Close",
            "Byte(32)",
            "Byte(92)",
        ];
        assert_eq!(found, expected);
    }
}
