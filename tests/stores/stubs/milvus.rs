//! Milvus's REST interface v2, as its reference has it, with the expressions that a filter may be.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use rag_core::Result;
use rag_core::ports::{Http, HttpMethod, HttpRequest, HttpResponse};
use rag_core::search::Metric;
use serde_json::{Value, json};

use super::{Table, answer, body, floats, only, path};

/// What the reference says of a limit.
const LIMIT_MAX: u64 = 16_384;

#[derive(Debug, Default)]
pub(crate) struct Milvus(Mutex<BTreeMap<String, Table>>);

fn done(data: &Value) -> HttpResponse {
    answer(200, &json!({"code": 0, "data": data}))
}

/// A failure has the status of a success.
fn failed(code: u64, message: &str) -> HttpResponse {
    answer(200, &json!({"code": code, "message": message}))
}

#[async_trait]
impl Http for Milvus {
    async fn fetch(&self, request: HttpRequest) -> Result<HttpResponse> {
        assert_eq!(request.method, HttpMethod::Post, "every operation of v2 is a POST");
        let (parts, query) = path(&request);
        assert_eq!(query, "");
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let ["v2", "vectordb", kind, operation] = parts[..] else { panic!("no such path: {parts:?}") };
        let sent = body(&request);
        let mut tables = self.0.lock().unwrap();
        if (kind, operation) == ("collections", "list") {
            only(&sent, &["dbName"]);
            return Ok(done(&json!(tables.keys().collect::<Vec<_>>())));
        }
        let name = sent["collectionName"].as_str().unwrap().to_owned();
        if (kind, operation) == ("collections", "create") {
            let first = name.bytes().next().unwrap();
            let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            assert!((first.is_ascii_alphabetic() || first == b'_') && plain && name.len() <= 255, "{name}");
            if tables.contains_key(&name) {
                return Ok(failed(65_535, "create duplicate collection with different parameters"));
            }
            tables.insert(name, table(&sent));
            return Ok(done(&json!({})));
        }
        if !tables.contains_key(&name) {
            return Ok(failed(100, "can't find collection[database=default]"));
        }
        if (kind, operation) == ("collections", "drop") {
            only(&sent, &["dbName", "collectionName"]);
            tables.remove(&name);
            return Ok(done(&json!({})));
        }
        let table = tables.get_mut(&name).unwrap();
        Ok(match (kind, operation) {
            ("collections", "describe") => {
                only(&sent, &["dbName", "collectionName"]);
                done(&described(table))
            }
            ("entities", "upsert") => upsert(table, &sent),
            ("entities", "delete") => {
                only(&sent, &["dbName", "collectionName", "filter", "partitionName"]);
                let filter = Expression::parse(sent["filter"].as_str().unwrap());
                let primary = table.about["primaryFieldName"].as_str().unwrap().to_owned();
                table.rows.retain(|id, (_, row)| !filter.holds(&primary, id, row));
                done(&json!({}))
            }
            ("entities", "query") => {
                only(&sent, &["dbName", "collectionName", "filter", "outputFields", "consistencyLevel"]);
                let counted = json!([{"count(*)": table.rows.len()}]);
                assert_eq!((&sent["filter"], &sent["outputFields"]), (&json!(""), &json!(["count(*)"])));
                done(&counted)
            }
            ("entities", "search") => search(table, &sent),
            other => panic!("no such operation: {other:?}"),
        })
    }
}

fn table(sent: &Value) -> Table {
    only(
        sent,
        &[
            "dbName",
            "collectionName",
            "dimension",
            "metricType",
            "idType",
            "autoID",
            "primaryFieldName",
            "vectorFieldName",
            "params",
        ],
    );
    let params = &sent["params"];
    only(params, &["max_length", "enableDynamicField", "shardsNum", "consistencyLevel", "ttlSeconds"]);
    assert_eq!((&sent["idType"], &sent["autoID"]), (&json!("VarChar"), &json!(false)));
    assert!(params["max_length"].is_u64() && params["enableDynamicField"] == true, "{params}");
    assert_eq!(params["consistencyLevel"], "Strong", "else what was written is not found at once");
    let metric = match sent["metricType"].as_str().unwrap() {
        "COSINE" => Metric::Cosine,
        "IP" => Metric::Dot,
        "L2" => Metric::Euclidean,
        other => panic!("no metric {other}"),
    };
    let dim = sent["dimension"].as_u64().unwrap() as usize;
    assert!((2..=32_768).contains(&dim));
    Table { about: sent.clone(), metric, dim, rows: BTreeMap::new() }
}

fn described(table: &Table) -> Value {
    let about = &table.about;
    json!({
        "collectionName": about["collectionName"], "enableDynamicField": true, "load": "LoadStateLoaded",
        "fields": [
            {"name": about["primaryFieldName"], "type": "VarChar", "primaryKey": true, "autoId": false,
                "params": [{"key": "max_length", "value": about["params"]["max_length"].to_string()}]},
            {"name": about["vectorFieldName"], "type": "FloatVector", "primaryKey": false,
                "params": [{"key": "dim", "value": table.dim.to_string()}]},
        ],
        "indexes": [{"fieldName": about["vectorFieldName"], "metricType": about["metricType"]}],
    })
}

fn upsert(table: &mut Table, sent: &Value) -> HttpResponse {
    only(sent, &["dbName", "collectionName", "data", "partitionName"]);
    let (primary, vector) = (&table.about["primaryFieldName"], &table.about["vectorFieldName"]);
    let longest = table.about["params"]["max_length"].as_u64().unwrap() as usize;
    let mut ids = Vec::new();
    for row in sent["data"].as_array().unwrap() {
        let id = row[primary.as_str().unwrap()].as_str().unwrap();
        assert!(!id.is_empty() && id.len() <= longest, "{id}");
        let vector = floats(&row[vector.as_str().unwrap()]);
        if vector.len() != table.dim {
            return failed(1804, "fail to deal the insert data, error: vector length diff from dimension");
        }
        table.rows.insert(id.to_owned(), (vector, row.clone()));
        ids.push(id);
    }
    done(&json!({"upsertCount": ids.len(), "upsertIds": ids}))
}

fn search(table: &Table, sent: &Value) -> HttpResponse {
    let known = [
        "dbName",
        "collectionName",
        "data",
        "annsField",
        "filter",
        "limit",
        "outputFields",
        "searchParams",
        "consistencyLevel",
    ];
    only(sent, &known);
    let primary = table.about["primaryFieldName"].as_str().unwrap();
    assert_eq!(sent["annsField"], table.about["vectorFieldName"]);
    let limit = sent["limit"].as_u64().unwrap();
    assert!((1..=LIMIT_MAX).contains(&limit));
    let [query] = sent["data"].as_array().unwrap().as_slice() else { panic!("one vector a search") };
    let filter = sent["filter"].as_str().map(Expression::parse);
    let found = table.nearest(&floats(query), limit as usize, |row| {
        filter.as_ref().is_none_or(|filter| filter.holds(primary, row[primary].as_str().unwrap(), row))
    });
    let hit = |(score, id, row): &(f32, &str, &Value)| {
        let distance = if table.metric == Metric::Euclidean { score * score } else { *score };
        let mut hit = json!({"distance": distance, primary: id});
        for field in sent["outputFields"].as_array().unwrap() {
            let field = field.as_str().unwrap();
            hit[field] = row[field].clone();
        }
        hit
    };
    done(&json!(found.iter().map(hit).collect::<Vec<_>>()))
}

/// A filter, read as its grammar says: `not` binds before `&&`, that before `||`.
#[derive(Debug)]
enum Expression {
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Not(Box<Expression>),
    /// `json_contains_any(tags, ["…"])`.
    Contains(String, Vec<String>),
    /// `field in ["…"]`.
    In(String, Vec<String>),
}

impl Expression {
    fn parse(text: &str) -> Self {
        let mut rest = text;
        let parsed = Self::any(&mut rest);
        assert_eq!(rest.trim(), "", "in {text}");
        parsed
    }

    fn any(rest: &mut &str) -> Self {
        let mut parts = vec![Self::all(rest)];
        while take(rest, "||") {
            parts.push(Self::all(rest));
        }
        Expression::Any(parts)
    }

    fn all(rest: &mut &str) -> Self {
        let mut parts = vec![Self::one(rest)];
        while take(rest, "&&") {
            parts.push(Self::one(rest));
        }
        Expression::All(parts)
    }

    fn one(rest: &mut &str) -> Self {
        if take(rest, "not ") {
            return Expression::Not(Box::new(Self::one(rest)));
        }
        if take(rest, "json_contains_any(") {
            let field = word(rest);
            assert!(take(rest, ","));
            let values = list(rest);
            assert!(take(rest, ")"));
            return Expression::Contains(field, values);
        }
        if take(rest, "(") {
            let inner = Self::any(rest);
            assert!(take(rest, ")"), "unclosed: {rest}");
            return inner;
        }
        let field = word(rest);
        assert!(take(rest, "in"), "no operator: {rest}");
        Expression::In(field, list(rest))
    }

    fn holds(&self, primary: &str, id: &str, row: &Value) -> bool {
        match self {
            Expression::All(parts) => parts.iter().all(|part| part.holds(primary, id, row)),
            Expression::Any(parts) => parts.iter().any(|part| part.holds(primary, id, row)),
            Expression::Not(part) => !part.holds(primary, id, row),
            Expression::Contains(field, values) => {
                let held = row[field].as_array().unwrap();
                held.iter().any(|value| values.iter().any(|wanted| value == wanted))
            }
            Expression::In(field, values) => {
                assert_eq!(field, primary);
                values.iter().any(|value| value == id)
            }
        }
    }
}

fn take(rest: &mut &str, token: &str) -> bool {
    match rest.trim_start().strip_prefix(token) {
        Some(after) => {
            *rest = after;
            true
        }
        None => false,
    }
}

fn word(rest: &mut &str) -> String {
    let text = rest.trim_start();
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    assert!(end > 0, "a name is missing: {text}");
    *rest = &text[end..];
    text[..end].to_owned()
}

/// `["…", "…"]`, at least one.
fn list(rest: &mut &str) -> Vec<String> {
    let text = rest.trim_start();
    let end = text.find(']').unwrap_or_else(|| panic!("no list: {text}")) + 1;
    *rest = &text[end..];
    let values: Vec<String> = serde_json::from_str(&text[..end]).unwrap();
    assert!(!values.is_empty(), "an empty list");
    values
}
