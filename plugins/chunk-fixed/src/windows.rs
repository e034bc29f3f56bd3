//! Which windows of `size` characters, each sharing `overlap` with the one before, does a text have?

use guest_chunk::chars::after;
use guest_settings::Settings;

/// How long windows are and how much they share, in characters (Unicode scalar values).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// At least 1.
    pub size: usize,
    /// Less than `size`.
    pub overlap: usize,
}

impl Options {
    /// Reads the settings; the error names the key and the allowed range.
    pub fn parse(json: &str) -> Result<Self, String> {
        let settings = Settings::parse(json, &["size", "overlap"])?;
        let size = settings.integer("size", 1..=100_000, 512)?;
        let overlap = settings.integer("overlap", 0..=99_999, 0)?;
        if overlap >= size {
            return Err(format!(
                "setting 'overlap' is {overlap}; it must be from 0 to {}, less than 'size', which is {size}",
                size - 1
            ));
        }
        Ok(Options { size: size as usize, overlap: overlap as usize })
    }
}

/// Byte ranges of the windows, in order. Windows of white space alone are left out, and so is a last window that
/// would only repeat the end of the one before (RWKV-RAG keeps both; neither can answer a question).
pub fn windows(text: &str, options: Options) -> Vec<(usize, usize)> {
    let step = options.size - options.overlap;
    let mut windows = Vec::new();
    let mut start = 0;
    while start < text.len() {
        let end = after(text, start, options.size);
        if text.get(start..end).is_some_and(|window| !window.trim().is_empty()) {
            windows.push((start, end));
        }
        if end == text.len() {
            break;
        }
        start = if step == options.size { end } else { after(text, start, step) };
    }
    windows
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(text: &str, size: usize, overlap: usize) -> Vec<&str> {
        windows(text, Options { size, overlap }).into_iter().map(|(start, end)| &text[start..end]).collect()
    }

    #[test]
    fn windows_are_those_of_rwkv_rag() {
        assert_eq!(cut("abcdefgh", 3, 0), ["abc", "def", "gh"]);
        assert_eq!(cut("abcdefgh", 3, 1), ["abc", "cde", "efg", "gh"]);
        assert_eq!(cut("知识库问答系统", 4, 1), ["知识库问", "问答系统"]);
        assert_eq!(cut("知识🐧库", 3, 0), ["知识🐧", "库"]);
        assert_eq!(cut("ab", 5, 2), ["ab"]);
    }

    #[test]
    fn nothing_blank_and_no_mere_repeat() {
        assert_eq!(cut("", 3, 0), [""; 0]);
        assert_eq!(cut(" \n\t ", 3, 0), [""; 0]);
        assert_eq!(cut("ab      cd", 2, 0), ["ab", "cd"]);
        assert_eq!(cut("abcdef", 3, 1), ["abc", "cde", "ef"]);
        assert_eq!(cut("abcde", 3, 1), ["abc", "cde"]);
    }

    #[test]
    fn settings_have_the_defaults_of_rwkv_rag_and_limits() {
        assert_eq!(Options::parse("{}"), Ok(Options { size: 512, overlap: 0 }));
        assert_eq!(Options::parse(r#"{"size": 10, "overlap": 9}"#), Ok(Options { size: 10, overlap: 9 }));
        for (json, words) in [
            (r#"{"size": 10, "overlap": 10}"#, "from 0 to 9"),
            (r#"{"overlap": 512}"#, "from 0 to 511"),
            (r#"{"size": 0}"#, "from 1 to 100000"),
            (r#"{"unit": "tokens"}"#, "'unit'"),
        ] {
            let error = Options::parse(json).unwrap_err();
            assert!(error.contains(words), "{json}: {error}");
        }
    }

    proptest! {
        #[test]
        fn windows_cover_and_never_exceed(
            text in "[a-z知识，。🐧é \r\n]{0,200}", size in 1usize..40, share in 0usize..40,
        ) {
            let overlap = share % size;
            let found = windows(&text, Options { size, overlap });
            prop_assert!(found.is_sorted());
            let mut covered = vec![false; text.len()];
            for &(start, end) in &found {
                let window = text.get(start..end).expect("character boundaries");
                prop_assert!(window.chars().count() <= size && !window.trim().is_empty());
                covered[start..end].fill(true);
            }
            for (at, c) in text.char_indices() {
                prop_assert!(covered[at] || c.is_whitespace(), "byte {at} of {text:?}");
            }
        }
    }
}
