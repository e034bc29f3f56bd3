//! How a retriever searches within its own knowledge base: vectors through the bound store, words through the catalogue.

use std::sync::Arc;

use async_trait::async_trait;

use crate::document::{ChunkId, Vectors};
use crate::error::{Error, ErrorCode, Result};
use crate::kb::KbName;
use crate::limits;
use crate::ports::{Catalog, KbSearch, VectorIndex, VectorStore};
use crate::search::{Filter, Hit, Passage};

/// Search over one knowledge base's collection.
pub struct BoundSearch {
    pub kb: KbName,
    pub collection: String,
    pub catalog: Arc<dyn Catalog>,
    pub store: Arc<dyn VectorStore>,
    /// The host's own vectors, when the bound store keeps them there.
    pub index: Option<Arc<dyn VectorIndex>>,
}

impl std::fmt::Debug for BoundSearch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BoundSearch").field("kb", &self.kb).finish_non_exhaustive()
    }
}

#[async_trait]
impl KbSearch for BoundSearch {
    async fn dense(&self, query: &Vectors, k: u32, filter: Option<&Filter>) -> Result<Vec<Hit>> {
        check_k(k)?;
        if query.rows() != 1 {
            return Err(Error::invalid(format!(
                "a dense search takes one query vector, not {}",
                query.rows()
            )));
        }
        match self.store.query(&self.collection, query, k, filter).await {
            Ok(mut rows) => Ok(rows.pop().unwrap_or_default()),
            // The first ingest creates the collection: before it there is nothing to find.
            Err(error) if error.code() == ErrorCode::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    async fn lexical(&self, query: &str, k: u32, filter: Option<&Filter>) -> Result<Vec<Hit>> {
        check_k(k)?;
        self.catalog.lexical(&self.kb, &self.collection, query, k, filter).await
    }

    async fn passages(&self, chunks: &[ChunkId]) -> Result<Vec<Passage>> {
        self.catalog.passages(&self.kb, chunks).await
    }

    async fn vectors_of(&self, chunks: &[ChunkId]) -> Result<Vectors> {
        let Some(index) = &self.index else {
            return Err(Error::Unsupported {
                message: "the bound vector store does not give vectors back".into(),
            });
        };
        Ok(index.vectors_of(&self.collection, chunks).await?.vectors)
    }
}

fn check_k(k: u32) -> Result<()> {
    if (1..=limits::SEARCH_K_MAX).contains(&k) {
        return Ok(());
    }
    Err(Error::invalid(format!("k is 1 to {}, not {k}", limits::SEARCH_K_MAX)))
}
