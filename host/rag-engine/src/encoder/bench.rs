//! Measures the encoder: what `rwkv-rag bench embed` and `bench rerank` print.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rag_core::Result;
use rag_core::ports::Purpose;

use super::job::Text;
use super::passage_cache::hash;
use super::{Encoder, EncoderConfig, MaxSim, stopped};
use crate::measure::Measurement;

/// Han characters of a passage.
const PASSAGE_CHARS: usize = 250;
/// Passages in one call.
const CALL: usize = 16;
/// Candidates of one question.
const CANDIDATES: usize = 10;

/// Figures and what they were taken on.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What computed: kernels of the processor, e.g. `avx512-vnni`, or a GPU's name.
    pub kernels: String,
    pub results: Vec<Measurement>,
}

/// Passages and questions a second, on one thread and on `config.threads`; each figure takes about `time`.
///
/// # Errors
/// As `Encoder::load`.
pub fn embed(config: &EncoderConfig, time: Duration) -> Result<Report> {
    let mut results = Vec::new();
    let mut threads = vec![1, config.threads];
    threads.dedup();
    let mut kernels = String::new();
    for threads in threads {
        let started = Instant::now();
        let encoder = Encoder::load(&EncoderConfig { threads, ..config.clone() })?;
        kernels = encoder.computes_on().to_owned();
        let on = if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
        if threads == 1 {
            push(&mut results, "load", started.elapsed().as_secs_f64() * 1e3, "ms");
            let passages = texts(0, CALL, Purpose::Passage);
            let tokens: usize =
                passages.iter().map(|text| encoder.tokenizer().encode(&text.content).len()).sum();
            push(&mut results, "tokens of a passage", tokens as f64 / CALL as f64, "tokens");
            let (count, seconds) = repeat(time / 4, |turn| {
                texts(turn, CALL, Purpose::Passage)
                    .iter()
                    .for_each(|text| drop(encoder.tokenizer().encode(&text.content)));
                Ok(CALL * PASSAGE_CHARS)
            })?;
            push(&mut results, "tokenising, 1 thread", count / seconds / 1e6, "million characters/s");
        }
        let (count, seconds) = repeat(time, |turn| means(&encoder, texts(turn, CALL, Purpose::Passage)))?;
        let name = format!("passages of {PASSAGE_CHARS} Han characters, {on}");
        push(&mut results, &name, count / seconds, "passages/s");
        let (count, seconds) = repeat(time, |turn| means(&encoder, texts(turn, CALL, Purpose::Query)))?;
        push(&mut results, &format!("questions, {CALL} a call, {on}"), count / seconds, "questions/s");
        let (count, seconds) = repeat(time, |turn| means(&encoder, texts(turn, 1, Purpose::Query)))?;
        push(&mut results, &format!("one question alone, {on}"), seconds / count * 1e3, "ms");
    }
    Ok(Report { kernels, results })
}

/// Time to rerank candidates seen for the first time, and again; each figure takes about `time`.
///
/// # Errors
/// As `Encoder::load`.
pub fn rerank(config: &EncoderConfig, time: Duration) -> Result<Report> {
    let encoder = Encoder::load(config)?;
    let max_sim = MaxSim::new(Arc::clone(&encoder));
    let mut results = Vec::new();
    let name =
        format!("{CANDIDATES} candidates of {PASSAGE_CHARS} Han characters, {} threads", config.threads);
    let (count, seconds) = repeat(time, |turn| rerank_once(&encoder, &max_sim, turn, turn))?;
    push(&mut results, &format!("{name}, first time"), seconds / count * 1e3, "ms");
    let (count, seconds) = repeat(time, |turn| rerank_once(&encoder, &max_sim, turn, 0))?;
    push(&mut results, &format!("{name}, seen before"), seconds / count * 1e3, "ms");
    Ok(Report { kernels: encoder.computes_on().to_owned(), results })
}

/// Runs `work` until `time` has passed, once before it to warm up; gives the sum of what it returns, and seconds.
fn repeat(time: Duration, mut work: impl FnMut(usize) -> Result<usize>) -> Result<(f64, f64)> {
    work(0)?;
    let started = Instant::now();
    let (mut count, mut turn) = (0, 0);
    while turn == 0 || started.elapsed() < time {
        turn += 1;
        count += work(turn)?;
    }
    Ok((count as f64, started.elapsed().as_secs_f64()))
}

fn means(encoder: &Encoder, texts: Vec<Text>) -> Result<usize> {
    encoder.submit_vectors(texts)?.blocking_recv().map_err(|_| stopped())?.map(|vectors| vectors.rows())
}

fn rerank_once(encoder: &Encoder, max_sim: &MaxSim, question: usize, passages: usize) -> Result<usize> {
    let strings = |count, seed, purpose| texts(seed, count, purpose).into_iter().map(|text| text.content);
    let query: String = strings(1, question, Purpose::Query).collect();
    let passages: Vec<String> = strings(CANDIDATES, passages, Purpose::Passage).collect();
    let hashes: Vec<_> = passages.iter().map(|text| hash(text)).collect();
    let known = max_sim.remembered(&hashes);
    let texts = MaxSim::texts(&query, &passages, &known);
    let computed = encoder.submit_tokens(texts)?.blocking_recv().map_err(|_| stopped())??;
    max_sim.scores(&hashes, known, computed).map(|_| 1)
}

/// Text whose pieces are as long as ordinary ones: about 0.7 tokens a character. Other seeds give other texts.
fn texts(seed: usize, count: usize, purpose: Purpose) -> Vec<Text> {
    const SENTENCES: [&str; 12] = [
        "知识库把文件切成小段，每一段都有自己的向量。",
        "北京市位于华北平原的北部，是全国的政治和文化中心。",
        "该系统于二〇二四年开始运行，目前已经处理超过三百万份文件。",
        "研究人员发现，这种材料在高温下仍然保持稳定。",
        "他在大学期间学习数学，后来转而研究计算机科学。",
        "这部电影由著名导演执导，讲述了一个普通家庭的故事。",
        "如果用户没有权限，系统会返回明确的错误信息。",
        "春天来了，公园里的花都开了，许多人带着孩子去散步。",
        "列车从上海出发，经过南京和济南，最后到达天津。",
        "模型的参数越多，所需要的内存也就越大。",
        "根据合同的规定，双方应当在三十天之内完成付款。",
        "医生建议他每天喝足够的水，并且保持规律的运动。",
    ];
    const QUESTIONS: [&str; 4] = [
        "这个系统是什么时候开始运行的？",
        "列车经过哪些城市？",
        "合同规定的付款期限是多长？",
        "他在大学学习什么专业？",
    ];
    let text = |index: usize| match purpose {
        Purpose::Query => format!("{}{index}", QUESTIONS[index % QUESTIONS.len()]),
        Purpose::Passage => {
            let sentences = (0..).map(|i| SENTENCES[(index * 7 + i * (1 + index % 5)) % SENTENCES.len()]);
            format!("{index}{}", sentences.flat_map(str::chars).take(PASSAGE_CHARS).collect::<String>())
        }
    };
    (0..count).map(|i| Text::alone(text(seed * count + i), purpose)).collect()
}

fn push(results: &mut Vec<Measurement>, name: &str, value: f64, unit: &'static str) {
    results.push(Measurement { name: name.to_owned(), value, unit });
}
