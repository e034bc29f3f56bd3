//! The operations of a store as requests to Chroma.

use std::collections::HashMap;

use guest_store::filter::{Asked, ask};
use guest_store::{
    Code, Collection, Error, Filter, Hit, Http, Method, Result, Row, Rows, Server, Settings, Store,
    check_shape, search,
};
use serde_json::{Map, Value as Json, json};

use crate::r#where::Where;
use crate::wire::{self, Known, NAMES, Upsert};

/// Collections of one page of the list.
const PAGE: usize = 1_000;
/// Rows of one request, so that its JSON stays below a few MiB.
const ROWS_OF_REQUEST: usize = 128;

/// A database of a Chroma server.
#[derive(Debug)]
pub struct Chroma {
    server: Server,
    /// Path of the collections.
    collections: String,
}

impl Chroma {
    /// Reads the settings; nothing is asked yet.
    pub fn open(settings: &str, http: Box<dyn Http>) -> Result<Self> {
        let settings = Settings::parse(settings, &["url", "tenant", "database"]).map_err(Error::invalid)?;
        let part = |key: &str, default: &str| {
            let value = settings.text(key, default)?;
            let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            match value.chars().all(safe) {
                true => Ok(value),
                false => {
                    Err(format!("setting '{key}' may hold letters, digits, hyphens, dots and underscores"))
                }
            }
        };
        let tenant = part("tenant", "default_tenant").map_err(Error::invalid)?;
        let database = part("database", "default_database").map_err(Error::invalid)?;
        let server = Server::new("Chroma", &settings, "http://127.0.0.1:8000", http)?;
        let collections = format!("/api/v2/tenants/{tenant}/databases/{database}/collections");
        Ok(Chroma { server, collections })
    }

    fn read(&self, json: &Json) -> Result<Known> {
        Known::read(json).ok_or_else(|| self.server.strange("a collection's id and metric"))
    }

    /// `not-found` when there is no such collection.
    fn known(&self, name: &str) -> Result<Known> {
        let path = format!("{}/{}", self.collections, NAMES.encode(name)?);
        self.server.call(Method::Get, &path, None).and_then(|json| self.read(&json))
    }

    fn post(&self, known: &Known, operation: &str, body: &Json) -> Result<Json> {
        let path = format!("{}/{}/{operation}", self.collections, known.id);
        self.server.call(Method::Post, &path, Some(body))
    }

    /// The metadata that rows have now, by id.
    fn there(&self, known: &Known, rows: &[Row]) -> Result<HashMap<String, Map<String, Json>>> {
        let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        let answer = self.post(known, "get", &json!({"ids": ids, "include": ["metadatas"]}))?;
        let ids = answer["ids"].as_array().ok_or_else(|| self.server.strange("ids"))?;
        let row = |(at, id): (usize, &Json)| {
            Some((id.as_str()?.to_owned(), answer["metadatas"][at].as_object()?.clone()))
        };
        Ok(ids.iter().enumerate().filter_map(row).collect())
    }
}

impl Store for Chroma {
    fn create(&self, collection: &Collection) -> Result<()> {
        let body = wire::create(&NAMES.encode(&collection.name)?, collection);
        let known = self.server.call(Method::Post, &self.collections, Some(&body))?;
        let known = self.read(&known)?;
        // One that another program made and that is still empty has no dimension yet.
        let there = known.shape.unwrap_or_else(|| Collection { metric: known.metric, ..collection.clone() });
        check_shape(&there, collection)
    }

    fn drop(&self, name: &str) -> Result<()> {
        let path = format!("{}/{}", self.collections, NAMES.encode(name)?);
        match self.server.call(Method::Delete, &path, None) {
            Err(error) if error.code == Code::NotFound => Ok(()),
            other => other.map(|_| ()),
        }
    }

    fn list(&self) -> Result<Vec<Collection>> {
        let mut all = Vec::new();
        loop {
            let path = format!("{}?limit={PAGE}&offset={}", self.collections, all.len());
            let page = self.server.call(Method::Get, &path, None)?;
            let page = page.as_array().ok_or_else(|| self.server.strange("a list of collections"))?.clone();
            let full = page.len() == PAGE;
            all.extend(page);
            if !full {
                break;
            }
        }
        Ok(all.iter().filter_map(Known::read).filter_map(|known| known.shape).collect())
    }

    fn count(&self, name: &str) -> Result<u64> {
        let path = format!("{}/{}/count", self.collections, self.known(name)?.id);
        let count = self.server.call(Method::Get, &path, None)?;
        count.as_u64().ok_or_else(|| self.server.strange("a count"))
    }

    fn upsert(&self, name: &str, rows: &Rows) -> Result<()> {
        let known = self.known(name)?;
        if rows.rows.is_empty() {
            return Ok(());
        }
        if let Some(shape) = &known.shape {
            shape.check_dim(rows.dim)?;
        }
        for batch in rows.rows.chunks(ROWS_OF_REQUEST) {
            let there = self.there(&known, batch)?;
            let body = Upsert {
                ids: batch.iter().map(|row| row.id.as_str()).collect(),
                embeddings: batch.iter().map(|row| row.vector.as_slice()).collect(),
                documents: batch.iter().map(|row| row.text.as_str()).collect(),
                metadatas: batch.iter().map(|row| wire::metadata(row, there.get(&row.id))).collect(),
            };
            let body = serde_json::to_vec(&body).map_err(|error| Error::internal(error.to_string()))?;
            let path = format!("{}/{}/upsert", self.collections, known.id);
            let answer = self.server.send(Method::Post, &path, Some(body))?;
            self.server.check(answer)?;
        }
        Ok(())
    }

    fn delete(&self, name: &str, ids: &[String]) -> Result<()> {
        let known = self.known(name)?;
        if ids.is_empty() {
            return Ok(());
        }
        self.post(&known, "delete", &json!({"ids": ids})).map(|_| ())
    }

    fn query(
        &self,
        name: &str,
        dim: u32,
        queries: &[&[f32]],
        k: u32,
        filter: Option<&Filter>,
    ) -> Result<Vec<Vec<Hit>>> {
        let known = self.known(name)?;
        let Some(shape) = &known.shape else { return Ok(wire::nothing(queries.len())) };
        shape.check_dim(dim)?;
        let (clause, exact) = match ask(filter, &mut Where)? {
            Asked::Nothing => return Ok(wire::nothing(queries.len())),
            Asked::Rows { clause, exact } => (clause, exact),
        };
        let include: &[&str] = if exact { &["distances"] } else { &["distances", "metadatas"] };
        let one = |query: &&[f32]| {
            search::nearest(k, filter, exact, |limit| {
                let mut body = json!({"query_embeddings": [query], "n_results": limit, "include": include});
                if let Some(clause) = &clause {
                    body["where"] = clause.clone();
                }
                let answer = self.post(&known, "query", &body)?;
                wire::found(&answer, 0, known.metric).ok_or_else(|| self.server.strange("ids and distances"))
            })
        };
        queries.iter().map(one).collect()
    }

    fn ping(&self) -> Result<String> {
        let version = self.server.call(Method::Get, "/api/v2/version", None)?;
        Ok(format!("Chroma {}", version.as_str().unwrap_or("of an unknown version")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest_store::testing::Script;
    use guest_store::{Compare, Metric, Node, Value};

    const THERE: &str = r#"{"id": "u-1", "name": "notes-g1", "dimension": 2,
        "configuration_json": {"hnsw": {"space": "cosine"}}, "metadata": {}}"#;

    fn chroma(script: &Script) -> Chroma {
        Chroma::open(r#"{"url": "http://c:8000"}"#, Box::new(script.clone())).unwrap()
    }

    #[test]
    fn settings_make_the_address() {
        let script = Script::default();
        script.answer(200, "[]");
        let settings = r#"{"tenant": "t-1", "database": "d_1"}"#;
        assert_eq!(Chroma::open(settings, Box::new(script.clone())).unwrap().list().unwrap(), []);
        let asked = "http://127.0.0.1:8000/api/v2/tenants/t-1/databases/d_1/collections?limit=1000&offset=0";
        assert_eq!(script.requests()[0].url, asked);
        for bad in [r#"{"tenant": "a/b"}"#, r#"{"database": "a?b"}"#, r#"{"key": 1}"#, r#"{"url": "x"}"#] {
            let error = Chroma::open(bad, Box::new(Script::default())).unwrap_err();
            assert_eq!(error.code, Code::InvalidInput, "{bad}");
        }
    }

    #[test]
    fn a_collection_of_another_program_is_used_as_it_is() {
        let script = Script::default();
        // As RWKV-RAG makes them: the metric in the metadata, no dimension before the first row.
        let made =
            r#"{"id": "u-2", "name": "initial", "dimension": null, "metadata": {"hnsw:space": "cosine"}}"#;
        script.answer(200, made);
        script.answer(200, made);
        let wanted = Collection { name: "initial".into(), dim: 1024, metric: Metric::Cosine };
        chroma(&script).create(&wanted).unwrap();
        assert_eq!(script.sent(0)["name"], "initial");
        let other = Collection { metric: Metric::Dot, ..wanted };
        assert_eq!(chroma(&script).create(&other).unwrap_err().code, Code::Conflict);
    }

    #[test]
    fn metadata_that_is_gone_is_taken_away() {
        let script = Script::default();
        script.answer(200, THERE);
        script.answer(200, r#"{"ids": ["a"], "metadatas": [{"page": 3, "page?": "i", "old": true}]}"#);
        script.answer(200, "{}");
        let fields = vec![vec![("page".to_owned(), Value::Number(1.0))], vec![]];
        let rows = Rows::new(
            vec!["a".into(), "b".into()],
            2,
            &[1., 0., 0., 1.],
            vec!["甲".into(), "".into()],
            fields,
        );
        chroma(&script).upsert("notes-g1", &rows.unwrap()).unwrap();
        let sent = script.sent(2);
        assert_eq!(sent["metadatas"], json!([{"page": 1.0, "page?": "n", "old": null}, null]));
        assert_eq!(sent["documents"], json!(["甲", ""]));
        assert!(script.requests()[2].url.ends_with("/collections/u-1/upsert"));
        script.answer(200, THERE);
        let wide = Rows::new(vec!["a".into()], 3, &[1., 0., 0.], vec![String::new()], vec![vec![]]).unwrap();
        assert!(
            chroma(&script).upsert("notes-g1", &wide).unwrap_err().message.contains("2 components, not 3")
        );
    }

    #[test]
    fn a_filter_that_orders_texts_is_compared_here() {
        let script = Script::default();
        let filter = Filter(vec![Node::Compare("name".into(), Compare::Lt, Value::Text("m".into()))]);
        script.answer(200, THERE);
        script.answer(
            200,
            r#"{"ids": [["x", "a"]], "distances": [[0.1, 0.5]],
                "metadatas": [[{"name": "z", "name?": "s"}, {"name": "b", "name?": "s"}]]}"#,
        );
        let hits = chroma(&script).query("notes-g1", 2, &[&[1.0, 0.0]], 1, Some(&filter)).unwrap();
        assert_eq!(hits, [[Hit { id: "a".into(), score: 0.5 }]]);
        assert_eq!(script.sent(1)["where"], json!({"name?": {"$eq": "s"}}));
        assert_eq!(script.sent(1)["n_results"], 64);
    }

    #[test]
    fn a_missing_collection_is_not_found_but_dropped_without_complaint() {
        let script = Script::default();
        let gone = r#"{"error": "NotFoundError", "message": "Collection [x] does not exist"}"#;
        script.answer(404, gone);
        script.answer(404, gone);
        assert_eq!(chroma(&script).count("xyz").unwrap_err().code, Code::NotFound);
        chroma(&script).drop("xyz").unwrap();
    }
}
