//! What may a retriever ask of its host? The filter of the request applies to every search.

use crate::Result;

/// Chunks with scores, best first.
pub type Hits = Vec<(String, f32)>;

/// Search within the knowledge base, and its embedding model.
pub trait Search {
    /// The vector of a question.
    fn embed_question(&self, question: &str) -> Result<Vec<f32>>;
    /// The vector of a text as if it were a passage.
    fn embed_passage(&self, text: &str) -> Result<Vec<f32>>;
    /// The `k` nearest chunks.
    fn dense(&self, query: &[f32], k: u32) -> Result<Hits>;
    /// The `k` best chunks by words.
    fn lexical(&self, query: &str, k: u32) -> Result<Hits>;
    /// The vectors stored for chunks, in the order asked; fewer when one is gone.
    fn vectors_of(&self, chunks: &[String]) -> Result<Vec<Vec<f32>>>;
    /// The larger chunk that holds each chunk, in the order asked: chunk and parent; unknown ids are left out.
    fn parents_of(&self, chunks: &[String]) -> Result<Vec<(String, Option<String>)>>;
}

/// The language model of the host.
pub trait Generate {
    /// At most `tokens_max` tokens after `prompt`, ended before one of `stop`.
    fn generate(&self, prompt: &str, tokens_max: u32, stop: &[&str]) -> Result<String>;
}
