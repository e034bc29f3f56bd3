//! What does the model make of a question? Other wordings, or one that stands alone after a conversation.

use guest_retrieve::options::Options;
use guest_retrieve::standing_alone::by_model;
use guest_retrieve::{Generate, Request, Trace, arms, is_chinese, lines};

/// How a question that follows others is made to stand alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum History {
    /// The model rewrites it; by the rules where it writes nothing usable.
    Model,
    /// The earlier question is put before it where it points back.
    Rules,
    Off,
}

/// Tokens of all wordings.
const WORDINGS_TOKENS_MAX: u32 = 192;
/// Characters of a wording.
const WORDING_CHARS_MAX: usize = 200;
/// Rounds of the conversation shown to the model.
const ROUNDS_MAX: usize = 3;

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
    if history == History::Model
        && let Some(question) = by_model(host, request, ROUNDS_MAX, trace)
    {
        return (question != request.question.trim()).then_some(question);
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
