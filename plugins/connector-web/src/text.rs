//! Small texts: as part of an address, and without markup.

/// Percent-encoded, as a part of a path or a query takes it.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte))
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Without tags, its entities as the characters that they stand for, white space as one space, at most `chars` long.
pub fn plain(html: &str, chars: usize) -> String {
    let mut text = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&']) {
        text.push_str(&rest[..at]);
        let tail = &rest[at..];
        let (kept, after) = match tail.as_bytes().first() {
            Some(b'<') => match tail.find('>') {
                Some(end) => (None, &tail[end + 1..]),
                None => (Some('<'), &tail[1..]),
            },
            _ => entity(tail),
        };
        text.extend(kept);
        rest = after;
    }
    text.push_str(rest);
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().filter(|c| !c.is_control()).take(chars).collect()
}

/// The character of an entity at the start of `text`, and what comes after it.
fn entity(text: &str) -> (Option<char>, &str) {
    let Some(end) = text.find(';').filter(|end| *end <= 10) else { return (Some('&'), &text[1..]) };
    let name = &text[1..end];
    let found = match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some(' '),
        _ => number(name).and_then(char::from_u32),
    };
    match found {
        Some(c) => (Some(c), &text[end + 1..]),
        None => (Some('&'), &text[1..]),
    }
}

fn number(name: &str) -> Option<u32> {
    let digits = name.strip_prefix('#')?;
    match digits.strip_prefix(['x', 'X']) {
        Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16).ok(),
        None => digits.parse().ok(),
    }
}

/// A link as an address, seen from a page of `base`; what is neither stays as it is.
pub fn join(base: &str, link: &str) -> String {
    let link = link.trim();
    let scheme_end = base.find("://").map_or(0, |at| at + 3);
    let origin_end = base[scheme_end..].find(['/', '?']).map_or(base.len(), |at| scheme_end + at);
    match link {
        link if link.starts_with("//") => format!("{}{link}", &base[..scheme_end.saturating_sub(2)]),
        link if link.starts_with('/') => format!("{}{link}", &base[..origin_end]),
        link => link.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_lose_markup_and_keep_their_words() {
        for (html, expected) in [
            ("<b>中</b>文 &amp; <i>a</i>\n b", "中文 & a b"),
            ("1 < 2 & 3 &bogus; &#20013;&#x6587; &#xFFFFFFFF; &", "1 < 2 & 3 &bogus; 中文 &#xFFFFFFFF; &"),
            ("a\u{0}b", "ab"),
            ("", ""),
        ] {
            assert_eq!(plain(html, 100), expected, "{html:?}");
        }
        assert_eq!(plain("一二三", 2), "一二");
    }

    #[test]
    fn links_become_addresses() {
        for (base, link, expected) in [
            ("https://a.b/c?d", "/x", "https://a.b/x"),
            ("https://a.b", "//e.f/x", "https://e.f/x"),
            ("https://a.b", "https://g/h", "https://g/h"),
            ("http://a:1?q={x}", "/y", "http://a:1/y"),
        ] {
            assert_eq!(join(base, link), expected);
        }
        assert_eq!(encode("a b/中"), "a%20b%2F%E4%B8%AD");
    }
}
