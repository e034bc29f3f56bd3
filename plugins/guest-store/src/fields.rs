//! How are a row's fields kept on a server that has neither our types nor our comparisons? As tags, and as one text.
//!
//! A tag says that a field has a value (`s:name=中文`) or a kind (`i:page`): with these, every condition but the order of
//! numbers and texts is a question for one tag. The text (JSON) gives the fields back to be compared here.

use serde_json::{Map, json};

use crate::{Error, Result, Value};

/// The kind of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Text,
    Integer,
    Number,
    Boolean,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Text, Kind::Integer, Kind::Number, Kind::Boolean];

    /// One letter.
    pub fn letter(self) -> &'static str {
        match self {
            Kind::Text => "s",
            Kind::Integer => "i",
            Kind::Number => "n",
            Kind::Boolean => "b",
        }
    }
}

impl Value {
    pub fn kind(&self) -> Kind {
        match self {
            Value::Text(_) => Kind::Text,
            Value::Integer(_) => Kind::Integer,
            Value::Number(_) => Kind::Number,
            Value::Boolean(_) => Kind::Boolean,
        }
    }

    /// As JSON of the same type; an integer and a number stay apart (`1` and `1.0`).
    pub fn json(&self) -> serde_json::Value {
        match self {
            Value::Text(text) => json!(text),
            Value::Integer(number) => json!(number),
            Value::Number(number) => json!(number),
            Value::Boolean(flag) => json!(flag),
        }
    }
}

/// The tag of a field's kind; `=` in a name is doubled, so that no two tags are alike.
pub fn kind_tag(field: &str, kind: Kind) -> String {
    format!("{}:{}", kind.letter(), field.replace('=', "=="))
}

/// The tag of a field's value.
pub fn value_tag(field: &str, value: &Value) -> String {
    let shown = match value {
        Value::Text(text) => text.clone(),
        // One number has one form, whatever its sign of zero.
        Value::Number(number) => format!("{:?}", number + 0.0),
        other => other.json().to_string(),
    };
    format!("{}= {shown}", kind_tag(field, value.kind()))
}

/// Every tag of a row.
pub fn tags(fields: &[(String, Value)]) -> Vec<String> {
    let both = |(field, value): &(String, Value)| [kind_tag(field, value.kind()), value_tag(field, value)];
    fields.iter().flat_map(both).collect()
}

/// Fields as JSON by kind: `{"i": {"page": 3}, "s": {"name": "中文"}}`.
pub fn by_kind(fields: &[(String, Value)]) -> serde_json::Value {
    let mut kinds = Map::new();
    for (field, value) in fields {
        let kind = kinds.entry(value.kind().letter()).or_insert_with(|| json!({}));
        if let Some(kind) = kind.as_object_mut() {
            kind.insert(field.clone(), value.json());
        }
    }
    serde_json::Value::Object(kinds)
}

/// What `by_kind` wrote, as JSON text.
pub fn read(text: &str) -> Result<Vec<(String, Value)>> {
    let damaged =
        || Error::internal("a row's fields were changed on the server by another program".to_owned());
    let kinds: Map<String, serde_json::Value> = serde_json::from_str(text).map_err(|_| damaged())?;
    let mut fields = Vec::new();
    for (letter, held) in kinds {
        let kind = Kind::ALL.into_iter().find(|kind| kind.letter() == letter).ok_or_else(damaged)?;
        for (field, value) in held.as_object().ok_or_else(damaged)? {
            let value = match kind {
                Kind::Text => value.as_str().map(|text| Value::Text(text.to_owned())),
                Kind::Integer => value.as_i64().map(Value::Integer),
                Kind::Number => value.as_f64().map(Value::Number),
                Kind::Boolean => value.as_bool().map(Value::Boolean),
            };
            fields.push((field.clone(), value.ok_or_else(damaged)?));
        }
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_back_with_their_kinds() {
        let fields = vec![
            ("done".to_owned(), Value::Boolean(true)),
            ("page".to_owned(), Value::Integer(i64::MAX)),
            ("score".to_owned(), Value::Number(1.0)),
            ("name".to_owned(), Value::Text("中\"文".to_owned())),
        ];
        assert_eq!(read(&by_kind(&fields).to_string()).unwrap(), fields);
        assert_eq!(read("{}").unwrap(), []);
        for bad in ["", "[]", r#"{"z": {}}"#, r#"{"i": {"a": "b"}}"#, r#"{"i": 3}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_two_different_values_share_a_tag() {
        let values = [
            Value::Integer(1),
            Value::Number(1.0),
            Value::Text("1".to_owned()),
            Value::Text("true".to_owned()),
            Value::Boolean(true),
        ];
        let mut all: Vec<String> = values.iter().map(|value| value_tag("f", value)).collect();
        all.extend(Kind::ALL.map(|kind| kind_tag("f", kind)));
        all.push(value_tag("f= x", &values[2]));
        all.push(kind_tag("f= 1", Kind::Text));
        all.push(kind_tag("f=", Kind::Text));
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count, "{all:?}");
        assert_eq!(value_tag("f", &Value::Number(-0.0)), value_tag("f", &Value::Number(0.0)));
    }
}
