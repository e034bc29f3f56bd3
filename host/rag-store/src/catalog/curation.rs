//! What people change about documents: words and vectors go or come in the same transaction as the mark.

use std::collections::BTreeSet;

use rag_core::document::{Chunk, ChunkId, DocumentId};
use rag_core::kb::KbName;
use rag_core::ports::{DocumentInfo, DocumentQuery, JobId, Stored};
use rag_core::search::{CompareOp, Filter, FilterNode, Value};
use rag_core::{Error, limits};
use rusqlite::{Connection, OptionalExtension, Transaction, params, params_from_iter};

use super::{chunks, documents, jobs, kbs};
use crate::fault::Step;
use crate::filter::{self, ChunkFields};
use crate::words;

/// Documents that the conditions of one filter may hold for, added up.
const RESOLVED_MAX: usize = 4_096;

pub(super) fn find(connection: &Connection, kb: &KbName, query: &DocumentQuery) -> Step<Vec<DocumentInfo>> {
    let kb = kbs::row_of(connection, kb)?;
    let (key, value) = query.tagged.as_ref().map(|(key, value)| (key, value)).unzip();
    let mut statement = connection.prepare_cached(&format!(
        "{} WHERE d.kb = ?1 AND d.ready = 1 AND d.collection = k.collection AND (?2 IS NULL OR d.name > ?2) AND (?3 IS NULL OR d.disabled = ?3)
         AND (?4 IS NULL OR instr(lower(d.name), lower(?4)) OR instr(lower(coalesce(d.title, '')), lower(?4)))
         AND (?5 IS NULL OR EXISTS (
            SELECT 1 FROM json_each(d.attributes) a WHERE a.value ->> 0 = ?5 AND a.value ->> 1 = ?6
            UNION ALL SELECT 1 FROM json_each(d.metadata) a WHERE a.value ->> 0 = ?5 AND a.value ->> 1 = ?6))
         AND (NOT ?8 OR EXISTS (SELECT 1 FROM documents o
            WHERE o.blob = d.blob AND o.kb = d.kb AND o.collection = d.collection AND o.row <> d.row AND o.ready = 1))
         ORDER BY d.name LIMIT ?7",
        documents::SELECT
    ))?;
    let rows = statement.query_map(
        params![kb, query.after, query.disabled, query.words, key, value, query.limit, query.duplicates],
        documents::info,
    )?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn disable_document(transaction: &Transaction<'_>, id: &DocumentId) -> Step<()> {
    let row = ready(transaction, id)?;
    transaction.execute("UPDATE documents SET disabled = 1 WHERE row = ?1", [row])?;
    words::table::remove_document(transaction, row)?;
    drop_vectors_if_disabled(transaction, row)
}

/// Vectors of a disabled document are garbage.
pub(super) fn drop_vectors_if_disabled(transaction: &Transaction<'_>, document: i64) -> Step<()> {
    transaction.execute(
        "INSERT INTO garbage (kb, collection, chunk)
         SELECT d.kb, d.collection, c.id FROM chunks c JOIN documents d ON d.row = c.document
         WHERE d.row = ?1 AND d.disabled = 1 ON CONFLICT DO NOTHING",
        [document],
    )?;
    Ok(())
}

pub(super) fn enable_document(transaction: &Transaction<'_>, id: &DocumentId, job: &JobId) -> Step<()> {
    jobs::complete(transaction, job, id)?;
    let row = ready(transaction, id)?;
    transaction.execute("UPDATE documents SET disabled = 0 WHERE row = ?1", [row])?;
    // Words of an earlier time would be found twice.
    words::table::remove_document(transaction, row)?;
    words::table::add_document(transaction, row)
}

pub(super) fn chunk(connection: &Connection, kb: &KbName, id: &ChunkId) -> Step<Stored> {
    let kb = kbs::row_of(connection, kb)?;
    let mut statement = connection.prepare_cached(
        "SELECT c.id, c.ordinal, c.text, c.span_start, c.span_end, c.parent, c.context, c.heading, c.page,
         c.source_start, c.source_end, c.disabled, c.edited, d.id FROM chunks c JOIN documents d ON d.row = c.document
         WHERE c.id = ?1 AND d.kb = ?2 AND d.ready = 1",
    )?;
    let found = statement.query_row(params![id.0, kb], |row| {
        Ok(Stored {
            chunk: chunks::chunk(row)?,
            document: DocumentId(row.get(13)?),
            disabled: row.get(11)?,
            edited: row.get(12)?,
        })
    });
    found.optional()?.ok_or_else(|| missing(id).into())
}

pub(super) fn disable_chunk(transaction: &Transaction<'_>, id: &ChunkId) -> Step<()> {
    let place = Place::of(transaction, id)?;
    words::table::remove(transaction, place.document, &[place.chunk])?;
    garbage(transaction, &place, id)?;
    transaction.execute("UPDATE chunks SET disabled = 1 WHERE row = ?1", [place.chunk])?;
    Ok(())
}

pub(super) fn enable_chunk(transaction: &Transaction<'_>, id: &ChunkId) -> Step<()> {
    let place = Place::of(transaction, id)?;
    transaction.execute("UPDATE chunks SET disabled = 0 WHERE row = ?1", [place.chunk])?;
    words::table::refresh(transaction, place.document, place.chunk)
}

pub(super) fn keep_vectors(transaction: &Transaction<'_>, ids: &[ChunkId]) -> Step<()> {
    for id in ids {
        let document: Option<i64> = transaction
            .prepare_cached("SELECT document FROM chunks WHERE id = ?1")?
            .query_row([&id.0], |row| row.get(0))
            .optional()?;
        // The text of an edit is not there yet: then nothing of it can be garbage but an earlier edit's vector.
        match document {
            Some(document) => chunks::keep_vector(transaction, document, id)?,
            None => forget_edit(transaction, id)?,
        }
    }
    Ok(())
}

fn forget_edit(transaction: &Transaction<'_>, id: &ChunkId) -> Step<()> {
    let taken = transaction
        .prepare_cached("SELECT 1 FROM garbage WHERE chunk = ?1 AND taken = 1")?
        .exists([&id.0])?;
    if taken {
        return Err(Error::Unavailable {
            message: "the vector of an earlier edit is just being removed; try again shortly".to_owned(),
        }
        .into());
    }
    transaction.execute("DELETE FROM garbage WHERE chunk = ?1", [&id.0])?;
    Ok(())
}

/// The row stays, so that order and place do.
pub(super) fn replace_chunk(transaction: &Transaction<'_>, old: &ChunkId, new: &Chunk) -> Step<()> {
    let place = Place::of(transaction, old)?;
    garbage(transaction, &place, old)?;
    transaction.execute("DELETE FROM garbage WHERE chunk = ?1 AND taken = 0", [&new.id.0])?;
    transaction.execute(
        "UPDATE chunks SET id = ?2, text = ?3, edited = 1 WHERE row = ?1",
        params![place.chunk, new.id.0, new.text],
    )?;
    transaction.execute(
        "UPDATE chunks SET parent = ?3 WHERE document = ?1 AND parent = ?2",
        params![place.document, old.0, new.id.0],
    )?;
    words::table::refresh(transaction, place.document, place.chunk)
}

pub(super) fn set_metadata(
    transaction: &Transaction<'_>,
    id: &DocumentId,
    metadata: &[(String, String)],
) -> Step<()> {
    if metadata.len() > limits::METADATA_PAIRS_MAX {
        return Err(Error::invalid(format!(
            "a document has at most {} pairs of metadata",
            limits::METADATA_PAIRS_MAX
        ))
        .into());
    }
    for (key, value) in metadata {
        if key.is_empty() || key.len().max(value.len()) > limits::METADATA_BYTES_MAX {
            return Err(Error::invalid(format!(
                "a key of metadata has 1 to {0} bytes and a value at most {0}",
                limits::METADATA_BYTES_MAX
            ))
            .into());
        }
        if ChunkFields::is_own(key) {
            return Err(Error::invalid(format!("'{key}' is filled by the program; name it otherwise")).into());
        }
    }
    let row = ready(transaction, id)?;
    let json = serde_json::json!(metadata).to_string();
    transaction.execute("UPDATE documents SET metadata = ?2 WHERE row = ?1", params![row, json])?;
    Ok(())
}

/// Node by node, so that every combination keeps its meaning.
pub(super) fn resolve_filter(
    connection: &Connection,
    kb: &KbName,
    collection: &str,
    given: &Filter,
) -> Step<Filter> {
    let row = kbs::row_of(connection, kb)?;
    // Refuses what no part would accept, before anything of it runs.
    filter::compile(given, &ChunkFields, &mut Vec::new())?;
    let mut total = 0;
    let mut nodes = Vec::with_capacity(given.nodes.len());
    for node in &given.nodes {
        let own = match node {
            FilterNode::AllOf(_) | FilterNode::AnyOf(_) | FilterNode::NoneOf(_) => true,
            FilterNode::Compare { field, .. }
            | FilterNode::OneOf { field, .. }
            | FilterNode::Exists { field } => ChunkFields::is_own(field),
        };
        nodes.push(if own {
            node.clone()
        } else {
            documents_of(connection, (row, collection), node, &mut total)?
        });
    }
    Ok(Filter { nodes })
}

fn documents_of(
    connection: &Connection,
    (kb, collection): (i64, &str),
    node: &FilterNode,
    total: &mut usize,
) -> Step<FilterNode> {
    let mut params =
        vec![rusqlite::types::Value::Integer(kb), rusqlite::types::Value::Text(collection.to_owned())];
    let single = Filter { nodes: vec![node.clone()] };
    let condition = filter::compile(&single, &ChunkFields, &mut params)?;
    let sql = format!(
        "SELECT d.id FROM documents d WHERE d.kb = ?1 AND d.collection = ?2 AND d.ready = 1 AND {condition} LIMIT {}",
        RESOLVED_MAX + 1
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(params), |row| row.get::<_, String>(0))?;
    let found: BTreeSet<String> = rows.collect::<rusqlite::Result<_>>()?;
    *total += found.len();
    if *total > RESOLVED_MAX {
        return Err(Error::invalid(format!(
            "the filter's conditions on metadata hold for more than {RESOLVED_MAX} documents; narrow them"
        ))
        .into());
    }
    let field = "document".to_owned();
    Ok(if found.is_empty() {
        // No document has an empty id.
        FilterNode::Compare { field, op: CompareOp::Eq, value: Value::Text(String::new()) }
    } else {
        FilterNode::OneOf { field, values: found.into_iter().map(Value::Text).collect() }
    })
}

/// Row of a ready document.
fn ready(connection: &Connection, id: &DocumentId) -> Step<i64> {
    let mut statement = connection.prepare_cached("SELECT row FROM documents WHERE id = ?1 AND ready = 1")?;
    let found = statement.query_row([&id.0], |row| row.get(0)).optional()?;
    found.ok_or_else(|| documents::missing(id).into())
}

/// Rows of a chunk of a ready document and of that document.
struct Place {
    chunk: i64,
    document: i64,
}

impl Place {
    fn of(connection: &Connection, id: &ChunkId) -> Step<Self> {
        let mut statement = connection.prepare_cached(
            "SELECT c.row, d.row FROM chunks c JOIN documents d ON d.row = c.document
             WHERE c.id = ?1 AND d.ready = 1",
        )?;
        let found =
            statement.query_row([&id.0], |row| Ok(Place { chunk: row.get(0)?, document: row.get(1)? }));
        found.optional()?.ok_or_else(|| missing(id).into())
    }
}

fn garbage(transaction: &Transaction<'_>, place: &Place, id: &ChunkId) -> Step<()> {
    transaction.execute(
        "INSERT INTO garbage (kb, collection, chunk) SELECT kb, collection, ?2 FROM documents WHERE row = ?1
         ON CONFLICT DO NOTHING",
        params![place.document, id.0],
    )?;
    Ok(())
}

fn missing(id: &ChunkId) -> Error {
    Error::NotFound { what: "chunk", name: id.0.clone() }
}
