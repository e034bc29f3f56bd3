//! What each command does; all but the offline ones speak the HTTP API through `client`.

pub(crate) mod ask;
pub(crate) mod config;
pub(crate) mod doctor;
pub(crate) mod document;
pub(crate) mod ingest;
pub(crate) mod job;
pub(crate) mod kb;
pub(crate) mod key;
pub(crate) mod model;
pub(crate) mod plugin;
pub(crate) mod pull;
pub(crate) mod swap;
pub(crate) mod sync;
pub(crate) mod tune;
pub(crate) mod user;

use serde_json::Value;

/// A field as people read it.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Escapes a path segment or query value.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// The list under a key of an answer.
fn list<'a>(answer: &'a Value, key: &str) -> &'a [Value] {
    answer[key].as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_travel_in_urls() {
        assert_eq!(escape("手册/a b.md"), "%E6%89%8B%E5%86%8C%2Fa%20b.md");
    }
}
