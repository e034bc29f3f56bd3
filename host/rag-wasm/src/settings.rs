//! Do settings fit the schema of a plugin's manifest? What does not is named, with what it may be.
//!
//! Of JSON Schema this reads what manifests use: types, `enum`, `minimum`, `maximum`, `required` and
//! `additionalProperties = false`. What else a schema says is left to the plugin, which checks again in any case.

use serde_json::{Map, Value};

/// Characters of a wrong value that are shown.
const SHOWN_CHARS_MAX: usize = 60;

/// Looks at every setting; the error is a sentence about the first that is wrong. A plugin without a schema takes all.
pub(crate) fn check(schema: &Value, given: &Map<String, Value>) -> Result<(), String> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let property = |key: &str| properties.and_then(|properties| properties.get(key));
    let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
    for (key, value) in given {
        match property(key) {
            Some(property) if !fits(property, value) => {
                return Err(format!("setting '{key}' must be {}, not {}", wanted(property), shown(value)));
            }
            None if closed => return Err(unknown(key, properties)),
            Some(_) | None => {}
        }
    }
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    match required.filter_map(Value::as_str).find(|key| !given.contains_key(*key)) {
        Some(key) => {
            let wanted = property(key).map_or_else(|| "a value".to_owned(), wanted);
            Err(format!("setting '{key}' is missing; it must be {wanted}"))
        }
        None => Ok(()),
    }
}

fn unknown(key: &str, properties: Option<&Map<String, Value>>) -> String {
    let mut known: Vec<&str> = properties.into_iter().flat_map(Map::keys).map(String::as_str).collect();
    known.sort_unstable();
    let known = match known.is_empty() {
        true => "this plugin has no settings".to_owned(),
        false => format!("the keys are {}", known.join(", ")),
    };
    let key: String = key.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect();
    format!("unknown setting '{key}'; {known}")
}

fn fits(property: &Value, value: &Value) -> bool {
    let of_type = match kind(property) {
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        _ => true,
    };
    let (low, high) = bounds(property);
    let within = value
        .as_f64()
        .is_none_or(|number| low.is_none_or(|low| number >= low) && high.is_none_or(|high| number <= high));
    of_type && within && choices(property).is_none_or(|choices| choices.contains(value))
}

/// What a setting may be, for the person who wrote another.
fn wanted(property: &Value) -> String {
    if let Some(choices) = choices(property) {
        let words: Vec<String> =
            choices.iter().map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned)).collect();
        return format!("one of {}", words.join(", "));
    }
    let what = match kind(property) {
        "integer" => "a whole number",
        "number" => "a number",
        "string" => "a text",
        "boolean" => "true or false",
        _ => "another value",
    };
    match bounds(property) {
        (Some(low), Some(high)) => format!("{what} from {low} to {high}"),
        (Some(low), None) => format!("{what} of at least {low}"),
        (None, Some(high)) => format!("{what} of at most {high}"),
        (None, None) => what.to_owned(),
    }
}

fn kind(property: &Value) -> &str {
    property.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn bounds(property: &Value) -> (Option<f64>, Option<f64>) {
    let bound = |name: &str| property.get(name).and_then(Value::as_f64);
    (bound("minimum"), bound("maximum"))
}

fn choices(property: &Value) -> Option<&Vec<Value>> {
    property.get("enum").and_then(Value::as_array)
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    let mut short: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(given: &Value) -> Result<(), String> {
        let schema = json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["单位"],
            "properties": {
                "size": {"type": "integer", "minimum": 1, "maximum": 9},
                "weight": {"type": "number", "minimum": 0},
                "单位": {"type": "string", "enum": ["字", "token"]},
                "on": {"type": "boolean"},
            },
        });
        check(&schema, given.as_object().unwrap())
    }

    #[test]
    fn what_fits_is_taken() {
        for given in [
            json!({"单位": "字"}),
            json!({"单位": "token", "size": 9, "weight": 0.25, "on": false}),
            json!({"单位": "token", "size": 1.0, "weight": 7}),
        ] {
            assert_eq!(checked(&given), Ok(()), "{given}");
        }
        let anything = json!({"a": [1], "b": null});
        for schema in [Value::Null, json!({"type": "object"}), json!({"properties": {"a": {}}})] {
            assert_eq!(check(&schema, anything.as_object().unwrap()), Ok(()), "{schema}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_what_it_may_be() {
        for (given, expected) in [
            (json!({}), "setting '单位' is missing; it must be one of 字, token"),
            (json!({"单位": "字", "sise": 3}), "unknown setting 'sise'; the keys are on, size, weight, 单位"),
            (json!({"单位": "行"}), "setting '单位' must be one of 字, token, not \"行\""),
            (json!({"size": 10}), "setting 'size' must be a whole number from 1 to 9, not 10"),
            (json!({"size": 1.5}), "setting 'size' must be a whole number from 1 to 9, not 1.5"),
            (json!({"size": "3"}), "setting 'size' must be a whole number from 1 to 9, not \"3\""),
            (json!({"weight": -1}), "setting 'weight' must be a number of at least 0, not -1"),
            (json!({"on": 1}), "setting 'on' must be true or false, not 1"),
            (json!({"on": null}), "setting 'on' must be true or false, not null"),
        ] {
            assert_eq!(checked(&given).unwrap_err(), expected, "{given}");
        }
        let closed = json!({"additionalProperties": false});
        let error = check(&closed, json!({"x": 1}).as_object().unwrap()).unwrap_err();
        assert_eq!(error, "unknown setting 'x'; this plugin has no settings");
        let long = "长".repeat(100);
        let error = checked(&json!({"单位": long})).unwrap_err();
        assert!(error.ends_with('…') && error.chars().count() < 120, "{error}");
    }
}
