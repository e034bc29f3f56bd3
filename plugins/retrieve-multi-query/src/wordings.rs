//! What does the model make of a question? Other wordings, or one that stands alone after a conversation.

use guest_retrieve::options::Options;
use guest_retrieve::{Generate, Request, Trace, arms, lines, usable};

/// How a question that follows others is made to stand alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum History {
    /// The model rewrites it; by the rules where it writes nothing usable.
    Model,
    /// The earlier question is put before it where it points back.
    Rules,
    Off,
}

/// Tokens of all wordings, and of a rewritten question.
const WORDINGS_TOKENS_MAX: u32 = 192;
const QUESTION_TOKENS_MAX: u32 = 96;
/// Characters of a wording.
const WORDING_CHARS_MAX: usize = 200;
/// Rounds of the conversation shown to the model, and characters of each of their texts.
const ROUNDS_MAX: usize = 3;
const ROUND_CHARS_MAX: usize = 200;

/// The question to search for instead of the one asked, if there is one.
pub(crate) fn standing_alone<H: Generate>(
    host: &H,
    request: &Request,
    history: History,
    options: &Options,
    trace: &mut Trace,
) -> Option<String> {
    if history == History::Off || request.history.is_empty() {
        return None;
    }
    if history == History::Model {
        let prompt = conversation(request);
        let write = || host.generate(&prompt, QUESTION_TOKENS_MAX, &["\n\n"]);
        let told = |text: &String| format!("the model wrote: {text}");
        let text = trace.step("rewrite", write, told).unwrap_or_default();
        let line = text.lines().find_map(|line| usable(line, WORDING_CHARS_MAX));
        if let Some(question) = line {
            return (question != request.question.trim()).then_some(question);
        }
    }
    arms::rewrite(request, options, trace)
}

/// At most `queries` other wordings of the question; none when the model is away or writes nothing usable.
pub(crate) fn wordings<H: Generate>(
    host: &H,
    question: &str,
    queries: usize,
    trace: &mut Trace,
) -> Vec<String> {
    let prompt = prompt(question, queries);
    let write = || {
        let text = host.generate(&prompt, WORDINGS_TOKENS_MAX, &["\n\n"])?;
        Ok(lines(&text, question, queries, WORDING_CHARS_MAX))
    };
    let told = |found: &Vec<String>| match found.as_slice() {
        [] => "the model wrote nothing usable: searched for the question alone".to_owned(),
        found => found.join(" | "),
    };
    trace.step("wordings", write, told).unwrap_or_default()
}

fn is_chinese(text: &str) -> bool {
    text.chars().any(|c| matches!(c, '\u{3400}'..='\u{9fff}'))
}

fn prompt(question: &str, queries: usize) -> String {
    if is_chinese(question) {
        format!(
            "User: 请用{queries}种不同的说法改写下面的问题，每行一种，不要解释。\n问题：{question}\n\nAssistant:"
        )
    } else {
        format!(
            "User: Ask this question in {queries} other ways, one a line, without explanations.\nQuestion: {question}\n\nAssistant:"
        )
    }
}

fn conversation(request: &Request) -> String {
    let chinese = is_chinese(&request.question);
    let short = |text: &str| text.chars().take(ROUND_CHARS_MAX).collect::<String>().replace('\n', " ");
    let (ask, question, answer, last) = if chinese {
        ("请根据对话，把最后一个问题改写成能够独立理解的问题，只写问题。", "问：", "答：", "最后的问题：")
    } else {
        (
            "Rewrite the last question so that it can be understood without the conversation. Write the question only.",
            "Q: ",
            "A: ",
            "Last question: ",
        )
    };
    let first = request.history.len().saturating_sub(ROUNDS_MAX);
    let rounds = request.history.iter().skip(first);
    let rounds: String =
        rounds.map(|(q, a)| format!("{question}{}\n{answer}{}\n", short(q), short(a))).collect();
    format!("User: {ask}\n{rounds}{last}{}\n\nAssistant:", request.question.trim())
}
