//! Qdrant's REST interface, as its OpenAPI description has it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use rag_core::Result;
use rag_core::ports::{Http, HttpMethod, HttpRequest, HttpResponse};
use rag_core::search::Metric;
use serde_json::{Value, json};

use super::{Table, answer, body, floats, has_any, only, path};

#[derive(Debug, Default)]
pub(crate) struct Qdrant(Mutex<BTreeMap<String, Table>>);

fn done(result: &Value) -> HttpResponse {
    answer(200, &json!({"result": result, "status": "ok", "time": 0.0}))
}

fn failed(status: u16, message: &str) -> HttpResponse {
    answer(status, &json!({"status": {"error": message}, "time": 0.0}))
}

#[async_trait]
impl Http for Qdrant {
    async fn fetch(&self, request: HttpRequest) -> Result<HttpResponse> {
        let (parts, query) = path(&request);
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let mut tables = self.0.lock().unwrap();
        let sent = body(&request);
        Ok(match (request.method, parts.as_slice()) {
            (HttpMethod::Get, [""]) => answer(200, &json!({"title": "qdrant", "version": "1.15.0"})),
            (HttpMethod::Get, ["collections"]) => {
                let names: Vec<Value> = tables.keys().map(|name| json!({"name": name})).collect();
                done(&json!({"collections": names}))
            }
            (HttpMethod::Put, ["collections", name]) => {
                let valid = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
                assert!(valid && name.len() <= 255, "{name}");
                if tables.contains_key(*name) {
                    return Ok(failed(409, &format!("Wrong input: Collection `{name}` already exists!")));
                }
                tables.insert((*name).to_owned(), table(&sent));
                done(&json!(true))
            }
            (HttpMethod::Delete, ["collections", name]) => done(&json!(tables.remove(*name).is_some())),
            (method, ["collections", name, rest @ ..]) => match tables.get_mut(*name) {
                Some(table) => within(table, method, rest, &query, &sent),
                None => failed(404, &format!("Not found: Collection `{name}` doesn't exist!")),
            },
            other => panic!("no such path: {other:?}"),
        })
    }
}

fn table(sent: &Value) -> Table {
    only(sent, &["vectors"]);
    only(&sent["vectors"], &["size", "distance"]);
    let metric = match sent["vectors"]["distance"].as_str().unwrap() {
        "Cosine" => Metric::Cosine,
        "Dot" => Metric::Dot,
        "Euclid" => Metric::Euclidean,
        other => panic!("no distance {other}"),
    };
    let dim = sent["vectors"]["size"].as_u64().unwrap() as usize;
    Table { about: sent.clone(), metric, dim, rows: BTreeMap::new() }
}

fn within(table: &mut Table, method: HttpMethod, rest: &[&str], query: &str, sent: &Value) -> HttpResponse {
    match (method, rest) {
        (HttpMethod::Get, []) => done(&json!({"status": "green", "config": {"params": table.about}})),
        (HttpMethod::Put, ["index"]) => {
            assert_eq!(sent, &json!({"field_name": "tags", "field_schema": "keyword"}));
            done(&json!({"status": "completed"}))
        }
        (HttpMethod::Put, ["points"]) => {
            assert_eq!(query, "wait=true", "else rows are not there when it answers");
            only(sent, &["points"]);
            for point in sent["points"].as_array().unwrap() {
                only(point, &["id", "vector", "payload"]);
                let vector = floats(&point["vector"]);
                if vector.len() != table.dim {
                    return failed(400, "Wrong input: Vector dimension error");
                }
                table.rows.insert(uuid(&point["id"]), (vector, point["payload"].clone()));
            }
            done(&json!({"status": "completed"}))
        }
        (HttpMethod::Post, ["points", "delete"]) => {
            assert_eq!(query, "wait=true");
            only(sent, &["points"]);
            for id in sent["points"].as_array().unwrap() {
                table.rows.remove(&uuid(id));
            }
            done(&json!({"status": "completed"}))
        }
        (HttpMethod::Post, ["points", "count"]) => {
            assert_eq!(sent, &json!({"exact": true}));
            done(&json!({"count": table.rows.len()}))
        }
        (HttpMethod::Post, ["points", "query"]) => {
            only(sent, &["query", "limit", "filter", "with_payload", "params"]);
            only(&sent["params"], &["exact", "hnsw_ef"]);
            let limit = sent["limit"].as_u64().unwrap() as usize;
            assert!(limit > 0);
            let found = table.nearest(&floats(&sent["query"]), limit, |payload| {
                sent["filter"].is_null() || passes(&sent["filter"], payload)
            });
            let point = |(score, id, payload): &(f32, &str, &Value)| {
                let keys = sent["with_payload"].as_array().unwrap().iter().map(|key| key.as_str().unwrap());
                let shown: serde_json::Map<String, Value> =
                    keys.map(|key| (key.to_owned(), payload[key].clone())).collect();
                // Distances are as they are, so the nearest has the lowest.
                let score = if table.metric == Metric::Euclidean { -score } else { *score };
                json!({"id": id, "version": 1, "score": score, "payload": shown})
            };
            done(&json!({"points": found.iter().map(point).collect::<Vec<_>>()}))
        }
        other => panic!("no such path: {other:?}"),
    }
}

fn uuid(id: &Value) -> String {
    let id = id.as_str().unwrap();
    let lengths: Vec<usize> = id.split('-').map(str::len).collect();
    let hexadecimal = id.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit());
    assert!(lengths == [8, 4, 4, 4, 12] && hexadecimal, "an id is a number or a UUID, not {id}");
    id.to_owned()
}

/// A filter, or a condition on a key; a filter may stand where a condition does.
fn passes(filter: &Value, payload: &Value) -> bool {
    if filter.get("key").is_some() {
        only(filter, &["key", "match"]);
        only(&filter["match"], &["any"]);
        assert_eq!(filter["key"], "tags", "the only field with an index");
        return has_any(&payload["tags"], &filter["match"]["any"]);
    }
    only(filter, &["must", "should", "must_not"]);
    let list = |key: &str| filter[key].as_array().map_or(&[][..], Vec::as_slice);
    list("must").iter().all(|inner| passes(inner, payload))
        && (list("should").is_empty() || list("should").iter().any(|inner| passes(inner, payload)))
        && !list("must_not").iter().any(|inner| passes(inner, payload))
}
