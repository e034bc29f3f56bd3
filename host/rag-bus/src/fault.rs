//! Errors as wire values and back: codes, messages and the fields that a caller acts on.

use rag_core::{Error, ErrorCode};

use crate::value::Value;

/// Names of things that errors mention; a name from the wire becomes one of these.
const THINGS: &[&str] = &[
    "knowledge base",
    "collection",
    "vector collection",
    "document",
    "original",
    "chunk",
    "page",
    "file",
    "table",
    "index",
    "generation",
    "plugin",
    "search engine",
    "job",
    "run",
    "pull",
    "tuning job",
    "data set",
    "result of this job",
    "model",
    "model file",
    "encoder",
    "reranker",
    "profile",
    "conversation",
    "round",
    "user",
    "key",
    "the language model",
];
/// What another version's name for a thing becomes.
const SOME_THING: &str = "what was asked for,";
/// Queues, likewise.
const QUEUES: &[&str] = &["the language model", "the embedding model", "the service", "ingest", "tuning"];
/// Settings, likewise.
const SETTINGS: &[&str] = &["bus.request_timeout_ms", "data.document_bytes_max"];

/// `{code, message, …}`: what an `ERROR` message holds.
pub(crate) fn encode(error: &Error) -> Value {
    let mut pairs = vec![
        ("code", Value::from(name(error.code()))),
        ("message", error.to_string().into()),
        ("retryable", error.retryable().into()),
    ];
    match error {
        Error::NotFound { what, name } => {
            pairs.push(("what", (*what).into()));
            pairs.push(("name", name.as_str().into()));
        }
        Error::Busy { what, limit } => {
            pairs.push(("queue", (*what).into()));
            pairs.push(("limit", (*limit as u64).into()));
        }
        Error::Timeout { what, limit_ms, setting } => {
            pairs.push(("what", what.as_str().into()));
            pairs.push(("limit", (*limit_ms).into()));
            pairs.push(("setting", (*setting).into()));
        }
        // Their message says it all.
        Error::InvalidInput { .. } | Error::Unsupported { .. } | Error::Conflict { .. } => {}
        Error::Denied { .. } | Error::TooLarge { .. } | Error::Cancelled | Error::Unavailable { .. } => {}
        Error::Storage { .. } | Error::Model { .. } | Error::Plugin { .. } | Error::Internal { .. } => {}
    }
    Value::Map(pairs.into_iter().map(|(key, value)| (key.into(), value)).collect())
}

/// The error that was encoded, as nearly as a message from elsewhere can become one.
pub(crate) fn decode(body: &Value) -> Error {
    let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
    let number = |key: &str| body.get(key).and_then(Value::as_int).and_then(|n| u64::try_from(n).ok());
    let message = text("message").unwrap_or_else(|| "an error without a message".to_owned());
    let code = text("code").unwrap_or_default();
    match code.as_str() {
        "invalid-input" | "quota" => Error::InvalidInput { message },
        "unsupported" => Error::Unsupported { message },
        "not-found" => match (known(THINGS, text("what")), text("name")) {
            (what, Some(name)) => Error::NotFound { what: what.unwrap_or(SOME_THING), name },
            (_, None) => Error::InvalidInput { message },
        },
        "conflict" => Error::Conflict { message },
        "denied" => Error::Denied { message },
        "cancelled" => Error::Cancelled,
        "unavailable" => match (text("queue"), number("limit")) {
            (Some(queue), Some(limit)) => Error::Busy {
                what: known(QUEUES, Some(queue)).unwrap_or("the service"),
                limit: usize::try_from(limit).unwrap_or(usize::MAX),
            },
            _ => Error::Unavailable { message },
        },
        "timeout" => Error::Timeout {
            what: text("what").unwrap_or(message),
            limit_ms: number("limit").unwrap_or_default(),
            setting: known(SETTINGS, text("setting")).unwrap_or("bus.request_timeout_ms"),
        },
        _ => Error::Internal { message: message.trim_start_matches("internal error: ").to_owned() },
    }
}

fn known(names: &'static [&'static str], name: Option<String>) -> Option<&'static str> {
    let name = name?;
    names.iter().find(|known| **known == name).copied()
}

fn name(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::InvalidInput => "invalid-input",
        ErrorCode::Unsupported => "unsupported",
        ErrorCode::NotFound => "not-found",
        ErrorCode::Conflict => "conflict",
        ErrorCode::Quota => "quota",
        ErrorCode::Denied => "denied",
        ErrorCode::Unavailable => "unavailable",
        ErrorCode::Timeout => "timeout",
        ErrorCode::Cancelled => "cancelled",
        ErrorCode::Internal => "internal",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_arrive_as_they_left() {
        let message = || "说明".to_owned();
        for error in [
            Error::InvalidInput { message: message() },
            Error::Unsupported { message: message() },
            Error::NotFound { what: "knowledge base", name: "无此库".into() },
            Error::NotFound { what: "encoder", name: "none".into() },
            Error::Conflict { message: message() },
            Error::Denied { message: message() },
            Error::Cancelled,
            Error::Busy { what: "the language model", limit: 64 },
            Error::Unavailable { message: message() },
            Error::Timeout { what: "x".into(), limit_ms: 9, setting: "bus.request_timeout_ms" },
            Error::Internal { message: message() },
        ] {
            let back = decode(&Value::decode(&encode(&error).encode()).unwrap());
            assert_eq!((back.code(), back.to_string()), (error.code(), error.to_string()));
            assert_eq!(back.retryable(), error.retryable());
        }
    }

    #[test]
    fn a_strange_error_is_still_one() {
        let strange = decode(&Value::map([("code", "sideways".into())]));
        assert_eq!(strange.to_string(), "internal error: an error without a message");
        let unknown = Value::map([("code", "not-found".into()), ("message", "gone".into())]);
        assert_eq!(decode(&unknown).to_string(), "gone");
        let thing = Error::NotFound { what: "thing of tomorrow", name: "x".into() };
        let told = decode(&encode(&thing));
        assert_eq!(told.code(), ErrorCode::NotFound, "{told}");
    }
}
