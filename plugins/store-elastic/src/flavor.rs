//! What do Elasticsearch and OpenSearch do differently? How a vector is described, and how its neighbours are asked for.

use guest_store::fields::{kind_tag, value_tag};
use guest_store::filter::{Dialect, Test};
use guest_store::{Collection, Metric};
use serde_json::{Value as Json, json};

/// Candidates of each shard at least, and at most as many as Elasticsearch takes.
const CANDIDATES: std::ops::RangeInclusive<u32> = 256..=10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavor {
    Elasticsearch,
    OpenSearch,
}

/// Metrics as the two name them.
const METRICS: [(Metric, &str, &str); 3] = [
    (Metric::Cosine, "cosine", "cosinesimil"),
    (Metric::Dot, "max_inner_product", "innerproduct"),
    (Metric::Euclidean, "l2_norm", "l2"),
];

impl Flavor {
    /// The body that creates an index; what it is for stands in `_meta`.
    pub(crate) fn index(self, collection: &Collection) -> Json {
        let named = METRICS.iter().find(|(metric, ..)| *metric == collection.metric);
        let (similarity, space) = named.map_or(("", ""), |(_, similarity, space)| (*similarity, *space));
        let dim = collection.dim;
        let vector = match self {
            Flavor::Elasticsearch => {
                json!({"type": "dense_vector", "dims": dim, "index": true, "similarity": similarity})
            }
            Flavor::OpenSearch => json!({
                "type": "knn_vector", "dimension": dim,
                "method": {"name": "hnsw", "engine": "lucene", "space_type": space},
            }),
        };
        let mut body = json!({"mappings": {
            "dynamic": false,
            "_meta": {"ragkit": {"name": collection.name, "dim": dim, "metric": collection.metric.name()}},
            "properties": {
                "vector": vector,
                "tags": {"type": "keyword"},
                "text": {"type": "text", "index": false},
                "fields": {"type": "keyword", "index": false, "doc_values": false},
            },
        }});
        if self == Flavor::OpenSearch {
            body["settings"] = json!({"index": {"knn": true}});
        }
        body
    }

    /// The body of a search for the `k` nearest.
    pub(crate) fn search(self, query: &[f32], k: u32, filter: Option<&Json>, source: &[&str]) -> Json {
        let mut asked = match self {
            Flavor::Elasticsearch => {
                let candidates = k.clamp(*CANDIDATES.start(), *CANDIDATES.end());
                json!({"field": "vector", "query_vector": query, "k": k, "num_candidates": candidates})
            }
            Flavor::OpenSearch => json!({"vector": query, "k": k}),
        };
        if let Some(filter) = filter {
            asked["filter"] = filter.clone();
        }
        let source = if source.is_empty() { json!(false) } else { json!(source) };
        match self {
            Flavor::Elasticsearch => json!({"knn": asked, "size": k, "_source": source}),
            Flavor::OpenSearch => json!({"query": {"knn": {"vector": asked}}, "size": k, "_source": source}),
        }
    }
}

/// Both make scores positive; this takes that back.
pub(crate) fn score(metric: Metric, score: f64) -> f64 {
    match metric {
        Metric::Cosine => 2.0 * score - 1.0,
        Metric::Dot if score >= 1.0 => score - 1.0,
        Metric::Dot => 1.0 - 1.0 / score,
        Metric::Euclidean => -(1.0 / score - 1.0).max(0.0).sqrt(),
    }
}

/// Writes filters over the field `tags`.
pub(crate) struct Conditions;

impl Dialect for Conditions {
    type Clause = Json;

    fn all(&mut self, clauses: Vec<Json>) -> Json {
        json!({"bool": {"filter": clauses}})
    }

    fn any(&mut self, clauses: Vec<Json>) -> Json {
        json!({"bool": {"should": clauses, "minimum_should_match": 1}})
    }

    fn test(&mut self, test: &Test<'_>, negated: bool) -> Option<Json> {
        let tags: Vec<String> = match test {
            Test::Is(field, kind) => vec![kind_tag(field, *kind)],
            Test::In(field, _, values) => values.iter().map(|value| value_tag(field, value)).collect(),
            Test::Order(..) => return None,
        };
        let terms = json!({"terms": {"tags": tags}});
        Some(if negated { json!({"bool": {"must_not": [terms]}}) } else { terms })
    }
}
