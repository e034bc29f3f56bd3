//! Reads a plugin's settings (a flat JSON object) and, when one is wrong, names the key and what it may be.
//!
//! The host has checked the settings against the schema of `plugin.toml`; a plugin checks again because its own
//! limits must hold under any host. Every error is a sentence for the person who wrote the settings.

pub mod error;

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

/// Settings whose keys are all known.
#[derive(Debug, Clone, Default)]
pub struct Settings(Map<String, Value>);

impl Settings {
    /// Parses a JSON object and refuses keys outside `known`. Empty text means no settings.
    pub fn parse(json: &str, known: &[&str]) -> Result<Self, String> {
        if json.trim().is_empty() {
            return Ok(Settings::default());
        }
        let value: Value =
            serde_json::from_str(json).map_err(|error| format!("the settings are not JSON: {error}"))?;
        let Value::Object(map) = value else {
            return Err("the settings must be a JSON object".to_owned());
        };
        if let Some(key) = map.keys().find(|key| !known.contains(&key.as_str())) {
            let shown: String = key.chars().take(60).flat_map(char::escape_debug).collect();
            let known = if known.is_empty() {
                "this plugin has no settings".to_owned()
            } else {
                format!("the keys are {}", known.join(", "))
            };
            return Err(format!("unknown setting '{shown}'; {known}"));
        }
        Ok(Settings(map))
    }

    /// A whole number within `range`.
    pub fn integer(&self, key: &str, range: RangeInclusive<u32>, default: u32) -> Result<u32, String> {
        let Some(value) = self.0.get(key) else { return Ok(default) };
        value
            .as_u64()
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let (low, high) = (range.start(), range.end());
                format!("setting '{key}' must be a whole number from {low} to {high}, not {}", shown(value))
            })
    }

    /// A number within `range`.
    pub fn number(&self, key: &str, range: RangeInclusive<f64>, default: f64) -> Result<f64, String> {
        let Some(value) = self.0.get(key) else { return Ok(default) };
        value.as_f64().filter(|number| range.contains(number)).ok_or_else(|| {
            let (low, high) = (range.start(), range.end());
            format!("setting '{key}' must be a number from {low} to {high}, not {}", shown(value))
        })
    }

    /// One of a few words, e.g. `tokens` or `characters`.
    pub fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)], default: T) -> Result<T, String> {
        let Some(value) = self.0.get(key) else { return Ok(default) };
        let chosen = value.as_str().and_then(|word| choices.iter().find(|(name, _)| *name == word));
        chosen.map(|(_, choice)| *choice).ok_or_else(|| {
            let words: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            format!("setting '{key}' must be one of {}, not {}", words.join(", "), shown(value))
        })
    }

    /// Any text that is not blank, e.g. an address.
    pub fn text(&self, key: &str, default: &str) -> Result<String, String> {
        let Some(value) = self.0.get(key) else { return Ok(default.to_owned()) };
        value
            .as_str()
            .filter(|text| !text.trim().is_empty())
            .map(str::to_owned)
            .ok_or_else(|| format!("setting '{key}' must be a text, not {}", shown(value)))
    }

    /// `true` or `false`.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool, String> {
        let Some(value) = self.0.get(key) else { return Ok(default) };
        value.as_bool().ok_or_else(|| format!("setting '{key}' must be true or false, not {}", shown(value)))
    }
}

/// A value for an error message, cut to a readable length.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["size", "weight", "unit", "on"];

    fn parsed(json: &str) -> Settings {
        Settings::parse(json, KNOWN).unwrap()
    }

    #[test]
    fn absent_keys_take_their_defaults() {
        for json in ["", " ", "{}"] {
            let settings = parsed(json);
            assert_eq!(settings.integer("size", 1..=9, 5), Ok(5));
            assert_eq!(settings.number("weight", 0.0..=1.0, 0.5), Ok(0.5));
            assert_eq!(settings.choice("unit", &[("a", 1), ("b", 2)], 2), Ok(2));
            assert_eq!(settings.flag("on", true), Ok(true));
        }
    }

    #[test]
    fn given_values_are_read() {
        let settings = parsed(r#"{"size": 9, "weight": 1, "unit": "a", "on": false}"#);
        assert_eq!(settings.integer("size", 1..=9, 5), Ok(9));
        assert_eq!(settings.number("weight", 0.0..=1.0, 0.5), Ok(1.0));
        assert_eq!(settings.choice("unit", &[("a", 1), ("b", 2)], 2), Ok(1));
        assert_eq!(settings.flag("on", true), Ok(false));
    }

    #[test]
    fn wrong_values_name_the_key_and_what_it_may_be() {
        for json in
            [r#"{"size": 0}"#, r#"{"size": 10}"#, r#"{"size": 1.5}"#, r#"{"size": "3"}"#, r#"{"size": -1}"#]
        {
            let error = parsed(json).integer("size", 1..=9, 5).unwrap_err();
            assert!(error.contains("'size'") && error.contains("from 1 to 9"), "{error}");
        }
        let error = parsed(r#"{"weight": 1.01}"#).number("weight", 0.0..=1.0, 0.5).unwrap_err();
        assert!(error.contains("'weight'") && error.contains("from 0 to 1"), "{error}");
        let error = parsed(r#"{"unit": "c"}"#).choice("unit", &[("a", 1), ("b", 2)], 2).unwrap_err();
        assert!(error.contains("'unit'") && error.contains("a, b"), "{error}");
        let error = parsed(r#"{"on": 1}"#).flag("on", true).unwrap_err();
        assert!(error.contains("'on'") && error.contains("true or false"), "{error}");
    }

    #[test]
    fn unknown_keys_and_other_json_are_refused() {
        let error = Settings::parse(r#"{"sise": 3}"#, KNOWN).unwrap_err();
        assert!(error.contains("'sise'") && error.contains("size, weight, unit, on"), "{error}");
        assert!(Settings::parse(r#"{"x": 3}"#, &[]).unwrap_err().contains("no settings"));
        assert!(Settings::parse("[]", KNOWN).unwrap_err().contains("object"));
        assert!(Settings::parse("{", KNOWN).unwrap_err().contains("not JSON"));
    }
}
