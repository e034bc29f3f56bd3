//! Knowledge bases: one row each, with a full-text table of its own.

use rag_core::Error;
use rag_core::document::BlobHash;
use rag_core::kb::{Embedded, Kb, KbName, KbSettings};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{generations, imports, indexes, retire};
use crate::fault::Step;
use crate::store::now_ms;
use crate::{settings, words};

/// The row of a knowledge base; names differ by more than ASCII case. One that is being imported is refused.
pub(crate) fn row_of(connection: &Connection, name: &KbName) -> Step<i64> {
    let (row, import) = found(connection, name)?;
    imports::whole(name, import)?;
    Ok(row)
}

/// Likewise, also of one that is being imported: for what an import itself does.
pub(crate) fn any_row_of(connection: &Connection, name: &KbName) -> Step<i64> {
    Ok(found(connection, name)?.0)
}

fn found(connection: &Connection, name: &KbName) -> Step<(i64, i64)> {
    let mut statement = connection.prepare_cached("SELECT row, import FROM kbs WHERE name = ?1")?;
    let found = statement.query_row([name.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    found.ok_or_else(|| missing(name).into())
}

/// A knowledge base's name in a column of a result.
pub(super) fn name_in(row: &Row<'_>, column: usize) -> rusqlite::Result<KbName> {
    let name: String = row.get(column)?;
    KbName::parse(&name).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error.into())
    })
}

fn missing(name: &KbName) -> Error {
    Error::NotFound { what: "knowledge base", name: name.to_string() }
}

pub(super) fn create(transaction: &Transaction<'_>, name: &KbName, settings: &KbSettings) -> Step<Kb> {
    let inserted = transaction.execute(
        "INSERT INTO kbs (name, settings, collection, created_ms) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (name) DO NOTHING",
        params![name.as_str(), settings::to_json(settings)?, format!("{name}-g1"), now_ms()],
    )?;
    if inserted == 0 {
        row_of(transaction, name)?;
        return Err(Error::Conflict { message: format!("there is a knowledge base '{name}' already") }.into());
    }
    let row = transaction.last_insert_rowid();
    generations::first(transaction, row, settings)?;
    words::table::create(transaction, &words::table::name(row, 1))?;
    get(transaction, name)
}

pub(super) fn update(transaction: &Transaction<'_>, name: &KbName, settings: &KbSettings) -> Step<Kb> {
    // A generation may have become live since these settings were read.
    let parts = get(transaction, name)?.settings.parts();
    let json = settings::to_json(&settings.clone().with_parts(parts))?;
    transaction.execute("UPDATE kbs SET settings = ?2 WHERE name = ?1", params![name.as_str(), json])?;
    get(transaction, name)
}

/// An index without documents, half-written ones included, may change its model.
pub(super) fn set_embedder(
    transaction: &Transaction<'_>,
    name: &KbName,
    collection: &str,
    embedder: &Embedded,
) -> Step<()> {
    let kb = any_row_of(transaction, name)?;
    let held: Option<String> = transaction
        .query_row(
            "SELECT embedder FROM indexes WHERE kb = ?1 AND collection = ?2",
            params![kb, collection],
            |row| row.get(0),
        )
        .optional()?
        .ok_or_else(|| Error::NotFound { what: "index", name: collection.to_owned() })?;
    let documents: i64 = transaction.query_row(
        "SELECT count(*) FROM documents WHERE kb = ?1 AND collection = ?2 AND (ready = 1 OR chunks > 0)",
        params![kb, collection],
        |row| row.get(0),
    )?;
    let Embedded { identity, dim } = embedder;
    match held {
        Some(held) if held != *identity && documents > 0 => Err(Error::Conflict {
            message: format!(
                "knowledge base '{name}' holds vectors of the embedding model {held}; they cannot be mixed with those of {identity}: embed its documents anew (`rwkv-rag kb encoder --kb {name} NAME`), or delete them first"
            ),
        }
        .into()),
        _ => {
            transaction.execute(
                "UPDATE indexes SET embedder = ?3, dim = ?4 WHERE kb = ?1 AND collection = ?2",
                params![kb, collection, identity, dim],
            )?;
            Ok(())
        }
    }
}

/// What the vectors of an index are, in two columns of a result.
pub(super) fn embedded_in(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Embedded>> {
    let identity: Option<String> = row.get(column)?;
    let dim = row.get(column + 1).unwrap_or_default();
    Ok(identity.map(|identity| Embedded { identity, dim }))
}

/// Returns the originals that nothing refers to any more, and the host's own collections that went along.
pub(super) fn delete(transaction: &Transaction<'_>, name: &KbName) -> Step<(Vec<BlobHash>, Vec<i64>)> {
    let kb = any_row_of(transaction, name)?;
    let blobs = retire::blobs_of_kb(transaction, kb)?;
    let collections = {
        let mut statement = transaction.prepare("SELECT row FROM collections WHERE kb = ?1")?;
        let rows = statement.query_map([kb], |row| row.get(0))?;
        rows.collect::<rusqlite::Result<Vec<i64>>>()?
    };
    indexes::drop_all_words(transaction, kb)?;
    for statement in [
        "DELETE FROM indexes WHERE kb = ?1",
        "DELETE FROM generations WHERE kb = ?1",
        "DELETE FROM chunks WHERE document IN (SELECT row FROM documents WHERE kb = ?1)",
        "DELETE FROM sections WHERE document IN (SELECT row FROM documents WHERE kb = ?1)",
        "DELETE FROM documents WHERE kb = ?1",
        "DELETE FROM garbage WHERE kb = ?1",
        "DELETE FROM jobs WHERE kb = ?1",
        "DELETE FROM turns WHERE kb = ?1",
        "DELETE FROM conversations WHERE kb = ?1",
        "DELETE FROM outcomes WHERE run IN (SELECT r.row FROM runs r JOIN question_sets s ON s.row = r.question_set WHERE s.kb = ?1)",
        "DELETE FROM runs WHERE question_set IN (SELECT row FROM question_sets WHERE kb = ?1)",
        "DELETE FROM questions WHERE question_set IN (SELECT row FROM question_sets WHERE kb = ?1)",
        "DELETE FROM question_sets WHERE kb = ?1",
        "DELETE FROM key_values WHERE kb = ?1",
        "DELETE FROM vector_fields WHERE collection IN (SELECT row FROM collections WHERE kb = ?1)",
        "DELETE FROM vectors WHERE collection IN (SELECT row FROM collections WHERE kb = ?1)",
        "DELETE FROM collections WHERE kb = ?1",
        "DELETE FROM kbs WHERE row = ?1",
    ] {
        transaction.execute(statement, [kb])?;
    }
    // Nobody keeps a right to the next knowledge base of this name.
    for statement in [
        "UPDATE keys SET kbs = (SELECT json_group_array(value) FROM json_each(kbs) WHERE value <> ?1 COLLATE NOCASE) WHERE kbs IS NOT NULL",
        "UPDATE users SET kbs = (SELECT json_group_array(value) FROM json_each(kbs) WHERE value <> ?1 COLLATE NOCASE) WHERE kbs IS NOT NULL",
        "UPDATE users SET of_kbs = (SELECT json_group_array(json(value)) FROM json_each(of_kbs) WHERE value ->> 0 <> ?1 COLLATE NOCASE)",
    ] {
        transaction.execute(statement, [name.as_str()])?;
    }
    Ok((retire::unused(transaction, blobs)?, collections))
}

pub(super) fn get(connection: &Connection, name: &KbName) -> Step<Kb> {
    row_of(connection, name)?;
    any(connection, name)
}

/// Likewise, also one that is being imported.
pub(super) fn any(connection: &Connection, name: &KbName) -> Step<Kb> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE name = ?1"))?;
    match statement.query_row([name.as_str()], fields).optional()? {
        Some(fields) => of_fields(fields),
        None => Err(missing(name).into()),
    }
}

pub(super) fn all(connection: &Connection) -> Step<Vec<Kb>> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE import = 0 ORDER BY name"))?;
    let rows = statement.query_map([], fields)?;
    rows.map(|row| of_fields(row?)).collect()
}

const SELECT: &str = "SELECT name, settings, kbs.collection, created_ms,
    (SELECT count(*) FROM documents WHERE kb = kbs.row AND ready = 1 AND collection = kbs.collection),
    (SELECT coalesce(sum(chunks), 0) FROM documents WHERE kb = kbs.row AND ready = 1
        AND collection = kbs.collection), generation, i.embedder, i.dim
    FROM kbs LEFT JOIN indexes i ON i.kb = kbs.row AND i.collection = kbs.collection";

type Fields = (KbName, String, String, i64, u64, u64, u64, Option<Embedded>);

fn fields(row: &Row<'_>) -> rusqlite::Result<Fields> {
    Ok((
        name_in(row, 0)?,
        row.get(1)?,
        row.get(2)?,
        row.get(3)?,
        row.get(4)?,
        row.get(5)?,
        row.get(6)?,
        embedded_in(row, 7)?,
    ))
}

fn of_fields(fields: Fields) -> Step<Kb> {
    let (name, json, collection, created_ms, documents, chunks, generation, embedder) = fields;
    Ok(Kb {
        name,
        settings: settings::from_json(&json)?,
        collection,
        generation,
        embedder,
        created_ms,
        documents,
        chunks,
    })
}
