//! How does the language model ask a question so that it can be understood without the conversation before it?

use crate::{Generate, Request, Trace, is_chinese, usable};

/// Tokens and characters of what the model writes.
const TOKENS_MAX: u32 = 96;
const CHARS_MAX: usize = 200;
/// Characters of each text of the conversation that the model is shown.
const ROUND_CHARS_MAX: usize = 200;

/// The question as the model asks it, knowing the last `rounds` of the conversation; none when the model is away or
/// writes nothing usable. The step `rewrite` of the trace says which.
pub fn by_model<H: Generate>(
    host: &H,
    request: &Request,
    rounds: usize,
    trace: &mut Trace,
) -> Option<String> {
    let write = || {
        let text = host.generate(&prompt(request, rounds), TOKENS_MAX, &["\n\n"])?;
        Ok(text.lines().find_map(|line| usable(line, CHARS_MAX)))
    };
    let told = |asked: &Option<String>| match asked {
        Some(question) => format!("the model asks: {question}"),
        None => "the model wrote nothing usable".to_owned(),
    };
    trace.step("rewrite", write, told).ok().flatten()
}

fn prompt(request: &Request, rounds: usize) -> String {
    let short = |text: &str| text.chars().take(ROUND_CHARS_MAX).collect::<String>().replace('\n', " ");
    let (ask, question, answer, last) = if is_chinese(&request.question) {
        ("请根据对话，把最后一个问题改写成能够独立理解的问题，只写问题。", "问：", "答：", "最后的问题：")
    } else {
        (
            "Rewrite the last question so that it can be understood without the conversation. Write the question only.",
            "Q: ",
            "A: ",
            "Last question: ",
        )
    };
    let first = request.history.len().saturating_sub(rounds);
    let shown = request.history.iter().skip(first);
    let shown: String =
        shown.map(|(q, a)| format!("{question}{}\n{answer}{}\n", short(q), short(a))).collect();
    format!("User: {ask}\n{shown}{last}{}\n\nAssistant:", request.question.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_rounds_are_shown_short_and_in_the_language_of_the_question() {
        let round = |n: usize| (format!("第{n}问"), format!("第{n}答\n{}", "长".repeat(500)));
        let history: Vec<_> = (1..=5).map(round).collect();
        let request =
            |question: &str| Request { question: question.to_owned(), history: history.clone(), k: 1 };
        let shown = prompt(&request(" 它呢？ "), 2);
        assert!(!shown.contains("第3问") && shown.contains("问：第4问\n答：第4答 长"), "{shown}");
        assert!(
            shown.ends_with("最后的问题：它呢？\n\nAssistant:") && shown.chars().count() < 600,
            "{shown}"
        );
        let shown = prompt(&request("And it?"), 9);
        assert!(shown.contains("Q: 第1问") && shown.contains("Last question: And it?"), "{shown}");
    }
}
