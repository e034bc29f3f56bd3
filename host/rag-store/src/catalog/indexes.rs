//! Indexes of a knowledge base: the one that answers, the one before it, and one being filled.

use rag_core::document::BlobHash;
use rag_core::kb::{KbName, PluginChoice};
use rag_core::ports::{DocumentInfo, UnusedIndex};
use rusqlite::{Connection, Transaction, params};

use super::generations::{BUILDING, READY};
use super::{documents, kbs, retire};
use crate::fault::Step;
use crate::settings;
use crate::words;

/// Documents removed in one transaction of `drop_some`.
const DROPPED_AT_ONCE: u32 = 32;

/// A new empty index; its name is never used again.
pub(super) fn create(
    transaction: &Transaction<'_>,
    name: &KbName,
    kb: i64,
    store: &PluginChoice,
) -> Step<String> {
    let number: i64 = transaction.query_row(
        "UPDATE kbs SET index_made = index_made + 1 WHERE row = ?1 RETURNING index_made",
        [kb],
        |row| row.get(0),
    )?;
    let collection = format!("{name}-g{number}");
    transaction.execute(
        "INSERT INTO indexes (kb, number, collection, store) VALUES (?1, ?2, ?3, ?4)",
        params![kb, number, collection, settings::choice_to_json(store)?],
    )?;
    words::table::create(transaction, &words::table::name(kb, number))?;
    Ok(collection)
}

pub(super) fn exists(connection: &Connection, kb: i64, collection: &str) -> Step<bool> {
    Ok(words::table::of_index(connection, kb, collection)?.is_some())
}

pub(super) fn list(connection: &Connection, name: &KbName) -> Step<Vec<UnusedIndex>> {
    let kb = kbs::any_row_of(connection, name)?;
    select(connection, kb, "1")
}

/// The live index, the one before it and those of staged generations are in use.
pub(super) fn unused(connection: &Connection, name: &KbName) -> Step<Vec<UnusedIndex>> {
    let kb = kbs::row_of(connection, name)?;
    let unused = format!(
        "i.collection <> (SELECT collection FROM kbs WHERE row = ?1) AND i.collection NOT IN (
            SELECT b.collection FROM generations g JOIN generations b ON b.kb = g.kb AND b.number = g.parent
            WHERE g.kb = ?1 AND g.number = (SELECT generation FROM kbs WHERE row = ?1)
            UNION SELECT collection FROM generations WHERE kb = ?1 AND state IN ({BUILDING}, {READY}))"
    );
    select(connection, kb, &unused)
}

fn select(connection: &Connection, kb: i64, condition: &str) -> Step<Vec<UnusedIndex>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT i.collection, i.store, (SELECT parts FROM generations WHERE kb = ?1 ORDER BY number LIMIT 1)
         FROM indexes i WHERE i.kb = ?1 AND {condition} ORDER BY i.number"
    ))?;
    let rows = statement
        .query_map([kb], |row| Ok((row.get(0)?, settings::choice_in(row, 1)?, row.get::<_, String>(2)?)))?;
    rows.map(|row| {
        let (collection, store, first) = row?;
        let store = match store {
            Some(store) => store,
            None => settings::from_json(&first)?.store,
        };
        Ok(UnusedIndex { collection, store })
    })
    .collect()
}

/// A document of the live index `d` that another index holds as well, alike in all that decides whether it answers.
const ALIKE: &str =
    "o.kb = d.kb AND o.name = d.name AND o.blob = d.blob AND o.disabled = d.disabled AND o.ready = 1";

/// The condition of live documents `d` of knowledge base ?1, `k`, that the index ?2 lacks.
fn missing() -> String {
    format!(
        "d.kb = ?1 AND d.collection = k.collection AND d.ready = 1
         AND NOT EXISTS (SELECT 1 FROM documents o WHERE o.collection = ?2 AND {ALIKE})"
    )
}

pub(super) fn gaps(
    connection: &Connection,
    name: &KbName,
    collection: &str,
    limit: u32,
) -> Step<(Vec<DocumentInfo>, u64)> {
    let kb = kbs::row_of(connection, name)?;
    let missing = missing();
    let count = connection
        .prepare_cached(&format!(
            "SELECT count(*) FROM documents d JOIN kbs k ON k.row = d.kb WHERE {missing}"
        ))?
        .query_row(params![kb, collection], |row| row.get(0))?;
    let mut statement = connection
        .prepare_cached(&format!("{} WHERE {missing} ORDER BY d.name LIMIT ?3", documents::SELECT))?;
    let rows = statement.query_map(params![kb, collection, limit], documents::info)?;
    Ok((rows.collect::<rusqlite::Result<_>>()?, count))
}

/// Rows of the live documents that an index lacks.
pub(super) fn gap_rows(connection: &Connection, kb: i64, collection: &str) -> Step<Vec<i64>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT d.row FROM documents d JOIN kbs k ON k.row = d.kb WHERE {}",
        missing()
    ))?;
    let rows = statement.query_map(params![kb, collection], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn trim(transaction: &Transaction<'_>, name: &KbName, collection: &str) -> Step<Vec<BlobHash>> {
    let kb = kbs::row_of(transaction, name)?;
    let surplus = {
        let mut statement = transaction.prepare_cached(&format!(
            "SELECT o.row, o.blob FROM documents o JOIN kbs k ON k.row = o.kb
             WHERE o.kb = ?1 AND o.collection = ?2 AND o.collection <> k.collection AND o.ready = 1
             AND NOT EXISTS (SELECT 1 FROM documents d WHERE d.collection = k.collection AND d.ready = 1 AND {ALIKE})"
        ))?;
        let rows = statement.query_map(params![kb, collection], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<rusqlite::Result<Vec<(i64, String)>>>()?
    };
    let mut freed = Vec::new();
    for (row, blob) in surplus {
        retire::remove(transaction, row)?;
        freed.push(BlobHash(blob));
    }
    retire::unused(transaction, freed)
}

/// What people noted about the documents of one index holds in another.
pub(super) fn carry_notes(transaction: &Transaction<'_>, kb: i64, from: &str, to: &str) -> Step<()> {
    if from != to {
        transaction.execute(
            "UPDATE documents SET metadata = d.metadata FROM documents d WHERE documents.kb = ?1
             AND documents.collection = ?3 AND d.kb = ?1 AND d.collection = ?2 AND d.name = documents.name
             AND d.ready = 1",
            params![kb, from, to],
        )?;
    }
    Ok(())
}

/// Documents, chunks, and chunks that people edited or disabled.
pub(super) fn counts(connection: &Connection, name: &KbName, collection: &str) -> Step<(u64, u64, u64)> {
    let kb = kbs::row_of(connection, name)?;
    Ok(connection.query_row(
        "SELECT (SELECT count(*) FROM documents WHERE kb = ?1 AND collection = ?2 AND ready = 1),
            (SELECT coalesce(sum(chunks), 0) FROM documents WHERE kb = ?1 AND collection = ?2 AND ready = 1),
            (SELECT count(*) FROM chunks c JOIN documents d ON d.row = c.document
             WHERE d.kb = ?1 AND d.collection = ?2 AND d.ready = 1 AND (c.edited = 1 OR c.disabled = 1))",
        params![kb, collection],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?)
}

/// Removes some documents of an index that does not answer, and the index after the last; whether there is more.
pub(super) fn drop_some(transaction: &Transaction<'_>, name: &KbName, collection: &str) -> Step<bool> {
    let kb = kbs::row_of(transaction, name)?;
    let live: bool = transaction.query_row(
        "SELECT collection = ?2 FROM kbs WHERE row = ?1",
        params![kb, collection],
        |row| row.get(0),
    )?;
    let Some(table) = words::table::of_index(transaction, kb, collection)? else { return Ok(false) };
    if live {
        return Ok(false);
    }
    let some = {
        let mut statement = transaction
            .prepare_cached("SELECT row FROM documents WHERE kb = ?1 AND collection = ?2 LIMIT ?3")?;
        let rows = statement.query_map(params![kb, collection, DROPPED_AT_ONCE], |row| row.get(0))?;
        rows.collect::<rusqlite::Result<Vec<i64>>>()?
    };
    for row in &some {
        retire::remove(transaction, *row)?;
    }
    // Its vectors went with the collection.
    transaction.execute("DELETE FROM garbage WHERE kb = ?1 AND collection = ?2", params![kb, collection])?;
    if !some.is_empty() {
        return Ok(true);
    }
    words::table::drop(transaction, &table)?;
    transaction.execute("DELETE FROM indexes WHERE kb = ?1 AND collection = ?2", params![kb, collection])?;
    Ok(false)
}

pub(super) fn drop_all_words(transaction: &Transaction<'_>, kb: i64) -> Step<()> {
    let numbers = {
        let mut statement = transaction.prepare("SELECT number FROM indexes WHERE kb = ?1")?;
        let rows = statement.query_map([kb], |row| row.get(0))?;
        rows.collect::<rusqlite::Result<Vec<i64>>>()?
    };
    numbers
        .into_iter()
        .try_for_each(|number| words::table::drop(transaction, &words::table::name(kb, number)))
}

/// What people asked lately, then questions of its sets.
pub(super) fn recent_questions(connection: &Connection, name: &KbName, limit: u32) -> Step<Vec<String>> {
    let kb = kbs::row_of(connection, name)?;
    let mut statement = connection.prepare_cached(
        "SELECT question FROM (
            SELECT question, 0 AS source, -max(row) AS place FROM turns WHERE kb = ?1 GROUP BY question
            UNION ALL SELECT q.question, 1, min(s.row * 100000 + q.ordinal) FROM questions q
            JOIN question_sets s ON s.row = q.question_set WHERE s.kb = ?1 GROUP BY q.question)
         GROUP BY question ORDER BY min(source), min(place) LIMIT ?2",
    )?;
    let rows = statement.query_map(params![kb, limit], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
