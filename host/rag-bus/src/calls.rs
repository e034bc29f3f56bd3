//! What our roles ask of each other: names of operations, and arguments and answers as values. `PROTOCOL.md` lists
//! them.

use std::sync::Arc;

use rag_core::document::Vectors;
use rag_core::ports::{
    Bounds, Embed, Encoders, FinishReason, Generate, GenerateRequest, GenerationEvent, Purpose, Rerank,
    Sampling, Usage, Variant,
};
use rag_core::{Error, Result};

use crate::remote::next;
use crate::value::Value;
use crate::worker::Sink;

/// Which models the service has for all.
pub const INFO: &str = "llm.info";
/// A further encoder of the service, by its name or its identity.
pub const ENCODER: &str = "llm.encoder";
/// A further reranker of the service, by its name.
pub const RERANKER: &str = "llm.reranker";
/// Texts become vectors.
pub const EMBED: &str = "llm.embed";
/// Passages get scores.
pub const RERANK: &str = "llm.rerank";
/// A prompt is continued; the text comes in chunks.
pub const GENERATE: &str = "llm.generate";

/// What `INFO` tells.
#[derive(Debug, Clone, PartialEq)]
pub struct Info {
    pub embedder: String,
    pub dim: usize,
    pub tokens_max: usize,
    pub reranker: String,
    pub generator: String,
    pub demonstration: bool,
}

/// What `ENCODER` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncoderInfo {
    pub identity: String,
    pub dim: usize,
    pub tokens_max: usize,
}

fn wrong(what: &str) -> Error {
    Error::invalid(format!("'{what}' is missing or of another type"))
}

pub(crate) fn str_of<'a>(value: &'a Value, name: &str) -> Result<&'a str> {
    value.get(name).and_then(Value::as_str).ok_or_else(|| wrong(name))
}

fn number_of(value: &Value, name: &str) -> Result<f64> {
    value.get(name).and_then(Value::as_f64).ok_or_else(|| wrong(name))
}

fn count_of<T: TryFrom<i128>>(value: &Value, name: &str) -> Result<T> {
    let number = value.get(name).and_then(Value::as_int).ok_or_else(|| wrong(name))?;
    T::try_from(number).map_err(|_| wrong(name))
}

fn texts_of(value: &Value, name: &str) -> Result<Vec<String>> {
    let texts = value.get(name).and_then(Value::as_list).ok_or_else(|| wrong(name))?;
    texts.iter().map(|text| text.as_str().map(str::to_owned).ok_or_else(|| wrong(name))).collect()
}

/// Numbers as little-endian f32 in one binary: an eighth of the time of a list.
fn floats(values: &[f32]) -> Value {
    Value::Bin(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into())
}

fn floats_of(value: &Value, name: &str) -> Result<Vec<f32>> {
    let Some(Value::Bin(bytes)) = value.get(name) else { return Err(wrong(name)) };
    let (whole, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(wrong(name));
    }
    Ok(whole.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

pub(crate) fn info(embedder: &dyn Embed, reranker: &dyn Rerank, generator: &dyn Generate) -> Value {
    Value::map([
        ("embedder", embedder.identity().into()),
        ("dim", (embedder.dim() as u64).into()),
        ("tokens_max", (embedder.tokens_max() as u64).into()),
        ("reranker", reranker.identity().into()),
        ("generator", generator.identity().into()),
        ("demonstration", generator.demonstration().into()),
    ])
}

pub(crate) fn info_of(value: &Value) -> Result<Info> {
    Ok(Info {
        embedder: str_of(value, "embedder")?.to_owned(),
        dim: count_of(value, "dim")?,
        tokens_max: count_of(value, "tokens_max")?,
        reranker: str_of(value, "reranker")?.to_owned(),
        generator: str_of(value, "generator")?.to_owned(),
        demonstration: value.get("demonstration") == Some(&Value::Bool(true)),
    })
}

pub(crate) fn encoder_info(encoder: &dyn Embed) -> Value {
    Value::map([
        ("identity", encoder.identity().into()),
        ("dim", (encoder.dim() as u64).into()),
        ("tokens_max", (encoder.tokens_max() as u64).into()),
    ])
}

pub(crate) fn encoder_info_of(value: &Value) -> Result<EncoderInfo> {
    Ok(EncoderInfo {
        identity: str_of(value, "identity")?.to_owned(),
        dim: count_of(value, "dim")?,
        tokens_max: count_of(value, "tokens_max")?,
    })
}

/// The encoder that is asked for by `name` or by `identity`; nil when there is none of that identity.
pub(crate) async fn encoder(encoders: &dyn Encoders, arguments: &Value) -> Result<Value> {
    if let Some(name) = name_of(arguments, "name")? {
        return Ok(encoder_info(&*encoders.encoder(Some(&name)).await?));
    }
    let found = encoders.of_identity(str_of(arguments, "identity")?).await?;
    Ok(found.map_or(Value::Nil, |encoder| encoder_info(&*encoder)))
}

/// `encoder` is the identity of the one meant: no other's vectors are of use.
pub(crate) fn embed_arguments(texts: Vec<String>, purpose: Purpose, encoder: &str) -> Value {
    let purpose = match purpose {
        Purpose::Query => "query",
        Purpose::Passage => "passage",
    };
    Value::map([("texts", Value::list(texts)), ("purpose", purpose.into()), ("encoder", encoder.into())])
}

pub(crate) async fn embed(
    for_all: &Arc<dyn Embed>,
    encoders: &dyn Encoders,
    arguments: &Value,
) -> Result<Value> {
    let embedder = match name_of(arguments, "encoder")? {
        None => for_all.clone(),
        Some(identity) if identity == for_all.identity() => for_all.clone(),
        Some(identity) => encoders.of_identity(&identity).await?.ok_or_else(|| Error::Unavailable {
            message: format!(
                "the llm service has no online encoder {identity}: register it there (`rwkv-rag model add`, `model online`), or restart this role after its models changed"
            ),
        })?,
    };
    let purpose = match str_of(arguments, "purpose")? {
        "query" => Purpose::Query,
        "passage" => Purpose::Passage,
        _ => return Err(wrong("purpose")),
    };
    let vectors = embedder.embed(texts_of(arguments, "texts")?, purpose).await?;
    Ok(Value::map([("dim", (vectors.dim as u64).into()), ("data", floats(&vectors.data))]))
}

pub(crate) fn vectors_of(value: &Value) -> Result<Vectors> {
    let vectors = Vectors { dim: count_of(value, "dim")?, data: floats_of(value, "data")? };
    let whole = vectors.dim > 0 && vectors.data.len().is_multiple_of(vectors.dim);
    if !whole || vectors.data.iter().any(|value| !value.is_finite()) {
        return Err(wrong("data"));
    }
    Ok(vectors)
}

/// `reranker` is the name of the one meant, none the one for all.
pub(crate) fn rerank_arguments(query: &str, passages: &[String], reranker: Option<&str>) -> Value {
    Value::map([
        ("query", query.into()),
        ("passages", Value::list(passages.iter().cloned())),
        ("reranker", reranker.map_or(Value::Nil, Value::from)),
    ])
}

pub(crate) async fn rerank(
    for_all: &Arc<dyn Rerank>,
    encoders: &dyn Encoders,
    arguments: &Value,
) -> Result<Value> {
    let reranker = match name_of(arguments, "reranker")? {
        None => for_all.clone(),
        Some(name) => encoders.reranker(Some(&name)).await?,
    };
    let passages = texts_of(arguments, "passages")?;
    let scores = reranker.rerank(str_of(arguments, "query")?, &passages).await?;
    Ok(Value::map([("scores", floats(&scores))]))
}

pub(crate) fn scores_of(value: &Value) -> Result<Vec<f32>> {
    floats_of(value, "scores")
}

pub(crate) fn generate_arguments(request: &GenerateRequest) -> Value {
    let Sampling { temperature, top_p, top_k, presence_penalty, frequency_penalty, penalty_decay, seed } =
        request.sampling;
    Value::map([
        ("prompt", request.prompt.as_str().into()),
        ("tokens_max", request.tokens_max.into()),
        ("stop", Value::list(request.stop.iter().cloned())),
        ("tenant", request.tenant.as_str().into()),
        ("bounds", request.bounds.as_ref().map_or(Value::Nil, bounds)),
        ("temperature", temperature.into()),
        ("top_p", top_p.into()),
        ("top_k", top_k.into()),
        ("presence_penalty", presence_penalty.into()),
        ("frequency_penalty", frequency_penalty.into()),
        ("penalty_decay", penalty_decay.into()),
        ("seed", seed.map_or(Value::Nil, Value::from)),
        ("variant", request.variant.as_ref().map_or(Value::Nil, variant)),
    ])
}

fn generate_request(arguments: &Value) -> Result<GenerateRequest> {
    let number = |name| number_of(arguments, name).map(|value| value as f32);
    let given = |name| arguments.get(name).is_some_and(|value| *value != Value::Nil);
    Ok(GenerateRequest {
        prompt: str_of(arguments, "prompt")?.to_owned(),
        sampling: Sampling {
            temperature: number("temperature")?,
            top_p: number("top_p")?,
            top_k: count_of(arguments, "top_k")?,
            presence_penalty: number("presence_penalty")?,
            frequency_penalty: number("frequency_penalty")?,
            penalty_decay: number("penalty_decay")?,
            seed: if given("seed") { Some(count_of(arguments, "seed")?) } else { None },
        },
        tokens_max: count_of(arguments, "tokens_max")?,
        stop: texts_of(arguments, "stop")?,
        tenant: str_of(arguments, "tenant")?.to_owned(),
        bounds: match arguments.get("bounds") {
            None | Some(Value::Nil) => None,
            Some(bounds) => Some(Bounds {
                parts_of: texts_of(bounds, "parts_of")?,
                or_whole: texts_of(bounds, "or_whole")?,
            }),
        },
        variant: match arguments.get("variant") {
            None | Some(Value::Nil) => None,
            Some(variant) => {
                Some(Variant { state: name_of(variant, "state")?, adapter: name_of(variant, "adapter")? })
            }
        },
    })
}

/// An empty map is the language model as it is.
fn variant(variant: &Variant) -> Value {
    let name = |name: &Option<String>| name.as_deref().map_or(Value::Nil, Value::from);
    Value::map([("state", name(&variant.state)), ("adapter", name(&variant.adapter))])
}

fn name_of(variant: &Value, name: &str) -> Result<Option<String>> {
    match variant.get(name) {
        None | Some(Value::Nil) => Ok(None),
        Some(_) => str_of(variant, name).map(|name| Some(name.to_owned())),
    }
}

fn bounds(bounds: &Bounds) -> Value {
    Value::map([
        ("parts_of", Value::list(bounds.parts_of.iter().cloned())),
        ("or_whole", Value::list(bounds.or_whole.iter().cloned())),
    ])
}

pub(crate) async fn generate(generator: &dyn Generate, arguments: &Value, sink: &mut Sink) -> Result<Value> {
    let mut stream = generator.generate(generate_request(arguments)?).await?;
    loop {
        match next(&mut stream).await {
            Some(Ok(GenerationEvent::Text(text))) => sink.chunk(&Value::map([("text", text.into())])),
            Some(Ok(GenerationEvent::Done { reason, usage })) => return Ok(done(reason, usage)),
            Some(Err(error)) => return Err(error),
            None => return Err(Error::internal("the language model's answer has no end")),
        }
    }
}

fn done(reason: FinishReason, usage: Usage) -> Value {
    let reason = match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    };
    Value::map([
        ("reason", reason.into()),
        ("prompt_tokens", usage.prompt_tokens.into()),
        ("output_tokens", usage.output_tokens.into()),
    ])
}

pub(crate) fn done_of(value: &Value) -> Result<GenerationEvent> {
    let reason = match str_of(value, "reason")? {
        "stop" => FinishReason::Stop,
        "length" => FinishReason::Length,
        _ => return Err(wrong("reason")),
    };
    let usage = Usage {
        prompt_tokens: count_of(value, "prompt_tokens")?,
        output_tokens: count_of(value, "output_tokens")?,
    };
    Ok(GenerationEvent::Done { reason, usage })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_asked_for_as_it_was_meant() {
        let request = GenerateRequest {
            prompt: "问".into(),
            sampling: Sampling { temperature: 0.0, top_k: 3, seed: Some(u64::MAX), ..Sampling::default() },
            tokens_max: 9,
            stop: vec!["\n\n".into()],
            tenant: "a".into(),
            bounds: Some(Bounds { parts_of: vec!["文".into()], or_whole: vec![] }),
            variant: Some(Variant { state: Some("问答".into()), adapter: None }),
        };
        let sent = Value::decode(&generate_arguments(&request).encode()).unwrap();
        assert_eq!(generate_request(&sent).unwrap(), request);
        let plain =
            GenerateRequest { sampling: Sampling::default(), tenant: String::new(), bounds: None, ..request };
        let plain = GenerateRequest { variant: None, ..plain };
        assert_eq!(generate_request(&generate_arguments(&plain)).unwrap(), plain);
        assert!(generate_request(&Value::Nil).is_err());
    }

    #[test]
    fn numbers_keep_their_bits_and_broken_ones_are_refused() {
        let values = [0.1f32, -3.4e38, f32::MIN_POSITIVE];
        assert_eq!(scores_of(&Value::map([("scores", floats(&values))])).unwrap(), values);
        let vectors =
            |dim: u64, data: &[f32]| vectors_of(&Value::map([("dim", dim.into()), ("data", floats(data))]));
        assert_eq!(vectors(3, &values).unwrap().rows(), 1);
        assert!(vectors(2, &values).is_err() && vectors(0, &values).is_err());
        assert!(vectors(1, &[f32::NAN]).is_err());
    }
}
