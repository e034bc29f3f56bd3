//! Servers that no registry has, played in memory: they answer as the vendors' published descriptions say, and refuse
//! (by panicking) a request that these do not describe.

pub(crate) mod elastic;
pub(crate) mod milvus;
pub(crate) mod qdrant;

use std::collections::BTreeMap;

use rag_core::ports::{HttpRequest, HttpResponse};
use rag_core::search::Metric;
use serde_json::Value;

use rag_kit::doubles::score;

/// A collection: its description as it was given, and rows of vector and payload.
#[derive(Debug)]
pub(crate) struct Table {
    about: Value,
    metric: Metric,
    dim: usize,
    rows: BTreeMap<String, (Vec<f32>, Value)>,
}

impl Table {
    /// The best `k` of the rows that pass, with their scores.
    fn nearest(&self, query: &[f32], k: usize, passes: impl Fn(&Value) -> bool) -> Vec<(f32, &str, &Value)> {
        let passing = self.rows.iter().filter(|(_, (_, payload))| passes(payload));
        let mut found: Vec<(f32, &str, &Value)> = passing
            .map(|(id, (vector, payload))| (score(self.metric, query, vector), id.as_str(), payload))
            .collect();
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
        found.truncate(k);
        found
    }
}

/// The request's path without its query, and the query.
fn path(request: &HttpRequest) -> (Vec<String>, String) {
    let url = reqwest::Url::parse(&request.url).unwrap();
    let parts = url.path_segments().unwrap().map(str::to_owned).collect();
    (parts, url.query().unwrap_or_default().to_owned())
}

fn body(request: &HttpRequest) -> Value {
    let json = request.headers.iter().any(|(name, value)| name == "content-type" && value.contains("json"));
    assert!(request.body.is_none() || json, "a body without its type");
    serde_json::from_slice(request.body.as_deref().unwrap_or(b"null")).unwrap()
}

/// Keys of an object that the description knows.
fn only(object: &Value, keys: &[&str]) {
    for key in object.as_object().unwrap_or_else(|| panic!("no object: {object}")).keys() {
        assert!(keys.contains(&key.as_str()), "'{key}' is none of {keys:?}: {object}");
    }
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

fn has_any(tags: &Value, wanted: &Value) -> bool {
    let tags = tags.as_array().unwrap();
    wanted.as_array().unwrap().iter().any(|tag| tags.contains(tag))
}

fn answer(status: u16, body: &Value) -> HttpResponse {
    HttpResponse { status, headers: vec![], body: body.to_string().into_bytes() }
}
