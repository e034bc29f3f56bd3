//! What of a language model's words may be searched for?

/// Least characters, letters and digits alone, of a text worth searching for.
const LETTERS_MIN: usize = 2;

/// The text on one line without marks of lists and quotes around it; none when it says nothing, is longer than
/// `chars_max`, or repeats one character.
pub fn usable(text: &str, chars_max: usize) -> Option<String> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = text.trim_start_matches(|c: char| c.is_ascii_digit() || "-*•.)、：:) ".contains(c));
    let text = text.trim_matches(|c: char| "\"'“”‘’「」`* ".contains(c));
    let letters = || text.chars().filter(|c| c.is_alphanumeric());
    let varied = letters().next().is_some_and(|first| letters().any(|c| c != first));
    (varied && letters().count() >= LETTERS_MIN && text.chars().count() <= chars_max).then(|| text.to_owned())
}

/// The usable lines of an answer, no line twice and none that repeats `question`, at most `lines_max`.
pub fn lines(answer: &str, question: &str, lines_max: usize, chars_max: usize) -> Vec<String> {
    let plain = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_lowercase();
    let mut seen = std::collections::BTreeSet::from([plain(question)]);
    let lines = answer.lines().filter_map(|line| usable(line, chars_max));
    lines.filter(|line| seen.insert(plain(line))).take(lines_max).collect()
}

/// Whether a text has Chinese characters in it: then the model is spoken to in Chinese.
pub fn is_chinese(text: &str) -> bool {
    text.chars().any(|c| matches!(c, '\u{3400}'..='\u{9fff}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_nonsense_is_not() {
        let answer = "1. 如何安装软件包？\n- \"install a package\"\n\n  \n3) 怎样安装？\n!!!\naaaaaa\n如何安装软件包\n怎样安装";
        assert_eq!(lines(answer, "怎样安装？", 5, 40), ["如何安装软件包？", "install a package"]);
        assert_eq!(lines(answer, "x", 1, 40), ["如何安装软件包？"]);
        assert_eq!(lines("", "x", 5, 40), [""; 0]);
        assert_eq!(lines(&"长文".repeat(50), "x", 5, 40), [""; 0]);
        assert_eq!(usable(" \u{fffd}\u{fffd}?? ", 40), None);
        assert_eq!(usable("a\nb", 40).as_deref(), Some("a b"));
    }
}
