//! Question sets, runs and what they found, in rows and JSON.

use rag_core::document::ChunkId;
use rag_core::kb::KbName;
use rag_core::ports::{Expected, JobId, Outcome, Question, QuestionSet, Run, RunHit, RunSettings, Scores};
use rag_core::{Error, evaluate};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};

use super::kbs;
use crate::fault::Step;
use crate::settings::ChoiceJson;
use crate::store::now_ms;

/// Characters of a set's name or a run's label.
const NAME_CHARS_MAX: usize = 100;
/// Sets of one knowledge base, and runs of one set.
const SETS_MAX: u64 = 200;
const RUNS_MAX: u64 = 200;

pub(super) fn sets(connection: &Connection, kb: &KbName) -> Step<Vec<QuestionSet>> {
    let kb = kbs::row_of(connection, kb)?;
    let mut statement =
        connection.prepare_cached(&format!("{SELECT_SET} WHERE s.kb = ?1 ORDER BY s.name, s.row"))?;
    let rows = statement.query_map([kb], set)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn get_set(connection: &Connection, id: &str) -> Step<QuestionSet> {
    let mut statement = connection.prepare_cached(&format!("{SELECT_SET} WHERE s.id = ?1"))?;
    statement.query_row([id], set).optional()?.ok_or_else(|| missing("question set", id).into())
}

pub(super) fn create_set(
    transaction: &Transaction<'_>,
    id: &str,
    kb: &KbName,
    name: &str,
    questions: &[Question],
) -> Step<QuestionSet> {
    let name = checked(name)?;
    let kb = kbs::row_of(transaction, kb)?;
    let held: u64 =
        transaction.query_row("SELECT count(*) FROM question_sets WHERE kb = ?1", [kb], |row| row.get(0))?;
    if held >= SETS_MAX {
        let message = format!("there are {held} question sets already; delete some");
        return Err(Error::Conflict { message }.into());
    }
    transaction.execute(
        "INSERT INTO question_sets (id, kb, name, created_ms) VALUES (?1, ?2, ?3, ?4)",
        params![id, kb, name, now_ms()],
    )?;
    put_questions(transaction, transaction.last_insert_rowid(), questions)?;
    get_set(transaction, id)
}

pub(super) fn replace_set(
    transaction: &Transaction<'_>,
    id: &str,
    name: &str,
    questions: &[Question],
) -> Step<QuestionSet> {
    let row = row_of(transaction, "question_sets", "question set", id)?;
    transaction.execute("UPDATE question_sets SET name = ?2 WHERE row = ?1", params![row, checked(name)?])?;
    transaction.execute("DELETE FROM questions WHERE question_set = ?1", [row])?;
    put_questions(transaction, row, questions)?;
    get_set(transaction, id)
}

fn put_questions(transaction: &Transaction<'_>, set: i64, questions: &[Question]) -> Step<()> {
    evaluate::check(questions)?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO questions (question_set, ordinal, question, expected) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for (ordinal, question) in (0_i64..).zip(questions) {
        let expected: Vec<(u8, &str)> = question.expected.iter().map(expected_code).collect();
        insert.execute(params![set, ordinal, question.question, serde_json::json!(expected).to_string()])?;
    }
    Ok(())
}

pub(super) fn delete_set(transaction: &Transaction<'_>, id: &str) -> Step<()> {
    for statement in [
        "DELETE FROM outcomes WHERE run IN (SELECT r.row FROM runs r JOIN question_sets s ON s.row = r.question_set WHERE s.id = ?1)",
        "DELETE FROM runs WHERE question_set IN (SELECT row FROM question_sets WHERE id = ?1)",
        "DELETE FROM questions WHERE question_set IN (SELECT row FROM question_sets WHERE id = ?1)",
        "DELETE FROM question_sets WHERE id = ?1",
    ] {
        transaction.execute(statement, [id])?;
    }
    Ok(())
}

pub(super) fn questions(connection: &Connection, set: &str) -> Step<Vec<Question>> {
    let row = row_of(connection, "question_sets", "question set", set)?;
    let mut statement = connection.prepare_cached(
        "SELECT question, expected FROM questions WHERE question_set = ?1 ORDER BY ordinal",
    )?;
    let rows = statement.query_map([row], |row| {
        let expected: Vec<(u8, String)> = json_in(row, 1)?;
        let expected = expected.into_iter().map(expected_of).collect();
        Ok(Question { question: row.get(0)?, expected })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn create_run(
    transaction: &Transaction<'_>,
    id: &str,
    set: &str,
    settings: &RunSettings,
) -> Step<Run> {
    let row = row_of(transaction, "question_sets", "question set", set)?;
    let held: u64 =
        transaction
            .query_row("SELECT count(*) FROM runs WHERE question_set = ?1", [row], |row| row.get(0))?;
    if held >= RUNS_MAX {
        let message = format!("there are {held} runs of this set already; delete some");
        return Err(Error::Conflict { message }.into());
    }
    let json = RunJson {
        label: checked(&settings.label)?,
        k: settings.k,
        retriever: settings.retriever.as_ref().map(ChoiceJson::from),
        rerank: settings.rerank,
    };
    transaction.execute(
        "INSERT INTO runs (id, question_set, settings, created_ms) VALUES (?1, ?2, ?3, ?4)",
        params![id, row, written(&json)?, now_ms()],
    )?;
    get_run(transaction, id)
}

pub(super) fn assign(transaction: &Transaction<'_>, id: &str, job: &JobId) -> Step<Run> {
    transaction.execute("UPDATE runs SET job = ?2 WHERE id = ?1", params![id, job.0])?;
    get_run(transaction, id)
}

pub(super) fn runs(connection: &Connection, set: &str) -> Step<Vec<Run>> {
    row_of(connection, "question_sets", "question set", set)?;
    let mut statement =
        connection.prepare_cached(&format!("{SELECT_RUN} WHERE s.id = ?1 ORDER BY r.row DESC"))?;
    let rows = statement.query_map([set], run)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn get_run(connection: &Connection, id: &str) -> Step<Run> {
    let mut statement = connection.prepare_cached(&format!("{SELECT_RUN} WHERE r.id = ?1"))?;
    statement.query_row([id], run).optional()?.ok_or_else(|| missing("run", id).into())
}

pub(super) fn delete_run(transaction: &Transaction<'_>, id: &str) -> Step<()> {
    transaction.execute("DELETE FROM outcomes WHERE run IN (SELECT row FROM runs WHERE id = ?1)", [id])?;
    transaction.execute("DELETE FROM runs WHERE id = ?1", [id])?;
    Ok(())
}

pub(super) fn finish(
    transaction: &Transaction<'_>,
    id: &str,
    scores: &Scores,
    outcomes: &[Outcome],
) -> Step<()> {
    let row = row_of(transaction, "runs", "run", id)?;
    let json = ScoresJson {
        questions: scores.questions,
        hit_at: scores.hit_at.clone(),
        mrr: scores.mrr,
        ndcg: scores.ndcg,
        millis: scores.millis,
    };
    transaction.execute("UPDATE runs SET scores = ?2 WHERE row = ?1", params![row, written(&json)?])?;
    transaction.execute("DELETE FROM outcomes WHERE run = ?1", [row])?;
    let mut insert =
        transaction.prepare_cached("INSERT INTO outcomes (run, ordinal, outcome) VALUES (?1, ?2, ?3)")?;
    for (ordinal, outcome) in (0_i64..).zip(outcomes) {
        let hit = |hit: &RunHit| (hit.chunk.0.clone(), hit.document.clone(), hit.score, hit.relevant);
        let json = OutcomeJson {
            question: outcome.question.clone(),
            rank: outcome.rank,
            ndcg: outcome.ndcg,
            millis: outcome.millis,
            hits: outcome.hits.iter().map(hit).collect(),
        };
        insert.execute(params![row, ordinal, written(&json)?])?;
    }
    Ok(())
}

pub(super) fn outcomes(connection: &Connection, run: &str) -> Step<Vec<Outcome>> {
    let row = row_of(connection, "runs", "run", run)?;
    let mut statement =
        connection.prepare_cached("SELECT outcome FROM outcomes WHERE run = ?1 ORDER BY ordinal")?;
    let rows = statement.query_map([row], |row| {
        let json: OutcomeJson = json_in(row, 0)?;
        let hit =
            |(chunk, document, score, relevant)| RunHit { chunk: ChunkId(chunk), document, score, relevant };
        Ok(Outcome {
            question: json.question,
            rank: json.rank,
            ndcg: json.ndcg,
            millis: json.millis,
            hits: json.hits.into_iter().map(hit).collect(),
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

#[derive(Serialize, Deserialize)]
struct RunJson {
    label: String,
    k: u32,
    retriever: Option<ChoiceJson>,
    rerank: Option<bool>,
}

#[derive(Serialize, Deserialize)]
struct ScoresJson {
    questions: u64,
    hit_at: Vec<(u32, f64)>,
    mrr: f64,
    ndcg: f64,
    millis: f64,
}

#[derive(Serialize, Deserialize)]
struct OutcomeJson {
    question: String,
    rank: Option<u32>,
    ndcg: f64,
    millis: u32,
    /// Chunk, document's name, score, relevant.
    hits: Vec<(String, String, f32, bool)>,
}

const SELECT_SET: &str = "SELECT s.id, k.name, s.name,
    (SELECT count(*) FROM questions q WHERE q.question_set = s.row), s.created_ms
    FROM question_sets s JOIN kbs k ON k.row = s.kb";

fn set(row: &Row<'_>) -> rusqlite::Result<QuestionSet> {
    Ok(QuestionSet {
        id: row.get(0)?,
        kb: kbs::name_in(row, 1)?,
        name: row.get(2)?,
        questions: row.get(3)?,
        created_ms: row.get(4)?,
    })
}

const SELECT_RUN: &str = "SELECT r.id, s.id, k.name, r.settings, r.job, r.scores, r.created_ms
    FROM runs r JOIN question_sets s ON s.row = r.question_set JOIN kbs k ON k.row = s.kb";

fn run(row: &Row<'_>) -> rusqlite::Result<Run> {
    let settings: RunJson = json_in(row, 3)?;
    let scores: Option<ScoresJson> =
        if row.get_ref(5)? == rusqlite::types::ValueRef::Null { None } else { Some(json_in(row, 5)?) };
    Ok(Run {
        id: row.get(0)?,
        set: row.get(1)?,
        kb: kbs::name_in(row, 2)?,
        settings: RunSettings {
            label: settings.label,
            k: settings.k,
            retriever: settings.retriever.map(Into::into),
            rerank: settings.rerank,
        },
        job: row.get::<_, Option<String>>(4)?.map(JobId),
        scores: scores.map(|json| Scores {
            questions: json.questions,
            hit_at: json.hit_at,
            mrr: json.mrr,
            ndcg: json.ndcg,
            millis: json.millis,
        }),
        created_ms: row.get(6)?,
    })
}

fn expected_code(expected: &Expected) -> (u8, &str) {
    match expected {
        Expected::Document(name) => (0, name),
        Expected::Chunk(id) => (1, &id.0),
        Expected::Text(text) => (2, text),
    }
}

fn expected_of((code, text): (u8, String)) -> Expected {
    match code {
        0 => Expected::Document(text),
        1 => Expected::Chunk(ChunkId(text)),
        _ => Expected::Text(text),
    }
}

fn checked(name: &str) -> Step<String> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        return Err(Error::invalid(format!(
            "a name has 1 to {NAME_CHARS_MAX} characters, none of them control characters"
        ))
        .into());
    }
    Ok(name.to_owned())
}

fn written(value: &impl Serialize) -> Step<String> {
    let json = serde_json::to_string(value);
    json.map_err(|error| Error::internal(format!("a run cannot be written: {error}")).into())
}

fn json_in<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    serde_json::from_str(row.get_ref(column)?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error.into())
    })
}

fn row_of(connection: &Connection, table: &str, what: &'static str, id: &str) -> Step<i64> {
    let mut statement = connection.prepare_cached(&format!("SELECT row FROM {table} WHERE id = ?1"))?;
    let row = statement.query_row([id], |row| row.get(0)).optional()?;
    row.ok_or_else(|| missing(what, id).into())
}

fn missing(what: &'static str, name: &str) -> Error {
    Error::NotFound { what, name: name.to_owned() }
}
