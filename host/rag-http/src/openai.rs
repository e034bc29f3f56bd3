//! The OpenAI-compatible API under `/v1`, with rerank as Jina and Cohere have it: shapes and errors as their clients
//! expect them.

pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod embeddings;
pub(crate) mod models;
pub(crate) mod prompt;
pub(crate) mod rerank;

use axum::http::StatusCode;
use rag_core::ports::{GenerateRequest, Sampling, Usage};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::ask::check_sampling;
use crate::api::kbs::in_range;
use crate::auth::Caller;
use crate::error::{ApiError, ApiResult};

/// Before a knowledge base's name in `model`.
pub(crate) const KB_PREFIX: &str = "kb:";
/// Tokens written when the request sets no limit.
const TOKENS_DEFAULT: u32 = 512;
/// Stop strings of one request, and bytes of each.
const STOPS_MAX: usize = 8;
const STOP_BYTES_MAX: usize = 64;
/// Bytes of a prompt.
const PROMPT_BYTES_MAX: usize = 256 << 10;

/// Body of every error under `/v1`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OpenAiError {
    error: OpenAiErrorDetail,
}

#[derive(Debug, Serialize, ToSchema)]
struct OpenAiErrorDetail {
    message: String,
    /// `invalid_request_error`, `authentication_error`, `permission_error`, `rate_limit_error` or `server_error`.
    r#type: &'static str,
    param: Option<&'static str>,
    code: &'static str,
}

/// One text or several.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// Settings that chat and plain completions share; unknown fields are ignored, as clients send many.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct SamplingBody {
    temperature: Option<f32>,
    top_p: Option<f32>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    stop: Option<OneOrMany>,
    seed: Option<u64>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    /// Answers wanted: only 1.
    n: Option<u32>,
}

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
pub(crate) struct StreamOptions {
    /// Send the token counts in a last chunk.
    #[serde(default)]
    include_usage: bool,
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(crate) struct OpenAiUsage {
    prompt_tokens: u32,
    completion_tokens: u32,
    total_tokens: u32,
}

impl OneOrMany {
    pub(crate) fn into_vec(self) -> Vec<String> {
        match self {
            OneOrMany::One(text) => vec![text],
            OneOrMany::Many(texts) => texts,
        }
    }
}

impl SamplingBody {
    pub(crate) fn tokens_max(&self) -> Option<u32> {
        self.max_completion_tokens.or(self.max_tokens)
    }

    /// Refuses what can never work, in one place for both APIs.
    fn check(&self) -> ApiResult<()> {
        check_sampling(self.temperature, self.top_p, self.tokens_max())?;
        if let Some(penalty) = self.presence_penalty {
            in_range("presence_penalty", penalty, -2.0, 2.0)?;
        }
        if let Some(penalty) = self.frequency_penalty {
            in_range("frequency_penalty", penalty, -2.0, 2.0)?;
        }
        match self.n {
            None | Some(1) => Ok(()),
            Some(_) => Err(ApiError::invalid("only one answer a request is made: n must be 1")),
        }
    }

    fn into_request(self, caller: &Caller, prompt: String, own_stops: &[&str]) -> ApiResult<GenerateRequest> {
        self.check()?;
        let tokens_max = self.tokens_max().unwrap_or(TOKENS_DEFAULT);
        if prompt.len() > PROMPT_BYTES_MAX {
            return Err(ApiError::too_large(format!(
                "the prompt has {} bytes; at most {PROMPT_BYTES_MAX} are read",
                prompt.len()
            )));
        }
        let mut stop = self.stop.map(OneOrMany::into_vec).unwrap_or_default();
        if stop.len() > STOPS_MAX || stop.iter().any(|stop| stop.is_empty() || stop.len() > STOP_BYTES_MAX) {
            return Err(ApiError::invalid(format!(
                "stop takes at most {STOPS_MAX} texts of 1 to {STOP_BYTES_MAX} bytes"
            )));
        }
        stop.extend(own_stops.iter().map(|&own| own.to_owned()));
        let usual = Sampling::default();
        let sampling = Sampling {
            temperature: self.temperature.unwrap_or(usual.temperature),
            top_p: self.top_p.unwrap_or(usual.top_p),
            presence_penalty: self.presence_penalty.unwrap_or(usual.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(usual.frequency_penalty),
            seed: self.seed,
            ..usual
        };
        Ok(GenerateRequest {
            prompt,
            sampling,
            tokens_max,
            stop,
            tenant: caller.tenant(),
            bounds: None,
            variant: None,
        })
    }
}

impl From<Usage> for OpenAiUsage {
    fn from(usage: Usage) -> Self {
        OpenAiUsage {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.output_tokens,
            total_tokens: usage.prompt_tokens + usage.output_tokens,
        }
    }
}

/// Whether a request means this model: its whole identity, the name before a `@` or `:` in it, or `default`.
pub(crate) fn means(asked: &str, identity: &str) -> bool {
    let name = identity.split(['@', ':']).next().unwrap_or(identity);
    asked == identity || asked == name || asked == "default"
}

pub(crate) fn unknown_model(asked: &str, known: &str) -> ApiError {
    let shown: String = asked.chars().take(80).collect();
    ApiError {
        status: StatusCode::NOT_FOUND,
        code: "model_not_found",
        message: format!("there is no model '{}' here; this path knows {known}", shown.escape_debug()),
        retryable: false,
        retry_after_s: None,
    }
}

/// An id like OpenAI's, unique as far as randomness goes.
pub(crate) fn new_id(prefix: &str) -> String {
    let mut bytes = [0_u8; 12];
    // Clients only print it, so an id that repeats harms nothing.
    let _ = getrandom::fill(&mut bytes);
    bytes.iter().fold(prefix.to_owned(), |id, byte| id + &format!("{byte:02x}"))
}

/// Seconds since 1970.
pub(crate) fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The body of an error in OpenAI's shape.
pub(crate) fn error_json(error: &ApiError) -> Vec<u8> {
    let kind = match error.status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_server_error() => "server_error",
        _ => "invalid_request_error",
    };
    let detail =
        OpenAiErrorDetail { message: error.message.clone(), r#type: kind, param: None, code: error.code };
    serde_json::to_vec(&OpenAiError { error: detail }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_named_in_full_in_short_or_by_default() {
        let check = |asked: &str, want: bool| assert_eq!(means(asked, "e5-small@ab12"), want, "{asked}");
        check("e5-small@ab12", true);
        check("e5-small", true);
        check("default", true);
        check("e5", false);
        check("", false);
        check("text-embedding-3-small", false);
    }
}
