//! Is there front matter (`---` or `+++` on the first line), and what does it say?

use guest_text::{Line, Lines, Source, TextError};

/// Lines that front matter may have.
const LINES_MAX: usize = 200;
/// Pairs kept, and bytes of a key and of a value.
const PAIRS_MAX: usize = 48;
const KEY_BYTES_MAX: usize = 128;
const VALUE_CHARS_MAX: usize = 1_000;

/// What the front matter says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Front {
    pub(crate) title: Option<String>,
    pub(crate) language: Option<String>,
    /// Every pair of the top level, lists joined by commas.
    pub(crate) attributes: Vec<(String, String)>,
}

/// Reads the front matter, and hands back the lines that turned out not to be part of it.
pub(crate) fn read<S: Source>(lines: &mut Lines<S>) -> Result<(Front, Vec<Line>), TextError<S::Error>> {
    let mut taken: Vec<Line> = Vec::new();
    let mut fence: Option<&str> = None;
    while let Some(line) = lines.next()? {
        let text = line.text.trim_end().to_owned();
        taken.push(line);
        match fence {
            None => match text.as_str() {
                "---" => fence = Some(":"),
                "+++" => fence = Some("="),
                _ => break,
            },
            Some(sign) => {
                let closes = if sign == ":" { text == "---" || text == "..." } else { text == "+++" };
                if closes {
                    let inner: Vec<&str> = taken
                        .get(1..taken.len() - 1)
                        .unwrap_or_default()
                        .iter()
                        .map(|l| l.text.as_str())
                        .collect();
                    return Ok(match parse(&inner, sign) {
                        Some(front) => (front, Vec::new()),
                        None => (Front::default(), taken),
                    });
                }
                if taken.len() > LINES_MAX {
                    break;
                }
            }
        }
    }
    Ok((Front::default(), taken))
}

/// None when the lines are not pairs: then `---` was a rule.
fn parse(lines: &[&str], sign: &str) -> Option<Front> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for line in lines {
        let body = line.trim();
        if body.is_empty() || body.starts_with('#') || body.starts_with('[') && sign == "=" {
            continue;
        }
        let nested = line.starts_with([' ', '\t']) || body.starts_with("- ") || body == "-";
        if nested {
            let (_, value) = pairs.last_mut()?;
            if let Some(item) = body.strip_prefix("- ").filter(|_| value.len() < VALUE_CHARS_MAX) {
                let comma = if value.is_empty() { "" } else { ", " };
                value.push_str(comma);
                value.push_str(unquoted(item));
            }
            continue;
        }
        let (key, value) = body.split_once(sign)?;
        let key = key.trim();
        let is_key = !key.is_empty() && key.len() <= KEY_BYTES_MAX && !key.contains(char::is_whitespace);
        if !is_key {
            return None;
        }
        let value = unquoted(value.trim().trim_start_matches('[').trim_end_matches(']'));
        pairs.push((
            key.to_owned(),
            if matches!(value, ">" | "|" | ">-" | "|-") { "" } else { value }.to_owned(),
        ));
    }
    let find = |names: &[&str]| {
        let pair = pairs.iter().find(|(key, value)| names.contains(&key.as_str()) && !value.is_empty());
        pair.map(|(_, value)| value.clone())
    };
    let title = find(&["title", "Title"]);
    let language = find(&["lang", "language"]).filter(|lang| lang.len() <= 16);
    let kept = pairs.iter().filter(|(_, value)| !value.is_empty()).take(PAIRS_MAX);
    let attributes =
        kept.map(|(key, value)| (key.clone(), value.chars().take(VALUE_CHARS_MAX).collect())).collect();
    let clean = |text: String| text.chars().filter(|c| !c.is_control()).take(VALUE_CHARS_MAX).collect();
    Some(Front { title: title.map(clean), language: language.map(clean), attributes })
}

fn unquoted(text: &str) -> &str {
    let text = text.trim();
    ['"', '\''].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_lists_and_quotes_are_read() {
        let lines = [
            "title: \"手册：第一版\"",
            "lang: zh",
            "# note",
            "tags:",
            "  - a",
            "  - 'b'",
            "draft: false",
            "",
        ];
        let front = parse(&lines, ":").unwrap();
        assert_eq!(front.title.as_deref(), Some("手册：第一版"));
        assert_eq!(front.language.as_deref(), Some("zh"));
        let pairs: Vec<(&str, &str)> =
            front.attributes.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("title", "手册：第一版"), ("lang", "zh"), ("tags", "a, b"), ("draft", "false")]);
        let toml = parse(&["title = 'T'", "[extra]", "x = [1, 2]"], "=").unwrap();
        assert_eq!((toml.title.as_deref(), toml.attributes.len()), (Some("T"), 2));
    }

    #[test]
    fn what_is_not_pairs_is_no_front_matter() {
        assert_eq!(parse(&["Just a sentence."], ":"), None);
        assert_eq!(parse(&["A sentence: with a colon"], ":"), None);
        assert_eq!(parse(&["- list"], ":"), None);
        assert_eq!(parse(&[], ":"), Some(Front::default()));
    }
}
