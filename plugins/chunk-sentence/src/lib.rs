//! chunk-sentence
