//! The operations of a store as requests.

use std::time::Duration;

use guest_store::filter::{Asked, ask};
use guest_store::{
    Code, Collection, Error, Filter, Hit, Http, Result, Rows, Settings, Store, check_shape, search,
};
use serde_json::{Value as Json, json};

use crate::rest::{Api, Call, Rest};
use crate::wire::{self, Conditions, ID, NAMES};

/// Rows of one request, so that its JSON stays below a few MiB.
const ROWS_OF_REQUEST: usize = 128;
/// Rows that a query of Milvus gives at most.
const QUERY_MAX: usize = 16_384;
/// How often it is asked whether something is done, and how long is waited in between: 15 s in all.
const LOOKS: u32 = 600;
const PAUSE: Duration = Duration::from_millis(25);

/// A Milvus server.
#[derive(Debug)]
pub struct Milvus {
    rest: Rest,
}

impl Milvus {
    /// Reads the settings; nothing is asked yet.
    pub fn open(settings: &str, http: Box<dyn Http>) -> Result<Self> {
        let settings = Settings::parse(settings, &["url", "api"]).map_err(Error::invalid)?;
        Ok(Milvus { rest: Rest::open(&settings, http)? })
    }

    /// `not-found` when there is no such collection, `conflict` when it is not ours.
    fn known(&self, name: &str) -> Result<(String, Collection)> {
        let named = NAMES.encode(name)?;
        let described = self.rest.on(Call::Describe, &named, json!({}))?;
        let shape = wire::shape(self.rest.api, &named, &described).ok_or_else(|| Error {
            code: Code::Conflict,
            message: format!(
                "the collection '{name}' was made by another program or the other 'api': choose another name"
            ),
            retryable: false,
        })?;
        Ok((named, shape))
    }

    /// Rows that pass, with their ids only; at most [`QUERY_MAX`].
    fn rows(&self, named: &str, filter: &str) -> Result<Vec<Json>> {
        let body = json!({"filter": filter, "limit": QUERY_MAX, "outputFields": [ID]});
        match self.rest.on(Call::Query, named, body)? {
            Json::Array(rows) => Ok(rows),
            // Nothing passes.
            Json::Null => Ok(Vec::new()),
            _ => Err(self.rest.strange("rows")),
        }
    }

    /// The numbers that v1 gave to rows, in order.
    fn numbers(&self, named: &str, filter: &str) -> Result<Vec<String>> {
        let number = |row: &Json| match &row[ID] {
            // As text, since not every reader of JSON keeps 64 bits.
            Json::String(id) => Some(id.clone()),
            id => id.as_i64().map(|id| id.to_string()),
        };
        let rows = self.rows(named, filter)?;
        let numbers: Option<Vec<String>> = rows.iter().map(number).collect();
        let mut numbers = numbers.ok_or_else(|| self.rest.strange("ids"))?;
        numbers.sort();
        Ok(numbers)
    }

    /// Waits until v1 shows exactly these rows where `filter` looks.
    fn seen(&self, named: &str, filter: &str, expected: &[String]) -> Result<()> {
        for _ in 0..LOOKS {
            if self.numbers(named, filter)? == expected {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        Err(guest_store::unavailable("Milvus took the rows but does not show them: has it too much to do?"))
    }

    /// Waits until a new collection can be asked: a query before that takes Milvus seconds.
    fn loaded(&self, named: &str) -> Result<()> {
        for _ in 0..LOOKS {
            if self.rest.on(Call::Describe, named, json!({}))?["load"] == "LoadStateLoaded" {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        Err(guest_store::unavailable(
            "Milvus made the collection but does not load it: has it too much to do?",
        ))
    }

    /// v1: a row that is there goes before the new one comes, so that none is found twice.
    fn replace(&self, named: &str, keys: &[String], rows: &[Json]) -> Result<()> {
        let filter = wire::among(wire::key(Api::V1), keys);
        let old = self.numbers(named, &filter)?;
        if !old.is_empty() {
            let body = json!({"filter": format!("{ID} in [{}]", old.join(","))});
            self.rest.on(Call::Delete, named, body)?;
        }
        let inserted = self.rest.on(Call::Insert, named, json!({"data": rows}))?;
        let ids = inserted["insertIds"].as_array().ok_or_else(|| self.rest.strange("the ids of rows"))?;
        let mut ids: Vec<String> =
            ids.iter().map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned)).collect();
        ids.sort();
        self.seen(named, &filter, &ids)
    }

    /// v1 counts nothing, so ids are listed: by the beginnings of keys where they are too many for one list.
    fn counted(&self, named: &str) -> Result<u64> {
        let mut beginnings = vec![String::new()];
        let mut count = 0;
        while let Some(beginning) = beginnings.pop() {
            let filter = match beginning.as_str() {
                "" => format!("{ID} >= 0"),
                _ => format!("{} like \"{beginning}%\"", wire::key(Api::V1)),
            };
            let rows = self.rows(named, &filter)?.len();
            if rows < QUERY_MAX {
                count += rows as u64;
            } else {
                beginnings.extend("0123456789abcdef".chars().map(|digit| format!("{beginning}{digit}")));
            }
        }
        Ok(count)
    }
}

impl Store for Milvus {
    fn create(&self, collection: &Collection) -> Result<()> {
        match self.known(&collection.name) {
            Ok((_, there)) => check_shape(&there, collection),
            Err(error) if error.code == Code::NotFound => {
                let named = NAMES.encode(&collection.name)?;
                self.rest.on(Call::Create, &named, wire::create(self.rest.api, collection))?;
                self.loaded(&named)
            }
            Err(error) => Err(error),
        }
    }

    fn drop(&self, name: &str) -> Result<()> {
        match self.rest.on(Call::Drop, &NAMES.encode(name)?, json!({})) {
            Err(error) if error.code == Code::NotFound => Ok(()),
            other => other.map(|_| ()),
        }
    }

    fn list(&self) -> Result<Vec<Collection>> {
        let answer = self.rest.call(Call::List, &json!({}))?;
        let names = answer.as_array().ok_or_else(|| self.rest.strange("a list of collections"))?;
        let mut all = Vec::new();
        for name in names.iter().filter_map(Json::as_str) {
            match self.rest.on(Call::Describe, name, json!({})) {
                Ok(described) => all.extend(wire::shape(self.rest.api, name, &described)),
                // Dropped meanwhile.
                Err(error) if error.code == Code::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    fn count(&self, name: &str) -> Result<u64> {
        let (named, _) = self.known(name)?;
        if self.rest.api == Api::V1 {
            return self.counted(&named);
        }
        let body = json!({"filter": "", "outputFields": ["count(*)"], "consistencyLevel": "Strong"});
        let answer = self.rest.on(Call::Query, &named, body)?;
        answer[0]["count(*)"].as_u64().ok_or_else(|| self.rest.strange("a count"))
    }

    fn upsert(&self, name: &str, rows: &Rows) -> Result<()> {
        let (named, shape) = self.known(name)?;
        if !rows.rows.is_empty() {
            shape.check_dim(rows.dim)?;
        }
        let api = self.rest.api;
        for batch in rows.rows.chunks(ROWS_OF_REQUEST) {
            let written: Vec<Json> = batch.iter().map(|row| wire::row(api, row)).collect();
            match api {
                Api::V1 => {
                    let keys: Vec<String> = batch.iter().map(|row| wire::hashed(&row.id)).collect();
                    self.replace(&named, &keys, &written)?;
                }
                Api::V2 => {
                    self.rest.on(Call::Upsert, &named, json!({"data": written}))?;
                }
            }
        }
        Ok(())
    }

    fn delete(&self, name: &str, ids: &[String]) -> Result<()> {
        let (named, _) = self.known(name)?;
        for batch in ids.chunks(ROWS_OF_REQUEST) {
            let keys: Vec<String> = batch.iter().map(|id| wire::hashed(id)).collect();
            let filter = wire::among(wire::key(self.rest.api), &keys);
            self.rest.on(Call::Delete, &named, json!({"filter": filter}))?;
            if self.rest.api == Api::V1 {
                self.seen(&named, &filter, &[])?;
            }
        }
        Ok(())
    }

    fn query(
        &self,
        name: &str,
        dim: u32,
        queries: &[&[f32]],
        k: u32,
        filter: Option<&Filter>,
    ) -> Result<Vec<Vec<Hit>>> {
        let (named, shape) = self.known(name)?;
        shape.check_dim(dim)?;
        let (clause, exact) = match ask(filter, &mut Conditions)? {
            Asked::Nothing => return Ok(vec![Vec::new(); queries.len()]),
            Asked::Rows { clause, exact } => (clause, exact),
        };
        let one = |query: &&[f32]| {
            search::nearest(k, filter, exact, |limit| {
                let body = wire::search(self.rest.api, query, limit, clause.as_deref(), exact);
                let answer = self.rest.on(Call::Search, &named, body)?;
                let hits = answer.as_array().map_or(&[][..], Vec::as_slice);
                let found = |hit: &Json| {
                    wire::found(hit, shape.metric)
                        .unwrap_or_else(|| Err(self.rest.strange("ids and distances")))
                };
                hits.iter().map(found).collect()
            })
        };
        queries.iter().map(one).collect()
    }

    fn ping(&self) -> Result<String> {
        let answer = self.rest.call(Call::List, &json!({}))?;
        let collections = answer.as_array().ok_or_else(|| self.rest.strange("a list of collections"))?.len();
        let api = if self.rest.api == Api::V1 { "v1" } else { "v2" };
        Ok(format!("Milvus by REST {api}, {collections} collections"))
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
