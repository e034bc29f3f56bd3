//! Reads the Python `str` and `bytes` literals of a vocabulary file.

/// The bytes that a literal stands for: UTF-8 of a `str`, the bytes themselves of a `bytes`.
pub(super) fn parse(literal: &str) -> Result<Vec<u8>, String> {
    let (is_bytes, quoted) = match literal.strip_prefix('b') {
        Some(rest) => (true, rest),
        None => (false, literal),
    };
    let inner = ['\'', '"']
        .into_iter()
        .find_map(|quote| quoted.strip_prefix(quote)?.strip_suffix(quote))
        .ok_or_else(|| format!("{literal} is not a quoted literal"))?;

    let mut out = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            push_char(&mut out, c);
            continue;
        }
        let escape = chars.next().ok_or("a backslash ends the literal")?;
        match escape {
            'n' => out.push(b'\n'),
            't' => out.push(b'\t'),
            'r' => out.push(b'\r'),
            '\\' | '\'' | '"' => push_char(&mut out, escape),
            'x' => {
                let code = hex(&mut chars, 2)?;
                // In a `bytes` literal \xHH is a byte, in a `str` literal a code point.
                if is_bytes { out.push(code as u8) } else { push_code(&mut out, code)? }
            }
            'u' if !is_bytes => push_code(&mut out, hex(&mut chars, 4)?)?,
            'U' if !is_bytes => push_code(&mut out, hex(&mut chars, 8)?)?,
            other => return Err(format!("unknown escape \\{other}")),
        }
    }
    Ok(out)
}

fn push_char(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn push_code(out: &mut Vec<u8>, code: u32) -> Result<(), String> {
    push_char(out, char::from_u32(code).ok_or_else(|| format!("{code:#x} is not a character"))?);
    Ok(())
}

fn hex(chars: &mut std::str::Chars<'_>, digits: usize) -> Result<u32, String> {
    (0..digits).try_fold(0, |code, _| {
        let digit = chars.next().and_then(|c| c.to_digit(16)).ok_or("too few hexadecimal digits")?;
        Ok(code << 4 | digit)
    })
}
