//! What goes when a document, a chunk or an unfinished attempt goes: text, full-text rows, and its vectors as garbage.

use rag_core::Error;
use rag_core::document::{BlobHash, ChunkId, DocumentId};
use rag_core::kb::KbName;
use rag_core::ports::VectorGarbage;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{documents, kbs};
use crate::fault::Step;
use crate::words;

/// Removes a document, pending or committed, and lists its vectors as garbage.
pub(super) fn remove(transaction: &Transaction<'_>, document: i64) -> Step<()> {
    let (kb, ready, collection): (i64, bool, String) = transaction.query_row(
        "SELECT kb, ready, collection FROM documents WHERE row = ?1",
        [document],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    if ready {
        words::table::remove_document(transaction, document)?;
    }
    transaction.execute(
        "INSERT INTO garbage (kb, collection, chunk)
         SELECT d.kb, d.collection, c.id FROM chunks c JOIN documents d ON d.row = c.document WHERE d.row = ?1
         ON CONFLICT DO NOTHING",
        [document],
    )?;
    transaction.execute("DELETE FROM chunks WHERE document = ?1", [document])?;
    transaction.execute("DELETE FROM sections WHERE document = ?1", [document])?;
    transaction.execute("DELETE FROM documents WHERE row = ?1", [document])?;
    transaction.execute(
        "UPDATE indexes SET embedder = NULL, dim = 0 WHERE kb = ?1 AND collection = ?2
         AND NOT EXISTS (SELECT 1 FROM documents WHERE kb = ?1 AND collection = ?2)",
        params![kb, collection],
    )?;
    Ok(())
}

/// Unknown documents are no error: they may have been deleted before.
pub(super) fn delete_document(transaction: &Transaction<'_>, id: &DocumentId) -> Step<Vec<BlobHash>> {
    let Some((row, _)) = documents::row_of(transaction, id)? else { return Ok(Vec::new()) };
    let blob = transaction.query_row("SELECT blob FROM documents WHERE row = ?1", [row], |row| row.get(0))?;
    let mut freed = remove_elsewhere(transaction, row, "")?;
    remove(transaction, row)?;
    freed.push(BlobHash(blob));
    unused(transaction, freed)
}

/// Removes the document of the same name from the other indexes, so that no way back brings it back; `but` is a further
/// condition on them. Returns their originals.
pub(super) fn remove_elsewhere(
    transaction: &Transaction<'_>,
    document: i64,
    but: &str,
) -> Step<Vec<BlobHash>> {
    let others = {
        let mut statement = transaction.prepare_cached(&format!(
            "SELECT o.row, o.blob FROM documents o JOIN documents d ON o.kb = d.kb AND o.name = d.name
             WHERE d.row = ?1 AND o.collection <> d.collection AND o.ready = 1 {but}"
        ))?;
        let rows = statement.query_map([document], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<rusqlite::Result<Vec<(i64, String)>>>()?
    };
    let mut freed = Vec::new();
    for (row, blob) in others {
        remove(transaction, row)?;
        freed.push(BlobHash(blob));
    }
    freed.dedup();
    Ok(freed)
}

/// Its vector becomes garbage; the ordinals of the others stay.
pub(super) fn delete_chunk(transaction: &Transaction<'_>, id: &ChunkId) -> Step<()> {
    let found: Option<(i64, i64, bool)> = transaction
        .query_row(
            "SELECT c.row, d.row, d.ready FROM chunks c JOIN documents d ON d.row = c.document WHERE c.id = ?1",
            [&id.0],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .optional()?;
    let Some((chunk, document, ready)) = found else { return Ok(()) };
    if !ready {
        return Err(Error::Conflict { message: format!("chunk '{id}' is still being written") }.into());
    }
    words::table::remove(transaction, document, &[chunk])?;
    transaction.execute(
        "INSERT INTO garbage (kb, collection, chunk) SELECT kb, collection, ?2 FROM documents WHERE row = ?1
         ON CONFLICT DO NOTHING",
        params![document, id.0],
    )?;
    transaction.execute("DELETE FROM chunks WHERE row = ?1", [chunk])?;
    transaction.execute("UPDATE documents SET chunks = chunks - 1 WHERE row = ?1", [document])?;
    Ok(())
}

/// Nothing is being written when the store is opened: what is pending then was left by a dead process.
pub(super) fn abandon_all_pending(transaction: &Transaction<'_>) -> Step<()> {
    abandon(transaction, "SELECT row FROM documents WHERE ready = 0", [])
}

/// Removes the unfinished attempts at one original under one name.
pub(super) fn abandon_attempts(transaction: &Transaction<'_>, kb: i64, name: &str, blob: &str) -> Step<()> {
    let sql = "SELECT row FROM documents WHERE kb = ?1 AND name = ?2 AND blob = ?3 AND ready = 0";
    abandon(transaction, sql, params![kb, name, blob])
}

fn abandon(transaction: &Transaction<'_>, select: &str, params: impl rusqlite::Params) -> Step<()> {
    let pending = {
        let mut statement = transaction.prepare_cached(select)?;
        let rows = statement.query_map(params, |row| row.get(0))?;
        rows.collect::<rusqlite::Result<Vec<i64>>>()?
    };
    for row in pending {
        remove(transaction, row)?;
    }
    Ok(())
}

/// Whether a document or a job that may still run refers to an original.
pub(crate) fn blob_is_used(connection: &Connection, blob: &str) -> Step<bool> {
    let mut statement = connection.prepare_cached(
        "SELECT 1 FROM documents WHERE blob = ?1 UNION ALL SELECT 1 FROM jobs WHERE blob = ?1 AND state <> 2 LIMIT 1",
    )?;
    Ok(statement.exists([blob])?)
}

/// Of these originals, those that nothing refers to.
pub(super) fn unused(connection: &Connection, blobs: Vec<BlobHash>) -> Step<Vec<BlobHash>> {
    let mut unused = Vec::new();
    for blob in blobs {
        if !blob_is_used(connection, &blob.0)? {
            unused.push(blob);
        }
    }
    Ok(unused)
}

/// Every original that a knowledge base's documents and jobs refer to.
pub(super) fn blobs_of_kb(connection: &Connection, kb: i64) -> Step<Vec<BlobHash>> {
    let mut statement = connection.prepare(
        "SELECT blob FROM documents WHERE kb = ?1 UNION SELECT blob FROM jobs WHERE kb = ?1 AND state <> 2 AND blob IS NOT NULL",
    )?;
    let rows = statement.query_map([kb], |row| row.get(0).map(BlobHash))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Hands out up to `limit` vectors of one collection. They are marked, so that none of them is written again before
/// `forget` confirms that the old one is gone.
pub(super) fn take_garbage(
    transaction: &Transaction<'_>,
    kb: &KbName,
    limit: u32,
) -> Step<Option<VectorGarbage>> {
    let kb = kbs::any_row_of(transaction, kb)?;
    let collection: Option<String> = transaction
        .query_row("SELECT collection FROM garbage WHERE kb = ?1 LIMIT 1", [kb], |row| row.get(0))
        .optional()?;
    let Some(collection) = collection else { return Ok(None) };
    let chunks = {
        let mut statement = transaction.prepare_cached(
            "SELECT chunk FROM garbage WHERE kb = ?1 AND collection = ?2 ORDER BY chunk LIMIT ?3",
        )?;
        let rows = statement.query_map(params![kb, collection, limit], |row| row.get(0).map(ChunkId))?;
        rows.collect::<rusqlite::Result<Vec<_>>>()?
    };
    let mut mark = transaction
        .prepare_cached("UPDATE garbage SET taken = 1 WHERE kb = ?1 AND collection = ?2 AND chunk = ?3")?;
    for chunk in &chunks {
        mark.execute(params![kb, collection, chunk.0])?;
    }
    Ok((!chunks.is_empty()).then_some(VectorGarbage { collection, chunks }))
}

pub(super) fn release_taken_garbage(transaction: &Transaction<'_>) -> Step<()> {
    transaction.execute("UPDATE garbage SET taken = 0 WHERE taken = 1", [])?;
    Ok(())
}

/// The collection's name is unique to its knowledge base.
pub(super) fn forget(transaction: &Transaction<'_>, garbage: &VectorGarbage) -> Step<()> {
    let mut statement =
        transaction.prepare_cached("DELETE FROM garbage WHERE collection = ?1 AND chunk = ?2")?;
    for chunk in &garbage.chunks {
        statement.execute(params![garbage.collection, chunk.0])?;
    }
    Ok(())
}
