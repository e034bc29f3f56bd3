//! Component `store-qdrant`: vectors in a Qdrant server (REST, 1.10 and later).

use guest_store::fields::{by_kind, kind_tag, read, tags, value_tag};
use guest_store::filter::{Asked, Dialect, Test, ask};
use guest_store::search::{self, Found};
use guest_store::{
    Code, Collection, Error, Filter, Hit, Http, Method, Metric, Names, Result, Row, Rows, Server, Settings,
    Store, check_shape,
};
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.
    guest_store::component!(open: super::Qdrant::open);
}
#[cfg(test)]
mod tests;

const NAMES: Names = Names { plain, prefix: "rk_", escape: '_', lower: false };

fn plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// Rows of one request, so that its JSON stays below a few MiB.
const ROWS_OF_REQUEST: usize = 128;
/// How wide the graph is searched at least.
const EF: u32 = 256;
/// Metrics as Qdrant names them.
const DISTANCES: [(Metric, &str); 3] =
    [(Metric::Cosine, "Cosine"), (Metric::Dot, "Dot"), (Metric::Euclidean, "Euclid")];

/// A Qdrant server.
#[derive(Debug)]
pub struct Qdrant {
    server: Server,
    exact: bool,
}

/// Writes filters over the payload's `tags`.
struct Conditions;

impl Dialect for Conditions {
    type Clause = Json;

    fn all(&mut self, clauses: Vec<Json>) -> Json {
        json!({"must": clauses})
    }

    fn any(&mut self, clauses: Vec<Json>) -> Json {
        json!({"should": clauses})
    }

    fn test(&mut self, test: &Test<'_>, negated: bool) -> Option<Json> {
        let tags: Vec<String> = match test {
            Test::Is(field, kind) => vec![kind_tag(field, *kind)],
            Test::In(field, _, values) => values.iter().map(|value| value_tag(field, value)).collect(),
            Test::Order(..) => return None,
        };
        let condition = json!({"key": "tags", "match": {"any": tags}});
        Some(if negated { json!({"must_not": [condition]}) } else { json!({"must": [condition]}) })
    }
}

/// The id of a row's point: Qdrant takes numbers and UUIDs only.
fn point_id(id: &str) -> String {
    let hash: String =
        Sha256::digest(id.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let parts = [&hash[..8], &hash[8..12], &hash[12..16], &hash[16..20], &hash[20..]];
    parts.join("-")
}

fn point(row: &Row) -> Json {
    let payload = json!({
        "id": row.id,
        "text": row.text,
        "tags": tags(&row.fields),
        "fields": by_kind(&row.fields).to_string(),
    });
    json!({"id": point_id(&row.id), "vector": row.vector, "payload": payload})
}

impl Qdrant {
    /// Reads the settings; nothing is asked yet.
    pub fn open(settings: &str, http: Box<dyn Http>) -> Result<Self> {
        let settings = Settings::parse(settings, &["url", "exact"]).map_err(Error::invalid)?;
        let exact = settings.flag("exact", false).map_err(Error::invalid)?;
        let server = Server::new("Qdrant", &settings, "http://127.0.0.1:6333", http)?;
        Ok(Qdrant { server, exact })
    }

    fn path(name: &str) -> Result<String> {
        Ok(format!("/collections/{}", NAMES.encode(name)?))
    }

    /// `not-found` when there is no such collection.
    fn known(&self, name: &str) -> Result<Collection> {
        let answer = self.server.call(Method::Get, &Self::path(name)?, None)?;
        self.shape(name, &answer)
            .ok_or_else(|| self.server.strange("the size and distance of one vector a point"))
    }

    /// None for a collection of several vectors a point, which is not ours.
    fn shape(&self, name: &str, answer: &Json) -> Option<Collection> {
        let vectors = &answer["result"]["config"]["params"]["vectors"];
        let dim = vectors["size"].as_u64().and_then(|dim| u32::try_from(dim).ok())?;
        let distance = vectors["distance"].as_str()?;
        let (metric, _) = DISTANCES.iter().find(|(_, name)| *name == distance)?;
        Some(Collection { name: name.to_owned(), dim, metric: *metric })
    }

    fn found(&self, point: &Json, metric: Metric) -> Result<Found> {
        let score = point["score"].as_f64().ok_or_else(|| self.server.strange("scores"))? as f32;
        let id = point["payload"]["id"].as_str().or_else(|| point["id"].as_str());
        let id = id.ok_or_else(|| self.server.strange("ids"))?.to_owned();
        let fields = point["payload"]["fields"].as_str().map(read).transpose()?.unwrap_or_default();
        Ok(Found { id, score: if metric == Metric::Euclidean { -score } else { score }, fields })
    }
}

impl Store for Qdrant {
    fn create(&self, collection: &Collection) -> Result<()> {
        let path = Self::path(&collection.name)?;
        let distance =
            DISTANCES.iter().find(|(metric, _)| *metric == collection.metric).map(|(_, name)| *name);
        let body = json!({"vectors": {"size": collection.dim, "distance": distance}});
        match self.server.call(Method::Put, &path, Some(&body)) {
            Ok(_) => {
                let index = json!({"field_name": "tags", "field_schema": "keyword"});
                self.server.call(Method::Put, &format!("{path}/index?wait=true"), Some(&index)).map(|_| ())
            }
            // Servers differ in the status of a collection that is there.
            Err(error) if matches!(error.code, Code::Conflict | Code::InvalidInput) => {
                let there = self.known(&collection.name).map_err(|_| error)?;
                check_shape(&there, collection)
            }
            Err(error) => Err(error),
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
        let listed = answer["result"]["collections"].as_array();
        let listed = listed.ok_or_else(|| self.server.strange("a list of collections"))?;
        let mut all = Vec::new();
        for name in listed.iter().filter_map(|collection| collection["name"].as_str()) {
            match self.server.call(Method::Get, &format!("/collections/{name}"), None) {
                Ok(answer) => all.extend(self.shape(&NAMES.decode(name), &answer)),
                // Dropped meanwhile.
                Err(error) if error.code == Code::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    fn count(&self, name: &str) -> Result<u64> {
        let path = format!("{}/points/count", Self::path(name)?);
        let answer = self.server.call(Method::Post, &path, Some(&json!({"exact": true})))?;
        answer["result"]["count"].as_u64().ok_or_else(|| self.server.strange("a count"))
    }

    fn upsert(&self, name: &str, rows: &Rows) -> Result<()> {
        let known = self.known(name)?;
        if !rows.rows.is_empty() {
            known.check_dim(rows.dim)?;
        }
        let path = format!("{}/points?wait=true", Self::path(name)?);
        for batch in rows.rows.chunks(ROWS_OF_REQUEST) {
            let points: Vec<Json> = batch.iter().map(point).collect();
            self.server.call(Method::Put, &path, Some(&json!({"points": points})))?;
        }
        Ok(())
    }

    fn delete(&self, name: &str, ids: &[String]) -> Result<()> {
        let ids: Vec<String> = ids.iter().map(|id| point_id(id)).collect();
        let path = format!("{}/points/delete?wait=true", Self::path(name)?);
        self.server.call(Method::Post, &path, Some(&json!({"points": ids}))).map(|_| ())
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
        known.check_dim(dim)?;
        let (clause, exact) = match ask(filter, &mut Conditions)? {
            Asked::Nothing => return Ok(vec![Vec::new(); queries.len()]),
            Asked::Rows { clause, exact } => (clause, exact),
        };
        let payload: &[&str] = if exact { &["id"] } else { &["id", "fields"] };
        let path = format!("{}/points/query", Self::path(name)?);
        let one = |query: &&[f32]| {
            search::nearest(k, filter, exact, |limit| {
                let params = json!({"exact": self.exact, "hnsw_ef": limit.max(EF)});
                let mut body =
                    json!({"query": query, "limit": limit, "with_payload": payload, "params": params});
                if let Some(clause) = &clause {
                    body["filter"] = clause.clone();
                }
                let answer = self.server.call(Method::Post, &path, Some(&body))?;
                let points = answer["result"]["points"].as_array();
                let points = points.ok_or_else(|| self.server.strange("points"))?;
                points.iter().map(|point| self.found(point, known.metric)).collect()
            })
        };
        queries.iter().map(one).collect()
    }

    fn ping(&self) -> Result<String> {
        let answer = self.server.call(Method::Get, "/", None)?;
        Ok(format!("Qdrant {}", answer["version"].as_str().unwrap_or("of an unknown version")))
    }
}
