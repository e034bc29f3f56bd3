//! Conversations: rounds of question and answer, oldest first.

use rag_core::kb::KbName;
use rag_core::search::Turn;
use rusqlite::{Connection, Transaction, params};

use super::kbs;
use crate::fault::{Step, signed};
use crate::store::now_ms;

pub(super) fn append(
    transaction: &Transaction<'_>,
    conversation: &str,
    kb: &KbName,
    turn: &Turn,
) -> Step<()> {
    let kb = kbs::row_of(transaction, kb)?;
    transaction.execute(
        "INSERT INTO turns (conversation, kb, question, answer, created_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![conversation, kb, turn.question, turn.answer, now_ms()],
    )?;
    Ok(())
}

pub(super) fn last(connection: &Connection, conversation: &str, rounds: usize) -> Step<Vec<Turn>> {
    let mut statement = connection.prepare_cached(
        "SELECT question, answer FROM turns WHERE conversation = ?1 AND refused = 0 ORDER BY row DESC LIMIT ?2",
    )?;
    let rows = statement.query_map(params![conversation, signed(rounds as u64)?], |row| {
        Ok(Turn { question: row.get(0)?, answer: row.get(1)? })
    })?;
    let mut turns: Vec<Turn> = rows.collect::<rusqlite::Result<_>>()?;
    turns.reverse();
    Ok(turns)
}
