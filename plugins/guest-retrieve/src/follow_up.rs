//! Does a question lean on an earlier one, and what is searched for then?

/// Rounds looked back for a question that stands alone.
const ROUNDS_MAX: usize = 3;
/// Characters of an earlier question that are searched for.
const EARLIER_CHARS_MAX: usize = 200;
/// Questions longer than this stand alone, whatever words they use.
const LEANING_CHARS_MAX: usize = 60;
const LEANING_WORDS_MAX: usize = 14;

/// Chinese words that point back.
const POINTERS_ZH: &[&str] = &[
    "它",
    "他",
    "她",
    "这个",
    "这些",
    "这种",
    "这样",
    "这里",
    "这是",
    "这座",
    "这本",
    "这位",
    "这家",
    "那个",
    "那些",
    "那种",
    "那里",
    "那么",
    "那是",
    "那位",
    "那家",
    "该",
    "此人",
    "其中",
    "其他",
    "前者",
    "后者",
    "上述",
    "上面",
    "刚才",
    "还有呢",
    "另外",
];
/// English words that point back wherever they stand.
const POINTERS_EN: &[&str] = &[
    "it", "its", "he", "him", "his", "she", "her", "hers", "they", "them", "their", "theirs", "these",
    "those", "former", "latter", "previous", "above",
];
/// What "this", "that" and "one" point back after, or when they end the question.
const BEFORE_POINTER: &[&str] = &[
    "about", "of", "for", "in", "on", "with", "from", "to", "is", "was", "does", "did", "do", "like", "than",
    "why", "how", "after", "before", "by",
];
/// Beginnings of a question that goes on with an earlier one.
const OPENINGS_ZH: &[&str] =
    &["那", "还有", "然后", "为什么呢", "比如", "怎么样", "多久", "多少钱", "什么时候呢", "为啥"];
const OPENINGS_EN: &[&str] =
    &["and ", "but ", "or ", "so ", "what about", "how about", "what else", "why not", "then "];

/// The question to search for, when it is not the one asked: the last question of `earlier` (oldest first) that stands
/// alone, those after it, and this one.
pub fn rewrite(question: &str, earlier: &[&str]) -> Option<String> {
    if earlier.is_empty() || !leans(question) {
        return None;
    }
    let mut parts = vec![question.trim().to_owned()];
    for round in earlier.iter().rev().filter(|round| !round.trim().is_empty()).take(ROUNDS_MAX) {
        parts.push(round.trim().chars().take(EARLIER_CHARS_MAX).collect());
        if !leans(round) {
            break;
        }
    }
    if parts.len() == 1 {
        return None;
    }
    parts.reverse();
    Some(parts.join(" "))
}

/// Whether a question is understood only after another: it points back, or is too short to stand alone.
fn leans(question: &str) -> bool {
    let question = question.trim();
    let lower = question.to_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_alphanumeric() && c != '\'').filter(|w| !w.is_empty()).collect();
    let han = question.chars().filter(|c| matches!(c, '\u{3400}'..='\u{9fff}')).count();
    if question.chars().count() > LEANING_CHARS_MAX || words.len() > LEANING_WORDS_MAX {
        return false;
    }
    if han > 0 {
        let ascii = question.chars().filter(char::is_ascii_alphanumeric).count();
        return (han <= 4 && ascii == 0)
            || lower.trim_end_matches(['?', '？', '。', '!', '！', ' ']).ends_with('呢')
            || OPENINGS_ZH.iter().any(|opening| lower.starts_with(opening))
            || POINTERS_ZH.iter().any(|pointer| points(&lower, pointer));
    }
    let demonstrative = |(at, word): (usize, &&str)| {
        matches!(*word, "this" | "that" | "one" | "there" | "so")
            && (at + 1 == words.len()
                || (*word != "one" && *word != "there" && at == 0)
                || (at > 0
                    && matches!(*word, "this" | "that")
                    && words.get(at - 1).is_some_and(|before| BEFORE_POINTER.contains(before))))
    };
    words.len() <= 2
        || OPENINGS_EN.iter().any(|opening| lower.starts_with(opening))
        || words.iter().any(|word| POINTERS_EN.contains(&word.trim_end_matches("'s")))
        || words.iter().enumerate().any(demonstrative)
}

/// Whether `pointer` occurs outside the words that merely contain it, such as 其他 in 其他人 or 该 in 应该.
fn points(question: &str, pointer: &str) -> bool {
    question.match_indices(pointer).any(|(at, _)| {
        let before = question.get(..at).and_then(|text| text.chars().next_back());
        let after = question.get(at + pointer.len()..).and_then(|text| text.chars().next());
        !matches!(
            (pointer, before, after),
            ("他", Some('其' | '吉' | '排' | '维'), _)
                | ("该", Some('应' | '活'), _)
                | ("他", _, Some('乡' | '国'))
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaning_question_is_searched_for_with_the_one_before() {
        let before = ["Debian 稳定版是什么时候发布的？"];
        for question in [
            "它有多大？",
            "谁维护它？",
            "为什么？",
            "那测试版呢？",
            "该版本支持多久？",
            "这个怎么安装？",
            "还有呢？",
        ] {
            assert_eq!(rewrite(question, &before), Some(format!("{} {question}", before[0])), "{question}");
        }
        let before = ["Who wrote the Debian reference?"];
        for question in [
            "When was it written?",
            "Where does he live?",
            "Why?",
            "What about the stable release?",
            "How big is that?",
            "And in Chinese?",
            "Tell me more about this",
            "Which is the latter?",
            "What did they change?",
        ] {
            assert_eq!(rewrite(question, &before), Some(format!("{} {question}", before[0])), "{question}");
        }
    }

    #[test]
    fn a_question_that_stands_alone_is_left_alone() {
        for question in [
            "怎样在 Debian 中安装软件包？",
            "红楼梦的作者是谁？",
            "应该如何备份系统的数据？",
            "Which command installs a package that depends on another?",
            "How do I set up two network cards on Debian?",
            "谁发明了电话，并在哪一年获得了专利？",
        ] {
            assert_eq!(rewrite(question, &["前一个问题是什么意思呢，请解释一下？"]), None, "{question}");
        }
        assert_eq!(rewrite("它有多大？", &[]), None);
        assert_eq!(rewrite("它有多大？", &["  "]), None);
    }

    #[test]
    fn a_chain_of_leaning_questions_reaches_back_to_one_that_stands_alone() {
        let earlier =
            ["Who maintains the Linux kernel?", "What is the size of the Eiffel tower?", "Who built it?"];
        assert_eq!(
            rewrite("And when?", &earlier).as_deref(),
            Some("What is the size of the Eiffel tower? Who built it? And when?")
        );
        let endless = ["Why?", "How?", "And it?", "Who?", "When?"];
        assert_eq!(rewrite("Where?", &endless).as_deref(), Some("And it? Who? When? Where?"));
    }

    #[test]
    fn a_long_earlier_question_is_cut() {
        let long = "长".repeat(5_000);
        let rewritten = rewrite("为什么？", &[&long]).unwrap();
        assert_eq!(rewritten.chars().count(), EARLIER_CHARS_MAX + 1 + 4);
    }
}
