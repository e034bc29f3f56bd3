//! How a question, its passages and the earlier rounds become the text that the model continues.

use crate::error::{Error, Result};
use crate::limits;
use crate::recall::Recalled;
use crate::search::Turn;
use crate::sentence;

/// Share of the context budget that earlier rounds may take.
const HISTORY_SHARE: u32 = 4;
/// Names that a template may hold between braces.
const NAMES: [&str; 3] = ["question", "context", "history"];

/// A prompt, and how many of the passages reached it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    pub text: String,
    pub passages: usize,
}

/// What goes into a prompt.
#[derive(Debug)]
pub struct PromptInput<'a> {
    pub template: &'a str,
    pub question: &'a str,
    pub history: &'a [Turn],
    /// Best first.
    pub passages: &'a [Recalled],
    pub passages_max: usize,
    /// For passages and history together.
    pub tokens_max: u32,
}

/// Fills a template once: what is put in is never looked at for further names.
pub fn build(input: &PromptInput<'_>, count_tokens: &dyn Fn(&str) -> u32) -> Prompt {
    let history = render_history(input.history, input.tokens_max / HISTORY_SHARE, count_tokens);
    let budget = input.tokens_max.saturating_sub(count_tokens(&history));
    let (context, passages) = render_context(input, budget, count_tokens);
    let question = one_paragraph(input.question);
    let text = substitute(input.template, |name| match name {
        "question" => Some(question.as_str()),
        "context" => Some(context.as_str()),
        "history" => Some(history.as_str()),
        _ => None,
    });
    Prompt { text, passages }
}

/// A template must name the question and the context, and nothing unknown.
pub fn check_template(template: &str) -> Result<()> {
    for needed in ["question", "context"] {
        if !template.contains(&format!("{{{needed}}}")) {
            return Err(Error::invalid(format!("the prompt template does not contain {{{needed}}}")));
        }
    }
    let mut rest = template;
    while let Some((_, after)) = rest.split_once('{') {
        let Some((name, tail)) = after.split_once('}') else { break };
        let word = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if word && !NAMES.contains(&name) {
            return Err(Error::invalid(format!(
                "the prompt template names {{{name}}}; known are {{question}}, {{context}} and {{history}}"
            )));
        }
        rest = if word { tail } else { after };
    }
    Ok(())
}

/// A question must say something and fit.
pub fn check_question(question: &str) -> Result<()> {
    if question.trim().is_empty() {
        return Err(Error::invalid("the question is empty"));
    }
    let chars = question.chars().count();
    if chars > limits::QUESTION_CHARS_MAX {
        return Err(Error::invalid(format!(
            "the question has {chars} characters; at most {} are read",
            limits::QUESTION_CHARS_MAX
        )));
    }
    Ok(())
}

/// The newest rounds that fit, oldest first, as the chat form that RWKV models know.
fn render_history(history: &[Turn], tokens_max: u32, count_tokens: &dyn Fn(&str) -> u32) -> String {
    let mut rounds = Vec::new();
    let mut left = tokens_max;
    for turn in history.iter().rev().take(limits::HISTORY_ROUNDS) {
        let round = format!(
            "User: {}\n\nAssistant: {}\n\n",
            one_paragraph(&turn.question),
            one_paragraph(&turn.answer)
        );
        let tokens = count_tokens(&round);
        if tokens > left {
            break;
        }
        left -= tokens;
        rounds.push(round);
    }
    rounds.into_iter().rev().collect()
}

/// Whole passages while they fit; the first is cut at a sentence when it alone is too long.
fn render_context(
    input: &PromptInput<'_>,
    tokens_max: u32,
    count_tokens: &dyn Fn(&str) -> u32,
) -> (String, usize) {
    let mut context = String::new();
    let mut used = 0;
    let mut left = tokens_max;
    for recalled in input.passages.iter().take(input.passages_max) {
        let text = one_paragraph(&recalled.passage.text);
        let tokens = count_tokens(&text);
        if tokens > left && used > 0 {
            break;
        }
        let fitting = if tokens > left { shorten(&text, left, count_tokens) } else { text.as_str() };
        if used > 0 {
            context.push('\n');
        }
        context.push_str(fitting);
        left = left.saturating_sub(tokens);
        used += 1;
    }
    (context, used)
}

/// Cuts at sentences until the text fits.
fn shorten<'a>(text: &'a str, tokens_max: u32, count_tokens: &dyn Fn(&str) -> u32) -> &'a str {
    let mut fitting = text;
    loop {
        let tokens = count_tokens(fitting);
        if tokens <= tokens_max || fitting.is_empty() {
            return fitting;
        }
        let share = f64::from(tokens_max) / f64::from(tokens);
        let bytes = (fitting.len() as f64 * share) as usize;
        fitting = sentence::truncate(fitting, bytes.min(fitting.len() - 1));
    }
}

/// A blank line separates turns for RWKV models, so none may come from a document or a question.
pub(crate) fn one_paragraph(text: &str) -> String {
    let lines = text.lines().map(str::trim_end).filter(|line| !line.trim().is_empty());
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

fn substitute<'a>(template: &str, value: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let known = after.split_once('}').and_then(|(name, tail)| Some((value(name)?, tail)));
        let (inserted, tail) = known.unwrap_or(("{", after));
        text.push_str(inserted);
        rest = tail;
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests;
