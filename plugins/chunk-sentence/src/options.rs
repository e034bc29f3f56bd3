//! How long are chunks, and counted in what?

use guest_settings::Settings;

/// What lengths count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Tokens of the embedding model of the knowledge base.
    Tokens,
    /// Unicode scalar values.
    Characters,
}

/// Lengths are in `unit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Of a chunk at most.
    pub size: usize,
    pub unit: Unit,
    /// Of the sentences repeated from the chunk before at most; no more than half of `size`.
    pub overlap: usize,
    /// Whether chunks come with title and headings for embedding.
    pub context: bool,
    /// Characters of a context at most.
    pub context_chars_max: usize,
}

/// Characters of title and headings before a chunk, where the embedding model leaves room.
const CONTEXT_CHARS_MAX: u32 = 120;

impl Options {
    /// Reads the settings; `token_limit` is what the embedding model reads at most. The error names the key and the
    /// allowed range.
    pub fn parse(json: &str, token_limit: u32) -> Result<Self, String> {
        let settings = Settings::parse(json, &["size", "unit", "overlap", "context"])?;
        let units = [("tokens", Unit::Tokens), ("characters", Unit::Characters)];
        let unit = settings.choice("unit", &units, Unit::Tokens)?;
        let high = match unit {
            Unit::Tokens => token_limit.clamp(64, 8_192),
            Unit::Characters => 8_192,
        };
        let size = settings.integer("size", 64..=high, 256.min(high))?;
        let overlap = settings.integer("overlap", 0..=size / 2, 0)?;
        let room = match unit {
            // A character is seldom more than one token.
            Unit::Tokens => high - size,
            Unit::Characters => CONTEXT_CHARS_MAX,
        };
        Ok(Options {
            size: size as usize,
            unit,
            overlap: overlap as usize,
            context: settings.flag("context", true)?,
            context_chars_max: room.min(CONTEXT_CHARS_MAX) as usize,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_fit_the_model_and_limits_are_named() {
        let options = Options::parse("{}", 510).unwrap();
        assert_eq!((options.size, options.unit, options.overlap), (256, Unit::Tokens, 0));
        assert!(options.context && options.context_chars_max == 120);
        assert_eq!(Options::parse("{}", 128).unwrap().size, 128);
        assert_eq!(Options::parse(r#"{"size": 500}"#, 510).unwrap().context_chars_max, 10);
        for (json, words) in [
            (r#"{"size": 511}"#, "'size' must be a whole number from 64 to 510"),
            (r#"{"size": 63}"#, "from 64 to 510"),
            (r#"{"size": 8193, "unit": "characters"}"#, "from 64 to 8192"),
            (r#"{"size": 100, "overlap": 51}"#, "'overlap' must be a whole number from 0 to 50"),
            (r#"{"unit": "words"}"#, "tokens, characters"),
            (r#"{"context": "yes"}"#, "'context' must be true or false"),
            (r#"{"length": 5}"#, "'length'"),
        ] {
            let error = Options::parse(json, 510).unwrap_err();
            assert!(error.contains(words), "{json}: {error}");
        }
    }
}
