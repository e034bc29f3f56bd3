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

/// Settings that chunkers with a size share: `unit`, `size`, `overlap` and `context`. Lengths are in `unit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    pub unit: Unit,
    /// Of a chunk at most.
    pub size: usize,
    /// Of what a chunk repeats from the one before at most; no more than half of `size`.
    pub overlap: usize,
    /// Characters of title and headings embedded before a chunk at most; 0 for none.
    pub context_chars_max: usize,
}

/// The least size.
pub const SIZE_MIN: u32 = 64;
/// The greatest size, where the embedding model reads as much.
pub const SIZE_MAX: u32 = 8_192;
/// Characters of title and headings before a chunk, where the embedding model leaves room.
const CONTEXT_CHARS_MAX: u32 = 120;

impl Options {
    /// Reads the settings; `token_limit` is what the embedding model reads at most, `size` the default. The error names
    /// the key and the allowed range.
    pub fn read(settings: &Settings, token_limit: u32, size: u32) -> Result<Self, String> {
        let unit = unit(settings)?;
        let high = size_max(unit, token_limit);
        let size = settings.integer("size", SIZE_MIN..=high, size.min(high))?;
        let overlap = settings.integer("overlap", 0..=size / 2, 0)?;
        let context = settings.flag("context", true)?;
        let room = match unit {
            // A character is seldom more than one token.
            Unit::Tokens => high - size,
            Unit::Characters => CONTEXT_CHARS_MAX,
        };
        Ok(Options {
            unit,
            size: size as usize,
            overlap: overlap as usize,
            context_chars_max: if context { room.min(CONTEXT_CHARS_MAX) as usize } else { 0 },
        })
    }
}

/// The setting `unit`: tokens unless set.
pub fn unit(settings: &Settings) -> Result<Unit, String> {
    settings.choice("unit", &[("tokens", Unit::Tokens), ("characters", Unit::Characters)], Unit::Tokens)
}

/// The greatest size of a chunk.
pub fn size_max(unit: Unit, token_limit: u32) -> u32 {
    match unit {
        Unit::Tokens => token_limit.clamp(SIZE_MIN, SIZE_MAX),
        Unit::Characters => SIZE_MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str, token_limit: u32) -> Result<Options, String> {
        Options::read(&Settings::parse(json, &["unit", "size", "overlap", "context"])?, token_limit, 256)
    }

    #[test]
    fn defaults_fit_the_model_and_limits_are_named() {
        let options = read("{}", 510).unwrap();
        assert_eq!((options.size, options.unit, options.overlap), (256, Unit::Tokens, 0));
        assert_eq!(options.context_chars_max, 120);
        assert_eq!(read("{}", 128).unwrap().size, 128);
        assert_eq!(read(r#"{"size": 500}"#, 510).unwrap().context_chars_max, 10);
        assert_eq!(read(r#"{"context": false}"#, 510).unwrap().context_chars_max, 0);
        for (json, words) in [
            (r#"{"size": 511}"#, "'size' must be a whole number from 64 to 510"),
            (r#"{"size": 63}"#, "from 64 to 510"),
            (r#"{"size": 8193, "unit": "characters"}"#, "from 64 to 8192"),
            (r#"{"size": 100, "overlap": 51}"#, "'overlap' must be a whole number from 0 to 50"),
            (r#"{"unit": "words"}"#, "tokens, characters"),
            (r#"{"context": "yes"}"#, "'context' must be true or false"),
        ] {
            let error = read(json, 510).unwrap_err();
            assert!(error.contains(words), "{json}: {error}");
        }
    }
}
