//! How well the language model answers: from the passage that holds the answer, or from what is retrieved.

use std::time::Instant;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use rag_core::ask::{AskRequest, is_model_refusal};
use rag_core::document::{ChunkId, DocumentId, Span};
use rag_core::kb::AnswerSettings;
use rag_core::ports::{GenerateRequest, GenerationEvent, GenerationStream, Sampling};
use rag_core::prompt::{self, PromptInput};
use rag_core::recall::Recalled;
use rag_core::script::is_chinese;
use rag_core::search::Passage;

use super::Figure;
use super::corpus::{KB, Row, Scratch, rows, thin};
use super::score::{Answered, figures};
use crate::cli::Bench;
use crate::config::Config;
use crate::output::Progress;

/// Characters of a passage around the answer: Chinese and other text.
const PASSAGE_CHARS: [usize; 2] = [380, 1_100];
/// Characters of a passage, and questions asked one by one, by which the wait for the first word is measured.
const WAIT_CHARS: usize = 400;
const WAIT_QUESTIONS: usize = 16;
/// Every so many-th question gets another question's passage with `--shuffle`, where a refusal is right.
const SHUFFLED_EVERY: usize = 4;

pub(super) async fn run(config: &Config, args: &Bench) -> Result<Vec<Figure>> {
    let rows = rows(args)?;
    let scratch = Scratch::open(config, args).await?;
    let asked = thin(&rows, args.limit);
    if args.retrieve {
        let mut contexts: Vec<&str> = rows.iter().map(|row| row.context.as_str()).collect();
        contexts.sort_unstable();
        contexts.dedup();
        let named = |(at, text): (usize, &str)| (format!("p{at:05}.txt"), Bytes::from(text.to_owned()));
        let documents: Vec<_> = contexts.into_iter().enumerate().map(named).collect();
        scratch.ingest(&documents).await?;
    }
    let start = Instant::now();
    let mut progress = Progress::new("answers");
    let work = asked.iter().enumerate().map(|(at, row)| {
        let other = (args.shuffle && at % SHUFFLED_EVERY == 0).then(|| another(&asked, at)).flatten();
        one(&scratch, args, row, other)
    });
    let mut answers = futures_util::stream::iter(work).buffer_unordered(config.models.slots.max(1));
    let mut answered = Vec::with_capacity(asked.len());
    while let Some(answer) = answers.try_next().await? {
        answered.push(answer);
        progress.set(answered.len() as u64 * 100 / asked.len() as u64, "answers");
    }
    progress.finish("done");
    let mut all = figures(&answered);
    all.push(Figure::new("speed", answered.len() as f64 / start.elapsed().as_secs_f64(), "questions/s"));
    all.extend(first_words(&scratch, &asked).await?);
    Ok(all)
}

/// Milliseconds from a request to the first piece of its answer, nothing else running: the median over long passages.
async fn first_words(scratch: &Scratch, asked: &[&Row]) -> Result<Option<Figure>> {
    let mut waits = Vec::with_capacity(WAIT_QUESTIONS);
    let long = asked.iter().filter(|row| row.context.chars().count() >= WAIT_CHARS);
    for row in long.take(WAIT_QUESTIONS) {
        let passage = crop(&row.context, row.answers.first(), WAIT_CHARS);
        let start = Instant::now();
        let mut stream =
            scratch.parts.rag.generator.generate(request(scratch, &row.question, passage)).await?;
        while let Some(event) = stream.try_next().await.context("the model failed")? {
            if matches!(event, GenerationEvent::Text(_)) {
                break;
            }
        }
        waits.push(start.elapsed().as_secs_f64() * 1e3);
    }
    waits.sort_unstable_by(f64::total_cmp);
    let median = waits.get(waits.len() / 2);
    Ok(median.map(|wait| Figure::new(format!("first word, passage of {WAIT_CHARS} characters"), *wait, "ms")))
}

/// The passage of a question half the set away, unless it holds an answer by chance.
fn another<'a>(asked: &[&'a Row], at: usize) -> Option<&'a Row> {
    let own = asked.get(at)?;
    let other = asked.get((at + asked.len() / 2) % asked.len())?;
    let holds = own.answers.iter().any(|answer| other.context.contains(answer.as_str()));
    (!holds && other.context != own.context).then_some(*other)
}

async fn one(scratch: &Scratch, args: &Bench, row: &Row, other: Option<&Row>) -> Result<Answered> {
    if args.retrieve {
        return retrieved(scratch, args, row).await;
    }
    let row_read = other.unwrap_or(row);
    let width = PASSAGE_CHARS[usize::from(!is_chinese(&row_read.context))];
    let passage = crop(&row_read.context, row_read.answers.first(), width);
    let stream = scratch.parts.rag.generator.generate(request(scratch, &row.question, passage)).await?;
    let answer = text_of(stream).await?;
    let references = if other.is_some() { Vec::new() } else { row.answers.clone() };
    Ok(Answered { refused: is_model_refusal(&answer), answer, references, passage: passage.to_owned() })
}

/// What the product asks of the language model about one passage, with default settings.
fn request(scratch: &Scratch, question: &str, passage: &str) -> GenerateRequest {
    let settings = AnswerSettings::default();
    let generator = &scratch.parts.rag.generator;
    let recalled = [whole(passage)];
    let built = prompt::build(
        &PromptInput {
            template: &settings.template,
            question,
            history: &[],
            passages: &recalled,
            passages_max: 1,
            tokens_max: settings.context_tokens_max,
        },
        &|text| generator.count_tokens(text),
    );
    GenerateRequest {
        prompt: built.text,
        sampling: Sampling { temperature: settings.temperature, ..Sampling::default() },
        tokens_max: settings.answer_tokens_max,
        stop: rag_core::ask::stops(),
        tenant: String::new(),
        bounds: rag_core::ask::bounds(&**generator, std::iter::once(passage)),
        variant: None,
    }
}

async fn retrieved(scratch: &Scratch, args: &Bench, row: &Row) -> Result<Answered> {
    let request =
        AskRequest { question: row.question.clone(), passages: args.passages, ..AskRequest::default() };
    let answering = scratch.parts.rag.ask(KB, request).await?;
    let passages: Vec<&str> = answering.cited.iter().map(|cited| cited.passage.text.as_str()).collect();
    let passage = passages.join("\n");
    let refused = answering.refused;
    let answer = text_of(answering.stream).await?;
    let refused = refused || is_model_refusal(&answer);
    Ok(Answered { answer, refused, references: row.answers.clone(), passage })
}

async fn text_of(mut stream: GenerationStream) -> Result<String> {
    let mut text = String::new();
    while let Some(event) = stream.try_next().await.context("the model failed")? {
        if let GenerationEvent::Text(piece) = event {
            text.push_str(&piece);
        }
    }
    Ok(text.trim().to_owned())
}

/// The part of a context around the answer that a small model reads well: at most `width` characters.
fn crop<'a>(context: &'a str, answer: Option<&String>, width: usize) -> &'a str {
    let answer = answer.and_then(|answer| context.find(answer.as_str())).unwrap_or(0);
    let before = context[..answer].chars().count();
    let at = |chars: usize| context.char_indices().nth(chars).map_or(context.len(), |(byte, _)| byte);
    if context.chars().count() <= width {
        return context;
    }
    let start = before.saturating_sub(width / 2);
    &context[at(start)..at(start + width)]
}

fn whole(text: &str) -> Recalled {
    let passage = Passage {
        chunk: ChunkId(String::new()),
        document: DocumentId(String::new()),
        document_name: String::new(),
        text: text.to_owned(),
        span: Span { start: 0, end: text.len() as u64 },
        parent: None,
        heading: None,
        page: None,
        source: None,
    };
    Recalled { passage, rank: 1, score: 1.0, relevance: None, evidence: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crop_keeps_the_answer() {
        let context = format!("{}答案在此。{}", "前".repeat(1_000), "后".repeat(1_000));
        let cropped = crop(&context, Some(&"答案".to_owned()), 380);
        assert!(cropped.contains("答案在此") && cropped.chars().count() == 380);
        assert_eq!(crop("短文", Some(&"短".to_owned()), 380), "短文");
        assert_eq!(crop(&context, None, 380).chars().count(), 380);
    }
}
