//! Finding chunks by words: BM25 over the full-text table, any word may match.

use rag_core::document::ChunkId;
use rag_core::kb::KbName;
use rag_core::search::{Filter, Hit};
use rag_core::{Error, limits};
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, params, params_from_iter};

use crate::catalog::kb_row;
use crate::fault::Step;
use crate::filter::{self, ChunkFields};
use crate::words::{for_query, table};

/// Words of a question that are searched for; further ones are left out.
const QUERY_WORDS_MAX: usize = 256;
/// Chunks that the words searched for may occur in, added up over the words, unless so many are asked for. Ranking
/// costs some microseconds each; beyond this, the question's commoner words are left out (see `rare`).
const OCCURRENCES_MAX: usize = 2_000;
/// Words that are searched for however common they are, so that a few keywords all count.
const WORDS_KEPT: usize = 4;

/// The `k` best chunks, best first; equal scores in the order of ingest.
pub(crate) fn lexical(
    connection: &Connection,
    kb: &KbName,
    collection: &str,
    query: &str,
    k: u32,
    filter: Option<&Filter>,
) -> Step<Vec<Hit>> {
    if k > limits::SEARCH_K_MAX {
        return Err(Error::invalid(format!("k is at most {}, not {k}", limits::SEARCH_K_MAX)).into());
    }
    let Some(table) = table::of_index(connection, kb_row(connection, kb)?, collection)? else {
        return Ok(Vec::new());
    };
    let mut params = vec![Sql::Null, Sql::Integer(i64::from(k))];
    let condition = filter.map(|filter| filter::compile(filter, &ChunkFields, &mut params)).transpose()?;
    let mut words = for_query(query);
    words.truncate(QUERY_WORDS_MAX);
    if condition.is_none() {
        words = rare(connection, &table, words, usize::try_from(k).unwrap_or(usize::MAX))?;
    }
    if words.is_empty() {
        return Ok(Vec::new());
    }
    params[0] = Sql::Text(match_any(&words));
    let sql = match condition {
        // Ranking alone decides, so chunks are looked up only for the hits that remain.
        None => format!(
            "SELECT c.id, h.score FROM (SELECT rowid, bm25({table}) AS score FROM {table}
             WHERE {table} MATCH ?1 ORDER BY score, rowid LIMIT ?2) h JOIN chunks c ON c.row = h.rowid
             ORDER BY h.score, h.rowid"
        ),
        Some(condition) => format!(
            "SELECT c.id, bm25({table}) AS score FROM {table} JOIN chunks c ON c.row = {table}.rowid
             JOIN documents d ON d.row = c.document WHERE {table} MATCH ?1 AND {condition}
             ORDER BY score, c.row LIMIT ?2"
        ),
    };
    let mut statement = connection.prepare_cached(&sql)?;
    let hits = statement.query_map(params_from_iter(params), |row| {
        // SQLite's rank is the negated BM25.
        Ok(Hit { chunk: ChunkId(row.get(0)?), score: -row.get::<_, f64>(1)? as f32 })
    })?;
    Ok(hits.collect::<rusqlite::Result<_>>()?)
}

/// The words that tell most: from the rarest on, until they occur in `OCCURRENCES_MAX` chunks. In a large knowledge
/// base this leaves out what every question has (是什么, which); besides being faster it ranks better.
fn rare(connection: &Connection, table: &str, words: Vec<String>, k: usize) -> Step<Vec<String>> {
    let most = OCCURRENCES_MAX.max(4 * k);
    // Counting stops where a word is too common anyway.
    let sql = format!("SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {table} MATCH ?1 LIMIT ?2)");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut counted = Vec::with_capacity(words.len());
    for word in words {
        let count: usize = statement.query_row(params![quoted(&word), 10 * most], |row| row.get(0))?;
        if count > 0 {
            counted.push((count, word));
        }
    }
    counted.sort_by_key(|(count, _)| *count);
    let mut total = 0;
    let kept = counted.iter().enumerate().take_while(|(at, (count, _))| {
        total += count;
        *at < WORDS_KEPT || total <= most
    });
    let kept = kept.count();
    counted.truncate(kept);
    Ok(counted.into_iter().map(|(_, word)| word).collect())
}

fn match_any(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    quoted.join(" OR ")
}

/// A word holds letters and digits only, so nothing of a question reaches the query's syntax.
fn quoted(word: &str) -> String {
    format!("\"{word}\"")
}
