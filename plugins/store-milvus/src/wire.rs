//! What goes over the wire: collections and what tells their shape, rows, filters, and scores.
//!
//! Ids and tags are hashed, since a filter is a text in which anything else would have to be escaped.

use guest_store::fields::{by_kind, kind_tag, read, tags, value_tag};
use guest_store::filter::{Dialect, Test};
use guest_store::search::Found;
use guest_store::{Collection, Metric, Names, Row};
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};

use crate::rest::Api;

pub(crate) const NAMES: Names = Names { plain, prefix: "rk_", escape: '_', lower: false };

fn plain(name: &str) -> bool {
    name.len() <= 255
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The primary field; by its name a collection is known as ours.
pub(crate) const ID: &str = "ragkit_id";
const VECTOR: &str = "vector";
/// Metrics as Milvus names them.
const METRICS: [(Metric, &str); 3] =
    [(Metric::Cosine, "COSINE"), (Metric::Dot, "IP"), (Metric::Euclidean, "L2")];

/// The field that holds the hash of a row's id: the primary one, unless the server gives the ids.
pub(crate) fn key(api: Api) -> &'static str {
    match api {
        Api::V1 => "key",
        Api::V2 => ID,
    }
}

/// 128 bits of SHA-256, in hexadecimal.
pub(crate) fn hashed(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The body that creates a collection; fields that it does not name are kept as they come.
pub(crate) fn create(api: Api, collection: &Collection) -> Json {
    let metric = METRICS.iter().find(|(metric, _)| *metric == collection.metric).map(|(_, name)| *name);
    match api {
        Api::V1 => json!({
            "dimension": collection.dim, "metricType": metric, "primaryField": ID, "vectorField": VECTOR,
        }),
        Api::V2 => json!({
            "dimension": collection.dim, "metricType": metric, "primaryFieldName": ID, "vectorFieldName": VECTOR,
            "idType": "VarChar", "autoID": false,
            "params": {"max_length": 32, "enableDynamicField": true, "consistencyLevel": "Strong"},
        }),
    }
}

/// None for a collection that another program made, or our own of the other interface.
pub(crate) fn shape(api: Api, name: &str, described: &Json) -> Option<Collection> {
    let fields = described["fields"].as_array()?;
    let field = |name: &str| fields.iter().find(|field| field["name"] == name);
    let numbers = field(ID)?["type"] == "Int64";
    if numbers != (api == Api::V1) {
        return None;
    }
    let vector = field(VECTOR)?;
    // v1 writes `FloatVector(3)`, v2 a list of parameters.
    let dim = match vector["type"].as_str()?.strip_prefix("FloatVector")? {
        "" => {
            let params = vector["params"].as_array()?;
            let dim = &params.iter().find(|param| param["key"] == "dim")?["value"];
            dim.as_str()
                .map_or_else(|| dim.as_u64().map(|dim| dim.to_string()), |dim| Some(dim.to_owned()))?
        }
        bracketed => bracketed.trim_matches(['(', ')']).to_owned(),
    };
    let index = described["indexes"].as_array()?.iter().find(|index| index["fieldName"] == VECTOR)?;
    let (metric, _) = METRICS.iter().find(|(_, name)| index["metricType"] == *name)?;
    Some(Collection { name: NAMES.decode(name), dim: dim.parse().ok()?, metric: *metric })
}

pub(crate) fn row(api: Api, row: &Row) -> Json {
    let tags: Vec<String> = tags(&row.fields).iter().map(|tag| hashed(tag)).collect();
    json!({
        key(api): hashed(&row.id),
        VECTOR: row.vector,
        "chunk": row.id,
        "text": row.text,
        "tags": tags,
        "fields": by_kind(&row.fields).to_string(),
    })
}

/// `field in ["a","b"]`, of hashes.
pub(crate) fn among(field: &str, hashes: &[String]) -> String {
    format!("{field} in [{}]", quoted(hashes))
}

fn quoted(hashes: &[String]) -> String {
    let hashes: Vec<String> = hashes.iter().map(|hash| format!("\"{hash}\"")).collect();
    hashes.join(",")
}

/// The body of a search for one vector.
pub(crate) fn search(api: Api, query: &[f32], limit: u32, clause: Option<&str>, exact: bool) -> Json {
    let shown: &[&str] = if exact { &["chunk"] } else { &["chunk", "fields"] };
    let mut body = json!({"limit": limit, "outputFields": shown});
    match api {
        Api::V1 => body["vector"] = json!(query),
        Api::V2 => {
            body["data"] = json!([query]);
            body["annsField"] = json!(VECTOR);
            body["consistencyLevel"] = json!("Strong");
        }
    }
    if let Some(clause) = clause {
        body["filter"] = json!(clause);
    }
    body
}

/// A row of an answer; the inner error says that its fields are damaged.
pub(crate) fn found(hit: &Json, metric: Metric) -> Option<guest_store::Result<Found>> {
    let id = hit["chunk"].as_str()?.to_owned();
    let distance = hit["distance"].as_f64()? as f32;
    // `distance` is the cosine or the product itself, but the square of a distance.
    let score = if metric == Metric::Euclidean { -distance.max(0.0).sqrt() } else { distance };
    let fields = hit["fields"].as_str().map(read).transpose();
    Some(fields.map(|fields| Found { id, score, fields: fields.unwrap_or_default() }))
}

/// Writes `filter`.
pub(crate) struct Conditions;

impl Dialect for Conditions {
    type Clause = String;

    fn all(&mut self, clauses: Vec<String>) -> String {
        format!("({})", clauses.join(" && "))
    }

    fn any(&mut self, clauses: Vec<String>) -> String {
        format!("({})", clauses.join(" || "))
    }

    fn test(&mut self, test: &Test<'_>, negated: bool) -> Option<String> {
        let tags: Vec<String> = match test {
            Test::Is(field, kind) => vec![hashed(&kind_tag(field, *kind))],
            Test::In(field, _, values) => {
                values.iter().map(|value| hashed(&value_tag(field, value))).collect()
            }
            Test::Order(..) => return None,
        };
        let negation = if negated { "not " } else { "" };
        Some(format!("({negation}json_contains_any(tags, [{}]))", quoted(&tags)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_interfaces_tell_the_shape() {
        let one = json!({
            "fields": [{"name": ID, "type": "Int64"}, {"name": VECTOR, "type": "FloatVector(3)"}],
            "indexes": [{"fieldName": VECTOR, "metricType": "L2"}],
        });
        let two = json!({
            "fields": [
                {"name": ID, "type": "VarChar"},
                {"name": VECTOR, "type": "FloatVector", "params": [{"key": "dim", "value": "3"}]},
            ],
            "indexes": [{"fieldName": VECTOR, "metricType": "L2"}],
        });
        let shaped = Collection { name: "知".into(), dim: 3, metric: Metric::Euclidean };
        let name = NAMES.encode("知").unwrap();
        assert_eq!(shape(Api::V1, &name, &one), Some(shaped.clone()));
        assert_eq!(shape(Api::V2, &name, &two), Some(shaped));
        assert_eq!(shape(Api::V2, &name, &one), None);
        assert_eq!(shape(Api::V2, &name, &json!({"fields": [{"name": "id", "type": "VarChar"}]})), None);
        assert_eq!(NAMES.encode("kb-1").unwrap(), "rk_kb_2d1");
        assert_eq!(NAMES.encode("1kb").unwrap(), "rk_1kb");
    }

    #[test]
    fn distances_become_scores() {
        let hit = json!({"chunk": "a", "distance": 4.0, "fields": "{}"});
        let score = |metric| found(&hit, metric).unwrap().unwrap().score;
        assert_eq!((score(Metric::Euclidean), score(Metric::Dot), score(Metric::Cosine)), (-2.0, 4.0, 4.0));
        assert_eq!(found(&json!({"id": 1, "distance": 4.0}), Metric::Dot), None);
    }
}
