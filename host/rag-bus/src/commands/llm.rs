//! The LLM service: embeddings, scores and answers, as RWKV-RAG's clients ask for them and as our roles do.

use std::sync::Arc;

use async_trait::async_trait;
use rag_core::ports::{Embed, Encoders, Generate, GenerateRequest, Purpose, Rerank, Sampling};
use rag_core::{Error, Result};

use super::{lists, number, optional_text, text, texts, unsupported, whole};
use crate::calls;
use crate::envelope::Hello;
use crate::remote::collect;
use crate::value::Value;
use crate::wire::Request;
use crate::worker::{Service, Sink};

/// Tokens of one answer.
const TOKENS_MAX: u32 = 8192;
/// Tokens of an answer when the client names none, as RWKV-RAG has it.
const TOKENS_DEFAULT: u32 = 1200;
/// On whose behalf RWKV-RAG's clients ask: they do not say who they are.
const TENANT: &str = "rwkv-rag";
const BEAM_TOKENS_DEFAULT: u32 = 128;
const BEAMS_DEFAULT: u32 = 5;
const BEAMS_MAX: u32 = 16;

/// A beam search: the likeliest continuation that `beams` parallel ones find.
#[derive(Debug, Clone, PartialEq)]
pub struct BeamRequest {
    pub prompt: String,
    pub tokens_max: u32,
    pub beams: u32,
    pub stop: Vec<String>,
    /// As in `GenerateRequest`.
    pub tenant: String,
}

/// What a path of a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelKind {
    Embedding,
    Reranker,
}

/// What an answer starts from and is written under, where it is not what was chosen for all: names or paths of
/// registered models.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Variant<'a> {
    pub state: Option<&'a str>,
    pub adapter: Option<&'a str>,
}

/// The models of one process. Only registered ones are ever loaded, whatever path a request names.
#[async_trait]
pub trait Models: Send + Sync {
    /// The language model in use, under a variant.
    async fn language(&self, variant: Variant<'_>) -> Result<Arc<dyn Generate>>;

    /// Makes a registered language model the one in use; nothing happens when it is.
    async fn select(&self, name_or_path: &str) -> Result<()>;

    /// Whether the path or name is that of the model in use.
    fn check(&self, kind: ModelKind, name_or_path: &str) -> Result<()>;

    async fn beam(&self, request: BeamRequest) -> Result<String>;

    /// Names and paths, for `LLM_CONFIG`; nothing secret.
    fn config(&self) -> Value;
}

/// Answers from the engines of this process.
#[expect(missing_debug_implementations, reason = "its parts are other crates")]
pub struct LlmService {
    pub name: String,
    /// Requests taken at once.
    pub capacity: u32,
    pub embedder: Arc<dyn Embed>,
    pub reranker: Arc<dyn Rerank>,
    /// Those that knowledge bases choose.
    pub encoders: Arc<dyn Encoders>,
    pub models: Arc<dyn Models>,
}

#[async_trait]
impl Service for LlmService {
    fn hello(&self) -> Hello {
        Hello { service: "llm".to_owned(), capacity: self.capacity, name: self.name.clone() }
    }

    async fn legacy(&self, request: Request) -> Result<Value> {
        match request.cmd.as_str() {
            "LLM_CONFIG" => Ok(self.models.config()),
            "GET_EMBEDDINGS" => self.embeddings(&request).await,
            "GET_CROSS_SCORES" => self.cross_scores(&request).await,
            "SAMPLING_GENERATE" => self.sampling_generate(&request).await,
            "BEAM_GENERATE" => self.beam_generate(&request).await,
            "RELOAD_BASE_MODEL" => {
                self.models.select(text(&request, "base_model_path")?).await?;
                Ok("ok".into())
            }
            _ => Err(unsupported()),
        }
    }

    async fn call(&self, operation: &str, arguments: &Value, sink: &mut Sink) -> Result<Value> {
        let generator = self.models.language(Variant::default()).await?;
        match operation {
            calls::INFO => {
                Ok(calls::info(self.embedder.as_ref(), self.reranker.as_ref(), generator.as_ref()))
            }
            calls::ENCODER => calls::encoder(&*self.encoders, arguments).await,
            calls::RERANKER => {
                let reranker = self.encoders.reranker(Some(calls::str_of(arguments, "name")?)).await?;
                Ok(Value::map([("identity", reranker.identity().into())]))
            }
            calls::EMBED => calls::embed(&self.embedder, &*self.encoders, arguments).await,
            calls::RERANK => calls::rerank(&self.reranker, &*self.encoders, arguments).await,
            calls::GENERATE => calls::generate(generator.as_ref(), arguments, sink).await,
            other => {
                Err(Error::Unsupported { message: format!("the llm service has no operation '{other}'") })
            }
        }
    }
}

impl LlmService {
    /// One text is taken for a question, a list for passages: models of the e5 family embed them differently, and
    /// RWKV-RAG's clients do not say. `purpose` ("query", "passage") says it.
    async fn embeddings(&self, request: &Request) -> Result<Value> {
        for field in ["bgem3_path", "embedding_path"] {
            if let Some(path) = optional_text(request, field)? {
                self.models.check(ModelKind::Embedding, path)?;
            }
        }
        let purpose = match optional_text(request, "purpose")? {
            Some("query") => Purpose::Query,
            Some("passage") => Purpose::Passage,
            Some(other) => {
                return Err(Error::invalid(format!("'purpose' is query or passage, not '{other}'")));
            }
            None if matches!(request.field("texts"), Some(Value::Str(_))) => Purpose::Query,
            None => Purpose::Passage,
        };
        Ok(lists(&self.embedder.embed(texts(request, "texts")?, purpose).await?))
    }

    /// Score i is that of texts_0[i] with texts_1[i]. RWKV-RAG's clients differ in the order of question and
    /// passage: the side whose text repeats is the question, else the first.
    async fn cross_scores(&self, request: &Request) -> Result<Value> {
        if let Some(path) = optional_text(request, "rerank_path")? {
            self.models.check(ModelKind::Reranker, path)?;
        }
        let (left, right) = (texts(request, "texts_0")?, texts(request, "texts_1")?);
        if left.len() != right.len() {
            return Err(Error::invalid(format!(
                "texts_0 has {} texts and texts_1 {}: each score is of a pair",
                left.len(),
                right.len()
            )));
        }
        let constant = |side: &[String]| side.windows(2).all(|pair| pair[0] == pair[1]);
        let swapped = !constant(&left) && constant(&right);
        let (questions, passages) = if swapped { (right, left) } else { (left, right) };
        let mut scores = Vec::with_capacity(questions.len());
        let mut start = 0;
        for run in questions.chunk_by(|a, b| a == b) {
            let end = start + run.len();
            scores.extend(self.reranker.rerank(&run[0], &passages[start..end]).await?);
            start = end;
        }
        Ok(Value::list(scores))
    }

    async fn sampling_generate(&self, request: &Request) -> Result<Value> {
        if let Some(path) = optional_text(request, "base_model_path")? {
            self.models.select(path).await?;
        }
        let sampling = Sampling {
            temperature: number(request, "temperature", 0.3)? as f32,
            top_p: number(request, "top_p", 0.2)? as f32,
            presence_penalty: number(request, "presence_penalty", 0.67)? as f32,
            frequency_penalty: number(request, "frequency_penalty", 0.5)? as f32,
            seed: match request.field("seed").and_then(Value::as_int) {
                Some(seed) => Some(u64::try_from(seed).map_err(|_| Error::invalid("'seed' is at least 0"))?),
                None => None,
            },
            ..Sampling::default()
        };
        let generate = GenerateRequest {
            prompt: prompt(request)?,
            sampling,
            tokens_max: whole(request, "token_count", TOKENS_DEFAULT, 1..=TOKENS_MAX)?,
            stop: stop(),
            tenant: TENANT.to_owned(),
            bounds: None,
            variant: None,
        };
        let model = self.models.language(variant(request)?).await?;
        let (text, ..) = collect(model.generate(generate).await?).await?;
        Ok(text.into())
    }

    async fn beam_generate(&self, request: &Request) -> Result<Value> {
        let beam = BeamRequest {
            prompt: prompt(request)?,
            tokens_max: whole(request, "token_count", BEAM_TOKENS_DEFAULT, 1..=TOKENS_MAX)?,
            beams: whole(request, "num_beams", BEAMS_DEFAULT, 1..=BEAMS_MAX)?,
            stop: stop(),
            tenant: TENANT.to_owned(),
        };
        Ok(self.models.beam(beam).await?.into())
    }
}

fn variant(request: &Request) -> Result<Variant<'_>> {
    Ok(Variant { state: optional_text(request, "state_file")?, adapter: optional_text(request, "adapter")? })
}

/// RWKV-RAG's template around question and passage, unless the client brings the whole prompt.
fn prompt(request: &Request) -> Result<String> {
    if let Some(whole) = optional_text(request, "template_prompt")? {
        return Ok(whole.to_owned());
    }
    let instruction = text(request, "instruction")?;
    let input = optional_text(request, "input_text")?.unwrap_or_default();
    Ok(format!("Instruction: {instruction}\nInput: {input}\n\nResponse:"))
}

/// Where the next turn would begin; RWKV-RAG never stops there, so its answers run on.
fn stop() -> Vec<String> {
    ["\n\nUser:", "\n\nInstruction:", "\n\nQuestion:"].map(String::from).to_vec()
}

#[cfg(test)]
mod tests;
