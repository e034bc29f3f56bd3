//! Generations: staged, published and taken back, each in one transaction.

use rag_core::Error;
use rag_core::kb::{KbName, KbSettings};
use rag_core::ports::{Generation, GenerationState, JobId, NewGeneration, SwapReport};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{indexes, jobs, kbs};
use crate::fault::{Step, signed};
use crate::settings;
use crate::store::now_ms;

/// In the order of their codes.
const STATES: [GenerationState; 7] = [
    GenerationState::Building,
    GenerationState::Ready,
    GenerationState::Live,
    GenerationState::Retired,
    GenerationState::RolledBack,
    GenerationState::Failed,
    GenerationState::Abandoned,
];
pub(super) const BUILDING: i64 = 0;
pub(super) const READY: i64 = 1;
const LIVE: i64 = 2;
const RETIRED: i64 = 3;
const ROLLED_BACK: i64 = 4;

/// Generations kept of one knowledge base beside those in use.
const KEPT: i64 = 200;

/// The first generation of a new knowledge base, and its index.
pub(super) fn first(transaction: &Transaction<'_>, kb: i64, settings: &KbSettings) -> Step<()> {
    transaction.execute(
        "INSERT INTO generations (kb, number, state, parts, collection, created_ms, published_ms)
         SELECT row, 1, ?2, ?3, collection, created_ms, created_ms FROM kbs WHERE row = ?1",
        params![kb, LIVE, settings::parts_to_json(&settings.parts())?],
    )?;
    transaction.execute(
        "INSERT INTO indexes (kb, number, collection) SELECT row, 1, collection FROM kbs WHERE row = ?1",
        [kb],
    )?;
    Ok(())
}

pub(super) fn list(connection: &Connection, kb: &KbName, limit: u32) -> Step<Vec<Generation>> {
    let row = kbs::row_of(connection, kb)?;
    let mut statement =
        connection.prepare_cached(&format!("{SELECT} WHERE kb = ?1 ORDER BY number DESC LIMIT ?2"))?;
    let rows = statement.query_map(params![row, limit], fields)?;
    rows.map(|fields| of_fields(kb, fields?)).collect()
}

pub(super) fn get(connection: &Connection, kb: &KbName, number: u64) -> Step<Generation> {
    let row = kbs::row_of(connection, kb)?;
    find(connection, kb, row, number)
}

fn find(connection: &Connection, name: &KbName, kb: i64, number: u64) -> Step<Generation> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE kb = ?1 AND number = ?2"))?;
    let found = statement.query_row(params![kb, signed(number)?], fields).optional()?;
    let missing = || Error::NotFound { what: "generation", name: number.to_string() };
    of_fields(name, found.ok_or_else(missing)?)
}

/// Takes the next number, and a new index when it needs one.
pub(super) fn stage(transaction: &Transaction<'_>, kb: &KbName, new: &NewGeneration) -> Step<Generation> {
    let current = kbs::get(transaction, kb)?;
    let row = kbs::row_of(transaction, kb)?;
    if current.generation != new.parent {
        return Err(conflict(format!(
            "generation {} of knowledge base '{kb}' became live meanwhile; look at it, then swap again",
            current.generation
        )));
    }
    let staged: Option<u64> = transaction
        .query_row(
            "SELECT number FROM generations WHERE kb = ?1 AND state IN (?2, ?3)",
            [row, BUILDING, READY],
            |row| row.get(0),
        )
        .optional()?;
    if let Some(staged) = staged {
        return Err(conflict(format!(
            "generation {staged} of knowledge base '{kb}' is staged already; publish it or give it up first"
        )));
    }
    let collection = if new.new_index {
        indexes::create(transaction, kb, row, &new.parts.store)?
    } else {
        current.collection.clone()
    };
    let number = insert(transaction, row, &Staged { new, collection: &collection, state: BUILDING })?;
    find(transaction, kb, row, number)
}

struct Staged<'a> {
    new: &'a NewGeneration,
    collection: &'a str,
    state: i64,
}

fn insert(transaction: &Transaction<'_>, kb: i64, staged: &Staged<'_>) -> Step<u64> {
    let number: u64 =
        transaction
            .query_row("SELECT max(number) + 1 FROM generations WHERE kb = ?1", [kb], |row| row.get(0))?;
    transaction.execute(
        "INSERT INTO generations (kb, number, parent, state, parts, collection, publish, created_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            kb,
            signed(number)?,
            signed(staged.new.parent)?,
            staged.state,
            settings::parts_to_json(&staged.new.parts)?,
            staged.collection,
            staged.new.publish,
            now_ms()
        ],
    )?;
    transaction.execute(
        "DELETE FROM generations WHERE kb = ?1 AND state > ?2 AND number <= ?3
         AND number NOT IN (SELECT coalesce(parent, 0) FROM generations WHERE kb = ?1 AND state <= ?2)",
        params![kb, LIVE, signed(number)? - KEPT],
    )?;
    Ok(number)
}

pub(super) fn assign(
    transaction: &Transaction<'_>,
    kb: &KbName,
    number: u64,
    job: &JobId,
) -> Step<Generation> {
    let row = kbs::row_of(transaction, kb)?;
    transaction.execute(
        "UPDATE generations SET job = ?3 WHERE kb = ?1 AND number = ?2",
        params![row, signed(number)?, job.0],
    )?;
    find(transaction, kb, row, number)
}

pub(super) fn ready(
    transaction: &Transaction<'_>,
    kb: &KbName,
    number: u64,
    report: &SwapReport,
) -> Step<Generation> {
    let row = kbs::row_of(transaction, kb)?;
    let changed = transaction.execute(
        "UPDATE generations SET state = ?3, report = ?4 WHERE kb = ?1 AND number = ?2 AND state IN (?3, ?5)",
        params![row, signed(number)?, READY, super::swap_report::to_json(report)?, BUILDING],
    )?;
    let found = find(transaction, kb, row, number)?;
    if changed == 0 {
        return Err(conflict(format!("generation {number} is no longer being made")));
    }
    Ok(found)
}

pub(super) fn publish(
    transaction: &Transaction<'_>,
    name: &KbName,
    number: u64,
    probation_ms: u64,
) -> Step<Generation> {
    let kb = kbs::row_of(transaction, name)?;
    let (live, collection) = answering(transaction, kb)?;
    let staged = find(transaction, name, kb, number)?;
    if staged.state == GenerationState::Live {
        return Ok(staged);
    }
    if staged.state != GenerationState::Ready {
        return Err(conflict(format!("generation {number} is not ready")));
    }
    if staged.parent != Some(live) {
        return Err(conflict(format!(
            "generation {live} became live since generation {number} was made; give it up and swap again"
        )));
    }
    if staged.collection != collection {
        let (_, gaps) = indexes::gaps(transaction, name, &staged.collection, 0)?;
        if gaps > 0 {
            transaction.execute(
                "UPDATE generations SET state = ?3, publish = 1 WHERE kb = ?1 AND number = ?2",
                params![kb, signed(number)?, BUILDING],
            )?;
            return find(transaction, name, kb, number);
        }
        indexes::trim(transaction, name, &staged.collection)?;
    }
    make_live(transaction, kb, &staged, probation_ms)?;
    retire(transaction, kb, live, RETIRED, None)?;
    find(transaction, name, kb, number)
}

/// The number of the generation that answers, and its collection.
fn answering(connection: &Connection, kb: i64) -> Step<(u64, String)> {
    let mut statement = connection.prepare_cached("SELECT generation, collection FROM kbs WHERE row = ?1")?;
    Ok(statement.query_row([kb], |row| Ok((row.get(0)?, row.get(1)?)))?)
}

/// The one place where another generation begins to answer.
fn make_live(transaction: &Transaction<'_>, kb: i64, new: &Generation, probation_ms: u64) -> Step<()> {
    let (json, live): (String, String) = transaction
        .prepare_cached("SELECT settings, collection FROM kbs WHERE row = ?1")?
        .query_row([kb], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let settings = settings::from_json(&json)?.with_parts(new.parts.clone());
    indexes::carry_notes(transaction, kb, &live, &new.collection)?;
    transaction
        .prepare_cached("UPDATE kbs SET settings = ?2, collection = ?3, generation = ?4 WHERE row = ?1")?
        .execute(params![kb, settings::to_json(&settings)?, new.collection, signed(new.number)?])?;
    let now = now_ms();
    transaction
        .prepare_cached(
            "UPDATE generations SET state = ?3, published_ms = ?4, probation_until_ms = ?5
             WHERE kb = ?1 AND number = ?2",
        )?
        .execute(params![kb, signed(new.number)?, LIVE, now, now.saturating_add(signed(probation_ms)?)])?;
    Ok(())
}

fn retire(transaction: &Transaction<'_>, kb: i64, number: u64, state: i64, reason: Option<&str>) -> Step<()> {
    transaction
        .prepare_cached(
            "UPDATE generations SET state = ?3, reason = coalesce(?4, reason), ended_ms = ?5
             WHERE kb = ?1 AND number = ?2",
        )?
        .execute(params![kb, signed(number)?, state, reason, now_ms()])?;
    Ok(())
}

pub(super) fn end(
    transaction: &Transaction<'_>,
    name: &KbName,
    number: u64,
    state: GenerationState,
    reason: &str,
) -> Step<Generation> {
    let kb = kbs::row_of(transaction, name)?;
    let found = find(transaction, name, kb, number)?;
    match found.state {
        GenerationState::Building | GenerationState::Ready => {
            retire(transaction, kb, number, code(state), Some(reason))?;
            find(transaction, name, kb, number)
        }
        GenerationState::Failed | GenerationState::Abandoned => Ok(found),
        _ => Err(conflict(format!("generation {number} answered; go back to the one before instead"))),
    }
}

pub(super) fn roll_back(
    transaction: &Transaction<'_>,
    name: &KbName,
    live: u64,
    reason: &str,
    probation_only: bool,
) -> Step<Generation> {
    let kb = kbs::row_of(transaction, name)?;
    let current = find(transaction, name, kb, live)?;
    if current.state != GenerationState::Live {
        return Err(conflict(format!("generation {live} of knowledge base '{name}' is not live")));
    }
    if probation_only && current.probation_until_ms.is_none_or(|until| until < now_ms()) {
        return Err(conflict(format!("generation {live} is no longer on probation")));
    }
    let none = || conflict(format!("generation {live} of knowledge base '{name}' has none before it"));
    let before = find(transaction, name, kb, current.parent.ok_or_else(none)?)?;
    if !indexes::exists(transaction, kb, &before.collection)? {
        return Err(conflict(format!("the index of generation {} is gone", before.number)));
    }
    let gaps = if before.collection == current.collection {
        Vec::new()
    } else {
        indexes::trim(transaction, name, &before.collection)?;
        indexes::gap_rows(transaction, kb, &before.collection)?
    };
    let new = NewGeneration { parent: live, parts: before.parts.clone(), new_index: false, publish: true };
    let staged = Staged { new: &new, collection: &before.collection, state: LIVE };
    let number = insert(transaction, kb, &staged)?;
    let again = find(transaction, name, kb, number)?;
    make_live(transaction, kb, &again, 0)?;
    retire(transaction, kb, live, ROLLED_BACK, Some(reason))?;
    transaction.execute(
        "UPDATE generations SET reason = ?3, probation_until_ms = NULL WHERE kb = ?1 AND number = ?2",
        params![kb, signed(number)?, format!("back from generation {live} to {}", before.number)],
    )?;
    for document in gaps {
        jobs::enqueue_ingest(transaction, kb, document)?;
    }
    find(transaction, name, kb, number)
}

fn conflict(message: String) -> crate::fault::Fault {
    Error::Conflict { message }.into()
}

fn code(state: GenerationState) -> i64 {
    (0..).zip(STATES).find_map(|(code, known)| (known == state).then_some(code)).unwrap_or_default()
}

const SELECT: &str =
    "SELECT number, parent, state, parts, collection, publish, job, report, reason, created_ms,
    published_ms, probation_until_ms, ended_ms,
    (SELECT embedder FROM indexes i WHERE i.kb = generations.kb AND i.collection = generations.collection),
    (SELECT dim FROM indexes i WHERE i.kb = generations.kb AND i.collection = generations.collection)
    FROM generations";

struct Fields {
    parts: String,
    report: Option<String>,
    generation: Generation,
}

fn fields(row: &Row<'_>) -> rusqlite::Result<Fields> {
    Ok(Fields {
        parts: row.get(3)?,
        report: row.get(7)?,
        generation: Generation {
            kb: KbName::parse(rag_core::kb::KB_INITIAL).map_err(|_| rusqlite::Error::InvalidQuery)?,
            number: row.get(0)?,
            parent: row.get(1)?,
            state: STATES.get(row.get::<_, usize>(2)?).copied().unwrap_or(GenerationState::Failed),
            parts: KbSettings::default().parts(),
            collection: row.get(4)?,
            embedder: kbs::embedded_in(row, 13)?,
            publish: row.get(5)?,
            job: row.get::<_, Option<String>>(6)?.map(JobId),
            report: None,
            reason: row.get(8)?,
            created_ms: row.get(9)?,
            published_ms: row.get(10)?,
            probation_until_ms: row.get(11)?,
            ended_ms: row.get(12)?,
        },
    })
}

fn of_fields(kb: &KbName, fields: Fields) -> Step<Generation> {
    Ok(Generation {
        kb: kb.clone(),
        parts: settings::from_json(&fields.parts)?.parts(),
        report: fields.report.as_deref().map(super::swap_report::from_json).transpose()?,
        ..fields.generation
    })
}
