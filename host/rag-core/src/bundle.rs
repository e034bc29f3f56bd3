//! A knowledge base goes into one file and comes back from it: originals, texts, chunks, vectors, settings.
//!
//! `export` writes what is live, `import` makes a knowledge base of it that answers alike. Nothing is parsed or cut
//! again; chunks are embedded only when the encoder is another one, or their vectors were not in the file.

mod export;
mod import;

pub use import::Imported;
