//! A call on its way through the encoder: its texts, their windows, and how the results become the answer.

#[cfg(feature = "cuda")]
mod on_gpu;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rag_core::Result;
use rag_core::document::Vectors;
use rag_core::ports::Purpose;
use tokio::sync::oneshot;

use super::gemm::{Isa, Rows8};
use super::lexical::Lexical;
use super::loaded::{Loaded, Pooling};
use super::maths::normalise;
use super::model::Sequence;
use super::token_vectors::TokenVectors;

#[cfg(feature = "cuda")]
pub(super) use on_gpu::output as output_of_gpu;

/// Tokens of a question and a passage together: bge-reranker-v2-m3's authors recommend 1,024.
const PAIR_TOKENS_MAX: usize = 1024;

/// Texts that are worth a thread to cut them.
const THREAD_TEXTS_MIN: usize = 4;

/// A text and what it is to the model.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) content: String,
    pub(super) purpose: Purpose,
    /// Read together with the text, by a cross-encoder.
    pub(super) question: Option<String>,
}

impl Text {
    pub(super) fn alone(content: String, purpose: Purpose) -> Self {
        Text { content, purpose, question: None }
    }
}

/// A call as it waits in the queue.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) texts: Vec<Text>,
    pub(super) wanted: Wanted,
    pub(super) slot: Slot,
}

/// What the caller waits for.
#[derive(Debug)]
pub(super) enum Wanted {
    /// One vector of unit length a text.
    Vectors { dim: usize, reply: oneshot::Sender<Result<Vectors>> },
    /// The vectors of each text's own tokens.
    Tokens { reply: oneshot::Sender<Result<Vec<TokenVectors>>> },
    /// How well each text answers the question that stands with it, 0 to 1.
    Scores { reply: oneshot::Sender<Result<Vec<f32>>> },
}

/// One of the encoder's places; given back when dropped.
#[derive(Debug)]
pub(super) struct Slot(Arc<AtomicUsize>);

impl Slot {
    /// None when `limit` are taken.
    pub(super) fn take(taken: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        let more = |count| (count < limit).then_some(count + 1);
        taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Slot(Arc::clone(taken)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A piece of a text that fits the model, special tokens included.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) ids: Vec<u32>,
    /// Index of its text in the call.
    text: usize,
    /// Tokens before the text's own ones: the first special token and, in a text's first window, the prefix.
    before: usize,
    /// Where the second of two texts starts; `ids.len()` for a text alone.
    second: usize,
}

impl Window {
    /// The text's own tokens: none that is special or of the prefix.
    fn own(&self) -> std::ops::Range<usize> {
        self.before..self.ids.len() - 1
    }

    pub(super) fn sequence(&self) -> Sequence<'_> {
        Sequence { ids: &self.ids, second: self.second }
    }
}

/// What a window's forward pass gave.
#[derive(Debug)]
pub(super) enum Output {
    /// The window's vector, not normalised.
    Vector(Vec<f32>),
    Tokens(TokenVectors),
    Score(f32),
}

/// A call in work.
#[derive(Debug)]
pub(super) struct Running {
    wanted: Wanted,
    slot: Slot,
    texts: usize,
    pub(super) windows: Vec<Window>,
    /// Windows handed to a batch so far.
    pub(super) started: usize,
    outputs: Vec<Option<Output>>,
    /// Questions and reranking: somebody waits for them.
    pub(super) urgent: bool,
}

impl Running {
    /// Cuts the texts into windows, on so many threads.
    pub(super) fn new(job: Job, model: &Loaded, threads: usize) -> Self {
        let windows = cut_all(&job.texts, model, threads);
        let urgent = !matches!(job.wanted, Wanted::Vectors { .. })
            || job.texts.iter().all(|text| text.purpose == Purpose::Query);
        let outputs = windows.iter().map(|_| None).collect();
        Running {
            wanted: job.wanted,
            slot: job.slot,
            texts: job.texts.len(),
            windows,
            started: 0,
            outputs,
            urgent,
        }
    }

    /// Whether the caller has left.
    pub(super) fn abandoned(&self) -> bool {
        match &self.wanted {
            Wanted::Vectors { reply, .. } => reply.is_closed(),
            Wanted::Tokens { reply } => reply.is_closed(),
            Wanted::Scores { reply } => reply.is_closed(),
        }
    }

    /// What to keep of a window's token vectors, `[ids, width]`.
    pub(super) fn output(&self, window: &Window, hidden: &[f32], model: &Loaded, isa: Isa) -> Output {
        let width = model.model.width;
        match (&self.wanted, &model.score_head) {
            (Wanted::Vectors { .. }, _) => Output::Vector(pool(model.pooling, hidden, width)),
            (Wanted::Tokens { .. }, _) => {
                let own = window.own();
                let ids = &window.ids[own.clone()];
                let own = &hidden[own.start * width..own.end * width];
                let weigh = |head| Lexical::of(ids, own, head, isa, model.tokenizer.specials());
                let lexical = model.lexical_head.as_ref().map(weigh).unwrap_or_default();
                let vectors = match &model.token_head {
                    None => TokenVectors::of(own, width),
                    Some(head) => {
                        let mut mapped = vec![0.0; own.len() / width * head.columns()];
                        if !own.is_empty() {
                            head.apply(isa, own, &mut Rows8::default(), &mut mapped);
                        }
                        TokenVectors::of(&mapped, head.columns())
                    }
                };
                Output::Tokens(vectors.with(lexical))
            }
            (Wanted::Scores { .. }, Some(head)) => Output::Score(head.score(isa, &hidden[..width])),
            // `CrossEncoder::load` takes no model without the head.
            (Wanted::Scores { .. }, None) => Output::Score(0.0),
        }
    }

    pub(super) fn set(&mut self, window: usize, output: Output) {
        self.outputs[window] = Some(output);
    }

    pub(super) fn complete(&self) -> bool {
        self.outputs.iter().all(Option::is_some)
    }

    /// Answers the caller: windows of one text become one vector, weighted by their tokens, or one list of tokens.
    pub(super) fn finish(self) {
        let Running { wanted, slot, texts, windows, outputs, .. } = self;
        drop(slot);
        let parts = windows.iter().zip(outputs);
        // A caller that left in between is no fault, so the results of `send` do not matter.
        match wanted {
            Wanted::Vectors { dim, reply } => {
                let mut data = vec![0.0; texts * dim];
                for (window, output) in parts {
                    let Some(Output::Vector(vector)) = output else { continue };
                    let weight = window.ids.len().saturating_sub(2).max(1) as f32;
                    let row = &mut data[window.text * dim..][..dim];
                    row.iter_mut().zip(vector).for_each(|(sum, value)| *sum += weight * value);
                }
                data.chunks_exact_mut(dim).for_each(normalise);
                let _ = reply.send(Ok(Vectors { dim, data }));
            }
            Wanted::Tokens { reply } => {
                let mut lists: Vec<TokenVectors> = (0..texts).map(|_| TokenVectors::default()).collect();
                for (window, output) in parts {
                    let Some(Output::Tokens(tokens)) = output else { continue };
                    lists[window.text].append(tokens);
                }
                let _ = reply.send(Ok(lists));
            }
            Wanted::Scores { reply } => {
                let mut scores = vec![0.0; texts];
                for (window, output) in parts {
                    let Some(Output::Score(score)) = output else { continue };
                    scores[window.text] = score;
                }
                let _ = reply.send(Ok(scores));
            }
        }
    }

    /// Tells the caller that it cannot be done.
    pub(super) fn fail(self, error: rag_core::Error) {
        match self.wanted {
            Wanted::Vectors { reply, .. } => drop(reply.send(Err(error))),
            Wanted::Tokens { reply } => drop(reply.send(Err(error))),
            Wanted::Scores { reply } => drop(reply.send(Err(error))),
        }
    }
}

/// A window's vector, not normalised.
pub(super) fn pool(pooling: Pooling, hidden: &[f32], width: usize) -> Vec<f32> {
    let mut pooled = hidden[..width].to_vec();
    if pooling == Pooling::Mean {
        for token in hidden[width..].chunks_exact(width) {
            pooled.iter_mut().zip(token).for_each(|(mean, value)| *mean += value);
        }
        let share = width as f32 / hidden.len() as f32;
        pooled.iter_mut().for_each(|value| *value *= share);
    }
    pooled
}

/// Windows of all texts, in their order; many texts are cut on several threads.
fn cut_all(texts: &[Text], model: &Loaded, threads: usize) -> Vec<Window> {
    let cut_part = |first: usize, part: &[Text]| {
        let mut windows = Vec::with_capacity(part.len());
        part.iter().enumerate().for_each(|(index, text)| cut(first + index, text, model, &mut windows));
        windows
    };
    let size = texts.len().div_ceil(threads.max(1)).max(THREAD_TEXTS_MIN);
    if texts.len() <= size {
        return cut_part(0, texts);
    }
    thread::scope(|scope| {
        let parts = texts.chunks(size).enumerate();
        let handles: Vec<_> =
            parts.map(|(index, part)| scope.spawn(move || cut_part(index * size, part))).collect();
        let joined = handles.into_iter().map(|handle| handle.join());
        joined.flat_map(|part| part.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// Windows of a text, without overlap; the prefix stands in the first. A text with its question is one window.
fn cut(index: usize, text: &Text, model: &Loaded, windows: &mut Vec<Window>) {
    if let Some(question) = &text.question {
        windows.push(pair(index, question, &text.content, model));
        return;
    }
    let prefix = match text.purpose {
        Purpose::Query => &model.prefix_query,
        Purpose::Passage => &model.prefix_passage,
    };
    let specials = model.tokenizer.specials();
    let mut ids = model.tokenizer.encode(prefix);
    let mut before = ids.len();
    ids.extend(model.tokenizer.encode(&text.content));
    let mut rest = ids.as_slice();
    loop {
        let (part, after) = rest.split_at(rest.len().min(model.window()));
        let own = before.min(part.len());
        let ids = [&[specials.begin], part, &[specials.end]].concat();
        windows.push(Window { second: ids.len(), ids, text: index, before: 1 + own });
        before -= own;
        rest = after;
        if rest.is_empty() {
            return;
        }
    }
}

/// A question and a passage in one window; of the question at most half of it is read, and of the passage what fits.
fn pair(index: usize, question: &str, passage: &str, model: &Loaded) -> Window {
    let specials = model.tokenizer.specials();
    let room = model.model.positions().min(PAIR_TOKENS_MAX) - 2 - specials.middle.len();
    let mut first = model.tokenizer.encode(question);
    first.truncate(room / 2);
    let mut second = model.tokenizer.encode(passage);
    second.truncate(room - first.len());
    let begin = [&[specials.begin], first.as_slice(), &specials.middle].concat();
    // The last token of the middle stands with the second text where there are two, as in RoBERTa's; types are BERT's
    // alone, whose middle is one token of the first text.
    let at = begin.len();
    let ids = [begin.as_slice(), &second, &[specials.end]].concat();
    Window { ids, text: index, before: at, second: at }
}

#[cfg(test)]
mod tests {
    use super::super::tests::FAST;
    use super::super::tokenizer::unigram::{BEGIN, END};
    use super::*;

    fn means(model: &Loaded, contents: &[&str]) -> (Running, oneshot::Receiver<Result<Vectors>>) {
        let (reply, answer) = oneshot::channel();
        let texts = contents.iter().map(|content| Text::alone((*content).to_owned(), Purpose::Passage));
        let slot = Slot::take(&Arc::new(AtomicUsize::new(0)), 1).unwrap();
        let job = Job { texts: texts.collect(), wanted: Wanted::Vectors { dim: 2, reply }, slot };
        (Running::new(job, model, 3), answer)
    }

    #[test]
    fn windows_cover_each_text_once_and_fit_the_model() {
        let model = &*FAST;
        let long = "知识库 holds 很多文件。".repeat(200);
        let (running, _answer) = means(model, &["短文", &long, ""]);
        let prefix = model.tokenizer.encode(&model.prefix_passage);
        for (text, content) in ["短文", &long, ""].into_iter().enumerate() {
            let windows: Vec<&Window> = running.windows.iter().filter(|window| window.text == text).collect();
            let own: Vec<u32> =
                windows.iter().flat_map(|w| w.ids[w.before..w.ids.len() - 1].iter().copied()).collect();
            assert_eq!(own, model.tokenizer.encode(content), "text {text}");
            assert_eq!(windows[0].ids[..windows[0].before], [&[BEGIN], prefix.as_slice()].concat());
            assert!(windows[1..].iter().all(|window| window.before == 1));
            assert!(
                windows.iter().all(|w| w.ids.len() <= model.model.positions() && w.ids.last() == Some(&END))
            );
        }
        assert!(running.windows.len() > 4);
    }

    #[test]
    fn threads_cut_as_one_does() {
        let texts: Vec<_> = (0..23)
            .map(|index| Text::alone("知识库 holds 很多文件。".repeat(index % 5 * 30), Purpose::Passage))
            .collect();
        let of = |threads| {
            let windows = cut_all(&texts, &FAST, threads);
            windows.into_iter().map(|window| (window.text, window.before, window.ids)).collect::<Vec<_>>()
        };
        assert_eq!(of(3), of(1));
        assert!(of(1).len() > texts.len());
    }

    #[test]
    fn windows_of_a_text_count_by_their_tokens() {
        let model = &*FAST;
        let long = "知识库 holds 很多文件。".repeat(75);
        let (mut running, answer) = means(model, &["短文", &long]);
        let [_, first, second] = &running.windows[..] else { panic!("{} windows", running.windows.len()) };
        let (first, second) = (first.ids.len() as f32 - 2.0, second.ids.len() as f32 - 2.0);
        for (window, mean) in [[3.0, 4.0], [1.0, 0.0], [0.0, 1.0]].into_iter().enumerate() {
            assert!(!running.complete());
            running.set(window, Output::Vector(mean.to_vec()));
        }
        assert!(running.complete());
        running.finish();
        let data = answer.blocking_recv().unwrap().unwrap().data;
        let length = first.hypot(second);
        for (value, expected) in data.iter().zip([0.6, 0.8, first / length, second / length]) {
            assert!((value - expected).abs() < 1e-6, "{data:?}");
        }
    }

    #[test]
    fn places_are_limited_and_given_back() {
        let taken = Arc::new(AtomicUsize::new(0));
        let slots = [Slot::take(&taken, 2), Slot::take(&taken, 2)];
        assert!(slots.iter().all(Option::is_some) && Slot::take(&taken, 2).is_none());
        drop(slots);
        assert!(Slot::take(&taken, 2).is_some());
    }

    #[test]
    fn notices_that_the_caller_left() {
        let model = &*FAST;
        let (running, answer) = means(model, &["短文"]);
        assert!(!running.abandoned());
        drop(answer);
        assert!(running.abandoned());
    }
}
