//! The full-text table of each knowledge base: which chunks hold which words.
//!
//! It stores no text of its own. A row is added when its document commits and removed with its chunk, by the words
//! that the chunk's text gives; therefore the text must still be there and the segmentation the same. SQLite's
//! tokeniser has little left to do: it cuts at our spaces, drops accents, and takes English words to their stem.

use rusqlite::{OptionalExtension, Transaction, params};

use crate::fault::Step;
use crate::words::{SEGMENTATION, for_index};

/// The table of one knowledge base, by its row in `kbs`.
pub(crate) fn name(kb: i64) -> String {
    format!("words_{kb}")
}

/// Tables are apart, so that one knowledge base's words neither slow nor weigh another's.
pub(crate) fn create(transaction: &Transaction<'_>, kb: i64) -> Step<()> {
    let table = name(kb);
    transaction.execute_batch(&format!(
        "CREATE VIRTUAL TABLE {table} USING fts5 (words, content = '', tokenize = 'porter unicode61');
         INSERT INTO {table} ({table}, rank) VALUES ('secure-delete', 1);"
    ))?;
    Ok(())
}

pub(crate) fn drop(transaction: &Transaction<'_>, kb: i64) -> Step<()> {
    transaction.execute_batch(&format!("DROP TABLE {}", name(kb)))?;
    Ok(())
}

/// Adds every chunk of a document.
pub(crate) fn add_document(transaction: &Transaction<'_>, kb: i64, document: i64) -> Step<()> {
    let table = name(kb);
    let sql = format!("INSERT INTO {table} (rowid, words) VALUES (?1, ?2)");
    for_each_chunk(transaction, &sql, document)
}

/// Removes every chunk of a document; call while the chunks are there.
pub(crate) fn remove_document(transaction: &Transaction<'_>, kb: i64, document: i64) -> Step<()> {
    let table = name(kb);
    let sql = format!("INSERT INTO {table} ({table}, rowid, words) VALUES ('delete', ?1, ?2)");
    for_each_chunk(transaction, &sql, document)
}

/// Removes one chunk; call while it is there.
pub(crate) fn remove_chunk(transaction: &Transaction<'_>, kb: i64, chunk: i64) -> Step<()> {
    let table = name(kb);
    let text: String =
        transaction.query_row("SELECT text FROM chunks WHERE row = ?1", [chunk], |row| row.get(0))?;
    let sql = format!("INSERT INTO {table} ({table}, rowid, words) VALUES ('delete', ?1, ?2)");
    transaction.execute(&sql, params![chunk, for_index(&text)])?;
    Ok(())
}

fn for_each_chunk(transaction: &Transaction<'_>, sql: &str, document: i64) -> Step<()> {
    let mut select =
        transaction.prepare_cached("SELECT row, text FROM chunks WHERE document = ?1 ORDER BY row")?;
    let mut statement = transaction.prepare_cached(sql)?;
    let mut chunks = select.query([document])?;
    while let Some(chunk) = chunks.next()? {
        let row: i64 = chunk.get(0)?;
        let text = chunk.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        statement.execute(params![row, for_index(text)])?;
    }
    Ok(())
}

/// Fills all tables anew when another version of the segmentation filled them.
pub(crate) fn rebuild_outdated(transaction: &Transaction<'_>) -> Step<()> {
    let found: Option<String> = transaction
        .query_row("SELECT value FROM meta WHERE key = 'segmentation'", [], |row| row.get(0))
        .optional()?;
    if found.as_deref() == Some(SEGMENTATION) {
        return Ok(());
    }
    for kb in rows(transaction, "SELECT row FROM kbs", [])? {
        drop(transaction, kb)?;
        create(transaction, kb)?;
        for document in rows(transaction, "SELECT row FROM documents WHERE kb = ?1 AND ready = 1", [kb])? {
            add_document(transaction, kb, document)?;
        }
    }
    transaction.execute(
        "INSERT INTO meta (key, value) VALUES ('segmentation', ?1) ON CONFLICT DO UPDATE SET value = ?1",
        [SEGMENTATION],
    )?;
    Ok(())
}

fn rows(transaction: &Transaction<'_>, sql: &str, params: impl rusqlite::Params) -> Step<Vec<i64>> {
    let mut statement = transaction.prepare(sql)?;
    let rows = statement.query_map(params, |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
