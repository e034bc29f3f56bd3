//! What goes over the wire: collections as Chroma describes them, rows as it takes them.

use guest_store::{Collection, Hit, Metric, Names, Row, Value};
use serde::Serialize;
use serde_json::{Map, Value as Json, json};

/// Chroma takes 3 to 512 letters, digits, dots, hyphens and underscores, a letter or digit at either end,
/// no two dots in a row.
pub(crate) const NAMES: Names = Names { plain, prefix: "kb.", escape: '_', lower: false };

fn plain(name: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    (3..=255).contains(&name.len())
        && !name.contains("..")
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        && ends(name.chars().next())
        && ends(name.chars().last())
}

/// Where we note the dimension that an empty collection does not know yet.
const DIM: &str = "ragkit:dim";

/// Metrics as Chroma names them.
const SPACES: [(Metric, &str); 3] =
    [(Metric::Cosine, "cosine"), (Metric::Dot, "ip"), (Metric::Euclidean, "l2")];

/// A collection on the server; `shape` is none while nobody said which dimension it has.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Known {
    pub(crate) id: String,
    pub(crate) metric: Metric,
    pub(crate) shape: Option<Collection>,
}

impl Known {
    /// None when `json` describes no collection.
    pub(crate) fn read(json: &Json) -> Option<Self> {
        let space = json["configuration_json"]["hnsw"]["space"]
            .as_str()
            .or_else(|| json["configuration_json"]["spann"]["space"].as_str())
            .or_else(|| json["metadata"]["hnsw:space"].as_str())
            .unwrap_or("l2");
        let metric = SPACES.iter().find(|(_, name)| *name == space).map(|(metric, _)| *metric)?;
        let name = NAMES.decode(json["name"].as_str()?);
        let dim = json["dimension"].as_u64().or_else(|| json["metadata"][DIM].as_u64());
        let dim = dim.and_then(|dim| u32::try_from(dim).ok()).filter(|dim| *dim > 0);
        let shape = dim.map(|dim| Collection { name, dim, metric });
        Some(Known { id: json["id"].as_str()?.to_owned(), metric, shape })
    }
}

/// The body that creates a collection, or gives back the one of this name.
pub(crate) fn create(name: &str, collection: &Collection) -> Json {
    let space = SPACES.iter().find(|(metric, _)| *metric == collection.metric).map(|(_, space)| *space);
    json!({
        "name": name,
        "get_or_create": true,
        "metadata": {DIM: collection.dim},
        // Wider than Chroma's own defaults: answers should be those of an exact search.
        "configuration": {"hnsw": {"space": space, "ef_construction": 200, "ef_search": 400, "max_neighbors": 32}},
    })
}

/// The score of a distance; higher is nearer.
pub(crate) fn score(metric: Metric, distance: f32) -> f32 {
    match metric {
        Metric::Cosine | Metric::Dot => 1.0 - distance,
        Metric::Euclidean => -distance.max(0.0).sqrt(),
    }
}

/// The body of an upsert.
#[derive(Serialize)]
pub(crate) struct Upsert<'a> {
    pub(crate) ids: Vec<&'a str>,
    pub(crate) embeddings: Vec<&'a [f32]>,
    pub(crate) documents: Vec<&'a str>,
    pub(crate) metadatas: Vec<Json>,
}

/// The key beside a field that holds its kind: Chroma takes `1` and `1.0` for the same.
pub(crate) fn kind_key(field: &str) -> String {
    format!("{field}?")
}

/// The metadata of a row. Chroma joins new metadata with old, so every key that was `there` and is gone is set to null.
pub(crate) fn metadata(row: &Row, there: Option<&Map<String, Json>>) -> Json {
    let mut keys = Map::new();
    for key in there.into_iter().flat_map(Map::keys) {
        keys.insert(key.clone(), Json::Null);
    }
    for (field, value) in &row.fields {
        keys.insert(field.clone(), value.json());
        keys.insert(kind_key(field), json!(value.kind().letter()));
    }
    if keys.is_empty() { Json::Null } else { Json::Object(keys) }
}

/// The fields that metadata hold; of rows written by other programs, those of a plain type.
pub(crate) fn fields(metadata: &Json) -> Vec<(String, Value)> {
    let mut fields = Vec::new();
    for (key, value) in metadata.as_object().into_iter().flatten() {
        let kind = metadata[kind_key(key)].as_str();
        let field = match (value, kind) {
            (Json::String(text), _) => {
                // The kind of another field.
                if key.strip_suffix('?').is_some_and(|field| !metadata[field].is_null()) {
                    continue;
                }
                Value::Text(text.clone())
            }
            (Json::Bool(flag), _) => Value::Boolean(*flag),
            (Json::Number(number), Some("n")) => Value::Number(number.as_f64().unwrap_or_default()),
            (Json::Number(number), _) => match number.as_i64() {
                Some(integer) => Value::Integer(integer),
                None => Value::Number(number.as_f64().unwrap_or_default()),
            },
            _ => continue,
        };
        fields.push((key.clone(), field));
    }
    fields
}

/// One list of an answer to a query: ids, distances and metadata side by side.
pub(crate) fn found(answer: &Json, at: usize, metric: Metric) -> Option<Vec<guest_store::search::Found>> {
    let ids = answer["ids"][at].as_array()?;
    let distances = answer["distances"][at].as_array()?;
    let row = |(place, id): (usize, &Json)| {
        let distance = distances.get(place).and_then(Json::as_f64).unwrap_or(f64::NAN) as f32;
        let fields = fields(&answer["metadatas"][at][place]);
        Some(guest_store::search::Found {
            id: id.as_str()?.to_owned(),
            score: score(metric, distance),
            fields,
        })
    };
    ids.iter().enumerate().map(row).collect()
}

/// Hits of nothing.
pub(crate) fn nothing(queries: usize) -> Vec<Vec<Hit>> {
    vec![Vec::new(); queries]
}
