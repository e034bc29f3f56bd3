//! What can be typed about knowledge bases.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Kb {
    /// Create a knowledge base
    Create {
        name: String,
        /// Chunker, e.g. chunk-sentence, chunk-fixed, chunk-lines
        #[arg(long)]
        chunker: Option<String>,
        /// Its settings as JSON
        #[arg(long, requires = "chunker")]
        chunker_settings: Option<String>,
        /// Retrieval strategy, e.g. retrieve-hybrid, retrieve-dense
        #[arg(long)]
        retriever: Option<String>,
        /// Its settings as JSON
        #[arg(long, requires = "retriever")]
        retriever_settings: Option<String>,
        /// Where vectors are kept, e.g. store-local, store-chroma, store-pgvector
        #[arg(long)]
        store: Option<String>,
        /// Its settings as JSON
        #[arg(long, requires = "store")]
        store_settings: Option<String>,
        /// Encoder of the registry (`rwkv-rag model list`) that embeds its documents, instead of the one for all
        #[arg(long)]
        encoder: Option<String>,
        /// Reranker of the registry, or an encoder, instead of the one for all
        #[arg(long)]
        reranker: Option<String>,
        /// Do not rerank
        #[arg(long, conflicts_with = "reranker")]
        no_rerank: bool,
    },
    /// Embed with another encoder: a second index is filled while the present one answers, compared, then published
    Encoder(KbEncoder),
    /// Rerank with another model from the next question on
    Reranker {
        /// Reranker of the registry, or an encoder, which reranks with its token vectors; left out: the one for all
        model: Option<String>,
        /// Knowledge base
        #[arg(long, default_value = rag_core::kb::KB_INITIAL)]
        kb: String,
    },
    /// List knowledge bases
    List,
    /// Show one with its settings
    Show { name: String },
    /// Delete one with everything in it
    Delete {
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Write one into a single zip file: originals, texts, chunks, vectors, settings, and SHA256SUMS of them all
    Export { name: String, file: PathBuf },
    /// Create one from such a file; every hash is checked first, and nothing is embedded again by the same encoder
    Import {
        /// What `kb export` wrote (or the folder that its first version wrote)
        file: PathBuf,
        /// Another name than the exported one
        #[arg(long)]
        name: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct KbEncoder {
    /// Encoder of the registry (`rwkv-rag model list`); left out: the one for all
    pub(crate) model: Option<String>,
    /// Knowledge base
    #[arg(long, default_value = rag_core::kb::KB_INITIAL)]
    pub(crate) kb: String,
    /// Publish without asking
    #[arg(long, conflicts_with = "hold")]
    pub(crate) yes: bool,
    /// Only fill and compare
    #[arg(long)]
    pub(crate) hold: bool,
}
