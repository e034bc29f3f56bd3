//! The full-text table of each knowledge base: which chunks hold which words.
//!
//! It stores no text of its own. SQLite's tokeniser has little left to do: it cuts at our spaces, drops accents, and
//! takes English words to their stem.
//!
//! A deleted row is out of sight at once, but its words stay in the file until the segments that hold them are merged.
//! That takes long in a large table, so it is done in small steps when there is nothing else to do: see `purge_step`.

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
        "CREATE VIRTUAL TABLE {table}
         USING fts5 (words, content = '', contentless_delete = 1, tokenize = 'porter unicode61')"
    ))?;
    Ok(())
}

pub(crate) fn drop(transaction: &Transaction<'_>, kb: i64) -> Step<()> {
    transaction.execute_batch(&format!("DROP TABLE {}", name(kb)))?;
    Ok(())
}

/// Adds every chunk of a document that is not disabled.
pub(crate) fn add_document(transaction: &Transaction<'_>, kb: i64, document: i64) -> Step<()> {
    let mut select = transaction.prepare_cached(
        "SELECT c.row, c.text FROM chunks c JOIN documents d ON d.row = c.document
             WHERE d.row = ?1 AND d.disabled = 0 AND c.disabled = 0 ORDER BY c.row",
    )?;
    let mut insert =
        transaction.prepare_cached(&format!("INSERT INTO {} (rowid, words) VALUES (?1, ?2)", name(kb)))?;
    let mut chunks = select.query([document])?;
    while let Some(chunk) = chunks.next()? {
        let row: i64 = chunk.get(0)?;
        let text = chunk.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        insert.execute(params![row, for_index(text)])?;
    }
    Ok(())
}

/// Puts the words of one chunk in step with its row: present unless it or its document is disabled.
pub(crate) fn refresh(transaction: &Transaction<'_>, kb: i64, chunk: i64) -> Step<()> {
    remove(transaction, kb, &[chunk])?;
    let text: Option<String> = transaction
        .query_row(
            "SELECT c.text FROM chunks c JOIN documents d ON d.row = c.document
             WHERE c.row = ?1 AND d.disabled = 0 AND c.disabled = 0",
            [chunk],
            |row| row.get(0),
        )
        .optional()?;
    if let Some(text) = text {
        transaction.execute(
            &format!("INSERT INTO {} (rowid, words) VALUES (?1, ?2)", name(kb)),
            params![chunk, for_index(&text)],
        )?;
    }
    Ok(())
}

/// Removes every chunk of a document; call while the chunks are there.
pub(crate) fn remove_document(transaction: &Transaction<'_>, kb: i64, document: i64) -> Step<()> {
    let rows = rows(transaction, "SELECT row FROM chunks WHERE document = ?1", [document])?;
    remove(transaction, kb, &rows)
}

/// Removes rows of chunks, and notes that their words are to be purged.
pub(crate) fn remove(transaction: &Transaction<'_>, kb: i64, chunks: &[i64]) -> Step<()> {
    let mut delete = transaction.prepare_cached(&format!("DELETE FROM {} WHERE rowid = ?1", name(kb)))?;
    for chunk in chunks {
        delete.execute([chunk])?;
    }
    transaction.execute("INSERT INTO purges (kb) VALUES (?1) ON CONFLICT DO UPDATE SET started = 0", [kb])?;
    Ok(())
}

/// Pages that one step of a purge writes, about.
const PURGE_PAGES: i64 = 256;

/// Merges some of the segments of a table with deleted words; tells whether there is more to do.
pub(crate) fn purge_step(transaction: &Transaction<'_>) -> Step<bool> {
    let next: Option<(i64, bool)> = transaction
        .query_row("SELECT kb, started FROM purges ORDER BY kb LIMIT 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let Some((kb, started)) = next else { return Ok(false) };
    let changes = || transaction.query_row("SELECT total_changes()", [], |row| row.get::<_, i64>(0));
    let before = changes()?;
    let table = name(kb);
    // A negative number begins the merge of all segments into one; a positive one goes on with it.
    let pages = if started { PURGE_PAGES } else { -PURGE_PAGES };
    transaction.execute(&format!("INSERT INTO {table} ({table}, rank) VALUES ('merge', ?1)"), [pages])?;
    // The insertion itself counts as one change.
    if started && changes()? - before < 2 {
        transaction.execute("DELETE FROM purges WHERE kb = ?1", [kb])?;
    } else {
        transaction.execute("UPDATE purges SET started = 1 WHERE kb = ?1", [kb])?;
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
