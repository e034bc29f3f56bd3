//! A knowledge base in memory, to test retrievers natively: two numbers a vector, words by containment.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use crate::{Code, Error, Generate, Hits, Result, Search};

/// One chunk.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub text: String,
    pub vector: [f32; 2],
    pub parent: Option<String>,
}

/// A host whose model answers what it was told to, then fails.
#[derive(Debug, Default)]
pub struct Memory {
    pub chunks: BTreeMap<String, Row>,
    /// Vectors of questions and passages; others are embedded as (1, 0).
    pub vectors: BTreeMap<String, [f32; 2]>,
    pub answers: RefCell<VecDeque<String>>,
    /// Texts that words were searched for.
    pub searched: RefCell<Vec<String>>,
    /// Prompts that the model was given.
    pub prompts: RefCell<Vec<String>>,
    /// Whether stored vectors cannot be read.
    pub vectors_away: bool,
}

fn away(what: &str) -> Error {
    Error { code: Code::Unavailable, message: format!("{what} is out of order"), retryable: true }
}

fn best(mut hits: Hits, k: u32) -> Hits {
    hits.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    hits.truncate(k as usize);
    hits
}

impl Memory {
    /// With chunks of id, text and vector.
    pub fn new(rows: &[(&str, &str, [f32; 2])]) -> Self {
        let row = |(id, text, vector): &(&str, &str, [f32; 2])| {
            ((*id).to_owned(), Row { text: (*text).to_owned(), vector: *vector, parent: None })
        };
        Memory { chunks: rows.iter().map(row).collect(), ..Memory::default() }
    }
}

impl Search for Memory {
    fn embed_question(&self, question: &str) -> Result<Vec<f32>> {
        Ok(self.vectors.get(question).copied().unwrap_or([1.0, 0.0]).to_vec())
    }
    fn embed_passage(&self, text: &str) -> Result<Vec<f32>> {
        self.embed_question(text)
    }
    fn dense(&self, query: &[f32], k: u32) -> Result<Hits> {
        let score = |row: &Row| row.vector.iter().zip(query).map(|(a, b)| a * b).sum();
        Ok(best(self.chunks.iter().map(|(id, row)| (id.clone(), score(row))).collect(), k))
    }
    fn lexical(&self, query: &str, k: u32) -> Result<Hits> {
        self.searched.borrow_mut().push(query.to_owned());
        let score = |row: &Row| query.split_whitespace().filter(|word| row.text.contains(*word)).count();
        let hits = self.chunks.iter().map(|(id, row)| (id.clone(), score(row) as f32));
        Ok(best(hits.filter(|(_, score)| *score > 0.0).collect(), k))
    }
    fn vectors_of(&self, chunks: &[String]) -> Result<Vec<Vec<f32>>> {
        if self.vectors_away {
            return Err(away("the store"));
        }
        Ok(chunks.iter().filter_map(|id| self.chunks.get(id)).map(|row| row.vector.to_vec()).collect())
    }
    fn parents_of(&self, chunks: &[String]) -> Result<Vec<(String, Option<String>)>> {
        let known = chunks.iter().filter_map(|id| Some((id.clone(), self.chunks.get(id)?.parent.clone())));
        Ok(known.collect())
    }
}

impl Generate for Memory {
    fn generate(&self, prompt: &str, _: u32, _: &[&str]) -> Result<String> {
        self.prompts.borrow_mut().push(prompt.to_owned());
        self.answers.borrow_mut().pop_front().ok_or_else(|| away("the language model"))
    }
}
