//! The second flow: a question becomes an answer with citations.
//!
//! retrieve → load → rerank (`recall`) → enough relevance? → prompt within its budget → stream.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use crate::error::Result;
use crate::kb::AnswerSettings;
use crate::ports::{
    Binding, Bounds, FinishReason, Generate, GenerateRequest, GenerationEvent, GenerationStream, Sampling,
    Usage, Variant,
};
use crate::prompt::{self, PromptInput};
use crate::quote::{Citation, cite};
use crate::rag::Rag;
use crate::recall::{self, Fate, Recall, Recalled, SearchRequest};
use crate::relevance::Floor;
use crate::script::is_chinese;
use crate::search::{Filter, TraceStep, Turn};
use crate::sentence;

/// What is asked, and what differs from the knowledge base's settings for this once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AskRequest {
    pub question: String,
    /// Keeps rounds apart between callers; its last rounds are used when `history` is empty.
    pub conversation: Option<String>,
    /// Oldest first.
    pub history: Vec<Turn>,
    pub filter: Option<Filter>,
    pub passages: Option<u32>,
    pub answer_tokens_max: Option<u32>,
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    pub seed: Option<u64>,
    /// Id of a retriever in place of the knowledge base's, with its default settings.
    pub retriever: Option<String>,
    /// In place of the knowledge base's; the default is the language model as it is.
    pub variant: Option<Variant>,
    /// See `GenerateRequest::tenant`.
    pub tenant: String,
}

/// An answer on its way. Citations are known before the first token.
pub struct Answering {
    pub question: String,
    /// No passage was relevant enough: the stream says so, and no model was asked.
    pub refused: bool,
    /// Passages in the prompt; when refused, none.
    pub cited: Vec<Recalled>,
    /// Everything that was considered, best first.
    pub recall: Vec<Recalled>,
    /// What becomes of each of them.
    pub fates: Vec<Fate>,
    pub steps: Vec<TraceStep>,
    pub rewritten: Option<String>,
    /// Name of the model that writes, and whether it only demonstrates.
    pub model: String,
    pub demonstration: bool,
    pub stream: GenerationStream,
}

impl std::fmt::Debug for Answering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answering")
            .field("question", &self.question)
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}

impl Answering {
    /// The citations, best first; with the finished answer the quotes are the sentences that hold it.
    pub fn citations(&self, answer: Option<&str>) -> Vec<Citation> {
        self.cited.iter().map(|recalled| cite(&self.question, answer, recalled)).collect()
    }
}

/// What the project's own small models are trained to say when the passages do not hold the answer.
const MODEL_REFUSALS: [&str; 2] = ["根据提供的资料无法回答。", "The passage does not say."];

/// Whether a model's answer is that it found none.
pub fn is_model_refusal(answer: &str) -> bool {
    MODEL_REFUSALS.contains(&answer.trim())
}

/// Runs the flow up to the first token.
pub(crate) async fn ask(rag: &Rag, binding: &Binding, request: AskRequest) -> Result<Answering> {
    let settings = &binding.kb.settings.answer;
    let search = SearchRequest {
        question: request.question.clone(),
        history: request.history.clone(),
        filter: request.filter.clone(),
        ..SearchRequest::default()
    };
    let found = recall::recall(rag, binding, search).await?;

    let Plan { relevant, prompt, read, cited, fates } = plan(rag, binding, &request, &found);
    let refused = relevant.is_empty();

    let variant = request.variant.clone().or_else(|| of_kb(&settings.variant));
    let (stream, cited) = if refused {
        (fixed(no_match(&request.question)), Vec::new())
    } else {
        let texts = relevant.iter().take(read).map(|recalled| recalled.passage.text.as_str());
        let bounds = bounds(&*rag.generator, texts);
        let generate = generate_request(prompt, settings, &request);
        let generate = GenerateRequest { bounds, variant: variant.clone(), ..generate };
        (rag.generator.generate(generate).await?, relevant.into_iter().take(cited).collect())
    };
    Ok(Answering {
        question: request.question,
        refused,
        cited,
        recall: found.hits,
        fates,
        steps: found.steps,
        rewritten: found.rewritten,
        model: written_by(&rag.generator.identity(), variant.as_ref()),
        demonstration: rag.generator.demonstration(),
        stream,
    })
}

/// What the model is given of what was found.
pub(crate) struct Plan {
    /// Relevant enough, best first; with none, no model is asked.
    relevant: Vec<Recalled>,
    prompt: String,
    /// How many of them the prompt holds, and how many are cited.
    read: usize,
    cited: usize,
    /// One a passage that was found.
    pub(crate) fates: Vec<Fate>,
}

pub(crate) fn plan(rag: &Rag, binding: &Binding, request: &AskRequest, found: &Recall) -> Plan {
    let (settings, usual) = (&binding.kb.settings.answer, binding.relevance_min);
    let default = if found.reranked { usual.rerank } else { usual.dense };
    let floor = settings.relevance_min.map_or(default, Floor::same);
    let admitted: Vec<bool> = found.hits.iter().map(|hit| floor.admits(&request.question, hit)).collect();
    let both = found.hits.iter().zip(&admitted);
    let relevant: Vec<Recalled> =
        both.filter(|(_, admitted)| **admitted).map(|(hit, _)| hit.clone()).collect();

    let small = rag.generator.demonstration();
    let cited_max = request.passages.unwrap_or(settings.passages).max(1) as usize;
    // A small model loses its way between passages; the others are shown beside its answer all the same.
    let passages_max = if small { 1 } else { cited_max };
    let input = PromptInput {
        template: &settings.template,
        question: &request.question,
        history: &request.history,
        passages: &relevant,
        passages_max,
        tokens_max: settings.context_tokens_max,
    };
    let built = prompt::build(&input, &|text| rag.generator.count_tokens(text));
    let mut place = 0;
    let fates = admitted.into_iter().map(|admitted| {
        if !admitted {
            return Fate::Irrelevant;
        }
        place += 1;
        match place {
            place if place <= built.passages => Fate::Read,
            place if place <= passages_max => Fate::NoRoom,
            _ => Fate::Surplus,
        }
    });
    let fates = fates.collect();
    let cited = if small { cited_max } else { built.passages };
    Plan { relevant, read: built.passages, prompt: built.text, cited, fates }
}

fn generate_request(prompt: String, settings: &AnswerSettings, request: &AskRequest) -> GenerateRequest {
    GenerateRequest {
        prompt,
        sampling: Sampling {
            temperature: request.temperature.unwrap_or(settings.temperature),
            top_p: request.top_p.unwrap_or(settings.top_p),
            seed: request.seed,
            ..Sampling::default()
        },
        tokens_max: request.answer_tokens_max.unwrap_or(settings.answer_tokens_max),
        stop: stops(),
        tenant: request.tenant.clone(),
        bounds: None,
        variant: None,
    }
}

/// None where the knowledge base has none of its own.
fn of_kb(variant: &Variant) -> Option<Variant> {
    (*variant != Variant::default()).then(|| variant.clone())
}

/// The model's name, and those of what was named beside it.
fn written_by(model: &str, variant: Option<&Variant>) -> String {
    let named = variant.into_iter().flat_map(|variant| [&variant.state, &variant.adapter]).flatten();
    std::iter::once(model).chain(named.map(String::as_str)).collect::<Vec<_>>().join(" + ")
}

/// A small model may only show where in its passages the answer stands, or that it does not. A heading that repeats
/// the question tempts it and answers nothing.
pub fn bounds<'a>(model: &dyn Generate, passages: impl Iterator<Item = &'a str>) -> Option<Bounds> {
    if !model.demonstration() {
        return None;
    }
    let mut parts_of = Vec::new();
    for passage in passages {
        let texts = || passage.split("\n\n").filter(|block| !sentence::is_heading(block));
        let text = texts().collect::<Vec<_>>().join("\n\n");
        parts_of.push(prompt::one_paragraph(if text.trim().is_empty() { passage } else { &text }));
    }
    Some(Bounds { parts_of, or_whole: MODEL_REFUSALS.map(String::from).to_vec() })
}

/// The turns of the formats that RWKV models are trained on: where one begins, the answer is over.
pub fn stops() -> Vec<String> {
    ["\n\nUser:", "\n\nInstruction:", "\n\nQuestion:"].map(String::from).to_vec()
}

/// Said in the language of the question.
fn no_match(question: &str) -> &'static str {
    if is_chinese(question) {
        "这个知识库里没有找到与问题相关的内容。"
    } else {
        "Nothing in this knowledge base matches the question."
    }
}

/// A stream of a text that no model wrote.
fn fixed(text: &str) -> GenerationStream {
    let done = GenerationEvent::Done { reason: FinishReason::Stop, usage: Usage::default() };
    Box::pin(Fixed(VecDeque::from([GenerationEvent::Text(text.to_owned()), done])))
}

struct Fixed(VecDeque<GenerationEvent>);

impl Stream for Fixed {
    type Item = Result<GenerationEvent>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}
