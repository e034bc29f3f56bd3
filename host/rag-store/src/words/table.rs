//! The full-text table of each index of a knowledge base: which chunks hold which words.
//!
//! It stores no text of its own. SQLite's tokeniser has little left to do: it cuts at our spaces, drops accents, and
//! takes English words to their stem.
//!
//! A deleted row is out of sight at once, but its words stay in the file until the segments that hold them are merged.
//! That takes long in a large table, so it is done in small steps when there is nothing else to do: see `purge_step`.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::fault::Step;
use crate::words::{SEGMENTATION, for_index};

/// The table of one index, by its knowledge base's row and its number.
pub(crate) fn name(kb: i64, index: i64) -> String {
    if index == 1 { format!("words_{kb}") } else { format!("words_{kb}_{index}") }
}

/// The table of the index of this name; none when it is gone.
pub(crate) fn of_index(connection: &Connection, kb: i64, collection: &str) -> Step<Option<String>> {
    let mut statement =
        connection.prepare_cached("SELECT number FROM indexes WHERE kb = ?1 AND collection = ?2")?;
    let number: Option<i64> = statement.query_row(params![kb, collection], |row| row.get(0)).optional()?;
    Ok(number.map(|number| name(kb, number)))
}

/// The table of the index that a document belongs to.
fn of_document(connection: &Connection, document: i64) -> Step<String> {
    let mut statement = connection.prepare_cached(
        "SELECT i.kb, i.number FROM documents d JOIN indexes i ON i.kb = d.kb AND i.collection = d.collection
         WHERE d.row = ?1",
    )?;
    let (kb, number) = statement.query_row([document], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(name(kb, number))
}

/// Tables are apart, so that one index's words neither slow nor weigh another's.
pub(crate) fn create(transaction: &Transaction<'_>, table: &str) -> Step<()> {
    transaction.execute_batch(&format!(
        "CREATE VIRTUAL TABLE {table}
         USING fts5 (words, content = '', contentless_delete = 1, tokenize = 'porter unicode61')"
    ))?;
    Ok(())
}

/// With what it still had to purge.
pub(crate) fn drop(transaction: &Transaction<'_>, table: &str) -> Step<()> {
    transaction.execute_batch(&format!("DROP TABLE {table}"))?;
    transaction.execute("DELETE FROM purges WHERE words = ?1", [table])?;
    Ok(())
}

/// Adds every chunk of a document that is not disabled.
pub(crate) fn add_document(transaction: &Transaction<'_>, document: i64) -> Step<()> {
    let table = of_document(transaction, document)?;
    let mut select = transaction.prepare_cached(
        "SELECT c.row, c.text FROM chunks c JOIN documents d ON d.row = c.document
             WHERE d.row = ?1 AND d.disabled = 0 AND c.disabled = 0 ORDER BY c.row",
    )?;
    let mut insert =
        transaction.prepare_cached(&format!("INSERT INTO {table} (rowid, words) VALUES (?1, ?2)"))?;
    let mut chunks = select.query([document])?;
    while let Some(chunk) = chunks.next()? {
        let row: i64 = chunk.get(0)?;
        let text = chunk.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        insert.execute(params![row, for_index(text)])?;
    }
    Ok(())
}

/// Puts the words of one chunk in step with its row: present unless it or its document is disabled.
pub(crate) fn refresh(transaction: &Transaction<'_>, document: i64, chunk: i64) -> Step<()> {
    remove(transaction, document, &[chunk])?;
    let text: Option<String> = transaction
        .query_row(
            "SELECT c.text FROM chunks c JOIN documents d ON d.row = c.document
             WHERE c.row = ?1 AND d.disabled = 0 AND c.disabled = 0",
            [chunk],
            |row| row.get(0),
        )
        .optional()?;
    if let Some(text) = text {
        let table = of_document(transaction, document)?;
        transaction.execute(
            &format!("INSERT INTO {table} (rowid, words) VALUES (?1, ?2)"),
            params![chunk, for_index(&text)],
        )?;
    }
    Ok(())
}

/// Removes every chunk of a document; call while the chunks are there.
pub(crate) fn remove_document(transaction: &Transaction<'_>, document: i64) -> Step<()> {
    let rows = rows(transaction, "SELECT row FROM chunks WHERE document = ?1", [document])?;
    remove(transaction, document, &rows)
}

/// Removes rows of a document's chunks, and notes that their words are to be purged.
pub(crate) fn remove(transaction: &Transaction<'_>, document: i64, chunks: &[i64]) -> Step<()> {
    let table = of_document(transaction, document)?;
    let mut delete = transaction.prepare_cached(&format!("DELETE FROM {table} WHERE rowid = ?1"))?;
    for chunk in chunks {
        delete.execute([chunk])?;
    }
    transaction
        .execute("INSERT INTO purges (words) VALUES (?1) ON CONFLICT DO UPDATE SET started = 0", [&table])?;
    Ok(())
}

/// Pages that one step of a purge writes, about.
const PURGE_PAGES: i64 = 256;

/// Merges some of the segments of a table with deleted words; tells whether there is more to do.
pub(crate) fn purge_step(transaction: &Transaction<'_>) -> Step<bool> {
    let next: Option<(String, bool)> = transaction
        .query_row("SELECT words, started FROM purges ORDER BY words LIMIT 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let Some((table, started)) = next else { return Ok(false) };
    let changes = || transaction.query_row("SELECT total_changes()", [], |row| row.get::<_, i64>(0));
    let before = changes()?;
    // A negative number begins the merge of all segments into one; a positive one goes on with it.
    let pages = if started { PURGE_PAGES } else { -PURGE_PAGES };
    transaction.execute(&format!("INSERT INTO {table} ({table}, rank) VALUES ('merge', ?1)"), [pages])?;
    // The insertion itself counts as one change.
    if started && changes()? - before < 2 {
        transaction.execute("DELETE FROM purges WHERE words = ?1", [&table])?;
    } else {
        transaction.execute("UPDATE purges SET started = 1 WHERE words = ?1", [&table])?;
    }
    Ok(true)
}

/// Fills all tables anew when another version of the segmentation filled them.
pub(crate) fn rebuild_outdated(transaction: &Transaction<'_>) -> Step<()> {
    let found: Option<String> = transaction
        .query_row("SELECT value FROM meta WHERE key = 'segmentation'", [], |row| row.get(0))
        .optional()?;
    if found.as_deref() == Some(SEGMENTATION) {
        return Ok(());
    }
    for table in tables(transaction)? {
        drop(transaction, &table)?;
        create(transaction, &table)?;
    }
    for document in rows(transaction, "SELECT row FROM documents WHERE ready = 1", [])? {
        add_document(transaction, document)?;
    }
    transaction.execute(
        "INSERT INTO meta (key, value) VALUES ('segmentation', ?1) ON CONFLICT DO UPDATE SET value = ?1",
        [SEGMENTATION],
    )?;
    Ok(())
}

/// Of every index.
fn tables(transaction: &Transaction<'_>) -> Step<Vec<String>> {
    let mut statement = transaction.prepare("SELECT kb, number FROM indexes")?;
    let rows = statement.query_map([], |row| Ok(name(row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn rows(transaction: &Transaction<'_>, sql: &str, params: impl rusqlite::Params) -> Step<Vec<i64>> {
    let mut statement = transaction.prepare(sql)?;
    let rows = statement.query_map(params, |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
