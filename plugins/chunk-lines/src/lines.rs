//! Which lines of a text are not blank, and where do they stand?

/// Byte ranges of the lines that are not blank, without white space at either end.
pub fn lines(text: &str) -> Vec<(usize, usize)> {
    let mut lines = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        // A lone carriage return ends a line too.
        let mut part_start = start;
        for part in line.split_inclusive('\r') {
            let lead = part.len() - part.trim_start().len();
            let body = part.trim();
            if !body.is_empty() {
                lines.push((part_start + lead, part_start + lead + body.len()));
            }
            part_start += part.len();
        }
        start += line.len();
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let found: Vec<&str> = lines(text).into_iter().map(|(start, end)| &text[start..end]).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn one_chunk_a_line() {
        check("第一行\n\nsecond line\r\n  \t\n　第三行　\n", &["第一行", "second line", "第三行"]);
        check("a\rb", &["a", "b"]);
        check("no end", &["no end"]);
        check("", &[]);
        check(" \n\r\n\t", &[]);
    }

    proptest! {
        #[test]
        fn every_byte_that_is_not_blank_is_in_one_line(text in "[a知🐧　 \r\n]{0,100}") {
            let found = lines(&text);
            let mut covered = vec![0u8; text.len()];
            for &(start, end) in &found {
                let line = text.get(start..end).expect("character boundaries");
                prop_assert!(!line.trim().is_empty() && !line.contains(['\r', '\n']));
                covered[start..end].iter_mut().for_each(|times| *times += 1);
            }
            for (at, c) in text.char_indices() {
                prop_assert!(covered[at] == 1 || (covered[at] == 0 && c.is_whitespace()) || c.is_whitespace());
                prop_assert!(covered[at] <= 1);
            }
        }
    }
}
