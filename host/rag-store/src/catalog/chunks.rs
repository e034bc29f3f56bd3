//! Chunks: written as pending with their section, read back once their document is committed.

use rag_core::Error;
use rag_core::document::{Chunk, ChunkId, DocumentId, Span};
use rag_core::kb::KbName;
use rag_core::ports::Stored;
use rag_core::search::Passage;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{documents, kbs};
use crate::fault::{Step, signed};

/// Writing the same section again changes nothing.
pub(super) fn put_section(
    transaction: &Transaction<'_>,
    id: &DocumentId,
    text_start: u64,
    text: &str,
    chunks: &[Chunk],
) -> Step<()> {
    let Some((document, ready)) = documents::row_of(transaction, id)? else {
        return Err(documents::missing(id).into());
    };
    if ready {
        return Err(Error::Conflict { message: format!("document '{id}' is committed already") }.into());
    }
    let (text_bytes, ordinals): (u64, u32) = transaction.query_row(
        "SELECT text_bytes, chunks FROM documents WHERE row = ?1",
        [document],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let text_end = text_start.saturating_add(text.len() as u64);
    if text_start < text_bytes && is_repeated(transaction, document, text_start, text, chunks)? {
        return Ok(());
    }
    if text_start != text_bytes {
        return Err(Error::invalid(format!(
            "the section begins at byte {text_start} of the text, but the sections before it end at {text_bytes}"
        ))
        .into());
    }
    check(chunks, ordinals, Span { start: text_start, end: text_end })?;
    transaction.execute(
        "INSERT INTO sections (document, text_start, text_end, text) VALUES (?1, ?2, ?3, ?4)",
        params![document, signed(text_start)?, signed(text_end)?, text],
    )?;
    for chunk in chunks {
        insert(transaction, document, chunk)?;
    }
    transaction.execute(
        "UPDATE documents SET text_bytes = ?2, chunks = chunks + ?3 WHERE row = ?1",
        params![document, signed(text_end)?, signed(chunks.len() as u64)?],
    )?;
    Ok(())
}

fn is_repeated(
    transaction: &Transaction<'_>,
    document: i64,
    text_start: u64,
    text: &str,
    chunks: &[Chunk],
) -> Step<bool> {
    let stored: Option<String> = transaction
        .query_row(
            "SELECT text FROM sections WHERE document = ?1 AND text_start = ?2",
            params![document, signed(text_start)?],
            |row| row.get(0),
        )
        .optional()?;
    if stored.as_deref() != Some(text) {
        return Ok(false);
    }
    let mut statement = transaction.prepare_cached("SELECT 1 FROM chunks WHERE document = ?1 AND id = ?2")?;
    for chunk in chunks {
        if !statement.exists(params![document, chunk.id.0])? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What a caller must keep to, so that every citation can be shown in its place.
fn check(chunks: &[Chunk], first_ordinal: u32, section: Span) -> Step<()> {
    for (ordinal, chunk) in (u64::from(first_ordinal)..).zip(chunks) {
        if u64::from(chunk.ordinal) != ordinal {
            return Err(Error::invalid(format!(
                "chunk {} stands where chunk {ordinal} should",
                chunk.ordinal
            ))
            .into());
        }
        if chunk.span.start > chunk.span.end
            || chunk.span.start < section.start
            || chunk.span.end > section.end
        {
            return Err(Error::invalid(format!("chunk {ordinal} reaches outside its section")).into());
        }
    }
    Ok(())
}

/// Vectors for this chunk are about to be written: they are no garbage, unless they are just being dropped.
pub(super) fn keep_vector(transaction: &Transaction<'_>, document: i64, chunk: &ChunkId) -> Step<()> {
    let mut taken = transaction.prepare_cached(
        "SELECT 1 FROM garbage g JOIN documents d ON d.kb = g.kb AND d.collection = g.collection
         WHERE d.row = ?1 AND g.chunk = ?2 AND g.taken = 1",
    )?;
    if taken.exists(params![document, chunk.0])? {
        return Err(Error::Unavailable {
            message:
                "vectors of an earlier attempt at this document are just being removed; try again shortly"
                    .into(),
        }
        .into());
    }
    transaction
        .prepare_cached(
            "DELETE FROM garbage WHERE chunk = ?2
             AND (kb, collection) = (SELECT kb, collection FROM documents WHERE row = ?1)",
        )?
        .execute(params![document, chunk.0])?;
    Ok(())
}

pub(super) fn insert(transaction: &Transaction<'_>, document: i64, chunk: &Chunk) -> Step<()> {
    keep_vector(transaction, document, &chunk.id)?;
    let source = |end: fn(Span) -> u64| chunk.source.map(|span| signed(end(span))).transpose();
    let inserted = transaction
        .prepare_cached(
            "INSERT INTO chunks (id, document, ordinal, text, span_start, span_end, parent, context, heading, page,
             source_start, source_end) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
             ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            chunk.id.0,
            document,
            chunk.ordinal,
            chunk.text,
            signed(chunk.span.start)?,
            signed(chunk.span.end)?,
            chunk.parent.as_ref().map(|parent| &parent.0),
            chunk.context,
            chunk.heading,
            chunk.page,
            source(|span| span.start)?,
            source(|span| span.end)?,
        ])?;
    if inserted == 0 {
        return Err(Error::Conflict { message: format!("chunk '{}' is there already", chunk.id) }.into());
    }
    Ok(())
}

pub(super) fn list(
    connection: &Connection,
    document: &DocumentId,
    after_ordinal: Option<u32>,
    limit: u32,
) -> Step<Vec<Stored>> {
    let Some((row, ready)) = documents::row_of(connection, document)? else {
        return Err(documents::missing(document).into());
    };
    if !ready {
        return Ok(Vec::new());
    }
    let mut statement = connection.prepare_cached(
        "SELECT id, ordinal, text, span_start, span_end, parent, context, heading, page, source_start, source_end,
         disabled, edited FROM chunks WHERE document = ?1 AND ordinal > ?2 ORDER BY ordinal LIMIT ?3",
    )?;
    let rows = statement.query_map(params![row, after_ordinal.map_or(-1, i64::from), limit], |row| {
        Ok(Stored {
            chunk: chunk(row)?,
            document: document.clone(),
            disabled: row.get(11)?,
            edited: row.get(12)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn chunk(row: &Row<'_>) -> rusqlite::Result<Chunk> {
    Ok(Chunk {
        id: ChunkId(row.get(0)?),
        ordinal: row.get(1)?,
        text: row.get(2)?,
        span: Span { start: row.get(3)?, end: row.get(4)? },
        parent: row.get::<_, Option<String>>(5)?.map(ChunkId),
        context: row.get(6)?,
        heading: row.get(7)?,
        page: row.get(8)?,
        source: span(row.get(9)?, row.get(10)?),
    })
}

fn span(start: Option<u64>, end: Option<u64>) -> Option<Span> {
    Some(Span { start: start?, end: end? })
}

/// In the order asked; ids that are unknown, uncommitted or of another knowledge base are left out.
pub(super) fn passages(connection: &Connection, kb: &KbName, ids: &[ChunkId]) -> Step<Vec<Passage>> {
    let kb = kbs::row_of(connection, kb)?;
    let mut statement = connection.prepare_cached(
        "SELECT d.id, d.name, c.text, c.span_start, c.span_end, c.parent, c.heading, c.page, c.source_start, c.source_end
         FROM chunks c JOIN documents d ON d.row = c.document WHERE c.id = ?1 AND d.kb = ?2 AND d.ready = 1
         AND c.disabled = 0 AND d.disabled = 0",
    )?;
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        let passage = statement.query_row(params![id.0, kb], |row| {
            Ok(Passage {
                chunk: id.clone(),
                document: DocumentId(row.get(0)?),
                document_name: row.get(1)?,
                text: row.get(2)?,
                span: Span { start: row.get(3)?, end: row.get(4)? },
                parent: row.get::<_, Option<String>>(5)?.map(ChunkId),
                heading: row.get(6)?,
                page: row.get(7)?,
                source: span(row.get(8)?, row.get(9)?),
            })
        });
        found.extend(passage.optional()?);
    }
    Ok(found)
}
