//! RWKV-RAG's commands, answered from the ports: one service a file, and what their fields have in common here.
//!
//! A command's fields are a Python client's, so they are read generously: nil counts as absent, whole numbers as
//! fractions, a single text as a list of one where RWKV-RAG's generations differ.

pub mod index;
pub mod llm;
pub mod tuning;

use rag_core::document::Vectors;
use rag_core::{Error, Result};

use crate::value::Value;
use crate::wire::{Request, UNSUPPORTED_COMMAND};

/// Texts of one request.
pub const TEXTS_MAX: usize = 4096;
/// Bytes of one text.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

/// A command that the service does not have, in RWKV-RAG's words.
fn unsupported() -> Error {
    Error::Unsupported { message: UNSUPPORTED_COMMAND.to_owned() }
}

fn missing(request: &Request, name: &str, wanted: &str) -> Error {
    let found = match request.field(name) {
        None => "it is missing",
        Some(_) => "it is something else",
    };
    Error::invalid(format!("{} needs '{name}' as {wanted}; {found}", request.cmd))
}

/// A text; absent and empty are the same to Python's clients.
fn optional_text<'a>(request: &'a Request, name: &str) -> Result<Option<&'a str>> {
    match request.field(name) {
        None => Ok(None),
        Some(Value::Str(text)) if text.is_empty() => Ok(None),
        Some(Value::Str(text)) if text.len() > TEXT_BYTES_MAX => Err(too_long(name)),
        Some(Value::Str(text)) => Ok(Some(text)),
        Some(_) => Err(missing(request, name, "a text")),
    }
}

fn text<'a>(request: &'a Request, name: &str) -> Result<&'a str> {
    optional_text(request, name)?.ok_or_else(|| missing(request, name, "a text"))
}

/// A list of texts; a single one counts as a list of one.
fn texts(request: &Request, name: &str) -> Result<Vec<String>> {
    let wrong = || missing(request, name, "a text or a list of texts");
    let values = match request.field(name) {
        Some(Value::Str(text)) => return Ok(vec![bounded(name, text)?]),
        Some(Value::Array(values)) => values,
        _ => return Err(wrong()),
    };
    if values.len() > TEXTS_MAX {
        return Err(Error::invalid(format!("'{name}' has {} texts, more than {TEXTS_MAX}", values.len())));
    }
    values.iter().map(|value| bounded(name, value.as_str().ok_or_else(wrong)?)).collect()
}

fn bounded(name: &str, text: &str) -> Result<String> {
    if text.len() > TEXT_BYTES_MAX { Err(too_long(name)) } else { Ok(text.to_owned()) }
}

fn too_long(name: &str) -> Error {
    Error::invalid(format!("a text in '{name}' has more than {TEXT_BYTES_MAX} bytes"))
}

fn number(request: &Request, name: &str, default: f64) -> Result<f64> {
    match request.field(name) {
        None => Ok(default),
        Some(value) => value.as_f64().ok_or_else(|| missing(request, name, "a number")),
    }
}

/// A whole number in a range.
fn whole(request: &Request, name: &str, default: u32, range: std::ops::RangeInclusive<u32>) -> Result<u32> {
    let value = number(request, name, default.into())?;
    if value.fract() != 0.0 || value < f64::from(*range.start()) || value > f64::from(*range.end()) {
        let (low, high) = (range.start(), range.end());
        return Err(Error::invalid(format!(
            "'{name}' is {value}; it is a whole number from {low} to {high}"
        )));
    }
    Ok(value as u32)
}

fn flag(request: &Request, name: &str) -> Result<bool> {
    match request.field(name) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(Value::Int(value)) => Ok(*value != 0),
        Some(_) => Err(missing(request, name, "true or false")),
    }
}

/// Vectors as lists of numbers; a single one may come without the outer list.
fn vectors(request: &Request, name: &str) -> Result<Vectors> {
    let wrong = || missing(request, name, "a list of vectors of the same length");
    let rows = request.field(name).and_then(Value::as_list).ok_or_else(wrong)?;
    let single = rows.first().is_some_and(|first| first.as_f64().is_some());
    let rows: Vec<&[Value]> = if single {
        vec![rows]
    } else {
        rows.iter().map(|row| row.as_list().ok_or_else(wrong)).collect::<Result<_>>()?
    };
    let dim = rows.first().map_or(0, |row| row.len());
    if dim == 0 || rows.iter().any(|row| row.len() != dim) {
        return Err(wrong());
    }
    let mut data = Vec::with_capacity(dim * rows.len());
    for value in rows.into_iter().flatten() {
        let value = value.as_f64().ok_or_else(wrong)? as f32;
        if !value.is_finite() {
            return Err(Error::invalid(format!("'{name}' holds a value that is not a finite number")));
        }
        data.push(value);
    }
    Ok(Vectors { dim, data })
}

/// Vectors as RWKV-RAG has them: lists of floats.
fn lists(vectors: &Vectors) -> Value {
    Value::Array(vectors.iter().map(|row| Value::list(row.iter().copied())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(value: Value) -> Request {
        Request::new("x").with("f", value)
    }

    #[test]
    fn a_text_alone_is_a_list_of_one() {
        assert_eq!(texts(&request("a".into()), "f").unwrap(), ["a"]);
        assert_eq!(texts(&request(Value::list(["a", "b"])), "f").unwrap(), ["a", "b"]);
        assert!(texts(&request(Value::Int(1)), "f").is_err());
        assert!(texts(&request(Value::Array(vec![Value::Nil])), "f").is_err());
        assert!(texts(&request(Value::Array(vec!["".into(); TEXTS_MAX + 1])), "f").is_err());
        assert!(texts(&request("a".repeat(TEXT_BYTES_MAX + 1).into()), "f").is_err());
    }

    #[test]
    fn one_vector_may_come_without_its_list() {
        let flat = Value::Array(vec![Value::Int(1), Value::Float(0.5)]);
        let expected = Vectors { dim: 2, data: vec![1.0, 0.5] };
        assert_eq!(vectors(&request(flat.clone()), "f").unwrap(), expected);
        assert_eq!(vectors(&request(Value::Array(vec![flat.clone()])), "f").unwrap(), expected);
        let ragged = Value::Array(vec![flat, Value::list([1.0f32])]);
        for bad in [ragged, Value::Array(vec![]), Value::list([f32::NAN]), "x".into()] {
            assert!(vectors(&request(bad.clone()), "f").is_err(), "{bad:?}");
        }
        assert_eq!(lists(&expected).encode(), b"\x91\x92\xcb\x3f\xf0\0\0\0\0\0\0\xcb\x3f\xe0\0\0\0\0\0\0");
    }

    #[test]
    fn numbers_have_ranges_and_defaults() {
        let absent = Request::new("x");
        assert_eq!(whole(&absent, "f", 7, 1..=9).unwrap(), 7);
        assert_eq!(whole(&request(Value::Float(3.0)), "f", 7, 1..=9).unwrap(), 3);
        for bad in [Value::Int(0), Value::Float(1.5), Value::Int(10), "3".into()] {
            assert!(whole(&request(bad.clone()), "f", 7, 1..=9).is_err(), "{bad:?}");
        }
        assert_eq!(number(&request(Value::Int(2)), "f", 0.5).unwrap(), 2.0);
        assert!(flag(&request(Value::Bool(true)), "f").unwrap() && !flag(&absent, "f").unwrap());
        assert_eq!(optional_text(&request("".into()), "f").unwrap(), None);
        assert!(text(&absent, "f").unwrap_err().to_string().contains("it is missing"));
    }
}
