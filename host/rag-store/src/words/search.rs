//! Finding chunks by words: BM25 over the full-text table, any word may match.

use rag_core::document::ChunkId;
use rag_core::kb::KbName;
use rag_core::search::{Filter, Hit};
use rag_core::{Error, limits};
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, params_from_iter};

use crate::catalog::kb_row;
use crate::fault::Step;
use crate::filter::{self, ChunkFields};
use crate::words::{for_query, table};

/// Words of a question that are searched for; further ones are left out.
const QUERY_WORDS_MAX: usize = 256;

/// The `k` best chunks, best first; equal scores in the order of ingest.
pub(crate) fn lexical(
    connection: &Connection,
    kb: &KbName,
    query: &str,
    k: u32,
    filter: Option<&Filter>,
) -> Step<Vec<Hit>> {
    if k > limits::SEARCH_K_MAX {
        return Err(Error::invalid(format!("k is at most {}, not {k}", limits::SEARCH_K_MAX)).into());
    }
    let kb = kb_row(connection, kb)?;
    let mut words = for_query(query);
    words.truncate(QUERY_WORDS_MAX);
    let mut params = vec![Sql::Null, Sql::Integer(i64::from(k))];
    let condition = match filter {
        Some(filter) => filter::compile(filter, &ChunkFields, &mut params)?,
        None => "1".to_owned(),
    };
    if words.is_empty() {
        return Ok(Vec::new());
    }
    params[0] = Sql::Text(match_any(&words));
    let table = table::name(kb);
    let sql = if filter.is_none() {
        // Ranking alone decides, so chunks are looked up only for the hits that remain.
        format!(
            "SELECT c.id, h.score FROM (SELECT rowid, bm25({table}) AS score FROM {table}
             WHERE {table} MATCH ?1 ORDER BY score, rowid LIMIT ?2) h JOIN chunks c ON c.row = h.rowid
             ORDER BY h.score, h.rowid"
        )
    } else {
        format!(
            "SELECT c.id, bm25({table}) AS score FROM {table} JOIN chunks c ON c.row = {table}.rowid
             JOIN documents d ON d.row = c.document WHERE {table} MATCH ?1 AND {condition}
             ORDER BY score, c.row LIMIT ?2"
        )
    };
    let mut statement = connection.prepare_cached(&sql)?;
    let hits = statement.query_map(params_from_iter(params), |row| {
        // SQLite's rank is the negated BM25.
        Ok(Hit { chunk: ChunkId(row.get(0)?), score: -row.get::<_, f64>(1)? as f32 })
    })?;
    Ok(hits.collect::<rusqlite::Result<_>>()?)
}

/// Each word is quoted, and holds letters and digits only: nothing of the question reaches the query's syntax.
fn match_any(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    quoted.join(" OR ")
}
