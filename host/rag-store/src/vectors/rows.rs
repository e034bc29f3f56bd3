//! The rows of vectors in SQLite: written, read back, and scored exactly.

use std::cmp::Ordering;

use rag_core::Error;
use rag_core::document::{ChunkId, Vectors};
use rag_core::kb::KbName;
use rag_core::ports::{StoredVectors, VectorCollection};
use rag_core::search::{Filter, Hit, Metric, Value};
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, Transaction, params, params_from_iter};

use super::scan::{Candidates, exact_score};
use super::snapshot::{COARSE_ROWS, Snapshot};
use super::{METRICS, ROWS_MAX};
use crate::catalog::any_kb_row;
use crate::fault::{Step, signed};
use crate::filter::{self, VectorFields};

/// A collection as its row has it.
#[derive(Debug, Clone)]
pub(super) struct Collection {
    pub(super) row: i64,
    pub(super) name: String,
    pub(super) dim: usize,
    pub(super) metric: Metric,
}

impl Collection {
    pub(super) fn check_dim(&self, vectors: &Vectors) -> Step<()> {
        if vectors.data.is_empty() || vectors.dim == self.dim {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "collection '{}' holds vectors of {} components, not {}",
            self.name, self.dim, vectors.dim
        ))
        .into())
    }
}

pub(super) fn find(connection: &Connection, kb: &KbName, name: &str) -> Step<Collection> {
    let kb = any_kb_row(connection, kb)?;
    let mut statement = connection.prepare_cached(
        "SELECT row, dim, metric FROM collections WHERE kb = ?1 AND name = ?2 AND dropped = 0",
    )?;
    let found = statement
        .query_row(params![kb, name], |row| {
            let metric = METRICS.get(row.get::<_, usize>(2)?).copied().unwrap_or(Metric::Cosine);
            Ok(Collection { row: row.get(0)?, name: name.to_owned(), dim: row.get(1)?, metric })
        })
        .optional()?;
    found.ok_or_else(|| Error::NotFound { what: "collection", name: name.to_owned() }.into())
}

pub(super) fn create(transaction: &Transaction<'_>, kb: &KbName, new: &VectorCollection) -> Step<()> {
    let row = any_kb_row(transaction, kb)?;
    let metric = METRICS.iter().position(|metric| *metric == new.metric).unwrap_or_default();
    let inserted = transaction.execute(
        "INSERT INTO collections (kb, name, dim, metric) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        params![row, new.name, signed(new.dim as u64)?, signed(metric as u64)?],
    )?;
    if inserted > 0 {
        return Ok(());
    }
    let there = find(transaction, kb, &new.name)?;
    if there.dim == new.dim && there.metric == new.metric {
        return Ok(());
    }
    Err(Error::Conflict {
        message: format!(
            "collection '{}' has {} components by {:?}, not {} by {:?}",
            new.name, there.dim, there.metric, new.dim, new.metric
        ),
    }
    .into())
}

/// Takes a collection out of sight; returns its row if there was one.
pub(super) fn mark_dropped(transaction: &Transaction<'_>, kb: &KbName, name: &str) -> Step<Vec<i64>> {
    let kb = any_kb_row(transaction, kb)?;
    let mut statement = transaction.prepare_cached(
        "UPDATE collections SET dropped = 1 WHERE kb = ?1 AND name = ?2 AND dropped = 0 RETURNING row",
    )?;
    let rows = statement.query_map(params![kb, name], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Rows that one transaction removes of dropped collections.
const PURGE_ROWS: i64 = 2_000;

/// Removes some rows of dropped collections; tells whether there may be more.
pub(super) fn purge_batch(transaction: &Transaction<'_>) -> Step<bool> {
    let dropped: Option<i64> = transaction
        .query_row("SELECT row FROM collections WHERE dropped = 1 LIMIT 1", [], |row| row.get(0))
        .optional()?;
    let Some(collection) = dropped else { return Ok(false) };
    let last: Option<i64> = transaction.query_row(
        "SELECT max(row) FROM (SELECT row FROM vectors WHERE collection = ?1 ORDER BY row LIMIT ?2)",
        [collection, PURGE_ROWS],
        |row| row.get(0),
    )?;
    match last {
        Some(last) => {
            transaction.execute(
                "DELETE FROM vector_fields WHERE row IN (SELECT row FROM vectors WHERE collection = ?1 AND row <= ?2)",
                [collection, last],
            )?;
            transaction
                .execute("DELETE FROM vectors WHERE collection = ?1 AND row <= ?2", [collection, last])?;
        }
        None => {
            transaction.execute("DELETE FROM collections WHERE row = ?1", [collection])?;
        }
    }
    Ok(true)
}

pub(super) fn list(connection: &Connection, kb: &KbName) -> Step<Vec<VectorCollection>> {
    let row = any_kb_row(connection, kb)?;
    let mut statement = connection
        .prepare_cached("SELECT name FROM collections WHERE kb = ?1 AND dropped = 0 ORDER BY name")?;
    let names = statement.query_map([row], |row| row.get::<_, String>(0))?;
    names
        .map(|name| {
            let found = find(connection, kb, &name?)?;
            Ok(VectorCollection { name: found.name, dim: found.dim, metric: found.metric })
        })
        .collect()
}

pub(super) fn count(connection: &Connection, kb: &KbName, name: &str) -> Step<u64> {
    let collection = find(connection, kb, name)?;
    let mut statement = connection.prepare_cached("SELECT count(*) FROM vectors WHERE collection = ?1")?;
    Ok(statement.query_row([collection.row], |row| row.get(0))?)
}

/// Collection, its new version, and the row of each vector written. An id given twice keeps its last vector.
pub(super) fn upsert(
    transaction: &Transaction<'_>,
    kb: &KbName,
    name: &str,
    new: &StoredVectors,
    fields: &[Vec<(String, Value)>],
) -> Step<(i64, u64, Vec<i64>)> {
    let collection = find(transaction, kb, name)?;
    collection.check_dim(&new.vectors)?;
    let mut write = transaction.prepare_cached(
        "INSERT INTO vectors (collection, id, vector) VALUES (?1, ?2, ?3)
         ON CONFLICT (collection, id) DO UPDATE SET vector = excluded.vector RETURNING row",
    )?;
    let mut clear = transaction.prepare_cached("DELETE FROM vector_fields WHERE row = ?1")?;
    let mut field = transaction.prepare_cached(
        "INSERT INTO vector_fields (collection, field, kind, value, row) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO NOTHING",
    )?;
    let mut written = Vec::with_capacity(new.ids.len());
    for ((id, vector), fields) in new.ids.iter().zip(new.vectors.iter()).zip(fields) {
        let row: i64 = write.query_row(params![collection.row, id.0, to_bytes(vector)], |row| row.get(0))?;
        clear.execute([row])?;
        for (name, value) in fields {
            field.execute(params![collection.row, name, filter::kind(value), filter::sql(value), row])?;
        }
        written.push(row);
    }
    Ok((collection.row, next_version(transaction, &collection)?, written))
}

/// Collection, its new version, and the rows deleted. Unknown ids are no error.
pub(super) fn delete(
    transaction: &Transaction<'_>,
    kb: &KbName,
    name: &str,
    ids: &[ChunkId],
) -> Step<(i64, u64, Vec<i64>)> {
    let collection = find(transaction, kb, name)?;
    let mut find_row =
        transaction.prepare_cached("SELECT row FROM vectors WHERE collection = ?1 AND id = ?2")?;
    let mut clear = transaction.prepare_cached("DELETE FROM vector_fields WHERE row = ?1")?;
    let mut delete = transaction.prepare_cached("DELETE FROM vectors WHERE row = ?1")?;
    let mut deleted = Vec::with_capacity(ids.len());
    for id in ids {
        let row: Option<i64> =
            find_row.query_row(params![collection.row, id.0], |row| row.get(0)).optional()?;
        if let Some(row) = row {
            clear.execute([row])?;
            delete.execute([row])?;
            deleted.push(row);
        }
    }
    Ok((collection.row, next_version(transaction, &collection)?, deleted))
}

fn next_version(transaction: &Transaction<'_>, collection: &Collection) -> Step<u64> {
    let mut statement = transaction
        .prepare_cached("UPDATE collections SET version = version + 1 WHERE row = ?1 RETURNING version")?;
    Ok(statement.query_row([collection.row], |row| row.get(0))?)
}

/// Everything of a collection, with the version that it has.
pub(super) fn load(connection: &Connection, collection: &Collection) -> Step<(u64, Snapshot)> {
    let (version, rows): (u64, usize) = connection.query_row(
        "SELECT version, (SELECT count(*) FROM vectors WHERE collection = ?1) FROM collections WHERE row = ?1",
        [collection.row],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let mut snapshot = Snapshot::new(collection.dim, collection.metric);
    if rows >= COARSE_ROWS {
        let mut some = Vec::with_capacity(2 * ROWS_SEEN_FIRST);
        each(connection, collection, (rows / ROWS_SEEN_FIRST).max(1), |_, vector| {
            some.push(vector.to_vec())
        })?;
        snapshot = Snapshot::coarse(collection.dim, collection.metric, &some);
    }
    each(connection, collection, 1, |row, vector| snapshot.upsert(row, vector))?;
    Ok((version, snapshot))
}

/// About so many rows of a large collection are read to learn where its middle is.
const ROWS_SEEN_FIRST: usize = 1_000;

/// The rows whose number is a multiple of `step`, in order.
fn each(
    connection: &Connection,
    collection: &Collection,
    step: usize,
    mut each: impl FnMut(i64, &[f32]),
) -> Step<()> {
    let mut statement = connection.prepare_cached(
        "SELECT row, vector FROM vectors WHERE collection = ?1 AND row % ?2 = 0 ORDER BY row",
    )?;
    let mut found = statement.query(params![collection.row, signed(step as u64)?])?;
    let mut vector = Vec::with_capacity(collection.dim);
    while let Some(row) = found.next()? {
        from_bytes(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?, &mut vector);
        if vector.len() != collection.dim {
            return Err(damaged(&collection.name).into());
        }
        each(row.get(0)?, &vector);
    }
    Ok(())
}

fn damaged(collection: &str) -> Error {
    Error::Storage {
        message: format!("a vector of collection '{collection}' is damaged; ingest its document again"),
    }
}

/// The rows that a filter lets through, sorted.
pub(super) fn allowed(connection: &Connection, collection: &Collection, filter: &Filter) -> Step<Vec<i64>> {
    let mut params = vec![Sql::Integer(collection.row)];
    let condition = filter::compile(filter, &VectorFields, &mut params)?;
    let sql = format!("SELECT v.row FROM vectors v WHERE v.collection = ?1 AND {condition} ORDER BY v.row");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(params), |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The `k` nearest, best first; equal scores in the order of ids.
pub(super) fn nearest(
    connection: &Connection,
    collection: &Collection,
    snapshot: &Snapshot,
    query: &[f32],
    k: u32,
    allowed: Option<&[i64]>,
) -> Step<Vec<Hit>> {
    let k = usize::try_from(k).unwrap_or(usize::MAX);
    if k == 0 {
        return Ok(Vec::new());
    }
    let mut statement =
        connection.prepare_cached("SELECT id, vector FROM vectors WHERE row = ?1 AND collection = ?2")?;
    let mut vector = Vec::with_capacity(collection.dim);
    let mut hits = Vec::new();
    for row in Candidates::find(snapshot, query, k, allowed) {
        let mut found = statement.query([row, collection.row])?;
        // A candidate that was deleted meanwhile is no hit.
        let Some(stored) = found.next()? else { continue };
        from_bytes(stored.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?, &mut vector);
        hits.push(Hit {
            chunk: ChunkId(stored.get(0)?),
            score: exact_score(collection.metric, query, &vector),
        });
    }
    hits.sort_unstable_by(best_first);
    hits.truncate(k);
    Ok(hits)
}

fn best_first(a: &Hit, b: &Hit) -> Ordering {
    b.score.total_cmp(&a.score).then_with(|| a.chunk.cmp(&b.chunk))
}

pub(super) fn scan(
    connection: &Connection,
    kb: &KbName,
    name: &str,
    after: Option<&ChunkId>,
    limit: u32,
) -> Step<StoredVectors> {
    let collection = find(connection, kb, name)?;
    let mut statement = connection.prepare_cached(
        "SELECT id, vector FROM vectors WHERE collection = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
    )?;
    let after = after.map_or("", |id| id.0.as_str());
    let mut found = statement.query(params![collection.row, after, u64::from(limit).min(ROWS_MAX as u64)])?;
    let mut rows = Rows::new(&collection);
    while let Some(row) = found.next()? {
        rows.push(ChunkId(row.get(0)?), row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?);
    }
    Ok(rows.0)
}

pub(super) fn of(connection: &Connection, kb: &KbName, name: &str, ids: &[ChunkId]) -> Step<StoredVectors> {
    let collection = find(connection, kb, name)?;
    let mut statement =
        connection.prepare_cached("SELECT vector FROM vectors WHERE collection = ?1 AND id = ?2")?;
    let mut rows = Rows::new(&collection);
    for id in ids {
        let mut found = statement.query(params![collection.row, id.0])?;
        if let Some(row) = found.next()? {
            rows.push(id.clone(), row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?);
        }
    }
    Ok(rows.0)
}

/// Rows being read back.
struct Rows(StoredVectors, Vec<f32>);

impl Rows {
    fn new(collection: &Collection) -> Self {
        let vectors = Vectors { dim: collection.dim, data: Vec::new() };
        Rows(StoredVectors { ids: Vec::new(), vectors }, Vec::new())
    }

    fn push(&mut self, id: ChunkId, bytes: &[u8]) {
        from_bytes(bytes, &mut self.1);
        self.0.ids.push(id);
        self.0.vectors.data.extend_from_slice(&self.1);
    }
}

fn to_bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn from_bytes(bytes: &[u8], vector: &mut Vec<f32>) {
    vector.clear();
    vector.extend(bytes.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)));
}
