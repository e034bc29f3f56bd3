//! What goes over the wire: a schema that tells a collection's shape, documents, filters, and scores of distances.
//!
//! Ids and tags are hashed, since a filter is a text in which anything else would have to be escaped.

use guest_store::fields::{by_kind, kind_tag, tags, value_tag};
use guest_store::filter::{Dialect, Test};
use guest_store::{Collection, Metric, Names, Row};
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};

pub(crate) const NAMES: Names = Names { plain, prefix: "rk_", escape: '_', lower: false };

fn plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// A field that holds nothing; its name tells metric and dimension, which a schema does not give back.
const SHAPE: &str = "ragkit_shape_";

/// 128 bits of SHA-256, in hexadecimal.
pub(crate) fn hashed(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Typesense has no Euclidean distance. A further component makes one of the inner product: with `v' = (v, |v|²)` and
/// `q' = (2q, -1)` it is `2qv - |v|² = |q|² - |q - v|²`.
fn stored(metric: Metric, vector: &[f32]) -> Vec<f32> {
    let mut stored = vector.to_vec();
    if metric == Metric::Euclidean {
        stored.push(squared(vector) as f32);
    }
    stored
}

fn squared(vector: &[f32]) -> f64 {
    vector.iter().map(|value| f64::from(*value).powi(2)).sum()
}

/// A query as it is compared with what is stored.
pub(crate) fn asked(metric: Metric, query: &[f32]) -> Vec<f32> {
    match metric {
        Metric::Euclidean => query.iter().map(|value| 2.0 * value).chain([-1.0]).collect(),
        Metric::Cosine | Metric::Dot => query.to_vec(),
    }
}

/// The score of a distance, which is one less the cosine or the inner product.
pub(crate) fn score(metric: Metric, query: &[f32], distance: f64) -> f64 {
    match metric {
        Metric::Cosine | Metric::Dot => 1.0 - distance,
        Metric::Euclidean => -(squared(query) - (1.0 - distance)).max(0.0).sqrt(),
    }
}

/// The body that creates a collection.
pub(crate) fn schema(name: &str, collection: &Collection) -> Json {
    let (dim, metric) = (collection.dim, collection.metric);
    let width = if metric == Metric::Euclidean { dim + 1 } else { dim };
    let distance = if metric == Metric::Cosine { "cosine" } else { "ip" };
    let plain = |name: &str| json!({"name": name, "type": "string", "index": false, "optional": true});
    json!({"name": name, "fields": [
        {"name": "vector", "type": "float[]", "num_dim": width, "vec_dist": distance},
        {"name": "tags", "type": "string[]"},
        plain("chunk"), plain("text"), plain("fields"), plain(&format!("{SHAPE}{}_{dim}", metric.name())),
    ]})
}

/// None for a collection that another program made.
pub(crate) fn shape(json: &Json) -> Option<Collection> {
    let names = json["fields"].as_array()?.iter().filter_map(|field| field["name"].as_str());
    let (metric, dim) = names.filter_map(|name| name.strip_prefix(SHAPE)).next()?.split_once('_')?;
    Some(Collection {
        name: NAMES.decode(json["name"].as_str()?),
        dim: dim.parse().ok()?,
        metric: Metric::ALL.into_iter().find(|known| known.name() == metric)?,
    })
}

pub(crate) fn document(metric: Metric, row: &Row) -> Json {
    let tags: Vec<String> = tags(&row.fields).iter().map(|tag| hashed(tag)).collect();
    json!({
        "id": hashed(&row.id),
        "chunk": row.id,
        "vector": stored(metric, &row.vector),
        "tags": tags,
        "text": row.text,
        "fields": by_kind(&row.fields).to_string(),
    })
}

/// Writes `filter_by`.
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
        Some(format!("tags:{}[{}]", if negated { "!=" } else { "=" }, tags.join(",")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_become_scores() {
        let (query, vector) = ([1.0_f32, 2.0], [4.0_f32, 6.0]);
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let distance = |metric| 1.0 - product(&asked(metric, &query), &stored(metric, &vector));
        assert!((score(Metric::Dot, &query, distance(Metric::Dot)) - 16.0).abs() < 1e-9);
        assert!((score(Metric::Euclidean, &query, distance(Metric::Euclidean)) + 5.0).abs() < 1e-9);
        assert!((score(Metric::Cosine, &query, 0.25) - 0.75).abs() < 1e-12);
    }

    #[test]
    fn a_schema_tells_the_shape_again() {
        for metric in Metric::ALL {
            let collection = Collection { name: "知 g1".into(), dim: 3, metric };
            let name = NAMES.encode(&collection.name).unwrap();
            assert_eq!(shape(&schema(&name, &collection)), Some(collection));
        }
        assert_eq!(shape(&json!({"name": "other", "fields": [{"name": "vector"}]})), None);
    }
}
