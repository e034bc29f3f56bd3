//! What belongs to one knowledge base: search in it, its own vectors, a plugin's small state.

use rag_core::document::{ChunkId, Vectors};
use rag_core::limits::{SEARCH_K_MAX, STORE_BATCH_MAX};
use rag_core::ports::{StoredVectors, VectorCollection};
use rag_core::search::{Filter, Passage};

use super::{absent, invalid, too_many};
use crate::bindings::ragkit::host::{kv, search, vector_index};
use crate::bindings::ragkit::types::types as wit;
use crate::state::State;
use crate::{check, convert};

/// Rows of one `scan`.
const SCAN_ROWS_MAX: u32 = 4_096;
/// Rows of one query batch.
const QUERY_ROWS_MAX: usize = 256;
const KEY_BYTES_MAX: usize = 1 << 10;
const VALUE_BYTES_MAX: usize = 64 << 10;
const KEYS_MAX: u32 = 1_000;
/// Bytes of a question for the full-text index.
const LEXICAL_BYTES_MAX: usize = 64 << 10;

type Outcome<T> = wasmtime::Result<Result<T, wit::Error>>;

/// Turns a refused argument into the guest's error.
macro_rules! accept {
    ($checked:expr) => {
        match $checked {
            Ok(value) => value,
            Err(refused) => return Ok(Err(refused)),
        }
    };
}

fn some_filter(filter: Option<wit::Filter>) -> Result<Option<Filter>, wit::Error> {
    let Some(filter) = filter else { return Ok(None) };
    let filter = convert::filter_from_guest(filter);
    check::filter(&filter).map_err(|message| invalid(&message))?;
    Ok(Some(filter))
}

fn some_k(k: u32) -> Result<u32, wit::Error> {
    if (1..=SEARCH_K_MAX).contains(&k) { Ok(k) } else { Err(invalid("k is 1 to 1 000")) }
}

fn some_vectors(vectors: wit::Vectors, rows_max: usize) -> Result<Vectors, wit::Error> {
    let vectors = Vectors { dim: vectors.dim as usize, data: vectors.data };
    check::vectors(&vectors).map_err(|message| invalid(&message))?;
    if vectors.rows() > rows_max {
        return Err(too_many("vectors", rows_max));
    }
    Ok(vectors)
}

fn some_ids(ids: Vec<String>, ids_max: usize) -> Result<Vec<ChunkId>, wit::Error> {
    if ids.len() > ids_max {
        return Err(too_many("ids", ids_max));
    }
    for id in &ids {
        check::id(id).map_err(|message| invalid(&message))?;
    }
    Ok(ids.into_iter().map(ChunkId).collect())
}

fn some_name(name: String) -> Result<String, wit::Error> {
    check::id(&name).map_err(|message| invalid(&message))?;
    Ok(name)
}

impl search::Host for State {
    async fn dense(
        &mut self,
        query: wit::Vectors,
        k: u32,
        filter: Option<wit::Filter>,
    ) -> Outcome<Vec<wit::Hit>> {
        let (query, k, filter) =
            (accept!(some_vectors(query, 1)), accept!(some_k(k)), accept!(some_filter(filter)));
        let Some(search) = self.grants.search.clone() else { return Ok(Err(absent("search"))) };
        let hits = self.perform(async move { search.dense(&query, k, filter.as_ref()).await }).await?;
        Ok(hits.map(convert::hits_to_guest))
    }

    async fn lexical(
        &mut self,
        query: String,
        k: u32,
        filter: Option<wit::Filter>,
    ) -> Outcome<Vec<wit::Hit>> {
        let (k, filter) = (accept!(some_k(k)), accept!(some_filter(filter)));
        if query.len() > LEXICAL_BYTES_MAX {
            return Ok(Err(too_many("bytes of a query", LEXICAL_BYTES_MAX)));
        }
        let Some(search) = self.grants.search.clone() else { return Ok(Err(absent("search"))) };
        let hits = self.perform(async move { search.lexical(&query, k, filter.as_ref()).await }).await?;
        Ok(hits.map(convert::hits_to_guest))
    }

    async fn passages(&mut self, chunks: Vec<String>) -> Outcome<Vec<search::Passage>> {
        let chunks = accept!(some_ids(chunks, SEARCH_K_MAX as usize));
        let Some(search) = self.grants.search.clone() else { return Ok(Err(absent("search"))) };
        let passages = self.perform(async move { search.passages(&chunks).await }).await?;
        Ok(passages.map(|passages| passages.into_iter().map(passage_to_guest).collect()))
    }

    async fn vectors_of(&mut self, chunks: Vec<String>) -> Outcome<wit::Vectors> {
        let chunks = accept!(some_ids(chunks, SEARCH_K_MAX as usize));
        let Some(search) = self.grants.search.clone() else { return Ok(Err(absent("search"))) };
        let vectors = self.perform(async move { search.vectors_of(&chunks).await }).await?;
        Ok(vectors.map(|vectors| convert::vectors_to_guest(&vectors)))
    }
}

/// Attributes: `name` of the document and, where there is one, `heading`.
fn passage_to_guest(passage: Passage) -> search::Passage {
    let mut attributes = vec![("name".to_owned(), passage.document_name)];
    attributes.extend(passage.heading.map(|heading| ("heading".to_owned(), heading)));
    search::Passage {
        chunk: passage.chunk.0,
        document: passage.document.0,
        text: passage.text,
        parent: passage.parent.map(|parent| parent.0),
        location: wit::Location {
            page: passage.page,
            part: None,
            row: None,
            area: None,
            source: passage.source.map(|span| wit::ByteRange { start: span.start, end: span.end }),
        },
        attributes,
    }
}

impl kv::Host for State {
    async fn get(&mut self, key: String) -> Outcome<Option<Vec<u8>>> {
        let key = accept!(some_key(key));
        let Some(kv) = self.grants.kv.clone() else { return Ok(Err(absent("state"))) };
        self.perform(async move { kv.get(&key).await }).await
    }

    async fn set(&mut self, key: String, value: Vec<u8>) -> Outcome<()> {
        let key = accept!(some_key(key));
        if value.len() > VALUE_BYTES_MAX {
            return Ok(Err(too_many("bytes of a value", VALUE_BYTES_MAX)));
        }
        let Some(kv) = self.grants.kv.clone() else { return Ok(Err(absent("state"))) };
        self.perform(async move { kv.set(&key, value).await }).await
    }

    async fn delete(&mut self, key: String) -> Outcome<bool> {
        let key = accept!(some_key(key));
        let Some(kv) = self.grants.kv.clone() else { return Ok(Err(absent("state"))) };
        self.perform(async move { kv.delete(&key).await }).await
    }

    async fn keys(&mut self, prefix: String, after: Option<String>, limit: u32) -> Outcome<Vec<String>> {
        if prefix.len() > KEY_BYTES_MAX || after.as_ref().is_some_and(|after| after.len() > KEY_BYTES_MAX) {
            return Ok(Err(invalid("a key is at most 1 KiB")));
        }
        let Some(kv) = self.grants.kv.clone() else { return Ok(Err(absent("state"))) };
        let limit = limit.min(KEYS_MAX);
        self.perform(async move { kv.keys(&prefix, after.as_deref(), limit).await }).await
    }
}

fn some_key(key: String) -> Result<String, wit::Error> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        Err(invalid("a key is 1 byte to 1 KiB"))
    } else {
        Ok(key)
    }
}

impl vector_index::Host for State {
    async fn create(&mut self, name: String, dim: u32, metric: wit::Metric) -> Outcome<()> {
        let name = accept!(some_name(name));
        let collection =
            VectorCollection { name, dim: dim as usize, metric: convert::metric_from_guest(metric) };
        accept!(check::collection(&collection).map_err(|message| invalid(&message)));
        let Some(index) = self.grants.index.clone() else { return Ok(Err(absent("vector index"))) };
        self.perform(async move { index.create(&collection).await }).await
    }

    async fn drop(&mut self, name: String) -> Outcome<()> {
        let name = accept!(some_name(name));
        let Some(index) = self.grants.index.clone() else { return Ok(Err(absent("vector index"))) };
        self.perform(async move { index.drop_collection(&name).await }).await
    }

    async fn names(&mut self) -> Outcome<Vec<String>> {
        let Some(index) = self.grants.index.clone() else { return Ok(Err(absent("vector index"))) };
        let work =
            async move { Ok(index.list().await?.into_iter().map(|collection| collection.name).collect()) };
        self.perform(work).await
    }

    async fn count(&mut self, name: String) -> Outcome<u64> {
        let name = accept!(some_name(name));
        let Some(index) = self.grants.index.clone() else { return Ok(Err(absent("vector index"))) };
        self.perform(async move { index.count(&name).await }).await
    }

    async fn upsert(
        &mut self,
        name: String,
        rows: vector_index::Rows,
        fields: Vec<Vec<(String, wit::Value)>>,
    ) -> Outcome<()> {
        let name = accept!(some_name(name));
        let ids = accept!(some_ids(rows.ids, STORE_BATCH_MAX));
        let vectors = accept!(some_vectors(rows.vectors, STORE_BATCH_MAX));
        if vectors.rows() != ids.len() || fields.len() != ids.len() {
            return Ok(Err(invalid("ids, vectors and fields differ in length")));
        }
        let fields = convert::fields_from_guest(fields);
        let Some(index) = self.grants.index.clone() else { return Ok(Err(absent("vector index"))) };
        self.perform(async move { index.upsert(&name, StoredVectors { ids, vectors }, fields).await }).await
    }

    async fn delete(&mut self, name: String, ids: Vec<String>) -> Outcome<()> {
        let (name, ids) = (accept!(some_name(name)), accept!(some_ids(ids, STORE_BATCH_MAX)));
        let Some(index) = self.grants.index.clone() else { return Ok(Err(absent("vector index"))) };
        self.perform(async move { index.delete(&name, &ids).await }).await
    }

    async fn query(
        &mut self,
        name: String,
        queries: wit::Vectors,
        k: u32,
        filter: Option<wit::Filter>,
    ) -> Outcome<Vec<Vec<wit::Hit>>> {
        let (name, queries) = (accept!(some_name(name)), accept!(some_vectors(queries, QUERY_ROWS_MAX)));
        let (k, filter) = (accept!(some_k(k)), accept!(some_filter(filter)));
        let Some(index) = self.grants.index.clone() else { return Ok(Err(absent("vector index"))) };
        let lists =
            self.perform(async move { index.query(&name, &queries, k, filter.as_ref()).await }).await?;
        Ok(lists.map(|lists| lists.into_iter().map(convert::hits_to_guest).collect()))
    }

    async fn scan(&mut self, name: String, after: Option<String>, limit: u32) -> Outcome<vector_index::Rows> {
        let name = accept!(some_name(name));
        let after = accept!(after.map(some_name).transpose()).map(ChunkId);
        let Some(index) = self.grants.index.clone() else { return Ok(Err(absent("vector index"))) };
        let limit = limit.min(SCAN_ROWS_MAX);
        let rows = self.perform(async move { index.scan(&name, after.as_ref(), limit).await }).await?;
        Ok(rows.map(|rows| vector_index::Rows {
            ids: rows.ids.into_iter().map(|id| id.0).collect(),
            vectors: wit::Vectors { dim: convert::u32_of(rows.vectors.dim), data: rows.vectors.data },
        }))
    }
}
