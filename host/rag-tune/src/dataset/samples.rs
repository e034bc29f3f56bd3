//! Samples for training: which piece of which document comes at which update, the same for the same seed.
//!
//! A sample's number alone decides it, so a training that goes on from a checkpoint sees what an uninterrupted one
//! would have. Documents are never joined, but for `Sampling::Get`, which takes any piece of the text on purpose.

use std::path::Path;

use rag_core::{Error, Result};
use rag_engine::tokenizer::Tokenizer;
use sha2::{Digest, Sha256};

use super::binidx::Binidx;
use super::mask::Mask;
use super::shuffle::SplitMix64;
use super::{END_OF_DOCUMENT, jsonl};
use crate::cpu::model::Batch;

/// How samples are taken from documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampling {
    /// One document a sample, from its start; shorter ones of a batch are padded, and padding never counts.
    Pad,
    /// The same, one at a time.
    Only,
    /// Any piece of the text.
    Get,
}

impl Sampling {
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "pad" => Some(Sampling::Pad),
            "only" => Some(Sampling::Only),
            "get" => Some(Sampling::Get),
            _ => None,
        }
    }
}

/// Documents to train on.
#[derive(Debug)]
pub struct Corpus {
    source: Source,
    /// Tokens before each document, and those of all as its last value.
    starts: Vec<u64>,
    /// SHA-256 of all tokens.
    hash: [u8; 32],
    largest: u16,
}

#[derive(Debug)]
enum Source {
    Memory(Vec<Vec<u16>>),
    Pair(Binidx),
}

impl Corpus {
    /// Reads a jsonl file, or a binidx pair by its prefix.
    pub fn open(path: &Path, tokenizer: &Tokenizer) -> Result<Self> {
        if path.extension().is_some_and(|ending| ending == "jsonl") {
            let text = fs_err::read_to_string(path).map_err(|e| Error::Storage { message: e.to_string() })?;
            return Self::parse(&text, tokenizer);
        }
        Self::new(Source::Pair(Binidx::open(path)?))
    }

    /// The documents of a jsonl text; `InvalidInput` names the bad lines.
    pub fn parse(text: &str, tokenizer: &Tokenizer) -> Result<Self> {
        let documents = jsonl::documents(text.as_bytes(), &|text| tokenizer.encode(text))?;
        Self::new(Source::Memory(documents))
    }

    fn new(source: Source) -> Result<Self> {
        let mut corpus = Self { source, starts: vec![0], hash: [0; 32], largest: 0 };
        let count = match &corpus.source {
            Source::Memory(documents) => documents.len(),
            Source::Pair(pair) => pair.len(),
        };
        let mut hash = Sha256::new();
        let mut total = 0;
        for number in 0..count {
            let document = corpus.document(number)?;
            document.iter().for_each(|token| hash.update(token.to_le_bytes()));
            corpus.largest = document.iter().copied().fold(corpus.largest, u16::max);
            total += document.len() as u64;
            corpus.starts.push(total);
        }
        if total == 0 {
            return Err(Error::invalid("the data set has no text"));
        }
        corpus.hash = hash.finalize().into();
        Ok(corpus)
    }

    /// Documents.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn tokens(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    pub fn longest(&self) -> u64 {
        self.starts.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    }

    /// SHA-256 of all tokens, in hexadecimal.
    pub fn hash(&self) -> String {
        self.hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The largest token id.
    pub fn largest(&self) -> u16 {
        self.largest
    }

    /// The tokens of one document.
    pub fn document(&self, number: usize) -> Result<Vec<u16>> {
        match &self.source {
            Source::Memory(documents) => Ok(documents[number].clone()),
            Source::Pair(pair) => Ok(pair.document(number)?),
        }
    }

    /// Tokens from a place of the whole text on.
    fn piece(&self, start: u64, len: usize) -> Result<Vec<u16>> {
        let mut number = self.starts.partition_point(|&first| first <= start) - 1;
        let mut skip = (start - self.starts[number]) as usize;
        let mut tokens = Vec::with_capacity(len);
        while tokens.len() < len && number < self.len() {
            let document = self.document(number)?;
            tokens.extend(document.iter().skip(skip).take(len - tokens.len()));
            (number, skip) = (number + 1, 0);
        }
        Ok(tokens)
    }
}

/// Draws samples.
#[derive(Debug)]
pub struct Sampler<'a> {
    pub corpus: &'a Corpus,
    pub tokenizer: &'a Tokenizer,
    pub mask: Mask,
    pub sampling: Sampling,
    pub context_tokens: usize,
    pub seed: u64,
}

/// A sample: one token more than are read, and which of them count as labels.
type Sample = (Vec<u16>, Vec<bool>);

impl Sampler<'_> {
    /// The micro-batches of an update, from its first sample's number; `writes` tells the ids that the model can
    /// write, others do not count. With them, the tokens read, without padding.
    pub fn batches(
        &self,
        first: u64,
        micro_batch: usize,
        accumulate: usize,
        writes: impl Fn(u32) -> bool,
    ) -> Result<(Vec<Batch>, u64)> {
        let mut batches = Vec::with_capacity(accumulate);
        let mut read = 0;
        let mut order = None;
        for micro in 0..accumulate {
            let mut samples = Vec::with_capacity(micro_batch);
            for place in 0..micro_batch {
                let number = first + (micro * micro_batch + place) as u64;
                samples.push(self.sample(number, &mut order)?);
            }
            read += samples.iter().map(|(tokens, _)| tokens.len().saturating_sub(1) as u64).sum::<u64>();
            batches.push(batch(&samples, &writes));
        }
        Ok((batches, read))
    }

    fn sample(&self, number: u64, order: &mut Option<(u64, Vec<usize>)>) -> Result<Sample> {
        let wanted = self.context_tokens + 1;
        let mut tokens = match self.sampling {
            Sampling::Get => {
                let places = self.corpus.tokens().saturating_sub(wanted as u64) + 1;
                let mut random = SplitMix64::new(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                self.corpus.piece(random.below(places), wanted)?
            }
            Sampling::Pad | Sampling::Only => {
                let documents = self.corpus.len() as u64;
                let (epoch, place) = (number / documents, (number % documents) as usize);
                if order.as_ref().is_none_or(|(of, _)| *of != epoch) {
                    let mut list: Vec<usize> = (0..self.corpus.len()).collect();
                    SplitMix64::new(self.seed.wrapping_add(epoch.wrapping_mul(0x2545_f491_4f6c_dd1d)))
                        .shuffle(&mut list);
                    *order = Some((epoch, list));
                }
                let document = order.as_ref().map_or(place, |(_, list)| list[place]);
                self.corpus.document(document)?
            }
        };
        // The mask is the whole document's: what a cut leaves out may say whose turn it is.
        let mut counts = self.mask.of(&tokens, |id| self.tokenizer.token(u32::from(id)));
        tokens.truncate(wanted);
        counts.truncate(wanted);
        Ok((tokens, counts))
    }
}

fn batch(samples: &[Sample], writes: &impl Fn(u32) -> bool) -> Batch {
    let longest = samples.iter().map(|(tokens, _)| tokens.len()).max().unwrap_or(0).saturating_sub(1).max(1);
    let mut batch = Batch { sequences: samples.len(), tokens: Vec::new(), labels: Vec::new() };
    for (tokens, counts) in samples {
        for place in 0..longest {
            let read = place + 1 < tokens.len();
            batch.tokens.push(u32::from(if read { tokens[place] } else { END_OF_DOCUMENT }));
            let label = (read && counts[place + 1]).then(|| u32::from(tokens[place + 1]));
            batch.labels.push(label.filter(|&id| writes(id)));
        }
    }
    batch
}

#[cfg(test)]
mod tests;
