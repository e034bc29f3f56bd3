//! The operations of a store as requests.

use guest_store::fields::read;
use guest_store::filter::{Asked, ask};
use guest_store::search::{self, Found};
use guest_store::{
    Code, Collection, Error, Filter, Hit, Http, Method, Result, Rows, Server, Settings, Store, check_shape,
};
use serde_json::{Value as Json, json};

use crate::wire::{self, Conditions, NAMES};

/// Rows of one import, so that its JSON stays below a few MiB.
const ROWS_OF_REQUEST: usize = 128;
/// Ids of one deletion: they stand in its address.
const IDS_OF_REQUEST: usize = 64;
/// Hits of a page, as Typesense limits them.
const PAGE: u32 = 250;
/// Neighbours that the graph is searched for at least: it finds the nearest only among enough of them.
const NEIGHBOURS: u32 = 400;

/// A Typesense server.
#[derive(Debug)]
pub struct Typesense {
    server: Server,
}

impl Typesense {
    /// Reads the settings; nothing is asked yet.
    pub fn open(settings: &str, http: Box<dyn Http>) -> Result<Self> {
        let settings = Settings::parse(settings, &["url"]).map_err(Error::invalid)?;
        Ok(Typesense { server: Server::new("Typesense", &settings, "http://127.0.0.1:8108", http)? })
    }

    fn path(name: &str) -> Result<String> {
        Ok(format!("/collections/{}", NAMES.encode(name)?))
    }

    /// `not-found` when there is no such collection, `conflict` when it is not ours.
    fn described(&self, name: &str) -> Result<(Json, Collection)> {
        let answer = self.server.call(Method::Get, &Self::path(name)?, None)?;
        let shape = wire::shape(&answer).ok_or_else(|| Error {
            code: Code::Conflict,
            message: format!("the collection '{name}' was made by another program: choose another name"),
            retryable: false,
        })?;
        Ok((answer, shape))
    }

    /// Writes lines; of those whose document is there already, their numbers.
    fn import(&self, path: &str, lines: &[&str]) -> Result<Vec<usize>> {
        let path = format!("{path}/documents/import?action=create");
        let answer =
            self.server.send_as(Method::Post, &path, Some(lines.join("\n").into_bytes()), "text/plain")?;
        let answer = self.server.check(answer)?;
        let mut there = Vec::new();
        let mut told = 0;
        for (at, line) in String::from_utf8_lossy(&answer.body).lines().enumerate() {
            let outcome: Json = serde_json::from_str(line).unwrap_or(Json::Null);
            told += 1;
            if outcome["success"].as_bool() == Some(true) {
                continue;
            }
            match outcome["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(500) {
                409 => there.push(at),
                code => return Err(self.server.refused(code, outcome["error"].as_str().unwrap_or(line))),
            }
        }
        if told == lines.len() { Ok(there) } else { Err(self.server.strange("a word on every document")) }
    }

    /// Writes documents, those that are there by deleting them first: Typesense keeps the old vector in its graph when
    /// a document is replaced (seen with 0.24.1).
    fn replace(&self, path: &str, documents: &[(String, String)]) -> Result<()> {
        let lines: Vec<&str> = documents.iter().map(|(_, line)| line.as_str()).collect();
        let there = self.import(path, &lines)?;
        if there.is_empty() {
            return Ok(());
        }
        let old: Vec<&(String, String)> = there.iter().filter_map(|at| documents.get(*at)).collect();
        let ids: Vec<&str> = old.iter().map(|(id, _)| id.as_str()).collect();
        self.erase(path, &ids)?;
        let again: Vec<&str> = old.iter().map(|(_, line)| line.as_str()).collect();
        if self.import(path, &again)?.is_empty() {
            return Ok(());
        }
        Err(Error {
            code: Code::Conflict,
            message: "another program writes the same rows: try again".to_owned(),
            retryable: true,
        })
    }

    /// Deletes documents by their hashed ids.
    fn erase(&self, path: &str, ids: &[&str]) -> Result<()> {
        for batch in ids.chunks(IDS_OF_REQUEST) {
            let path = format!("{path}/documents?filter_by=id:=%5B{}%5D", batch.join(","));
            self.server.call(Method::Delete, &path, None)?;
        }
        Ok(())
    }

    /// The rows of one page.
    fn page(&self, body: &Json, shape: &Collection, query: &[f32]) -> Result<Vec<Found>> {
        let answer = self.server.call(Method::Post, "/multi_search", Some(&json!({"searches": [body]})))?;
        let result = &answer["results"][0];
        if let Some(said) = result["error"].as_str() {
            let code = result["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(500);
            return Err(self.server.refused(code, said));
        }
        let hits = result["hits"].as_array().ok_or_else(|| self.server.strange("hits"))?;
        let hit = |hit: &Json| {
            let id = hit["document"]["chunk"].as_str().ok_or_else(|| self.server.strange("ids"))?.to_owned();
            let distance = hit["vector_distance"].as_f64().ok_or_else(|| self.server.strange("distances"))?;
            let fields = hit["document"]["fields"].as_str().map(read).transpose()?.unwrap_or_default();
            Ok(Found { id, score: wire::score(shape.metric, query, distance) as f32, fields })
        };
        hits.iter().map(hit).collect()
    }
}

impl Store for Typesense {
    fn create(&self, collection: &Collection) -> Result<()> {
        let body = wire::schema(&NAMES.encode(&collection.name)?, collection);
        match self.server.call(Method::Post, "/collections", Some(&body)) {
            Err(error) if error.code == Code::Conflict => {
                check_shape(&self.described(&collection.name)?.1, collection)
            }
            other => other.map(|_| ()),
        }
    }

    fn drop(&self, name: &str) -> Result<()> {
        match self.server.call(Method::Delete, &Self::path(name)?, None) {
            Err(error) if error.code == Code::NotFound => Ok(()),
            other => other.map(|_| ()),
        }
    }

    fn list(&self) -> Result<Vec<Collection>> {
        let answer = self.server.call(Method::Get, "/collections", None)?;
        let all = answer.as_array().ok_or_else(|| self.server.strange("a list of collections"))?;
        Ok(all.iter().filter_map(wire::shape).collect())
    }

    fn count(&self, name: &str) -> Result<u64> {
        let (answer, _) = self.described(name)?;
        answer["num_documents"].as_u64().ok_or_else(|| self.server.strange("a count"))
    }

    fn upsert(&self, name: &str, rows: &Rows) -> Result<()> {
        let (_, shape) = self.described(name)?;
        if !rows.rows.is_empty() {
            shape.check_dim(rows.dim)?;
        }
        let path = Self::path(name)?;
        for batch in rows.rows.chunks(ROWS_OF_REQUEST) {
            let documents: Vec<(String, String)> = batch
                .iter()
                .map(|row| (wire::hashed(&row.id), wire::document(shape.metric, row).to_string()))
                .collect();
            self.replace(&path, &documents)?;
        }
        Ok(())
    }

    fn delete(&self, name: &str, ids: &[String]) -> Result<()> {
        self.described(name)?;
        let ids: Vec<String> = ids.iter().map(|id| wire::hashed(id)).collect();
        self.erase(&Self::path(name)?, &ids.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn query(
        &self,
        name: &str,
        dim: u32,
        queries: &[&[f32]],
        k: u32,
        filter: Option<&Filter>,
    ) -> Result<Vec<Vec<Hit>>> {
        let (_, shape) = self.described(name)?;
        shape.check_dim(dim)?;
        let (clause, exact) = match ask(filter, &mut Conditions)? {
            Asked::Nothing => return Ok(vec![Vec::new(); queries.len()]),
            Asked::Rows { clause, exact } => (clause, exact),
        };
        let name = NAMES.encode(name)?;
        let one = |query: &&[f32]| {
            let vector = json!(wire::asked(shape.metric, query)).to_string();
            search::nearest(k, filter, exact, |limit| {
                let mut found = Vec::new();
                for page in 1..=limit.div_ceil(PAGE) {
                    let mut body = json!({
                        "collection": name, "q": "*", "page": page, "per_page": PAGE.min(limit),
                        "vector_query": format!("vector:({vector}, k:{})", limit.max(NEIGHBOURS)),
                        "include_fields": if exact { "chunk" } else { "chunk,fields" },
                    });
                    if let Some(clause) = &clause {
                        body["filter_by"] = json!(clause);
                    }
                    let rows = self.page(&body, &shape, query)?;
                    let last = rows.len() < PAGE as usize;
                    found.extend(rows);
                    if last {
                        break;
                    }
                }
                found.truncate(limit as usize);
                Ok(found)
            })
        };
        queries.iter().map(one).collect()
    }

    fn ping(&self) -> Result<String> {
        let answer = self.server.call(Method::Get, "/debug", None)?;
        Ok(format!("Typesense {}", answer["version"].as_str().unwrap_or("of an unknown version")))
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
