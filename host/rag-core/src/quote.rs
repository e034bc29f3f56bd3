//! Which words of a passage a citation shows: the sentence that speaks most to the question, verbatim.

use std::collections::HashSet;

use crate::document::{ChunkId, DocumentId, Span};
use crate::recall::Recalled;
use crate::sentence::{self, sentences};

/// Bytes of a quote at most; a longer sentence is cut at a character.
const QUOTE_BYTES_MAX: usize = 480;

/// How much of a heading's score its first sentence has.
const FROM_ABOVE: f32 = 1.5;

/// Where an answer comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Citation {
    pub document: DocumentId,
    pub document_name: String,
    pub chunk: ChunkId,
    pub heading: Option<String>,
    pub page: Option<u32>,
    /// Where `quote` stands in the document's text.
    pub span: Span,
    /// Verbatim from the document's text; within one block.
    pub quote: String,
    pub score: f32,
    /// The whole passage, for those who want to read on.
    pub passage: String,
}

/// Cites a passage for a question. With the finished answer at hand the quote is the sentence that holds it, if one
/// does.
pub fn cite(question: &str, answer: Option<&str>, recalled: &Recalled) -> Citation {
    let passage = &recalled.passage;
    let text = passage.text.as_str();
    let asked = terms(question);
    let said = answer.map(normalised).filter(|answer| !answer.is_empty());
    // What stands right under a heading or a question speaks to its words too.
    let mut above = 0.0;
    let best = sentences(text)
        .into_iter()
        .map(|range| {
            let sentence = &text[range.clone()];
            // A sentence that holds the answer beats any that only shares words with the question.
            let holds = said.as_ref().is_some_and(|answer| normalised(sentence).contains(answer));
            let mut spoken = shared(sentence, &asked);
            if sentence::is_whole(sentence) {
                spoken += FROM_ABOVE * std::mem::take(&mut above);
            } else {
                above = spoken;
            }
            (f32::from(holds) * 100.0 + spoken, range)
        })
        // The first of equals: `max_by` would take the last.
        .reduce(|best, next| if next.0 > best.0 { next } else { best });
    let range = best.map(|(_, range)| range).unwrap_or(0..text.len());
    let quote = cut(&text[range.clone()]);
    let start = passage.span.start + range.start as u64;
    Citation {
        document: passage.document.clone(),
        document_name: passage.document_name.clone(),
        chunk: passage.chunk.clone(),
        heading: passage.heading.clone(),
        page: passage.page,
        span: Span { start, end: start + quote.len() as u64 },
        quote: quote.to_owned(),
        score: recalled.score,
        passage: passage.text.clone(),
    }
}

/// How many words a sentence shares with the question; a long one shares more by chance, and a heading, a question or
/// a table's row often has the very words and says nothing of its own.
fn shared(sentence: &str, asked: &HashSet<String>) -> f32 {
    let found = terms(sentence);
    let shared = found.intersection(asked).count() as f32;
    let weight = if sentence::is_whole(sentence) { 1.0 } else { 0.5 };
    weight * shared / (8.0 + found.len() as f32).sqrt()
}

/// Lower-cased words, and bigrams of Han and kana runs.
fn terms(text: &str) -> HashSet<String> {
    let mut found = HashSet::new();
    let mut word = String::new();
    let mut last_han = None;
    for c in text.chars() {
        let han = !c.is_ascii() && c.is_alphanumeric();
        if let (true, Some(last)) = (han, last_han) {
            found.insert([last, c].iter().collect());
        }
        last_han = han.then_some(c);
        if c.is_ascii_alphanumeric() {
            word.push(c.to_ascii_lowercase());
        } else if !word.is_empty() {
            found.insert(std::mem::take(&mut word));
        }
    }
    if !word.is_empty() {
        found.insert(word);
    }
    found
}

/// Letters and digits only, lower case: how an answer is looked for.
fn normalised(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn cut(sentence: &str) -> &str {
    let mut end = sentence.len().min(QUOTE_BYTES_MAX);
    while !sentence.is_char_boundary(end) {
        end -= 1;
    }
    &sentence[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::Passage;

    fn check(question: &str, answer: Option<&str>, text: &str, want: &str) {
        let passage = Passage {
            chunk: ChunkId("c".into()),
            document: DocumentId("d".into()),
            document_name: "d.md".into(),
            text: text.into(),
            span: Span { start: 100, end: 100 + text.len() as u64 },
            parent: None,
            heading: None,
            page: None,
            source: None,
        };
        let recalled = Recalled { passage, rank: 1, score: 1.0, relevance: None, evidence: vec![] };
        let citation = cite(question, answer, &recalled);
        assert_eq!(citation.quote, want);
        let at = (citation.span.start - 100) as usize..(citation.span.end - 100) as usize;
        assert_eq!(&text[at], want, "the span holds the quote");
    }

    #[test]
    fn the_quote_is_the_sentence_that_speaks_to_the_question() {
        let zh = "Debian 是一个操作系统。它由志愿者维护。安装软件包使用 apt install 命令。";
        check("怎样安装软件包？", None, zh, "安装软件包使用 apt install 命令。");
        check("谁维护 Debian？", Some("志愿者"), zh, "它由志愿者维护。");
        check(
            "How is memory freed?",
            None,
            "Memory is owned.\n\nMemory is freed when\nthe owner drops.",
            "Memory is freed when\nthe owner drops.",
        );
        check("无关", None, "只有一句", "只有一句");
        check(
            "怎样配置静态地址？",
            None,
            "# 配置静态地址\n\n静态地址写在 interfaces 文件里。",
            "静态地址写在 interfaces 文件里。",
        );
        check(
            "How many threads does Rayon use?",
            None,
            "# Rayon FAQ\n\nHow many threads will Rayon spawn?\n\nBy default, one for each CPU. Rayon may spawn more.",
            "By default, one for each CPU.",
        );
        check("Which port?", Some("8780"), "| port | 8780 |\n\nA port is a number.", "| port | 8780 |");
    }
}
