//! The vectors that the host itself keeps: rows in SQLite are the truth, a flat copy in memory finds candidates, and
//! the rows give the candidates their exact scores.

mod cache;
mod codes;
mod frame;
mod kernel;
mod rows;
mod scan;
mod snapshot;

#[cfg(test)]
mod scan_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use rag_core::document::{ChunkId, Vectors};
use rag_core::kb::KbName;
use rag_core::ports::{StoredVectors, VectorCollection, VectorIndex};
use rag_core::search::{Filter, Hit, Metric, Value};
use rag_core::{Error, Result, limits};

use crate::fault::Step;
use crate::filter;
use crate::store::{Store, Writer};

pub(crate) use cache::{Cache, Change};
pub(crate) use scan::exact_score;

/// Components of a vector.
const DIM_MAX: usize = 16_384;
/// Bytes of a collection's name, and of an id.
const NAME_BYTES_MAX: usize = 256;
/// Rows of one upsert or delete, and of one answer of `scan`.
const ROWS_MAX: usize = 16_384;
/// Query vectors of one call.
const QUERIES_MAX: usize = 1_024;
/// Fields of a row.
const FIELDS_MAX: usize = 64;
/// Bytes of a field's text.
const FIELD_TEXT_BYTES_MAX: usize = 4_096;

/// The collections of one knowledge base.
pub(crate) struct HostVectors {
    store: Arc<Store>,
    kb: KbName,
}

impl HostVectors {
    pub(crate) fn new(store: Arc<Store>, kb: KbName) -> Self {
        HostVectors { store, kb }
    }
}

/// Rows of dropped collections go: called when the store is opened.
pub(crate) fn purge_dropped(writer: &mut Writer) -> Step<()> {
    while writer.transact(rows::purge_batch)? {}
    Ok(())
}

#[async_trait]
impl VectorIndex for HostVectors {
    async fn create(&self, collection: &VectorCollection) -> Result<()> {
        check_text("a collection's name", &collection.name, NAME_BYTES_MAX)?;
        if collection.dim == 0 || collection.dim > DIM_MAX {
            return Err(Error::invalid(format!(
                "a vector has 1 to {DIM_MAX} components, not {}",
                collection.dim
            )));
        }
        let (kb, collection) = (self.kb.clone(), collection.clone());
        self.store.grow(move |transaction| rows::create(transaction, &kb, &collection)).await
    }

    async fn drop_collection(&self, name: &str) -> Result<()> {
        let (kb, name, cache) = (self.kb.clone(), name.to_owned(), Arc::clone(&self.store.vector_cache));
        self.store
            .with_writer(move |writer| {
                let dropped = writer.transact(|transaction| rows::mark_dropped(transaction, &kb, &name))?;
                cache.forget(&dropped);
                Ok(())
            })
            .await?;
        // In batches, so that other writes get their turn; what a crash leaves goes at the next start.
        while self.store.write(rows::purge_batch).await? {}
        Ok(())
    }

    async fn list(&self) -> Result<Vec<VectorCollection>> {
        let kb = self.kb.clone();
        self.store.read(move |connection| rows::list(connection, &kb)).await
    }

    async fn count(&self, name: &str) -> Result<u64> {
        let (kb, name) = (self.kb.clone(), name.to_owned());
        self.store.read(move |connection| rows::count(connection, &kb, &name)).await
    }

    async fn upsert(&self, name: &str, rows: StoredVectors, fields: Vec<Vec<(String, Value)>>) -> Result<()> {
        check_rows(&rows, &fields)?;
        let (kb, name, cache) = (self.kb.clone(), name.to_owned(), Arc::clone(&self.store.vector_cache));
        self.store
            .with_writer(move |writer| {
                writer.folder.check_room()?;
                let (collection, version, written) =
                    writer.transact(|transaction| rows::upsert(transaction, &kb, &name, &rows, &fields))?;
                let dim = rows.vectors.dim;
                cache.apply(
                    collection,
                    version,
                    Change::Upsert { rows: written, dim, values: rows.vectors.data },
                );
                Ok(())
            })
            .await
    }

    async fn delete(&self, name: &str, ids: &[ChunkId]) -> Result<()> {
        check_batch(ids.len())?;
        let (kb, name, ids) = (self.kb.clone(), name.to_owned(), ids.to_vec());
        let cache = Arc::clone(&self.store.vector_cache);
        self.store
            .with_writer(move |writer| {
                let (collection, version, deleted) =
                    writer.transact(|transaction| rows::delete(transaction, &kb, &name, &ids))?;
                cache.apply(collection, version, Change::Delete { rows: deleted });
                Ok(())
            })
            .await
    }

    async fn query(
        &self,
        name: &str,
        queries: &Vectors,
        k: u32,
        filter: Option<&Filter>,
    ) -> Result<Vec<Vec<Hit>>> {
        if k > limits::SEARCH_K_MAX {
            return Err(Error::invalid(format!("k is at most {}, not {k}", limits::SEARCH_K_MAX)));
        }
        check_vectors(queries)?;
        if queries.rows() > QUERIES_MAX {
            return Err(Error::invalid(format!("at most {QUERIES_MAX} query vectors a call")));
        }
        let (kb, name, queries, filter) =
            (self.kb.clone(), name.to_owned(), queries.clone(), filter.cloned());
        let cache = Arc::clone(&self.store.vector_cache);
        self.store
            .read(move |connection| {
                let collection = rows::find(connection, &kb, &name)?;
                collection.check_dim(&queries)?;
                let allowed =
                    filter.map(|filter| rows::allowed(connection, &collection, &filter)).transpose()?;
                let snapshot = cache.get(collection.row, || rows::load(connection, &collection))?;
                queries
                    .iter()
                    .map(|query| {
                        rows::nearest(connection, &collection, &snapshot, query, k, allowed.as_deref())
                    })
                    .collect()
            })
            .await
    }

    async fn scan(&self, name: &str, after: Option<&ChunkId>, limit: u32) -> Result<StoredVectors> {
        let (kb, name, after) = (self.kb.clone(), name.to_owned(), after.cloned());
        self.store.read(move |connection| rows::scan(connection, &kb, &name, after.as_ref(), limit)).await
    }

    async fn vectors_of(&self, name: &str, ids: &[ChunkId]) -> Result<StoredVectors> {
        check_batch(ids.len())?;
        let (kb, name, ids) = (self.kb.clone(), name.to_owned(), ids.to_vec());
        self.store.read(move |connection| rows::of(connection, &kb, &name, &ids)).await
    }
}

fn check_text(what: &str, text: &str, bytes_max: usize) -> Result<()> {
    if text.is_empty() || text.len() > bytes_max {
        return Err(Error::invalid(format!("{what} has 1 to {bytes_max} bytes, not {}", text.len())));
    }
    Ok(())
}

fn check_batch(rows: usize) -> Result<()> {
    if rows > ROWS_MAX {
        return Err(Error::invalid(format!("at most {ROWS_MAX} rows a call, not {rows}")));
    }
    Ok(())
}

fn check_vectors(vectors: &Vectors) -> Result<()> {
    let whole =
        vectors.data.is_empty() || (vectors.dim > 0 && vectors.data.len().is_multiple_of(vectors.dim));
    if !whole {
        return Err(Error::invalid(format!(
            "{} numbers are no whole vectors of {} components",
            vectors.data.len(),
            vectors.dim
        )));
    }
    if vectors.data.iter().any(|value| !value.is_finite()) {
        return Err(Error::invalid("a vector holds a number that is not finite"));
    }
    Ok(())
}

fn check_rows(rows: &StoredVectors, fields: &[Vec<(String, Value)>]) -> Result<()> {
    check_vectors(&rows.vectors)?;
    check_batch(rows.ids.len())?;
    if rows.ids.len() != rows.vectors.rows() || rows.ids.len() != fields.len() {
        return Err(Error::invalid(format!(
            "{} ids, {} vectors and {} rows of fields do not match",
            rows.ids.len(),
            rows.vectors.rows(),
            fields.len()
        )));
    }
    rows.ids.iter().try_for_each(|id| check_text("an id", &id.0, NAME_BYTES_MAX))?;
    for fields in fields {
        if fields.len() > FIELDS_MAX {
            return Err(Error::invalid(format!("a row has at most {FIELDS_MAX} fields")));
        }
        for (field, value) in fields {
            check_text("a field's name", field, NAME_BYTES_MAX)?;
            filter::check_value(value)?;
            if let Value::Text(text) = value
                && text.len() > FIELD_TEXT_BYTES_MAX
            {
                return Err(Error::invalid(format!(
                    "a field's text has at most {FIELD_TEXT_BYTES_MAX} bytes"
                )));
            }
        }
    }
    Ok(())
}

/// Metrics as `collections.metric` has them.
const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::Euclidean];
