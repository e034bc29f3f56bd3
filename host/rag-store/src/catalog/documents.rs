//! Documents: opened, committed, listed and read back.

use rag_core::Error;
use rag_core::document::{BlobHash, DocumentId, ParsedSummary};
use rag_core::kb::KbName;
use rag_core::ports::{DocumentInfo, DocumentState, JobId, NewDocument, Opened};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{curation, jobs, kbs, retire};
use crate::fault::{Step, signed};
use crate::store::now_ms;
use crate::words;

pub(super) fn missing(id: &DocumentId) -> Error {
    Error::NotFound { what: "document", name: id.0.clone() }
}

/// The row of a document and whether it is committed.
pub(super) fn row_of(connection: &Connection, id: &DocumentId) -> Step<Option<(i64, bool)>> {
    let mut statement = connection.prepare_cached("SELECT row, ready FROM documents WHERE id = ?1")?;
    Ok(statement.query_row([&id.0], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

/// Chunks of an unfinished attempt go; the document starts empty.
pub(super) fn open(transaction: &Transaction<'_>, new: &NewDocument) -> Step<Opened> {
    let kb = kbs::any_row_of(transaction, &new.kb)?;
    match row_of(transaction, &new.id)? {
        Some((row, true)) => {
            if new.folder.is_some() {
                transaction
                    .execute("UPDATE documents SET folder = ?2 WHERE row = ?1", params![row, new.folder])?;
            }
            return Ok(Opened::Unchanged);
        }
        Some((row, false)) => retire::remove(transaction, row)?,
        None => {}
    }
    transaction.execute(
        "INSERT INTO documents (id, kb, name, blob, size, media_type, pipeline, collection, folder, created_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            new.id.0,
            kb,
            new.name,
            new.blob.0,
            signed(new.size)?,
            new.media_type,
            new.pipeline,
            new.collection,
            new.folder,
            now_ms()
        ],
    )?;
    Ok(Opened::Fresh)
}

/// Returns the originals that nothing refers to any more, and whether an earlier version was replaced. Committing
/// again changes nothing.
pub(super) fn commit(
    transaction: &Transaction<'_>,
    id: &DocumentId,
    summary: &ParsedSummary,
    job: &JobId,
) -> Step<(Vec<BlobHash>, bool)> {
    let (row, ready) = row_of(transaction, id)?.ok_or_else(|| missing(id))?;
    if ready {
        return Ok((Vec::new(), false));
    }
    let fills_index = jobs::complete(transaction, job, id)?;
    let (kb, name, collection, live): (i64, String, String, String) = transaction.query_row(
        "SELECT d.kb, d.name, d.collection, k.collection FROM documents d JOIN kbs k ON k.row = d.kb WHERE d.row = ?1",
        [row],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
    )?;
    if collection != live && !fills_index {
        return Err(Error::Unavailable {
            message: "the knowledge base's index was exchanged meanwhile; ingest again".to_owned(),
        }
        .into());
    }
    let earlier: Option<(i64, String)> = transaction
        .query_row(
            "SELECT row, blob FROM documents WHERE kb = ?1 AND name = ?2 AND collection = ?3 AND ready = 1",
            params![kb, name, collection],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let mut freed = Vec::new();
    // What people noted and ordered about a document holds for its next version and in another index too.
    transaction.execute(
        "UPDATE documents SET (disabled, metadata) = (o.disabled, o.metadata) FROM documents o
         WHERE documents.row = ?1 AND o.kb = ?2 AND o.name = ?3 AND o.collection = ?4 AND o.ready = 1",
        params![row, kb, name, live],
    )?;
    if let Some((earlier, blob)) = &earlier {
        retire::remove(transaction, *earlier)?;
        freed.push(BlobHash(blob.clone()));
    }
    let attributes = serde_json::to_string(&summary.attributes)
        .map_err(|error| Error::invalid(format!("the document's attributes cannot be written: {error}")))?;
    transaction.execute(
        "UPDATE documents SET ready = 1, title = ?2, language = ?3, attributes = ?4, created_ms = ?5 WHERE row = ?1",
        params![row, summary.title, summary.language, attributes, now_ms()],
    )?;
    words::table::add_document(transaction, row)?;
    if !fills_index {
        // An index that answered before keeps nothing that was replaced.
        freed.extend(retire::remove_elsewhere(transaction, row, "AND o.blob <> d.blob")?);
    }
    curation::drop_vectors_if_disabled(transaction, row)?;
    Ok((retire::unused(transaction, freed)?, earlier.is_some()))
}

pub(super) fn get(connection: &Connection, id: &DocumentId) -> Step<DocumentInfo> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE d.id = ?1"))?;
    let found = statement.query_row([&id.0], info).optional()?;
    found.ok_or_else(|| missing(id).into())
}

pub(super) fn list(
    connection: &Connection,
    kb: &KbName,
    after: Option<&str>,
    limit: u32,
) -> Step<Vec<DocumentInfo>> {
    let row = kbs::row_of(connection, kb)?;
    let mut statement = connection.prepare_cached(&format!(
        "{SELECT} WHERE d.kb = ?1 AND d.collection = k.collection AND d.ready = 1 AND (?2 IS NULL OR d.name > ?2) ORDER BY d.name LIMIT ?3"
    ))?;
    let rows = statement.query_map(params![row, after, limit], info)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) const SELECT: &str =
    "SELECT d.id, k.name, d.name, d.title, d.language, d.blob, d.size, d.media_type, d.ready,
    d.chunks, d.text_bytes, d.created_ms, d.disabled, d.attributes, d.metadata, d.folder, d.pipeline FROM documents d JOIN kbs k ON k.row = d.kb";

pub(super) fn info(row: &Row<'_>) -> rusqlite::Result<DocumentInfo> {
    Ok(DocumentInfo {
        id: DocumentId(row.get(0)?),
        kb: kbs::name_in(row, 1)?,
        name: row.get(2)?,
        title: row.get(3)?,
        language: row.get(4)?,
        blob: BlobHash(row.get(5)?),
        size: row.get(6)?,
        media_type: row.get(7)?,
        state: if row.get(8)? { DocumentState::Ready } else { DocumentState::Pending },
        chunks: row.get(9)?,
        text_bytes: row.get(10)?,
        disabled: row.get(12)?,
        attributes: pairs_in(row, 13)?,
        metadata: pairs_in(row, 14)?,
        folder: row.get(15)?,
        pipeline: row.get(16)?,
        created_ms: row.get(11)?,
    })
}

fn pairs_in(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<(String, String)>> {
    let json = row.get_ref(column)?.as_str()?;
    serde_json::from_str(json).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error.into())
    })
}

/// Bytes [start, end) of a committed document's text, widened to character boundaries and cut at its end.
pub(super) fn text(connection: &Connection, id: &DocumentId, start: u64, end: u64) -> Step<String> {
    let Some((row, true)) = row_of(connection, id)? else { return Err(missing(id).into()) };
    let mut statement = connection.prepare_cached(
        "SELECT text_start, text FROM sections WHERE document = ?1 AND text_start < ?3 AND text_end > ?2 ORDER BY text_start",
    )?;
    let clipped = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![row, clipped(start), clipped(end)])?;
    let mut found = String::new();
    while let Some(section) = rows.next()? {
        let first: u64 = section.get(0)?;
        let text = section.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        let from =
            text.floor_char_boundary(usize::try_from(start.saturating_sub(first)).unwrap_or(usize::MAX));
        let to = text.ceil_char_boundary(usize::try_from(end - first).unwrap_or(usize::MAX));
        found.push_str(&text[from..to]);
    }
    Ok(found)
}
