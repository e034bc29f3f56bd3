//! What a knowledge base is: its name, and the parts that it binds.

use std::fmt;

use crate::error::{Error, Result};
use crate::limits;
use crate::ports::Variant;

/// A knowledge base's name by RWKV-RAG's rule: 3 to 33 ASCII letters, digits and underscores, none at either end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KbName(String);

impl KbName {
    /// Checks the rule; the error says what to change.
    pub fn parse(name: &str) -> Result<Self> {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let chars = name.chars().count();
        if limits::KB_NAME_CHARS.contains(&chars)
            && name.chars().all(inner)
            && ends(name.chars().next())
            && ends(name.chars().last())
        {
            return Ok(KbName(name.to_owned()));
        }
        let shown: String = name.chars().take(40).collect();
        Err(Error::invalid(format!(
            "'{}' cannot name a knowledge base: use 3 to 33 ASCII letters, digits and underscores, beginning and ending with a letter or digit",
            shown.escape_debug()
        )))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KbName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The knowledge base that exists from the first start.
pub const KB_INITIAL: &str = "initial";

/// A plugin by id, with its settings for this knowledge base as a JSON object (`{}` for the defaults).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PluginChoice {
    pub id: String,
    pub settings: String,
    /// SHA-256 of the one component meant; none takes whichever version the host offers first.
    pub digest: Option<String>,
}

impl PluginChoice {
    /// Any version of a plugin with these settings.
    pub fn any(id: impl Into<String>, settings: impl Into<String>) -> Self {
        PluginChoice { id: id.into(), settings: settings.into(), digest: None }
    }

    /// What finds the plugin among those installed: its digest where one is meant, else its id.
    pub fn key(&self) -> &str {
        self.digest.as_deref().unwrap_or(&self.id)
    }
}

/// An encoder that a knowledge base embeds with instead of the one for all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EncoderChoice {
    /// In the registry of models.
    pub name: String,
    /// Of the very weights meant (`Embed::identity`); none takes what the name stands for today.
    pub identity: Option<String>,
}

impl EncoderChoice {
    /// Whatever the name stands for.
    pub fn named(name: impl Into<String>) -> Self {
        EncoderChoice { name: name.into(), identity: None }
    }
}

/// What the vectors of an index are: nothing else is compared with them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Embedded {
    /// Of the encoder that made them (`Embed::identity`).
    pub identity: String,
    /// Values of each; 0 is unknown.
    pub dim: usize,
}

/// The plugins that a knowledge base binds, with its encoder: what one generation of it consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KbParts {
    pub chunker: PluginChoice,
    pub store: PluginChoice,
    pub retriever: PluginChoice,
    /// Parsers whose version is fixed; the others are those that the host offers first.
    pub parsers: Vec<PluginChoice>,
    /// None is the encoder for all.
    pub encoder: Option<EncoderChoice>,
}

impl KbParts {
    /// Whether documents read with these parts may give other chunks or vectors elsewhere than with `other`.
    pub fn indexes_like(&self, other: &KbParts) -> bool {
        self.chunker == other.chunker
            && self.store == other.store
            && self.parsers == other.parsers
            && self.encoder == other.encoder
    }
}

/// The parts that a knowledge base binds and how it answers. Parsers are chosen by media type among those installed.
#[derive(Debug, Clone, PartialEq)]
pub struct KbSettings {
    pub chunker: PluginChoice,
    pub store: PluginChoice,
    pub retriever: PluginChoice,
    /// See `KbParts::parsers`.
    pub parsers: Vec<PluginChoice>,
    /// See `KbParts::encoder`.
    pub encoder: Option<EncoderChoice>,
    /// Whether candidates are reranked before they reach the prompt.
    pub rerank: bool,
    /// Model of the registry that does it: a reranker, or an encoder by its token vectors. None is the one for all.
    pub reranker: Option<String>,
    /// Languages of text in pictures, as tesseract names them.
    pub ocr_languages: Vec<String>,
    pub answer: AnswerSettings,
}

/// How answers are made from what was retrieved.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerSettings {
    /// Template with `{question}`, `{context}` and `{history}`; substituted once, never evaluated. See `prompt`.
    pub template: String,
    /// Candidates that the retriever returns (and the reranker reorders).
    pub candidates: u32,
    /// Passages that reach the prompt at most.
    pub passages: u32,
    /// Tokens of passages in the prompt at most.
    pub context_tokens_max: u32,
    /// Tokens of the answer at most.
    pub answer_tokens_max: u32,
    /// A best passage whose relevance is below this is no match, and the answer says so. Unit: the score of the
    /// reranker when it is on, else the dense arm's cosine. None takes the host's calibrated value.
    pub relevance_min: Option<f32>,
    /// Sampling temperature; 0 is greedy.
    pub temperature: f32,
    pub top_p: f32,
    /// Tuned state and adapter that answers here are written with, by name; with neither, what was chosen for every
    /// answer.
    pub variant: Variant,
}

/// RWKV-RAG's prompt, preceded by the earlier rounds when there are any: the default template.
pub const TEMPLATE_DEFAULT: &str = "{history}Instruction: {question}\nInput: {context}\n\nResponse:";

impl Default for AnswerSettings {
    fn default() -> Self {
        AnswerSettings {
            template: TEMPLATE_DEFAULT.to_owned(),
            candidates: 10,
            passages: 3,
            context_tokens_max: 1_500,
            answer_tokens_max: 256,
            relevance_min: None,
            temperature: 0.0,
            top_p: 0.2,
            variant: Variant::default(),
        }
    }
}

impl Default for KbSettings {
    fn default() -> Self {
        let plugin = |id: &str| PluginChoice::any(id, "{}");
        KbSettings {
            chunker: plugin("chunk-sentence"),
            store: plugin("store-local"),
            retriever: plugin("retrieve-hybrid"),
            parsers: Vec::new(),
            encoder: None,
            rerank: true,
            reranker: None,
            ocr_languages: vec!["chi_sim".to_owned(), "eng".to_owned()],
            answer: AnswerSettings::default(),
        }
    }
}

impl KbSettings {
    /// Its plugins and its encoder.
    pub fn parts(&self) -> KbParts {
        KbParts {
            chunker: self.chunker.clone(),
            store: self.store.clone(),
            retriever: self.retriever.clone(),
            parsers: self.parsers.clone(),
            encoder: self.encoder.clone(),
        }
    }

    /// The same with other parts.
    pub fn with_parts(self, parts: KbParts) -> Self {
        let KbParts { chunker, store, retriever, parsers, encoder } = parts;
        KbSettings { chunker, store, retriever, parsers, encoder, ..self }
    }
}

/// A knowledge base as the catalogue keeps it. Times are milliseconds since 1970 (UTC).
#[derive(Debug, Clone, PartialEq)]
pub struct Kb {
    pub name: KbName,
    pub settings: KbSettings,
    /// Name of the index that answers, and of its vector collection: `{kb}-g{number}`.
    pub collection: String,
    /// Of the plugins that it binds; see `crate::generations`.
    pub generation: u64,
    /// What the vectors of the collection are; none while it is empty.
    pub embedder: Option<Embedded>,
    pub created_ms: i64,
    pub documents: u64,
    pub chunks: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        for good in ["initial", "abc", "a_1", &"x".repeat(33), "A1b"] {
            assert!(KbName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "ab", "_abc", "abc_", "a-b", "a b", "知识库", "a/../b", &"x".repeat(34), "abc\n"] {
            assert!(KbName::parse(bad).is_err(), "{bad:?}");
        }
    }
}
