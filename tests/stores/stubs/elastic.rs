//! The REST interfaces of Elasticsearch and OpenSearch, as their references describe them.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use rag_core::Result;
use rag_core::ports::{Http, HttpMethod, HttpRequest, HttpResponse};
use rag_core::search::Metric;
use serde_json::{Value, json};

use super::{Table, answer, body, floats, has_any, only, path};

#[derive(Debug)]
pub(crate) struct Elastic {
    open: bool,
    tables: Mutex<BTreeMap<String, Table>>,
}

impl Elastic {
    /// OpenSearch when `open`.
    pub(crate) fn new(open: bool) -> Self {
        Elastic { open, tables: Mutex::default() }
    }
}

fn failed(status: u16, kind: &str) -> HttpResponse {
    answer(status, &json!({"error": {"type": kind, "reason": kind}, "status": status}))
}

#[async_trait]
impl Http for Elastic {
    async fn fetch(&self, request: HttpRequest) -> Result<HttpResponse> {
        let (parts, query) = path(&request);
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let mut tables = self.tables.lock().unwrap();
        Ok(match (request.method, parts.as_slice()) {
            (HttpMethod::Get, [""]) => answer(200, &json!({"version": {"number": "8.17.0"}})),
            (HttpMethod::Get, ["_mapping"]) => {
                let all = tables.iter().map(|(name, table)| (name.clone(), table.about.clone()));
                answer(200, &Value::Object(all.collect()))
            }
            (HttpMethod::Put, [name]) => {
                let lower = name.bytes().all(|b| !b.is_ascii_uppercase() && b.is_ascii());
                assert!(lower && !name.starts_with(['_', '-', '+', '.']) && name.len() <= 255, "{name}");
                if tables.contains_key(*name) {
                    return Ok(failed(400, "resource_already_exists_exception"));
                }
                tables.insert((*name).to_owned(), table(self.open, &body(&request)));
                answer(200, &json!({"acknowledged": true, "index": name}))
            }
            (method, [name, rest @ ..]) => {
                if !tables.contains_key(*name) {
                    return Ok(failed(404, "index_not_found_exception"));
                }
                if (method, rest) == (HttpMethod::Delete, &[][..]) {
                    tables.remove(*name);
                    return Ok(answer(200, &json!({"acknowledged": true})));
                }
                let table = tables.get_mut(*name).unwrap();
                match (method, rest) {
                    (HttpMethod::Get, ["_mapping"]) => answer(200, &json!({*name: table.about})),
                    (HttpMethod::Get, ["_count"]) => answer(200, &json!({"count": table.rows.len()})),
                    (HttpMethod::Post, ["_bulk"]) => {
                        assert_eq!(query, "refresh=true", "else rows are not seen when it answers");
                        bulk(table, &request)
                    }
                    (HttpMethod::Post, ["_search"]) => search(self.open, table, &body(&request)),
                    other => panic!("no such path: {other:?}"),
                }
            }
            other => panic!("no such path: {other:?}"),
        })
    }
}

fn table(open: bool, sent: &Value) -> Table {
    only(sent, if open { &["mappings", "settings"] } else { &["mappings"] });
    let mappings = &sent["mappings"];
    only(mappings, &["dynamic", "_meta", "properties"]);
    only(&mappings["properties"], &["vector", "tags", "text", "fields"]);
    let vector = &mappings["properties"]["vector"];
    let (dim, similarity) = if open {
        assert_eq!(sent["settings"], json!({"index": {"knn": true}}));
        only(vector, &["type", "dimension", "method"]);
        only(&vector["method"], &["name", "engine", "space_type"]);
        assert_eq!(vector["type"], "knn_vector");
        (&vector["dimension"], &vector["method"]["space_type"])
    } else {
        only(vector, &["type", "dims", "index", "similarity"]);
        assert_eq!(vector["type"], "dense_vector");
        (&vector["dims"], &vector["similarity"])
    };
    let metric = match similarity.as_str().unwrap() {
        "cosine" | "cosinesimil" => Metric::Cosine,
        "max_inner_product" | "innerproduct" => Metric::Dot,
        "l2_norm" | "l2" => Metric::Euclidean,
        other => panic!("no similarity {other}"),
    };
    let dim = dim.as_u64().unwrap() as usize;
    Table { about: json!({"mappings": mappings}), metric, dim, rows: BTreeMap::new() }
}

/// Lines of an action and, to index, a document.
fn bulk(table: &mut Table, request: &HttpRequest) -> HttpResponse {
    let text = std::str::from_utf8(request.body.as_deref().unwrap()).unwrap();
    assert!(text.ends_with('\n'), "the last line ends as well");
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let (mut items, mut errors) = (Vec::new(), false);
    while let Some(action) = lines.next() {
        only(&action, &["index", "delete"]);
        let (name, about) = action.as_object().unwrap().iter().next().unwrap();
        let id = about["_id"].as_str().unwrap();
        assert!(!id.is_empty() && id.len() <= 512);
        let status = if name == "delete" {
            if table.rows.remove(id).is_some() { 200 } else { 404 }
        } else {
            let document = lines.next().unwrap();
            only(&document, &["vector", "text", "tags", "fields"]);
            let vector = floats(&document["vector"]);
            let fits = vector.len() == table.dim;
            if fits {
                table.rows.insert(id.to_owned(), (vector, document));
            }
            if fits { 201 } else { 400 }
        };
        errors |= status >= 400;
        items.push(json!({name.as_str(): {"_id": id, "status": status, "error": {"reason": "mapping"}}}));
    }
    answer(200, &json!({"errors": errors, "items": items}))
}

fn search(open: bool, table: &Table, sent: &Value) -> HttpResponse {
    let (asked, vector) = if open {
        only(sent, &["query", "size", "_source"]);
        let asked = &sent["query"]["knn"]["vector"];
        only(asked, &["vector", "k", "filter"]);
        (asked, &asked["vector"])
    } else {
        only(sent, &["knn", "size", "_source"]);
        let asked = &sent["knn"];
        only(asked, &["field", "query_vector", "k", "num_candidates", "filter"]);
        let (k, candidates) = (asked["k"].as_u64().unwrap(), asked["num_candidates"].as_u64().unwrap());
        assert!(asked["field"] == "vector" && k <= candidates && candidates <= 10_000);
        (asked, &asked["query_vector"])
    };
    let k = asked["k"].as_u64().unwrap() as usize;
    assert!(k > 0 && sent["size"].as_u64().unwrap() <= 10_000);
    let found = table.nearest(&floats(vector), k, |document| {
        asked["filter"].is_null() || passes(&asked["filter"], document)
    });
    let hit = |(score, id, document): &(f32, &str, &Value)| {
        let source = if sent["_source"] == json!(["fields"]) {
            json!({"fields": document["fields"]})
        } else {
            assert_eq!(sent["_source"], false);
            Value::Null
        };
        json!({"_id": id, "_score": positive(table.metric, *score), "_source": source})
    };
    let hits: Vec<Value> = found.iter().map(hit).collect();
    answer(200, &json!({"hits": {"hits": hits}}))
}

/// The score that both report.
fn positive(metric: Metric, score: f32) -> f64 {
    let score = f64::from(score);
    match metric {
        Metric::Cosine => (1.0 + score) / 2.0,
        Metric::Dot if score < 0.0 => 1.0 / (1.0 - score),
        Metric::Dot => score + 1.0,
        Metric::Euclidean => 1.0 / (1.0 + score * score),
    }
}

fn passes(query: &Value, document: &Value) -> bool {
    if let Some(terms) = query.get("terms") {
        only(terms, &["tags"]);
        return has_any(&document["tags"], &terms["tags"]);
    }
    only(query, &["bool"]);
    let inner = &query["bool"];
    only(inner, &["filter", "should", "must_not", "minimum_should_match"]);
    let list = |key: &str| inner[key].as_array().map_or(&[][..], Vec::as_slice);
    assert!(list("should").is_empty() || inner["minimum_should_match"] == 1);
    list("filter").iter().all(|inner| passes(inner, document))
        && (list("should").is_empty() || list("should").iter().any(|inner| passes(inner, document)))
        && !list("must_not").iter().any(|inner| passes(inner, document))
}
