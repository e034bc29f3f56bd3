//! A chunker: one chunk a paragraph. Change `paragraphs` and its test; the rest is what every chunker needs.

/// Byte ranges of what stands between blank lines: in order, none blank, together all of the text that is not blank.
pub fn paragraphs(text: &str) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    let (mut start, mut open) = (0, false);
    for line in text.split_inclusive('\n') {
        let blank = line.trim().is_empty();
        let end = start + line.trim_end().len();
        match found.last_mut() {
            Some(last) if open && !blank => last.1 = end,
            _ if !blank => found.push((start, end)),
            _ => {}
        }
        open = !blank;
        start += line.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_divide() {
        let text = "第一段\n还是第一段\n\n \nSecond.\r\n";
        let found: Vec<&str> = paragraphs(text).into_iter().map(|(start, end)| &text[start..end]).collect();
        assert_eq!(found, ["第一段\n还是第一段", "Second."]);
        assert!(paragraphs(" \n\n").is_empty());
    }
}

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.
    wit_bindgen::generate!({ path: "wit", world: "chunker-plugin", generate_all });

    use exports::ragkit::plugin::{chunker, info};
    use ragkit::host::config;
    use ragkit::types::types::{Error, ErrorCode, Span};

    struct Plugin;
    export!(Plugin);

    impl info::Guest for Plugin {
        fn describe() -> info::Info {
            info::Info {
                id: env!("CARGO_PKG_NAME").to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                description: env!("CARGO_PKG_DESCRIPTION").to_owned(),
            }
        }
    }

    impl chunker::Guest for Plugin {
        fn split(document: chunker::Document) -> Result<Vec<chunker::Chunk>, Error> {
            let settings = config::settings();
            if settings.trim() != "{}" {
                let message = format!("this chunker has no settings; it was given {settings}");
                return Err(Error { code: ErrorCode::InvalidInput, message, retryable: false });
            }
            let chunk = |(start, end)| chunker::Chunk {
                span: Span { start: start as u32, end: end as u32 },
                parent: None,
                context: None,
            };
            Ok(super::paragraphs(&document.text).into_iter().map(chunk).collect())
        }
    }
}
