//! The operations of a store as requests.

use guest_store::fields::{by_kind, read, tags};
use guest_store::filter::{Asked, ask};
use guest_store::search::{self, Found};
use guest_store::{
    Answer, Code, Collection, Error, Filter, Hit, Http, Method, Metric, Names, Result, Row, Rows, Server,
    Settings, Store, check_shape,
};
use serde_json::{Value as Json, json};

use crate::flavor::{Conditions, Flavor, score};

/// Names of indices are in lower case and begin with a letter or digit.
const NAMES: Names = Names { plain, prefix: "rk_", escape: '_', lower: true };

fn plain(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.len() <= 255
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Rows of one request, so that its JSON stays below a few MiB.
const ROWS_OF_REQUEST: usize = 128;
/// The type of a body of lines.
const LINES: &str = "application/x-ndjson";

/// An Elasticsearch or OpenSearch server.
#[derive(Debug)]
pub struct Elastic {
    server: Server,
    flavor: Flavor,
}

impl Elastic {
    /// Reads the settings; nothing is asked yet.
    pub fn open(settings: &str, http: Box<dyn Http>) -> Result<Self> {
        let settings = Settings::parse(settings, &["url", "flavor"]).map_err(Error::invalid)?;
        let flavors = [("elasticsearch", Flavor::Elasticsearch), ("opensearch", Flavor::OpenSearch)];
        let flavor = settings.choice("flavor", &flavors, Flavor::Elasticsearch).map_err(Error::invalid)?;
        let kind = if flavor == Flavor::OpenSearch { "OpenSearch" } else { "Elasticsearch" };
        Ok(Elastic { server: Server::new(kind, &settings, "http://127.0.0.1:9200", http)?, flavor })
    }

    /// `not-found` when there is no such index, `conflict` when it is not ours.
    fn known(&self, name: &str) -> Result<Collection> {
        let index = NAMES.encode(name)?;
        let answer = self.server.call(Method::Get, &format!("/{index}/_mapping"), None)?;
        shape(&answer[index]).ok_or_else(|| Error {
            code: Code::Conflict,
            message: format!("the index '{name}' was made by another program: choose another name"),
            retryable: false,
        })
    }

    fn bulk(&self, index: &str, lines: Vec<Json>) -> Result<()> {
        let mut body = String::new();
        for line in lines {
            body.push_str(&line.to_string());
            body.push('\n');
        }
        let path = format!("/{index}/_bulk?refresh=true");
        let answer = self.server.send_as(Method::Post, &path, Some(body.into_bytes()), LINES)?;
        let answer = self.server.check(answer)?;
        if answer.json["errors"].as_bool() != Some(true) {
            return Ok(());
        }
        let items = answer.json["items"].as_array().map_or(&[][..], Vec::as_slice);
        for item in items.iter().filter_map(|item| item.as_object()?.values().next()) {
            let status = item["status"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or(500);
            // What is to be deleted may be gone.
            if !(200..300).contains(&status) && status != 404 {
                return Err(self
                    .server
                    .refused(status, item["error"]["reason"].as_str().unwrap_or_default()));
            }
        }
        Ok(())
    }

    fn found(&self, hit: &Json, metric: Metric) -> Result<Found> {
        let (id, raw) = (hit["_id"].as_str(), hit["_score"].as_f64());
        let (Some(id), Some(raw)) = (id, raw) else { return Err(self.server.strange("ids and scores")) };
        let fields = hit["_source"]["fields"].as_str().map(read).transpose()?.unwrap_or_default();
        Ok(Found { id: id.to_owned(), score: score(metric, raw) as f32, fields })
    }
}

/// What `_meta` of an index's mapping says.
fn shape(index: &Json) -> Option<Collection> {
    let meta = &index["mappings"]["_meta"]["ragkit"];
    let metric = meta["metric"].as_str()?;
    Some(Collection {
        name: meta["name"].as_str()?.to_owned(),
        dim: meta["dim"].as_u64().and_then(|dim| u32::try_from(dim).ok())?,
        metric: Metric::ALL.into_iter().find(|known| known.name() == metric)?,
    })
}

fn document(row: &Row) -> [Json; 2] {
    let fields = by_kind(&row.fields).to_string();
    [
        json!({"index": {"_id": row.id}}),
        json!({"vector": row.vector, "text": row.text, "tags": tags(&row.fields), "fields": fields}),
    ]
}

fn is_there(answer: &Answer) -> bool {
    answer.status == 400 && answer.json["error"]["type"] == "resource_already_exists_exception"
}

impl Store for Elastic {
    fn create(&self, collection: &Collection) -> Result<()> {
        let path = format!("/{}", NAMES.encode(&collection.name)?);
        let body = self.flavor.index(collection).to_string().into_bytes();
        let answer = self.server.send(Method::Put, &path, Some(body))?;
        if is_there(&answer) {
            return check_shape(&self.known(&collection.name)?, collection);
        }
        self.server.check(answer).map(|_| ())
    }

    fn drop(&self, name: &str) -> Result<()> {
        match self.server.call(Method::Delete, &format!("/{}", NAMES.encode(name)?), None) {
            Err(error) if error.code == Code::NotFound => Ok(()),
            other => other.map(|_| ()),
        }
    }

    fn list(&self) -> Result<Vec<Collection>> {
        let answer = self.server.call(Method::Get, "/_mapping", None)?;
        let all = answer.as_object().ok_or_else(|| self.server.strange("mappings"))?;
        Ok(all.values().filter_map(shape).collect())
    }

    fn count(&self, name: &str) -> Result<u64> {
        let path = format!("/{}/_count", NAMES.encode(name)?);
        let answer = self.server.call(Method::Get, &path, None)?;
        answer["count"].as_u64().ok_or_else(|| self.server.strange("a count"))
    }

    fn upsert(&self, name: &str, rows: &Rows) -> Result<()> {
        let known = self.known(name)?;
        if !rows.rows.is_empty() {
            known.check_dim(rows.dim)?;
        }
        let index = NAMES.encode(name)?;
        rows.rows
            .chunks(ROWS_OF_REQUEST)
            .try_for_each(|batch| self.bulk(&index, batch.iter().flat_map(document).collect()))
    }

    fn delete(&self, name: &str, ids: &[String]) -> Result<()> {
        self.known(name)?;
        if ids.is_empty() {
            return Ok(());
        }
        let lines = ids.iter().map(|id| json!({"delete": {"_id": id}})).collect();
        self.bulk(&NAMES.encode(name)?, lines)
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
        let source: &[&str] = if exact { &[] } else { &["fields"] };
        let path = format!("/{}/_search", NAMES.encode(name)?);
        let one = |query: &&[f32]| {
            search::nearest(k, filter, exact, |limit| {
                let body = self.flavor.search(query, limit, clause.as_ref(), source);
                let answer = self.server.call(Method::Post, &path, Some(&body))?;
                let hits = answer["hits"]["hits"].as_array().ok_or_else(|| self.server.strange("hits"))?;
                hits.iter().map(|hit| self.found(hit, known.metric)).collect()
            })
        };
        queries.iter().map(one).collect()
    }

    fn ping(&self) -> Result<String> {
        let answer = self.server.call(Method::Get, "/", None)?;
        let version = answer["version"]["number"].as_str().unwrap_or("of an unknown version");
        let kind = answer["version"]["distribution"].as_str().unwrap_or("Elasticsearch");
        Ok(format!("{kind} {version}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest_store::testing::Script;
    use guest_store::{Compare, Node, Value};

    fn elastic(script: &Script, flavor: &str) -> Elastic {
        let settings = json!({"url": "http://e:9200", "flavor": flavor}).to_string();
        Elastic::open(&settings, Box::new(script.clone())).unwrap()
    }

    fn there(name: &str, metric: &str) -> String {
        let meta = json!({"ragkit": {"name": "知-g1", "dim": 2, "metric": metric}});
        json!({name: {"mappings": {"_meta": meta}}}).to_string()
    }

    #[test]
    fn scores_are_those_of_the_metrics() {
        for (metric, raw, expected) in [
            (Metric::Cosine, 0.75, 0.5),
            (Metric::Dot, 3.5, 2.5),
            (Metric::Dot, 0.25, -3.0),
            (Metric::Euclidean, 0.2, -2.0),
            (Metric::Euclidean, 1.0, 0.0),
        ] {
            assert!((score(metric, raw) - expected).abs() < 1e-12, "{metric:?} {raw}");
        }
    }

    #[test]
    fn each_flavor_is_asked_in_its_own_words() {
        let index = "rk__e7_9f_a5_2dg1";
        let filter =
            Filter(vec![Node::OneOf("d".into(), vec![Value::Text("甲".into())]), Node::NoneOf(vec![0])]);
        for (flavor, knn) in [("elasticsearch", "/knn"), ("opensearch", "/query/knn/vector")] {
            let script = Script::default();
            script.answer(200, &there(index, "dot"));
            script.answer(200, r#"{"hits": {"hits": [{"_id": "甲", "_score": 1.5}]}}"#);
            let hits = elastic(&script, flavor).query("知-g1", 2, &[&[1.0, 0.0]], 3, Some(&filter)).unwrap();
            assert_eq!(hits, [[Hit { id: "甲".into(), score: 0.5 }]]);
            assert_eq!(script.requests()[1].url, format!("http://e:9200/{index}/_search"));
            let asked = script.sent(1).pointer(knn).unwrap().clone();
            let expected = json!({"bool": {"must_not": [{"terms": {"tags": ["s:d= 甲"]}}]}});
            assert_eq!(asked["filter"], expected, "{flavor}");
        }
    }

    #[test]
    fn a_row_that_is_refused_fails_the_batch_and_one_that_is_gone_does_not() {
        let rows = Rows::new(vec!["a".into()], 2, &[0., 0.], vec![String::new()], vec![vec![]]).unwrap();
        let script = Script::default();
        script.answer(200, &there("c", "cosine"));
        let refused =
            r#"{"errors": true, "items": [{"index": {"status": 400, "error": {"reason": "zero vector"}}}]}"#;
        script.answer(200, refused);
        let error = elastic(&script, "elasticsearch").upsert("c", &rows).unwrap_err();
        assert!(error.code == Code::InvalidInput && error.message.contains("zero vector"), "{error:?}");
        script.answer(200, &there("c", "cosine"));
        script.answer(200, r#"{"errors": true, "items": [{"delete": {"status": 404}}]}"#);
        elastic(&script, "elasticsearch").delete("c", &["a".into()]).unwrap();
        script.answer(200, r#"{"c": {"mappings": {}}}"#);
        assert_eq!(elastic(&script, "opensearch").delete("c", &[]).unwrap_err().code, Code::Conflict);
        let filter = Filter(vec![Node::Compare("n".into(), Compare::Lt, Value::Number(1.0))]);
        script.answer(200, &there("c", "cosine"));
        let hit = r#"{"_id": "x", "_score": 1.0, "_source": {"fields": "{\"n\": {\"f\": 1.0}}"}}"#;
        script.answer(200, &format!(r#"{{"hits": {{"hits": [{hit}]}}}}"#));
        let found = elastic(&script, "opensearch").query("c", 2, &[&[1.0, 0.0]], 3, Some(&filter)).unwrap();
        assert_eq!(found, [Vec::<Hit>::new()], "the field is another");
    }
}
