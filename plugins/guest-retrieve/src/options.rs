//! How are the two arms asked and joined?

use guest_settings::Settings;

/// How the arms are joined.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fusion {
    /// Weighted sum of normalised scores.
    Score(Normalise),
    /// Weighted sum of 1 / (constant + rank).
    Rank { constant: u32 },
}

/// How scores of different arms are made comparable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalise {
    /// Distance from the mean in standard deviations.
    ZScore,
    /// Place between the lowest (0) and the highest (1).
    MinMax,
}

/// The settings of a search by vector and by words.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    pub fusion: Fusion,
    /// Weight of the dense arm, 0 to 1; the lexical arm has the rest.
    pub dense_weight: f32,
    /// Candidates of each arm.
    pub depth: u32,
    /// Whether follow-up questions are searched for together with the question before.
    pub follow_up: bool,
}

/// The keys that [`Options::read`] reads; a retriever may offer fewer.
pub const KEYS: &[&str] = &["fusion", "normalise", "dense_weight", "depth", "rank_constant", "follow_up"];

impl Options {
    /// Reads the settings; the error names the key and the allowed range.
    pub fn read(settings: &Settings) -> Result<Self, String> {
        let ways = [("z-score", Normalise::ZScore), ("min-max", Normalise::MinMax)];
        let normalise = settings.choice("normalise", &ways, Normalise::ZScore)?;
        let constant = settings.integer("rank_constant", 1..=1_000, 60)?;
        let fusions = [("score", Fusion::Score(normalise)), ("rank", Fusion::Rank { constant })];
        Ok(Options {
            fusion: settings.choice("fusion", &fusions, Fusion::Score(normalise))?,
            dense_weight: settings.number("dense_weight", 0.0..=1.0, 0.5)? as f32,
            depth: settings.integer("depth", 1..=1_000, 50)?,
            follow_up: settings.flag("follow_up", true)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Options, String> {
        Options::read(&Settings::parse(json, KEYS)?)
    }

    #[test]
    fn defaults_and_limits() {
        let options = read("{}").unwrap();
        assert_eq!(options.fusion, Fusion::Score(Normalise::ZScore));
        assert_eq!((options.dense_weight, options.depth, options.follow_up), (0.5, 50, true));
        let options = read(r#"{"fusion": "rank", "rank_constant": 10}"#).unwrap();
        assert_eq!(options.fusion, Fusion::Rank { constant: 10 });
        for (json, words) in [
            (r#"{"fusion": "sum"}"#, "'fusion' must be one of score, rank"),
            (r#"{"normalise": 1}"#, "'normalise' must be one of z-score, min-max"),
            (r#"{"dense_weight": 1.5}"#, "'dense_weight' must be a number from 0 to 1"),
            (r#"{"depth": 0}"#, "'depth' must be a whole number from 1 to 1000"),
            (r#"{"rank_constant": 0}"#, "'rank_constant' must be a whole number from 1 to 1000"),
            (r#"{"follow_up": "on"}"#, "'follow_up' must be true or false"),
            (r#"{"alpha": 0.5}"#, "unknown setting 'alpha'"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(words), "{json}: {error}");
        }
    }
}
