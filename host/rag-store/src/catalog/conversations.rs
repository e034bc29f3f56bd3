//! Conversations: listed by owner, searched in titles and rounds, renamed, deleted; answers marked.

use rag_core::kb::KbName;
use rag_core::ports::{Conversation, ConversationKey, ConversationQuery, Mark, NewRound, Round};
use rag_core::{Error, limits};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::kbs;
use crate::fault::{Step, signed};
use crate::store::now_ms;

/// Characters of a title, and of a first question that becomes one.
const TITLE_CHARS_MAX: usize = 80;
/// Bytes of a note.
const NOTE_BYTES_MAX: usize = 4_096;

pub(super) fn list(connection: &Connection, query: &ConversationQuery) -> Step<Vec<Conversation>> {
    let kb = query.kb.as_ref().map(|kb| kbs::row_of(connection, kb)).transpose()?;
    let mut statement = connection.prepare_cached(&format!(
        "{SELECT} WHERE v.owner = ?1 AND (?2 IS NULL OR v.kb = ?2) AND (?3 IS NULL OR instr(lower(v.title), lower(?3))
         OR EXISTS (SELECT 1 FROM turns t WHERE t.conversation = v.name
            AND (instr(lower(t.question), lower(?3)) OR instr(lower(t.answer), lower(?3)))))
         ORDER BY v.updated_ms DESC, v.row DESC LIMIT ?4 OFFSET ?5"
    ))?;
    let words = query.words.as_deref().map(str::trim).filter(|words| !words.is_empty());
    let rows = statement.query_map(params![query.owner, kb, words, query.limit, query.skip], conversation)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn get(connection: &Connection, key: &ConversationKey) -> Step<Conversation> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE v.name = ?1"))?;
    let found = statement.query_row([key.name()], conversation).optional()?;
    found.ok_or_else(|| Error::NotFound { what: "conversation", name: key.id.clone() }.into())
}

pub(super) fn rename(
    transaction: &Transaction<'_>,
    key: &ConversationKey,
    title: &str,
) -> Step<Conversation> {
    let title = title.trim();
    if title.is_empty() || title.chars().count() > TITLE_CHARS_MAX || title.chars().any(char::is_control) {
        return Err(Error::invalid(format!(
            "a title has 1 to {TITLE_CHARS_MAX} characters, none of them control characters"
        ))
        .into());
    }
    transaction.execute("UPDATE conversations SET title = ?2 WHERE name = ?1", params![key.name(), title])?;
    get(transaction, key)
}

pub(super) fn delete(transaction: &Transaction<'_>, name: &str) -> Step<()> {
    transaction.execute("DELETE FROM turns WHERE conversation = ?1", [name])?;
    transaction.execute("DELETE FROM conversations WHERE name = ?1", [name])?;
    Ok(())
}

/// Everything that one owner kept.
pub(crate) fn delete_of(transaction: &Transaction<'_>, owner: &str) -> Step<()> {
    transaction.execute(
        "DELETE FROM turns WHERE conversation IN (SELECT name FROM conversations WHERE owner = ?1)",
        [owner],
    )?;
    transaction.execute("DELETE FROM conversations WHERE owner = ?1", [owner])?;
    Ok(())
}

pub(super) fn append(transaction: &Transaction<'_>, key: &ConversationKey, round: &NewRound) -> Step<u64> {
    let kb = kbs::row_of(transaction, &key.kb)?;
    let (name, now) = (key.name(), now_ms());
    let held: Option<u64> = transaction
        .query_row("SELECT rounds FROM conversations WHERE name = ?1", [&name], |row| row.get(0))
        .optional()?;
    if held.is_some_and(|rounds| rounds >= limits::CONVERSATION_ROUNDS_MAX) {
        let message = "this conversation is full; begin a new one".to_owned();
        return Err(Error::Conflict { message }.into());
    }
    if held.is_none() {
        let kept: u64 = transaction.query_row(
            "SELECT count(*) FROM conversations WHERE owner = ?1",
            [&key.owner],
            |row| row.get(0),
        )?;
        if kept >= limits::CONVERSATIONS_MAX {
            let message = format!("{kept} conversations are kept already; delete some");
            return Err(Error::Conflict { message }.into());
        }
        let title: String = round.question.trim().chars().take(TITLE_CHARS_MAX).collect();
        let title = title.replace(char::is_control, " ");
        transaction.execute(
            "INSERT INTO conversations (owner, kb, id, name, title, created_ms, updated_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)",
            params![key.owner, kb, key.id, name, title, now],
        )?;
    }
    transaction.execute(
        "INSERT INTO turns (conversation, kb, question, answer, refused, detail, created_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![name, kb, round.question, round.answer, round.refused, round.detail, now],
    )?;
    let id = transaction.last_insert_rowid();
    transaction.execute(
        "UPDATE conversations SET rounds = rounds + 1, updated_ms = ?2 WHERE name = ?1",
        params![name, now],
    )?;
    Ok(u64::try_from(id).unwrap_or_default())
}

pub(super) fn rounds(
    connection: &Connection,
    key: &ConversationKey,
    before: Option<u64>,
    limit: u32,
) -> Step<Vec<Round>> {
    let mut statement = connection.prepare_cached(&format!(
        "{SELECT_ROUND} WHERE conversation = ?1 AND (?2 IS NULL OR row < ?2) ORDER BY row DESC LIMIT ?3"
    ))?;
    let before = before.map(signed).transpose()?;
    let rows = statement.query_map(params![key.name(), before, limit], round)?;
    let mut found: Vec<Round> = rows.collect::<rusqlite::Result<_>>()?;
    found.reverse();
    Ok(found)
}

pub(super) fn mark(
    transaction: &Transaction<'_>,
    key: &ConversationKey,
    id: u64,
    mark: Option<Mark>,
    note: Option<&str>,
) -> Step<Round> {
    if note.is_some_and(|note| note.len() > NOTE_BYTES_MAX) {
        return Err(Error::invalid(format!("a note has at most {NOTE_BYTES_MAX} bytes")).into());
    }
    let code = mark.map(|mark| i64::from(mark == Mark::Good));
    transaction.execute(
        "UPDATE turns SET mark = ?3, note = ?4 WHERE row = ?1 AND conversation = ?2",
        params![signed(id)?, key.name(), code, note],
    )?;
    let mut statement =
        transaction.prepare_cached(&format!("{SELECT_ROUND} WHERE row = ?1 AND conversation = ?2"))?;
    let found = statement.query_row(params![signed(id)?, key.name()], round).optional()?;
    found.ok_or_else(|| Error::NotFound { what: "round", name: id.to_string() }.into())
}

pub(super) fn marked(
    connection: &Connection,
    kb: &KbName,
    before: Option<u64>,
    limit: u32,
) -> Step<Vec<Round>> {
    let kb = kbs::row_of(connection, kb)?;
    let mut statement = connection.prepare_cached(&format!(
        "{SELECT_ROUND} WHERE kb = ?1 AND mark IS NOT NULL AND (?2 IS NULL OR row < ?2) ORDER BY row DESC LIMIT ?3"
    ))?;
    let rows = statement.query_map(params![kb, before.map(signed).transpose()?, limit], round)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

const SELECT: &str = "SELECT v.owner, k.name, v.id, v.title, v.rounds, v.created_ms, v.updated_ms
    FROM conversations v JOIN kbs k ON k.row = v.kb";

fn conversation(row: &Row<'_>) -> rusqlite::Result<Conversation> {
    Ok(Conversation {
        key: ConversationKey { owner: row.get(0)?, kb: kbs::name_in(row, 1)?, id: row.get(2)? },
        title: row.get(3)?,
        rounds: row.get(4)?,
        created_ms: row.get(5)?,
        updated_ms: row.get(6)?,
    })
}

const SELECT_ROUND: &str = "SELECT row, question, answer, refused, detail, mark, note, created_ms FROM turns";

fn round(row: &Row<'_>) -> rusqlite::Result<Round> {
    let mark: Option<bool> = row.get(5)?;
    Ok(Round {
        id: row.get(0)?,
        round: NewRound {
            question: row.get(1)?,
            answer: row.get(2)?,
            refused: row.get(3)?,
            detail: row.get(4)?,
        },
        mark: mark.map(|good| if good { Mark::Good } else { Mark::Bad }),
        note: row.get(6)?,
        created_ms: row.get(7)?,
    })
}
